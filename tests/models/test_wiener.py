"""The Wiener image against dense linear algebra, and its error against its forecast over simulated acquisitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.draws import bernoulli_draw, systematic_draw
from models.estimators import difference
from models.masks import uniform
from models.noise import NoiseModel, draw_statistics
from models.priors import Prior, power_law_prior, prior_from_image
from models.wiener import forecast_mse, noise_std, wiener_image

NOISE = NoiseModel(gain=2.0, variance=400.0)


def spots(n: int, light_per_px: float) -> NDArray[np.float64]:
    """Soft spots on a dim ground, float64 [n, n]."""
    y, x = np.mgrid[:n, :n] / n
    image = 0.1 + np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.02) + 0.5 * np.exp(-((x - 0.8) ** 2) / 0.004)
    return np.asarray(image * light_per_px / image.mean())


def variances(count: NDArray[np.int32], total: float) -> NDArray[np.float64]:
    """(aT + 2b)/M, inf where M = 0; the total has the mean over all pairs."""
    variance = np.full(len(count), np.inf)
    pair = NOISE.gain * total + 2 * NOISE.variance
    variance[count > 0] = pair / count[count > 0]
    variance[0] = pair / count.sum()
    return variance


def dense_wiener(
    z: NDArray[np.float64], variance: NDArray[np.float64], prior: Prior, taken: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The conditional mean of x given the taken rows of z = Hx + noise, x Gaussian: no shrinking per coefficient."""
    n = round(len(z) ** 0.5)
    matrix = np.kron(hadamard(n), hadamard(n)).astype(np.float64)
    covariance = matrix @ np.diag(prior.variance) @ matrix / len(z) ** 2
    mean = matrix @ prior.mean / len(z)
    rows = matrix[taken]
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + np.diag(variance[taken]))
    return np.asarray((mean + gain @ (z[taken] - rows @ mean)).reshape(n, n))


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_image_is_the_conditional_mean_of_a_gaussian_sample(n: int) -> None:
    rng = np.random.default_rng(n)
    prior = Prior(rng.normal(0, 5, n * n), rng.uniform(0.1, 9, n * n))
    taken = rng.random(n * n) < 0.6
    taken[0] = True
    z = np.where(taken, rng.normal(0, 7, n * n), np.nan)
    variance = np.where(taken, rng.uniform(0.1, 9, n * n), np.inf)
    np.testing.assert_allclose(wiener_image(z, variance, prior), dense_wiener(z, variance, prior, taken), atol=1e-9)


def test_nothing_of_an_untaken_coefficient_leaks_into_the_image() -> None:
    prior = power_law_prior(8, 100.0)
    z = np.random.default_rng(0).normal(size=64)
    variance = np.where(np.arange(64) % 3 == 0, 4.0, np.inf)
    expected = wiener_image(np.where(np.isfinite(variance), z, 0.0), variance, prior)
    assert np.isfinite(expected).all()
    for junk in (1e9, np.nan, np.inf, -np.inf):
        image = wiener_image(np.where(np.isfinite(variance), z, junk), variance, prior)
        np.testing.assert_array_equal(image, expected)


def test_with_nothing_taken_the_image_is_the_prior_mean() -> None:
    mean = np.random.default_rng(1).normal(size=16)
    prior = Prior(mean, np.ones(16))
    image = wiener_image(np.full(16, np.nan), np.full(16, np.inf), prior)
    np.testing.assert_allclose(image, (np.kron(hadamard(4), hadamard(4)) @ mean).reshape(4, 4) / 16)
    assert forecast_mse(prior.variance, np.full(16, np.inf)) == pytest.approx(1 / 16)
    assert noise_std(prior, np.full(16, np.inf)) == 0


def test_without_noise_the_image_is_the_sample() -> None:
    image = np.random.default_rng(2).uniform(size=(16, 16))
    z = np.asarray(hadamard(16) @ image @ hadamard(16), dtype=np.float64).ravel()
    prior = power_law_prior(16, image.sum())
    np.testing.assert_allclose(wiener_image(z, np.zeros(256), prior), image, atol=1e-13)
    assert forecast_mse(prior.variance, np.zeros(256)) == 0
    assert noise_std(prior, np.zeros(256)) == 0


def test_a_coefficient_that_is_known_beforehand_is_not_measured() -> None:
    prior = Prior(np.array([8.0, 1.0, 2.0, 3.0]), np.zeros(4))
    measured = wiener_image(np.full(4, 100.0), np.zeros(4), prior)
    np.testing.assert_allclose(measured, wiener_image(prior.mean, np.ones(4), prior))
    assert forecast_mse(prior.variance, np.zeros(4)) == 0


def test_the_forecast_is_the_posterior_variance_per_pixel() -> None:
    prior_variance, variance = np.array([4.0, 4.0, 1.0, 0.0]), np.array([4.0, np.inf, 3.0, 1.0])
    assert forecast_mse(prior_variance, variance) == pytest.approx((2.0 + 4.0 + 0.75 + 0.0) / 16)


def test_the_forecast_is_exact_where_the_prior_is_as_good_as_nothing() -> None:
    """λ/v of 10¹⁵ and more: 1 - λ/(λ + v) would be rounding."""
    assert forecast_mse(np.full(4, 1e18), np.full(4, 100.0)) == pytest.approx(400 / 16, rel=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_measuring_more_never_makes_the_forecast_worse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior_variance, variance = 10.0 ** rng.uniform(-3, 6, (2, 64))
    variance[rng.random(64) < 0.3] = np.inf
    less = np.where(rng.random(64) < 0.5, variance, np.minimum(variance / 2, 1e3))
    forecast = forecast_mse(prior_variance, less)
    assert 0 <= forecast <= forecast_mse(prior_variance, variance) * (1 + 1e-12)
    assert forecast <= prior_variance.sum() / 64**2


@pytest.mark.parametrize("draw", [bernoulli_draw, systematic_draw])
@pytest.mark.parametrize("alpha", [0.25, 1.0])
def test_the_squared_error_of_twenty_acquisitions_is_as_forecast(draw: object, alpha: float) -> None:
    """With λ_i the sample's own squared coefficients and μ = 0, for every single draw of M (DESIGN §5.4)."""
    assert callable(draw)
    n, repeats, n_seeds = 64, 4, 20
    sample = spots(n, 50.0)
    total, prior = float(sample.sum()), prior_from_image(sample)
    errors, forecasts = [], []
    for seed in range(n_seeds):
        count = draw(uniform(n, alpha), repeats, seed)
        statistics = draw_statistics(sample, count, NOISE, np.random.default_rng(seed))
        z = difference(statistics, statistics.sum_total.sum() / count.sum())
        variance = variances(count, total)
        errors.append(np.mean((wiener_image(z, variance, prior) - sample) ** 2))
        forecasts.append(forecast_mse(prior.variance, variance))
    assert np.mean(errors) == pytest.approx(np.mean(forecasts), rel=0.05)


def test_the_propagated_noise_is_white_and_as_strong_as_said() -> None:
    n, repeats = 32, 3
    sample = spots(n, 50.0)
    prior = power_law_prior(n, float(sample.sum()))
    count = systematic_draw(uniform(n, 0.5), repeats, 0)
    variance = variances(count, float(sample.sum()))
    exact = difference(draw_statistics(sample, count, None, np.random.default_rng(0)), float(sample.sum()))
    clean = wiener_image(exact, variance, prior)
    rng = np.random.default_rng(3)
    residuals = []
    for _ in range(200):
        noisy = exact + rng.normal(size=n * n) * np.sqrt(np.where(np.isfinite(variance), variance, 0.0))
        residuals.append(wiener_image(noisy, variance, prior) - clean)
    stack = np.array(residuals)
    assert stack.std() == pytest.approx(noise_std(prior, variance), rel=0.02)
    dim, bright = sample < np.median(sample), sample > np.percentile(sample, 90)
    assert stack[:, dim].std() == pytest.approx(stack[:, bright].std(), rel=0.05)


def test_a_prior_mean_that_is_right_needs_no_measurement() -> None:
    sample = spots(16, 10.0)
    right = prior_from_image(sample)
    known = replace(right, mean=np.sqrt(right.variance) * np.sign(_coefficients(sample)))
    np.testing.assert_allclose(wiener_image(np.full(256, np.nan), np.full(256, np.inf), known), sample, atol=1e-9)


def _coefficients(image: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = hadamard(len(image)).astype(np.float64)
    return np.asarray(matrix @ image @ matrix).ravel()
