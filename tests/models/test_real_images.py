"""Real fluorescence images, which come beside the repository and not with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.draws import systematic_draw
from models.estimators import difference, total_from_pairs
from models.hadamard import inverse_image
from models.masks import uniform, water_filling
from models.metrics import psnr, ssim
from models.noise import NoiseModel, draw_statistics
from models.priors import Prior, fit_power_law, power_law_prior, prior_from_image
from models.total_variation import denoise
from models.wiener import forecast_mse, noise_std, wiener_image

CROPS = Path(__file__).parents[3] / "shared" / "data" / "open" / "crops_test.npz"
N, REPEATS, LIGHT_PER_PX = 256, 8, 50.0
NOISE = NoiseModel(gain=2.0, variance=400.0)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.float64]:
    """Eight crops float64 [8, 256, 256], spread over the set, with LIGHT_PER_PX on average."""
    if not CROPS.is_file():
        pytest.skip(f"no real images: {CROPS} is missing, so nothing was tested on them")
    with np.load(CROPS, allow_pickle=False) as archive:
        images = archive["img"]
    chosen = images[np.linspace(0, len(images) - 1, 8).astype(int)].astype(np.float64)
    return np.asarray(chosen * (LIGHT_PER_PX / chosen.mean(axis=(1, 2), keepdims=True)))


def variances(count: NDArray[np.int32], total: float) -> NDArray[np.float64]:
    pair_variance = NOISE.pair_variance(total)
    variance = np.full(len(count), np.inf)
    variance[count > 0] = pair_variance / count[count > 0]
    variance[0] = pair_variance / count.sum()
    return variance


def test_all_pairs_without_noise_return_the_image_to_float_precision(crops: NDArray[np.float64]) -> None:
    """M = S everywhere: systematic draw of α = 1, exact sums, difference, inverse; and the Wiener image with v = 0."""
    for image in crops:
        count = systematic_draw(uniform(N, 1.0), REPEATS, 0)
        assert (count[1:] == REPEATS).all()
        statistics = draw_statistics(image, count, None, np.random.default_rng(0))
        z = difference(statistics, total_from_pairs(statistics))
        np.testing.assert_allclose(inverse_image(z), image, rtol=0, atol=1e-11 * image.max())
        prior = power_law_prior(N, total_from_pairs(statistics))
        np.testing.assert_allclose(wiener_image(z, np.zeros(N * N), prior), image, rtol=0, atol=1e-11 * image.max())


def reconstructed(
    image: NDArray[np.float64], mask: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Prior, NDArray[np.float64]]:
    """z, v, fitted prior and Wiener image of one simulated acquisition."""
    count = systematic_draw(mask, REPEATS, 1)
    statistics = draw_statistics(image, count, NOISE, np.random.default_rng(2))
    total = total_from_pairs(statistics)
    z, variance = difference(statistics, total), variances(count, total)
    prior = fit_power_law(z, variance, N, total)
    return z, variance, prior, wiener_image(z, variance, prior)


def test_the_forecast_under_a_fitted_prior_is_right_within_half_a_decibel(crops: NDArray[np.float64]) -> None:
    """No oracle: the prior is fitted to a quarter of the coefficients, taken uniformly and with noise."""
    for image in crops:
        _, variance, prior, wiener = reconstructed(image, uniform(N, 0.25))
        forecast, error = forecast_mse(prior.variance, variance), np.mean((wiener - image) ** 2)
        assert 10 * abs(np.log10(forecast / error)) < 0.5


def test_total_variation_is_better_than_wiener_and_wiener_better_than_zeros(crops: NDArray[np.float64]) -> None:
    gained_db, gained_ssim = [], []
    for image in crops:
        z, variance, prior, wiener = reconstructed(image, uniform(N, 0.25))
        peak = float(image.max())
        final = np.maximum(denoise(wiener, noise_std(prior, variance)), 0.0)
        known: NDArray[np.float64] = np.where(np.isnan(z), 0.0, z)
        unweighted = inverse_image(known)
        assert psnr(image, wiener, peak) > psnr(image, unweighted, peak)
        gained_db.append(psnr(image, final, peak) - psnr(image, wiener, peak))
        gained_ssim.append(ssim(image, final, peak) - ssim(image, wiener, peak))
    assert np.mean(gained_db) > 1.0
    assert np.mean(gained_ssim) > 0.0


def test_water_filling_beats_uniform_pairs_where_the_prior_is_right(crops: NDArray[np.float64]) -> None:
    """With λ_i the image's own squared coefficients, for the same budget; both errors are as forecast."""
    for image in crops:
        prior, total = prior_from_image(image), float(image.sum())
        errors = []
        for mask in (water_filling(prior.variance, 0.25, REPEATS, NOISE.pair_variance(total)), uniform(N, 0.25)):
            count = systematic_draw(mask, REPEATS, 3)
            statistics = draw_statistics(image, count, NOISE, np.random.default_rng(4))
            variance = variances(count, total)
            wiener = wiener_image(difference(statistics, total_from_pairs(statistics)), variance, prior)
            errors.append(np.mean((wiener - image) ** 2))
            assert errors[-1] == pytest.approx(forecast_mse(prior.variance, variance), rel=0.1)
        assert errors[0] < 0.9 * errors[1]
