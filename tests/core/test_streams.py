"""Randomness as a pure function of (seed, chain, step)."""

import numpy as np
import torch

from slt_notebook.core import streams


def test_noise_does_not_depend_on_who_else_is_there():
    together = streams.noise(3, (0, 1, 2, 3), 17, 50, "cpu")
    apart = torch.cat(
        [streams.noise(3, (0, 1), 17, 50, "cpu"), streams.noise(3, (2, 3), 17, 50, "cpu")]
    )
    assert torch.equal(together, apart)


def test_noise_is_standard_normal_and_independent_over_keys():
    size = 20_000
    rows = torch.cat(
        [streams.noise(s, (c,), t, size, "cpu") for s in (0, 1) for c in (0, 1) for t in (0, 1)]
    ).double()
    error = size**-0.5
    assert rows.mean(1).abs().max() < 5 * error
    assert (rows.var(1) - 1).abs().max() < 5 * error * 2**0.5
    correlation = np.corrcoef(rows.numpy()) - np.eye(8)
    assert abs(correlation).max() < 5 * error


def test_streams_of_one_seed_differ():
    a = streams.noise(0, (0,), 0, 9, "cpu")
    b = streams.noise(0, (0,), 0, 9, "cpu", stream=streams.CONTROL)
    assert not torch.equal(a, b)


def test_batches_visit_every_example_once_an_epoch():
    size, data = 7, 23
    seen = np.concatenate([streams.batch(5, 1, step, size, data) for step in range(23)])
    for epoch in range(7):
        assert sorted(seen[epoch * data : (epoch + 1) * data]) == list(range(data))
    assert not np.array_equal(seen[:data], seen[data : 2 * data])


def test_batches_differ_between_chains_and_repeat_for_the_same_key():
    a, b = (streams.batch(0, chain, 4, 8, 100) for chain in (0, 1))
    assert not np.array_equal(a, b)
    assert np.array_equal(a, streams.batch(0, 0, 4, 8, 100))


def test_a_full_batch_is_the_data_in_order():
    assert np.array_equal(streams.batch(0, 3, 9, 11, 11), np.arange(11))


def test_mix_spreads_single_bits():
    values = {streams.mix(0, 1, chain, step) for chain in range(50) for step in range(50)}
    assert len(values) == 2500
    flips = [
        bin(streams.mix(0, 1, 0, s) ^ streams.mix(0, 1, 0, s + 1)).count("1") for s in range(200)
    ]
    assert 25 < np.mean(flips) < 38  # 31.5 of 63 bits for a good mixer; s.d. of the mean 0.3
