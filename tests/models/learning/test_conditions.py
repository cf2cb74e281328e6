"""What networks are trained under: noise, draws and acquisitions under way have the distributions that they claim."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare, kstest

from models.learning.conditions import NoiseRange, begun, drawn, one_of


def test_the_gain_is_log_uniform_over_its_range_and_read_noise_comes_in_half_of_the_steps() -> None:
    torch.manual_seed(0)
    total = torch.tensor([[10.0], [400.0]])
    ranges = NoiseRange(gain=0.01, variance=0.02, spread=4.0, largest_read=0.5)
    steps = [ranges.draw(total) for _ in range(3000)]
    logarithm = np.log([gain for gain, _ in steps])
    assert kstest(logarithm, "uniform", (np.log(0.0025), np.log(16.0))).pvalue > 1e-3
    # 2b over aT, beyond the reference.
    read = np.array([(2 * (b - 0.02) / (gain * total)).numpy() for gain, b in steps])[..., 0]
    np.testing.assert_allclose(read[:, 0], read[:, 1], atol=1e-3)
    without = np.mean(np.abs(read[:, 0]) < 1e-6)
    assert without == pytest.approx(0.5, abs=0.04)
    assert kstest(read[np.abs(read[:, 0]) > 1e-6, 0], "uniform", (0, 0.5)).pvalue > 1e-3


def test_systematic_counts_are_rounded_up_or_down_without_bias() -> None:
    torch.manual_seed(1)
    p = torch.tensor([0.0, 0.013, 0.25, 0.5, 0.777, 1.0])
    counts = drawn(p, 50, "systematic", 20_000).numpy()
    expected = 50 * p.numpy()
    assert np.all(np.abs(counts - expected) < 1 + 1e-4)
    np.testing.assert_allclose(counts.mean(0), expected, atol=4 * 0.5 / np.sqrt(20_000))
    assert counts[:, 0].max() == 0
    assert counts[:, 5].min() == counts[:, 5].max() == 50


def test_no_coefficient_is_drawn_more_often_than_it_can_be() -> None:
    torch.manual_seed(2)
    # Among this many random numbers there are some whose sum with 50 rounds to 51 in single precision.
    assert float(drawn(torch.ones(1_000_000), 50, "systematic", 4).max()) == 50


def test_bernoulli_counts_are_binomial() -> None:
    torch.manual_seed(3)
    counts = drawn(torch.tensor([0.0, 0.3, 1.0]), 5, "bernoulli", 20_000).numpy()
    observed = np.bincount(counts[:, 1].astype(int), minlength=6)
    assert chisquare(observed, binom.pmf(np.arange(6), 5, 0.3) * 20_000).pvalue > 1e-3
    assert counts[:, 0].max() == 0
    assert counts[:, 2].min() == 5


def test_an_acquisition_under_way_has_measured_the_first_ones_of_its_order() -> None:
    torch.manual_seed(4)
    order = torch.randperm(64)
    counts = torch.randint(1, 9, (2, 64)).float()
    shares = []
    for _ in range(500):
        found = begun(counts, order)
        kept = (found > 0)[0][order].numpy()
        done = int(kept.sum())
        assert kept[:done].all()
        assert done >= 1
        torch.testing.assert_close(found, counts * (found > 0))
        shares.append(done / 64)
    # The square of a uniform number: half of them are below a quarter.
    assert np.mean(np.array(shares) < 0.25) == pytest.approx(0.5, abs=0.08)


def test_each_mask_is_as_likely() -> None:
    torch.manual_seed(5)
    masks = [torch.full((4,), float(k)) for k in range(4)]
    observed = np.bincount([int(one_of(masks)[0]) for _ in range(4000)], minlength=4)
    assert chisquare(observed).pvalue > 1e-3
