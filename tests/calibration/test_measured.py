"""Intervals of means hold, also where the terms of a series depend on each other."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.measured import Measured, series_error, series_mean


def test_an_interval_is_students() -> None:
    """Tables: t of 8 degrees at 97.5 % is 2.306, of a normal deviate 1.960."""
    assert Measured.around(10.0, 2.0, 8).high == pytest.approx(10 + 2 * 2.306, abs=1e-3)
    assert Measured.around(10.0, 2.0).low == pytest.approx(10 - 2 * 1.960, abs=1e-3)


def test_zero_is_excluded_only_where_an_end_says_so() -> None:
    assert Measured(2.0, 1.0, 3.0).excludes_zero
    assert Measured(-2.0, -3.0, -1.0).excludes_zero
    assert not Measured(1.0, -1.0, 3.0).excludes_zero
    assert not Measured(1.0, None, 3.0).excludes_zero
    assert Measured(1.0, 0.5, None).excludes_zero


def test_an_interval_without_an_end_scales_without_it() -> None:
    assert Measured(2.0, 1.0, None).scaled(3.0) == Measured(6.0, 3.0, None)


@pytest.mark.parametrize("keep", [0.0, 0.9, -0.5])
def test_the_error_of_a_mean_counts_what_terms_have_in_common(keep: float) -> None:
    """A series x_i = keep·x_(i-1) + e_i of unit steps has a mean of variance 1/(n(1 - keep)²)."""
    n, trials = 2000, 200
    steps = np.random.default_rng(1).standard_normal((trials, n + 200))
    series = np.zeros_like(steps)
    for index in range(1, steps.shape[1]):
        series[:, index] = keep * series[:, index - 1] + steps[:, index]
    series = series[:, 200:]
    errors = np.array([series_error(each)[0] for each in series])
    assert np.sqrt((errors**2).mean()) == pytest.approx(1 / np.sqrt(n) / (1 - keep), rel=0.1)
    intervals = [series_mean(each) for each in series]
    # Of 200 intervals of 95 %: 180 to 199, three binomial standard deviations.
    assert 180 <= sum((each.low or 0) <= 0 <= (each.high or 0) for each in intervals) <= 199


def test_a_short_series_is_taken_as_independent() -> None:
    values = np.arange(10.0)
    error, degrees = series_error(values)
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(10))
    assert degrees == 9
