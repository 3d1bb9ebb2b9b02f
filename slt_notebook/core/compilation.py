"""`torch.compile` for functions that a run repeats, with a note on what each compilation gains.

At its first call the plain function is timed, the other is compiled and timed, and the note says
after how many calls the compilation has paid for itself.  What is computed stays the same; sums are
rounded in another order.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from slt_notebook.core.chunking import out_of_memory
from slt_notebook.errors import InputError, say

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


Function = Callable[..., Any]
Compile = Callable[[Function], Function]
Make = Callable[[Compile], Function]
"""From a function that compiles to the compiled form."""


@dataclass(eq=False)
class Compiler:
    """Compiled forms of the functions of one run, shared by its workers.

    Attributes:
        mode: of `torch.compile`; "reduce-overhead" records CUDA graphs.
        notes: what each compilation took and gained, in words.
    """

    mode: str = "default"
    notes: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._ready: dict[Any, Function] = {}

    def call(self, what: str, key: Any, make: Make, plain: Function, *args: Any) -> Any:
        """`plain(*args)` by its compiled form.

        Args:
            what: the name of the function in notes.
            key: of the compiled form; one per set of shapes.
            make: makes the compiled form; called once, for all threads.
            plain: the function as it is.
            args: its arguments.
        """
        ready = self._ready.get((what, key))
        if ready is None:
            with self._lock:  # the others wait: one compilation serves them all
                ready = self._ready.get((what, key))
                if ready is None:
                    ready = self._compile(what, make, plain, args)
                    self._ready[what, key] = ready
        out = ready(*args)
        if self.mode in ("reduce-overhead", "max-autotune"):
            # The next replay of a CUDA graph writes where this one left its results.
            return tree_map(_copy, out)
        return out

    def _compile(self, what: str, make: Make, plain: Function, args: tuple[Any, ...]) -> Function:
        eager = _fastest(plain, args)
        compiled = make(partial(_torch_compile, mode=self.mode))
        began = time.perf_counter()
        try:
            compiled(*args)
        except Exception as error:
            if out_of_memory(error):
                raise
            reason = str(error).strip().splitlines()[0][:200]
            self.notes.append(f"{what} could not be compiled and runs uncompiled: {reason}")
            return plain
        took = time.perf_counter() - began
        later = _fastest(compiled, args)
        text = f"{what} compiled in {took:.1f} s: {eager * 1e3:.1f} ms -> {later * 1e3:.1f} ms"
        if later < eager:
            text += f", pays off after {took / (eager - later):,.0f} calls"
        else:
            text += ", no gain: run without compile"
        self.notes.append(text)
        return compiled


def _torch_compile(function: Function, mode: str) -> Function:
    return torch.compile(function, mode=mode, dynamic=False)  # pyright: ignore[reportUnknownMemberType]  # torch's stubs are partial


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone()


def _fastest(function: Function, args: tuple[Any, ...]) -> float:
    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        function(*args)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)


def compiler(asked: Any, device: torch.device) -> Compiler | None:
    """Return the compiler that `compile=asked` of `slt.sample` means; None for False.

    Raises:
        InputError: a mode that torch does not know, or no C++ compiler on this machine.
    """
    if asked is False or asked is None:
        return None
    mode = "default" if asked is True else asked
    if mode not in MODES:
        raise InputError(
            say(f"compile={asked!r}", f"True, False or one of {MODES}", "pass compile=True")
        )
    tools = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
    if device.type == "cpu" and not any(tool and shutil.which(tool) for tool in tools):
        raise InputError(
            say(
                "compile=True on a machine without a C++ compiler",
                "one of g++, clang++, cl (or CXX)",
                "install one, or leave compile out",
            )
        )
    return Compiler(mode)
