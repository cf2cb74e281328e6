"""The prior of training images, as both networks and water-filled masks use it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.draws import Draw
from models.hadamard import transform
from models.learning.crops import NoContrastError
from models.masks import best_linear
from models.noise import NoiseModel


def training_prior_variance(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """λ_i = mean of (z_i/T)² over images [K, n, n], float64 [N], and 0 at i = 0.

    Turned images count as well: flips change signs only, the transposed coefficient v·n + u is averaged with u·n + v.
    Raises NoContrastError where an image has no light.
    """
    n = images.shape[-1]
    power = np.zeros(n * n)
    for image in images:
        z = transform(image.astype(np.float64).ravel())
        if not z[0] > 0:
            raise NoContrastError(
                "found an image without light among those to learn from; expected light in all of them"
            )
        power += (z / z[0]) ** 2
    square = (power / len(images)).reshape(n, n)
    variance = ((square + square.T) / 2).ravel()
    variance[0] = 0.0
    return variance


def water_filled(
    prior_variance: NDArray[np.float64], alpha: float, repeats: int, draw: Draw, noise: NoiseModel, total: float
) -> NDArray[np.float64]:
    """The best mask [N] of a linear reconstruction (DESIGN §5.5) for images of this total light. Raises MaskError.

    prior_variance: at unit total light; draw: "systematic" (closed form) or "bernoulli" (numerical).
    """
    return best_linear(prior_variance * total**2, alpha, repeats, noise.pair_variance(total), draw)
