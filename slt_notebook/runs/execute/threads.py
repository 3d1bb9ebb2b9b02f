"""A pool of worker threads that share the cores of a CPU."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def threads_sharing_cores(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `workers` threads, each with its share of torch's threads.

    The number of threads inside an operation belongs to the calling thread; only the value that
    *new* threads start with is global, and it is put back before the pool is handed out.
    """
    before = torch.get_num_threads()
    share = max(1, before // workers)
    started = threading.Barrier(workers + 1)

    def start() -> None:
        torch.get_num_threads()  # a thread takes the global value at its first look
        torch.set_num_threads(share)
        started.wait()

    with ThreadPoolExecutor(workers, "slt-chains") as pool:
        for _ in range(workers):
            pool.submit(start)  # the barrier keeps each of them on a thread of its own
        started.wait()
        torch.set_num_threads(before)
        yield pool
