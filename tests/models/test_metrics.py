"""Metrics against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from models.metrics import ConstantImageError, min_max_psnr, psnr, ssim

RNG = np.random.default_rng(0)
TRUTH = RNG.uniform(10, 50, (32, 32))
IMAGE = TRUTH + RNG.normal(0, 2, (32, 32))


def test_psnr_is_the_range_over_the_root_mean_square_error_in_decibels() -> None:
    assert psnr(np.zeros((2, 2)), np.array([[3.0, 0.0], [0.0, 4.0]]), 100.0) == pytest.approx(
        20 * np.log10(100 / np.sqrt(25 / 4))
    )


def test_psnr_grows_with_the_stated_range_and_with_nothing_else() -> None:
    assert psnr(TRUTH, IMAGE, 500.0) - psnr(TRUTH, IMAGE, 50.0) == pytest.approx(20.0)
    assert psnr(TRUTH * 7, IMAGE * 7, 350.0) == pytest.approx(psnr(TRUTH, IMAGE, 50.0))


def test_equal_images_have_infinite_psnr() -> None:
    assert psnr(TRUTH, TRUTH.copy(), 1.0) == float("inf")
    assert psnr(np.full((4, 4), 3.0), np.full((4, 4), 3.0), 1.0) == float("inf")


def test_psnr_sees_a_wrong_scale_and_min_max_psnr_does_not() -> None:
    assert psnr(TRUTH, 2 * TRUTH + 5, 50.0) < 10
    assert min_max_psnr(TRUTH, 2 * TRUTH + 5) > 200


def test_min_max_psnr_stretches_both_images() -> None:
    truth = (TRUTH - TRUTH.min()) / (TRUTH.max() - TRUTH.min())
    image = (IMAGE - IMAGE.min()) / (IMAGE.max() - IMAGE.min())
    assert min_max_psnr(TRUTH, IMAGE) == pytest.approx(-10 * np.log10(np.mean((truth - image) ** 2)))


@pytest.mark.parametrize(("truth", "image", "name"), [(np.ones((4, 4)), IMAGE, "truth"), (TRUTH, TRUTH * 0, "image")])
def test_an_image_without_contrast_cannot_be_stretched(
    truth: NDArray[np.float64],
    image: NDArray[np.float64],
    name: str,
) -> None:
    with pytest.raises(ConstantImageError, match=f"the {name} is"):
        min_max_psnr(truth, image)


def test_ssim_is_the_formula_of_2004() -> None:
    """Means, variances and covariance under a Gaussian of 1.5 px, averaged where its 11 px window fits in."""
    data_range = 40.0

    def local_mean(
        values: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values, 1.5, truncate=3.5))

    mean_x, mean_y = local_mean(TRUTH), local_mean(IMAGE)
    variance_x, variance_y = local_mean(TRUTH**2) - mean_x**2, local_mean(IMAGE**2) - mean_y**2
    covariance = local_mean(TRUTH * IMAGE) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    assert ssim(TRUTH, IMAGE, data_range) == pytest.approx(float(similarity[5:-5, 5:-5].mean()), rel=1e-9)


def test_ssim_of_equal_images_is_one_and_falls_with_noise() -> None:
    assert ssim(TRUTH, TRUTH, 40.0) == pytest.approx(1.0)
    assert ssim(TRUTH, TRUTH + RNG.normal(0, 10, TRUTH.shape), 40.0) < ssim(TRUTH, IMAGE, 40.0) < 1
