"""Total-variation denoising in physical units (scikit-image's Chambolle solver)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def denoise(
    image: NDArray[np.float64], noise_std: float, weight_factor: float = 1.0, *, iterations: int = 60
) -> NDArray[np.float64]:
    """Minimize Σ(x - image)²/2 + w·TV(x) with w = weight_factor·noise_std, in the image's own units, float64 [n, n].

    noise_std: standard deviation per pixel of the image's noise; 0 returns the image. Negative values are left to the
    caller. Iterations end after ``iterations``, or sooner where the image hardly changes.
    """
    from skimage.restoration import denoise_tv_chambolle

    weight = weight_factor * noise_std
    if not weight > 0:
        return np.asarray(image, dtype=np.float64).copy()
    # The solver's stopping rule knows no units: it gets the image in units of the noise.
    scaled = np.asarray(image, dtype=np.float64) / noise_std
    result = denoise_tv_chambolle(scaled, weight=weight_factor, eps=1e-4, max_num_iter=iterations)
    return np.asarray(result * noise_std, dtype=np.float64)
