"""Sums over pairs against loops over lists."""

from __future__ import annotations

import statistics as reference

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.statistics import CoefficientStatistics

PAIRS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=60)


def added(pairs: list[tuple[int, int, int]], batch: int) -> CoefficientStatistics:
    sums = CoefficientStatistics.empty(8)
    for start in range(0, len(pairs), batch):
        index, plus, minus = np.array(pairs[start : start + batch]).T
        sums.add(index, plus.astype(np.float64), minus.astype(np.float64))
    return sums


@given(PAIRS, st.integers(1, 60))
@settings(deadline=None)
def test_sums_are_those_of_a_plain_loop_however_the_pairs_arrive(pairs: list[tuple[int, int, int]], batch: int) -> None:
    sums = added(pairs, batch)
    for i in range(8):
        own = [(plus, minus) for index, plus, minus in pairs if index == i]
        assert sums.count[i] == len(own)
        assert sums.sum_difference[i] == sum(plus - minus for plus, minus in own)
        assert sums.sum_square_difference[i] == sum((plus - minus) ** 2 for plus, minus in own)
        assert sums.sum_total[i] == sum(plus + minus for plus, minus in own)


@given(PAIRS)
@settings(deadline=None)
def test_mean_and_variance_are_over_the_pairs_that_were_taken(pairs: list[tuple[int, int, int]]) -> None:
    sums = added(pairs, 60)
    for i in range(8):
        own = [plus - minus for index, plus, minus in pairs if index == i]
        if not own:
            assert np.isnan(sums.mean[i])
        else:
            assert sums.mean[i] == pytest.approx(reference.fmean(own))
        if len(own) < 2:
            assert np.isnan(sums.variance[i])
        else:
            assert sums.variance[i] == pytest.approx(reference.variance(own), rel=1e-6, abs=1e-2)


def test_one_pattern_may_come_several_times_in_one_batch() -> None:
    sums = CoefficientStatistics.empty(4)
    sums.add(np.array([2, 2, 2]), np.array([5.0, 7.0, 9.0]), np.array([1.0, 1.0, 1.0]))
    assert sums.count.tolist() == [0, 0, 3, 0]
    assert sums.sum_difference[2] == 18
    assert sums.sum_square_difference[2] == 16 + 36 + 64
    assert sums.sum_total[2] == 24
    assert sums.mean[2] == 6
    assert sums.variance[2] == 4


def test_nothing_yet_is_nan_and_not_zero() -> None:
    sums = CoefficientStatistics.empty(4)
    assert np.isnan(sums.mean).all()
    assert np.isnan(sums.variance).all()
    assert sums.count.dtype == np.int32
    assert sums.sum_total.dtype == np.float64


def test_equal_readings_have_no_negative_variance() -> None:
    sums = CoefficientStatistics.empty(1)
    sums.add(np.zeros(7, dtype=np.int64), np.full(7, 1e9 + 0.1), np.zeros(7))
    assert sums.variance[0] >= 0


def test_a_copy_stays_as_it_was() -> None:
    sums = CoefficientStatistics.empty(2)
    sums.add(np.array([1]), np.array([3.0]), np.array([1.0]))
    copy = sums.copy()
    sums.add(np.array([1, 0]), np.array([9.0, 9.0]), np.array([1.0, 1.0]))
    assert copy.count.tolist() == [0, 1]
    assert copy.sum_difference.tolist() == [0.0, 2.0]
    assert copy.sum_square_difference.tolist() == [0.0, 4.0]
    assert copy.sum_total.tolist() == [0.0, 4.0]
