"""Total-variation denoising in physical units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Mean gain over the Wiener image, 8 open fluorescence crops at n = 128 and 256, 10, 50 and 500 units of light per pixel
# (a = 2, b = 400), three masks: 1.9 dB between 0.5 and 0.75, 1.6 dB at 1, none at 2.5. Bright images want less (0.3).
TYPICAL_WEIGHT = 0.6


def denoise(
    image: NDArray[np.float64], noise_std: float, weight_factor: float = TYPICAL_WEIGHT, *, iterations: int = 20
) -> NDArray[np.float64]:
    """Minimize Σ(x - image)²/2 + w·TV(x) with w = weight_factor·noise_std, in the image's own units, float64 [n, n].

    noise_std: standard deviation per pixel of the image's noise; 0 returns the image. Negative values are left to the
    caller. At the typical weight 20 iterations come within 0.05 dB of the minimum, on open crops within 0.005 dB;
    large weights on even images want more.
    """
    import torch

    from models.tv_proximal import TotalVariationProximal, float_type_for

    if not weight_factor * noise_std > 0:
        return np.asarray(image, dtype=np.float64).copy()
    scaled = np.asarray(image, dtype=np.float64) / noise_std
    noisy = torch.from_numpy(scaled).to(float_type_for(scaled))
    proximal = TotalVariationProximal(noisy, nonnegative=False)
    denoised = proximal(noisy, weight_factor, iterations, out=torch.empty_like(noisy))
    return np.asarray(denoised.numpy(), dtype=np.float64) * noise_std
