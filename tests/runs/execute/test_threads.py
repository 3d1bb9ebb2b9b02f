"""Threads that share the cores leave the caller's setting alone."""

import threading

import torch

from slt_notebook.runs.execute.threads import threads_sharing_cores


def test_shares_and_restores():
    before = torch.get_num_threads()
    seen, barrier = [], threading.Barrier(2)

    def look():
        barrier.wait(10)  # both threads of the pool are here
        seen.append(torch.get_num_threads())

    with threads_sharing_cores(2) as pool:
        for future in [pool.submit(look) for _ in range(2)]:
            future.result()
        fresh = []
        other = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        other.start()
        other.join()
    assert seen == [max(1, before // 2)] * 2
    assert torch.get_num_threads() == before == fresh[0]
