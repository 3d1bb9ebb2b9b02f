"""Peak memory of a call above what was held before it.

On a GPU the allocator knows.  On a CPU the kernel keeps the peak resident memory of a process and
forgets it when told to (`/proc/self/clear_refs`, Linux); freed memory is given back before, so
that what an earlier call left with the allocator does not hide what this one takes.
"""

import ctypes
import gc
from pathlib import Path

import torch

from tests.bench.parts.machine import sync


class Peak:
    """`with Peak(device) as peak: ...; peak.bytes`: None where it cannot be known."""

    def __init__(self, device: torch.device):
        self.device, self.bytes = device, None

    def __enter__(self) -> "Peak":
        gc.collect()
        if self.device.type == "cuda":
            sync(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            pass
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.before = _status("VmRSS")
        except OSError:
            self.before = None
        return self

    def __exit__(self, *_) -> None:
        if self.device.type == "cuda":
            sync(self.device)
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        elif self.before is not None:
            self.bytes = max(0, _status("VmHWM") - self.before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {name} in /proc/self/status")
