"""What the readings add up to for the view: every pair on the map once, and the pair sums as they were, pooled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition.live_view.tally import MOST_POINTS, PooledSums, Tally


def sign_changes_order(n: int) -> NDArray[np.int64]:
    """Rows of the dense matrix by how often their sign changes."""
    rows = hadamard(n)
    return np.argsort((np.diff(rows, axis=1) != 0).sum(axis=1)).astype(np.int64)


@pytest.mark.parametrize("n", [2, 8, 32])
def test_every_pair_is_counted_where_its_sequencies_lie(n: int) -> None:
    rng = np.random.default_rng(1)
    tally, everything = Tally(n), []
    for _ in range(5):
        index = rng.integers(0, n * n, 37)
        readings = np.ones(len(index))
        tally.add(index, readings, readings, np.arange(len(index), dtype=np.float64))
        everything.append(index)
    order = sign_changes_order(n)
    expected = np.bincount(np.concatenate(everything), minlength=n * n).reshape(n, n)[np.ix_(order, order)]
    assert np.array_equal(tally.counts, expected)
    assert tally.counts.dtype == np.uint16
    assert tally.pairs == 5 * 37


def test_pair_sums_are_less_twice_the_dark_level() -> None:
    tally = Tally(2)
    tally.add(np.array([1, 2, 3]), np.full(3, 60.0), np.full(3, 50.0), np.array([1e6, 2e6, 3e6]))
    ((time_s, mean, error),) = tally.pair_sums(5.0)
    assert (time_s, mean, error) == (2.0, 100.0, 0.0)


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=60),
    st.floats(-1e6, 1e6),
    st.integers(0, 2**32 - 1),
)
def test_pooled_points_keep_the_mean_of_all_values_and_stay_in_order(
    sizes: list[int], around: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    times = np.arange(sum(sizes), dtype=np.float64)
    values = around + rng.normal(0, 10, sum(sizes))
    pooled, at = PooledSums(), 0
    for size in sizes:
        pooled.add(times[at : at + size], values[at : at + size])
        at += size
    points = pooled.points()
    assert len(points) <= MOST_POINTS
    assert (np.diff(points[:, 0]) > 0).all()
    assert np.isfinite(points).all()
    numbers = np.diff([-0.5, *_ends(points[:, 0])])
    assert np.allclose((points[:, 1] * numbers).sum() / len(values), values.mean(), rtol=1e-9, atol=1e-6)


def _ends(mean_times: NDArray[np.float64]) -> list[float]:
    """Where each run of consecutive whole times ends, from the means of the runs."""
    ends, start = [], -0.5
    for mean in mean_times:
        end = 2 * mean - start
        ends.append(end)
        start = end
    return ends


def test_the_standard_error_of_a_point_is_that_of_its_values() -> None:
    values = np.random.default_rng(4).normal(1e7, 300, 16)
    pooled = PooledSums()
    pooled.add(np.arange(16.0), values)
    ((_, mean, error),) = pooled.points()
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / 4)


def test_memory_stays_bounded_however_much_comes() -> None:
    pooled = PooledSums()
    for number in range(300):
        pooled.add(np.arange(1000.0) + 1000 * number, np.full(1000, float(number)))
    points = pooled.points()
    assert 250 <= len(points) <= MOST_POINTS
    assert np.allclose(points[:, 1], np.floor(points[:, 0] / 1000), atol=0.6)
