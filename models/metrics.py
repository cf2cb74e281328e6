"""How close an image is to the truth, with the data range stated (scikit-image)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def psnr(truth: NDArray[np.float64], image: NDArray[np.float64], data_range: float) -> float:
    """Peak signal-to-noise ratio in dB: 10·log10(data_range²/mean((truth - image)²)); inf where they are equal."""
    from skimage.metrics import peak_signal_noise_ratio

    if np.array_equal(truth, image):
        return float("inf")
    return float(peak_signal_noise_ratio(truth, image, data_range=data_range))


def min_max_psnr(truth: NDArray[np.float64], image: NDArray[np.float64]) -> float:
    """PSNR in dB after each image is stretched to [0, 1]: blind to scale and offset, only to compare with papers.

    Raises ConstantImageError where an image cannot be stretched.
    """
    return psnr(_stretched(truth, "truth"), _stretched(image, "image"), 1.0)


def ssim(truth: NDArray[np.float64], image: NDArray[np.float64], data_range: float) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window of 1.5 px, population covariance) of images [n, n]."""
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth, image, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


class ConstantImageError(ValueError):
    """An image without contrast where a range is needed."""


def _stretched(image: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    low, high = float(image.min()), float(image.max())
    if high == low:
        raise ConstantImageError(f"the {name} is {low:g} everywhere; a range from minimum to maximum is needed")
    return (image - low) / (high - low)
