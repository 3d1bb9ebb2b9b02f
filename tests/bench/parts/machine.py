"""Facts about the machine, and two of its limits measured at the time.

The peak of a matrix product is the best that `torch.mm` reaches on ready buffers over a few sizes,
with as many threads as torch has; the copy bandwidth counts the bytes read and the bytes written.
"""

import datetime
import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version

import torch

PEERS = ("slt-notebook", "devinterp", "posteriors", "canonical-interp", "transformers", "zarr")


def sync(device: torch.device) -> None:
    """Waits until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work, device: torch.device, least: float = 0.3, rounds: int = 5) -> float:
    """Median seconds of `work()` over `rounds`, each of so many calls that they fill `least`."""
    work()
    sync(device)
    began = time.perf_counter()
    work()
    sync(device)
    once = max(time.perf_counter() - began, 1e-7)
    calls = max(1, int(least / rounds / once))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        sync(device)
        times.append((time.perf_counter() - began) / calls)
    return statistics.median(times)


def matmul_peak(device: torch.device, dtype=torch.float32, sizes=None) -> float:
    """GFLOP/s of square products, the best of a few sizes."""
    sizes = sizes or ((512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192))
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        out = torch.empty(size, size, device=device, dtype=dtype)
        took = seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
        best = max(best, 2 * size**3 / took / 1e9)
    return best


def copy_bandwidth(device: torch.device, megabytes: int | None = None) -> float:
    """GB/s of copying a buffer much larger than the caches, read and write counted."""
    megabytes = megabytes or (256 if device.type == "cpu" else 2048)
    source = torch.ones(megabytes << 18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), device) / 1e9


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def facts(device: torch.device) -> dict:
    """Facts and measured rates, ready for JSON."""
    out = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(), "torch": torch.__version__,
        "device": str(device), "versions": versions(),
        "matmul_gflops": matmul_peak(device), "copy_gb_s": copy_bandwidth(device),
    }  # fmt: skip
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        out |= {
            "gpu": properties.name, "gpu_memory_gb": properties.total_memory / 1e9,
            "cuda": torch.version.cuda, "tf32": torch.backends.cuda.matmul.allow_tf32,
            "matmul_bf16_gflops": matmul_peak(device, torch.bfloat16),
        }  # fmt: skip
    return out
