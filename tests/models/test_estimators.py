"""Estimates of coefficients and total, their bias and their variance, by simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.estimators import (
    difference,
    light_ratio,
    pair_ratio,
    pair_ratio_bias,
    pair_ratio_variance,
    total_from_pairs,
)
from models.noise import NoiseModel
from models.statistics import CoefficientStatistics


def statistics_of(
    index: list[int], plus: list[float], minus: list[float], n_coefficients: int = 4
) -> CoefficientStatistics:
    statistics = CoefficientStatistics.empty(n_coefficients)
    statistics.add(np.array(index), np.array(plus), np.array(minus))
    return statistics


THREE_PAIRS = statistics_of([1, 1, 3], [70.0, 74.0, 25.0], [50.0, 46.0, 95.0])


def test_the_total_is_the_mean_pair_sum_without_its_two_darks() -> None:
    assert total_from_pairs(THREE_PAIRS) == pytest.approx(120.0)
    assert total_from_pairs(THREE_PAIRS, dark=10.0) == pytest.approx(100.0)


def test_the_total_weighs_every_pair_alike() -> None:
    statistics = statistics_of([1, 1, 1, 2], [10.0] * 3 + [50.0], [10.0] * 3 + [50.0])
    assert total_from_pairs(statistics) == pytest.approx((3 * 20 + 100) / 4)


def test_without_a_pair_the_total_is_unknown() -> None:
    assert np.isnan(total_from_pairs(CoefficientStatistics.empty(4), dark=3.0))


def test_the_difference_is_a_mean_over_the_pairs_that_were_taken() -> None:
    np.testing.assert_allclose(difference(THREE_PAIRS, 120.0), [120.0, 24.0, np.nan, -70.0])


def test_the_pair_ratio_is_a_ratio_of_sums() -> None:
    expected = [100.0, 100.0 * 48 / (240 - 40), np.nan, 100.0 * -70 / (120 - 20)]
    np.testing.assert_allclose(pair_ratio(THREE_PAIRS, 100.0, dark=10.0), expected)


def test_the_light_ratio_divides_by_the_light_it_is_given() -> None:
    light = np.array([0.0, 300.0, 0.0, 140.0])
    np.testing.assert_allclose(light_ratio(THREE_PAIRS, light, 100.0), [100.0, 16.0, np.nan, -50.0])


def test_no_light_gives_no_ratio_and_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(light_ratio(THREE_PAIRS, np.zeros(4), 100.0)[1:]).all()


def test_estimates_leave_the_sums_alone() -> None:
    before = THREE_PAIRS.copy()
    difference(THREE_PAIRS, 1.0)
    pair_ratio(THREE_PAIRS, 1.0, 2.0)
    for name in ("count", "sum_difference", "sum_square_difference", "sum_total"):
        np.testing.assert_array_equal(getattr(THREE_PAIRS, name), getattr(before, name))


@given(seed=st.integers(0, 2**32 - 1), dark=st.floats(-50, 50))
@settings(deadline=None, max_examples=50)
def test_what_both_exposures_of_a_pair_have_in_common_cancels_in_the_ratio(seed: int, dark: float) -> None:
    rng = np.random.default_rng(seed)
    total, z = 100.0, rng.uniform(-100, 100, 8)
    index = np.repeat(np.arange(1, 8), 3)
    drift = rng.uniform(0.1, 2.0, len(index))
    statistics = CoefficientStatistics.empty(8)
    plus, minus = drift * (total + z[index]) / 2 + dark, drift * (total - z[index]) / 2 + dark
    statistics.add(index, plus, minus)
    np.testing.assert_allclose(pair_ratio(statistics, total, dark)[1:], z[1:], atol=1e-9)


def simulated(
    z: float, total: float, noise: NoiseModel, n_pairs: int, n_runs: int, seed: int, dark: float = 0.0
) -> CoefficientStatistics:
    """``n_runs`` independent runs of ``n_pairs`` pairs of one coefficient, filed as coefficients 1 to n_runs."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(1, n_runs + 1), n_pairs)
    plus, minus = (
        noise.gain * rng.poisson((total + sign * z) / 2 / noise.gain, len(index))
        + rng.normal(dark, np.sqrt(noise.variance), len(index))
        for sign in (1, -1)
    )
    statistics = CoefficientStatistics.empty(n_runs + 1)
    statistics.add(index, plus, minus)
    return statistics


@pytest.mark.parametrize("rho", [-0.9, -0.3, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("noise", [NoiseModel(2.0, 0.0), NoiseModel(2.0, 4e3), NoiseModel(0.5, 2e4)])
def test_the_pair_ratio_varies_as_said(rho: float, noise: NoiseModel) -> None:
    """aT(1 - ρ²) + 2b(1 + ρ²) per pair, with 20 pairs and light enough for the expansion to hold."""
    total, n_pairs, n_runs = 1e4, 20, 10_000
    z = rho * total
    estimate = pair_ratio(simulated(z, total, noise, n_pairs, n_runs, 1, dark=30.0), total, dark=30.0)[1:]
    expected = float(pair_ratio_variance(np.array([z]), total, noise)[0])
    assert expected == pytest.approx(noise.gain * total * (1 - rho**2) + 2 * noise.variance * (1 + rho**2))
    assert n_pairs * estimate.var() == pytest.approx(expected, rel=0.06)


def test_the_difference_is_unbiased_and_the_ratio_is_biased_as_said() -> None:
    """Relative bias 2b/(M·T²), where it is 2 %: dim light, one pair, strong readout noise."""
    total, z, noise, n_runs = 2000.0, 1600.0, NoiseModel(1.0, 4e4), 400_000
    statistics = simulated(z, total, noise, 1, n_runs, 2)
    bound = float(pair_ratio_bias(np.array([1]), total, noise)[0])
    assert bound == pytest.approx(0.02)
    plain, ratio = difference(statistics, total)[1:], pair_ratio(statistics, total)[1:]
    assert plain.mean() == pytest.approx(z, abs=4 * plain.std() / np.sqrt(n_runs))
    bias, uncertainty = ratio.mean() / z - 1, ratio.std() / z / np.sqrt(n_runs)
    assert bias > 10 * uncertainty
    # The next order of the expansion is about 3·(Var(y+ + y-)/T²)² = 0.1 % here.
    assert bias == pytest.approx(bound, abs=4 * uncertainty + 0.002)


def test_more_pairs_make_the_bias_smaller() -> None:
    bias = pair_ratio_bias(np.array([0, 1, 4], dtype=np.int32), 100.0, NoiseModel(1.0, 50.0))
    np.testing.assert_allclose(bias, [np.inf, 0.01, 0.0025])


def test_dividing_by_smoothed_light_removes_the_bias() -> None:
    total, z, noise, n_runs = 2000.0, 1600.0, NoiseModel(1.0, 4e4), 400_000
    statistics = simulated(z, total, noise, 1, n_runs, 3)
    light = np.full(n_runs + 1, statistics.sum_total.sum() / n_runs)
    ratio = light_ratio(statistics, light, total)[1:]
    assert ratio.mean() == pytest.approx(z, abs=4 * ratio.std() / np.sqrt(n_runs))


def test_one_sample_shines_through_a_constant_dark_level() -> None:
    """Offsets cancel in the difference, and in the ratio only when they are subtracted."""
    coefficient: NDArray[np.float64] = np.array([0.0, 40.0])
    offset = 500.0
    statistics = statistics_of([1], [70.0 + offset], [30.0 + offset], n_coefficients=2)
    np.testing.assert_allclose(difference(statistics, 100.0)[1:], coefficient[1:])
    np.testing.assert_allclose(pair_ratio(statistics, 100.0, dark=offset)[1:], coefficient[1:])
    assert pair_ratio(statistics, 100.0)[1] == pytest.approx(40.0 * 100 / 1100)
