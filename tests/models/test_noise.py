"""Poisson-Gaussian sums against exposure-by-exposure simulation and the formulas of the noise model."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.noise import NoiseModel, draw_statistics

IMAGE = np.random.default_rng(0).gamma(0.5, 8.0, size=(16, 16))
NOISE = NoiseModel(gain=2.5, variance=40.0)


def dense_coefficients(image: NDArray[np.float64]) -> NDArray[np.float64]:
    n = len(image)
    return np.asarray(hadamard(n) @ image @ hadamard(n), dtype=np.float64).ravel()


def test_the_variances_of_both_exposures_add() -> None:
    assert NOISE.pair_variance(1000.0) == 2.5 * 1000 + 2 * 40
    assert NOISE.pair_variance(1000.0, background=30.0) == 2.5 * (1000 + 60) + 2 * 40


def test_single_exposures_have_the_variance_of_a_pair_between_them() -> None:
    """y± = a·Poisson(H±x/a) + N(0, b) drawn one by one: the formula, the sums and the exposures agree."""
    rng = np.random.default_rng(1)
    coefficients, total, n_pairs = dense_coefficients(IMAGE), float(IMAGE.sum()), 2000
    light = np.stack([total + coefficients, total - coefficients]) / 2
    readings = NOISE.gain * rng.poisson(light / NOISE.gain, (n_pairs, 2, 256)) + rng.normal(
        0, np.sqrt(NOISE.variance), (n_pairs, 2, 256)
    )
    differences = readings[:, 0] - readings[:, 1]
    assert differences.var(axis=0).mean() == pytest.approx(NOISE.pair_variance(total), rel=0.02)


@pytest.mark.parametrize("repeats", [1, 4, 25])
def test_the_mean_of_m_pairs_has_the_pair_variance_over_m(repeats: int) -> None:
    coefficients = dense_coefficients(IMAGE)
    rng = np.random.default_rng(2)
    errors = np.array(
        [draw_statistics(IMAGE, np.full(256, repeats), NOISE, rng).mean - coefficients for _ in range(100)]
    )
    expected = NOISE.pair_variance(float(IMAGE.sum())) / repeats
    assert errors.var() == pytest.approx(expected, rel=0.03)
    assert abs(errors.mean()) < 5 * np.sqrt(expected / errors.size)
    # The same for every i: low coefficients are no noisier than high ones, however bright.
    strong = np.abs(coefficients) > np.median(np.abs(coefficients))
    assert errors[:, strong].var() == pytest.approx(errors[:, ~strong].var(), rel=0.08)


def test_the_sum_of_a_pair_measures_the_total_with_the_same_variance() -> None:
    rng = np.random.default_rng(3)
    sums = np.array([draw_statistics(IMAGE, np.full(256, 2), NOISE, rng).sum_total for _ in range(100)]) / 2
    assert sums.mean() == pytest.approx(IMAGE.sum(), rel=2e-3)
    assert sums.var() == pytest.approx(NOISE.pair_variance(float(IMAGE.sum())) / 2, rel=0.03)


def test_the_sample_variance_estimates_the_pair_variance() -> None:
    statistics = draw_statistics(IMAGE, np.full(256, 30), NOISE, np.random.default_rng(4))
    assert statistics.variance.mean() == pytest.approx(NOISE.pair_variance(float(IMAGE.sum())), rel=0.05)


def test_counts_of_photons_are_whole_multiples_of_the_gain() -> None:
    statistics = draw_statistics(IMAGE, np.full(256, 3), NoiseModel(2.5, 0.0), np.random.default_rng(5))
    electrons = statistics.sum_total / 2.5
    np.testing.assert_allclose(electrons, np.round(electrons), atol=1e-6)


def test_without_noise_the_sums_are_exact() -> None:
    repeats = np.random.default_rng(6).integers(0, 9, 256)
    statistics = draw_statistics(IMAGE, repeats, None, np.random.default_rng(0))
    coefficients = dense_coefficients(IMAGE)
    np.testing.assert_allclose(statistics.sum_difference, repeats * coefficients, atol=1e-8)
    np.testing.assert_allclose(statistics.sum_total, repeats * IMAGE.sum(), rtol=1e-12)
    np.testing.assert_allclose(statistics.sum_square_difference, repeats * coefficients**2, rtol=1e-9, atol=1e-6)
    np.testing.assert_array_equal(statistics.count, repeats)


def test_coefficients_that_were_not_taken_hold_nothing() -> None:
    repeats = np.where(np.arange(256) % 3 == 0, 0, 2)
    statistics = draw_statistics(IMAGE, repeats, NOISE, np.random.default_rng(7))
    untaken = repeats == 0
    for sums in (statistics.sum_difference, statistics.sum_square_difference, statistics.sum_total):
        assert not sums[untaken].any()
        assert sums[~untaken].all()


def test_a_dark_picture_of_a_pair_never_gets_negative_light() -> None:
    """H- of coefficient 0 is dark: its light is 0 up to rounding, and stays drawable."""
    statistics = draw_statistics(np.full((8, 8), 0.1), np.full(64, 5), NoiseModel(1.0, 0.0), np.random.default_rng(8))
    assert statistics.sum_difference[0] == statistics.sum_total[0]


def test_the_generator_decides_the_noise() -> None:
    draws = [draw_statistics(IMAGE, np.ones(256, int), NOISE, np.random.default_rng(seed)).mean for seed in (1, 1, 2)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).all()


@pytest.mark.parametrize(
    ("gain", "variance"), [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (float("nan"), 1.0), (1.0, float("nan"))]
)
def test_noise_that_no_detector_has_is_refused(gain: float, variance: float) -> None:
    with pytest.raises(ValueError, match="a > 0 and b ≥ 0"):
        NoiseModel(gain, variance)
