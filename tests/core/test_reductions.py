"""Sums over coordinates: the same for any number of rows and threads, exact to float64."""

import pytest
import torch

from slt_notebook.core.reductions import BLOCK, LONG, finite_rows, row_dots, row_norms, row_sums


@pytest.mark.parametrize("dim", [1, 1000, 40_000, 300_001])
@pytest.mark.parametrize("threads", [1, 2])
def test_sums_do_not_depend_on_company(dim, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, dim, generator=generator)
    origin = torch.randn(dim, generator=generator)
    try:
        for sums in (
            lambda x: row_sums(x.double()),
            row_norms,
            lambda x: row_norms(x, origin),
            lambda x: row_dots(x, x, origin),
        ):
            alone = torch.cat([sums(row[None]) for row in rows])
            assert torch.equal(sums(rows), alone)
            assert torch.equal(sums(rows[:2]), alone[:2])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dim", [50, LONG + 7, BLOCK + 4097])
def test_long_rows_in_blocks_are_the_plain_sums(dim):
    rows, other = torch.randn(2, dim), torch.randn(2, dim)
    origin = torch.randn(dim)
    dots = ((rows - origin).double() * other.double()).sum(1)
    torch.testing.assert_close(row_dots(rows, other, origin), dots, rtol=1e-12, atol=1e-9)
    norms = (rows - origin).double().norm(dim=1).float()
    torch.testing.assert_close(row_norms(rows, origin), norms, rtol=1e-6, atol=0)
    torch.testing.assert_close(row_norms(rows), rows.double().norm(dim=1).float())


@pytest.mark.parametrize("dim", [50, LONG + 7])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_makes_a_row_not_finite(dim, bad):
    rows = torch.full((3, dim), 3e38)  # a sum of these in float32 overflows
    rows[1, 0], rows[1, dim - 2] = -bad, bad
    assert finite_rows(rows).tolist() == [True, False, True]
