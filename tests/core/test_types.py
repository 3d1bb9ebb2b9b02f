"""Do sums over rows round the same however many rows there are?"""

import pytest
import torch

from slt_notebook.core.types import row_sums


@pytest.mark.parametrize("dim", [1, 1000, 40_000, 300_001])
@pytest.mark.parametrize("threads", [1, 2])
def test_row_sums_do_not_depend_on_company(dim, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = torch.randn(5, dim, generator=torch.Generator().manual_seed(0)).double()
        alone = torch.cat([row_sums(row[None]) for row in rows])
        assert torch.equal(row_sums(rows), alone)
        assert torch.equal(row_sums(rows[:2]), alone[:2])
    finally:
        torch.set_num_threads(before)
