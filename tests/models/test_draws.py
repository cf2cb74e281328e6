"""Draws: how often each coefficient is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import binom, chisquare

from models.draws import bernoulli_draw, systematic_draw

MASKS = st.sampled_from([4, 16, 64, 256]).flatmap(lambda size: arrays(np.float64, size, elements=st.floats(0, 1)))
Draw = Callable[[NDArray[np.float64], int, int], NDArray[np.int32]]


@pytest.mark.parametrize("draw", [bernoulli_draw, systematic_draw])
@given(mask=MASKS, repeats=st.integers(1, 60), seed=st.integers(0, 2**31))
@settings(deadline=None)
def test_counts_are_between_0_and_s_and_coefficient_0_is_never_drawn(
    draw: Draw, mask: NDArray[np.float64], repeats: int, seed: int
) -> None:
    before = mask.copy()
    counts = draw(mask, repeats, seed)
    assert counts.dtype == np.int32
    assert counts.shape == mask.shape
    assert counts[0] == 0
    assert counts.min() >= 0
    assert counts.max() <= repeats
    assert not counts[1:][mask[1:] == 0].any()
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("draw", [bernoulli_draw, systematic_draw])
def test_probability_1_is_drawn_s_times(draw: Draw) -> None:
    assert draw(np.ones(64), 7, 0).tolist() == [0] + [7] * 63


@pytest.mark.parametrize("draw", [bernoulli_draw, systematic_draw])
def test_the_seed_decides_the_draw(draw: Draw) -> None:
    mask = np.linspace(0, 1, 256)
    np.testing.assert_array_equal(draw(mask, 5, 42), draw(mask, 5, 42))
    assert (draw(mask, 5, 42) != draw(mask, 5, 43)).any()


@given(MASKS, st.integers(1, 60), st.integers(0, 2**31))
@settings(deadline=None, max_examples=300)
def test_a_systematic_draw_spends_the_budget_exactly(mask: NDArray[np.float64], repeats: int, seed: int) -> None:
    counts = systematic_draw(mask, repeats, seed)
    wanted = repeats * mask[1:]
    assert abs(int(counts.sum()) - wanted.sum()) <= 0.5 + 1e-6
    assert (np.abs(counts[1:] - wanted) < 1 + 1e-9).all()


def test_a_systematic_draw_is_unbiased() -> None:
    """Where S·ΣP is whole; the mean of 4000 draws within five standard errors of at most 1/2 each."""
    mask = np.random.default_rng(0).uniform(0, 1, 32)
    mask[1:] *= 30 / (mask[1:].sum() * 2)
    repeats, n_draws = 2, 4000
    mean = np.mean([systematic_draw(mask, repeats, seed) for seed in range(n_draws)], axis=0)
    np.testing.assert_allclose(mean[1:], repeats * mask[1:], atol=5 * 0.5 / np.sqrt(n_draws))


def test_a_systematic_draw_rounds_neighbours_independently() -> None:
    """Laid out in natural order, every second coefficient of P = 1/2 would be drawn: the same picture each time."""
    counts = np.array([systematic_draw(np.full(64, 0.5), 1, seed) for seed in range(2000)])[:, 1:]
    correlation = np.corrcoef(counts.T)
    neighbours = np.diagonal(correlation, offset=1)
    assert np.abs(neighbours).max() < 0.15


def test_a_bernoulli_draw_is_binomial() -> None:
    repeats, probability = 6, 0.3
    counts = bernoulli_draw(np.full(20_001, probability), repeats, 1)[1:]
    found = np.bincount(counts, minlength=repeats + 1)
    expected = 20_000 * binom.pmf(np.arange(repeats + 1), repeats, probability)
    assert chisquare(found, expected).pvalue > 1e-3


def test_a_bernoulli_draw_spends_a_random_total() -> None:
    totals = {int(bernoulli_draw(np.full(256, 0.5), 4, seed).sum()) for seed in range(20)}
    assert len(totals) > 5


@pytest.mark.parametrize("edge", ["lowest", "highest"])
def test_a_start_at_the_edge_of_its_range_still_leaves_whole_counts_alone(
    edge: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, rounding in the running sums decides; it must not draw a coefficient of P = 0, least of all the first."""
    seeded = np.random.default_rng

    class EdgeGenerator:
        def __init__(self, seed: object) -> None:
            self._rng = seeded(seed)  # type: ignore[arg-type]

        def permutation(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
            return self._rng.permutation(values)

        def uniform(self, low: float, high: float) -> float:
            return low if edge == "lowest" else float(np.nextafter(high, low))

    monkeypatch.setattr(np.random, "default_rng", EdgeGenerator)
    for seed in range(200):
        mask = np.zeros(64)
        mask[1:20] = seeded(seed).uniform(0, 1, 19)
        counts = systematic_draw(mask, 1, seed)
        assert not counts[mask == 0].any()
        assert set(counts.tolist()) <= {0, 1}
        assert abs(int(counts.sum()) - mask.sum()) <= 0.5 + 1e-6


def test_two_unequal_coefficients_share_one_pair_as_their_probabilities_say() -> None:
    """So few that the random order alone would give each of them half."""
    counts = np.array([systematic_draw(np.array([1.0, 0.2, 0.8]), 1, seed) for seed in range(2000)])
    assert (counts.sum(axis=1) == 1).all()
    assert counts[:, 1].mean() == pytest.approx(0.2, abs=5 * 0.4 / np.sqrt(2000))
