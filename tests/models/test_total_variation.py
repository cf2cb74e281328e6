"""Denoising in physical units: what it minimizes, what it keeps, and that units do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.restoration import denoise_tv_chambolle

from models.metrics import psnr
from models.total_variation import denoise

SIGMA = 5.0


def blocks(n: int = 64) -> NDArray[np.float64]:
    image = np.full((n, n), 20.0)
    image[n // 4 : n // 2, n // 8 : n // 2] = 100.0
    image[n // 2 :, 5 * n // 8 :] = 60.0
    return image


def noisy(seed: int = 0) -> NDArray[np.float64]:
    return blocks() + np.random.default_rng(seed).normal(0, SIGMA, (64, 64))


def total_variation(image: NDArray[np.float64]) -> float:
    down = np.diff(image, axis=0, append=image[-1:])
    across = np.diff(image, axis=1, append=image[:, -1:])
    return float(np.hypot(down, across).sum())


def cost(candidate: NDArray[np.float64], image: NDArray[np.float64], weight: float) -> float:
    return float(((candidate - image) ** 2).sum() / 2 + weight * total_variation(candidate))


def test_noise_goes_and_edges_stay() -> None:
    denoised = denoise(noisy(), SIGMA)
    error_before, error_after = (np.mean((image - blocks()) ** 2) for image in (noisy(), denoised))
    assert error_after < error_before / 3
    edge = denoised[16:32, 7:9].mean(axis=0)
    assert edge[1] - edge[0] > 0.85 * 80


@pytest.mark.parametrize("weight_factor", [0.3, 0.6, 1.0])
def test_no_other_image_costs_less(weight_factor: float) -> None:
    """The cost Σ(x - image)²/2 + w·TV(x) with w = weight_factor·σ is near its minimum, and w is the weight."""
    image, weight = noisy(), weight_factor * SIGMA
    best = denoise(image, SIGMA, weight_factor, iterations=400)
    least = cost(best, image, weight)
    rng = np.random.default_rng(1)
    others = [image, np.full_like(image, image.mean()), blocks(), best + rng.normal(0, 0.5, best.shape)]
    others += [denoise(image, SIGMA, weight_factor * other, iterations=400) for other in (0.5, 0.7, 1.4, 2.0)]
    assert all(least < cost(other, image, weight) for other in others)


def test_default_iterations_come_close_to_the_minimum() -> None:
    short, long = denoise(noisy(), SIGMA), denoise(noisy(), SIGMA, iterations=2000)
    assert cost(short, noisy(), 0.6 * SIGMA) < 1.01 * cost(long, noisy(), 0.6 * SIGMA)


@pytest.mark.parametrize("weight_factor", [0.3, 0.6])
def test_default_iterations_are_within_a_tenth_of_a_decibel_of_scikit_images_minimum(weight_factor: float) -> None:
    minimum = denoise_tv_chambolle(noisy(), weight=weight_factor * SIGMA, eps=0.0, max_num_iter=3000)
    ours = denoise(noisy(), SIGMA, weight_factor)
    assert abs(psnr(blocks(), ours, 100.0) - psnr(blocks(), minimum, 100.0)) < 0.1


@pytest.mark.parametrize("unit", [1e-9, 0.25, 1e6])
def test_another_unit_of_light_gives_the_same_image(unit: float) -> None:
    np.testing.assert_allclose(denoise(noisy() * unit, SIGMA * unit), denoise(noisy(), SIGMA) * unit, rtol=1e-3)


def test_little_noise_on_bright_light_changes_the_image_by_little_noise() -> None:
    """Far above the noise single precision would err by more than the noise does."""
    image, sigma = noisy() * 1e6, 1e-3
    assert np.abs(denoise(image, sigma) - image).max() < 10 * sigma


def test_the_mean_light_is_kept() -> None:
    assert denoise(noisy(), SIGMA).mean() == pytest.approx(noisy().mean(), rel=1e-5)


def test_negative_values_are_left_to_the_caller() -> None:
    assert denoise(noisy() - 60, SIGMA).min() < -35


@pytest.mark.parametrize(("noise_std", "weight_factor"), [(0.0, 1.0), (SIGMA, 0.0)])
def test_without_noise_or_weight_the_image_comes_back_as_a_copy(noise_std: float, weight_factor: float) -> None:
    image = noisy()
    result = denoise(image, noise_std, weight_factor)
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)
