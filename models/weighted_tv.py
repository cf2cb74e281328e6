"""Weighted compressed sensing with total variation: needs no training, and takes any side, any mask and any dose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.estimators import Estimate
from models.hadamard import inverse_image, transform

# Highest mean PSNR of 11 open validation crops (n = 256, S = 50, Bernoulli draws) under a uniform, a water-filled and a
# low-sequency mask, α = 0.25 and 0.125, at 1/20, 1/4, 1, 4 and 20 times a = 0.0139, peak 1: 0.3 dB on average below the
# best factor of each image and dose, 0.16 dB at a = 0.0139. One factor without the exponent: 0.55 and 0.17 dB.
TYPICAL_WEIGHT = 1.4
NOISE_EXPONENT = 0.3


def weighted_tv_image(
    estimate: Estimate,
    weight_factor: float = TYPICAL_WEIGHT,
    *,
    iterations: int = 60,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The image x ≥ 0, float64 [n, n], that minimizes ½·Σ w_i (z_i - (Hx)_i)² + μ·TV(x), in the light's own units.

    w: ``data_weights``; μ: ``tv_weight``. FISTA (Beck & Teboulle 2009) with steps of 1/(N·max w), because HᵀH = N, and
    momentum that starts anew where it leads uphill (O'Donoghue & Candès 2015). start: image [n, n] to begin with, such
    as the last one of a growing acquisition; None: the plain inverse. Raises NothingMeasuredError, SideError.
    """
    import torch

    from models.tv_proximal import TotalVariationProximal, float_type_for

    weights = data_weights(estimate)
    largest = float(weights.max())
    measured: NDArray[np.float64] = np.where(weights > 0, estimate.coefficients, 0.0)
    plain = inverse_image(measured)
    weight = tv_weight(weights, estimate.total, weight_factor) / (len(weights) * largest)
    # In units of the weight, or of the light where it is 0 or next to it: no precision is lost, whatever the detector's
    # units, and nothing overflows.
    brightest = float(np.abs(plain).max())
    unit = (max(weight, _SMALLEST_UNIT * brightest) if weight > 0 else brightest) or 1.0
    dtype = float_type_for(plain / unit)
    z, relative, image = (
        torch.from_numpy(np.asarray(each, dtype=np.float64)).to(dtype)
        for each in (measured / unit, weights / largest, (plain if start is None else start) / unit)
    )
    proximal = TotalVariationProximal(image, nonnegative=True)
    ahead, following, moved = image.clone(), torch.empty_like(image), torch.empty_like(image)
    momentum = 1.0
    for iteration in range(iterations):
        residual = torch.sub(z, transform(ahead.view(-1), out=moved.view(-1))).mul_(relative)
        transform(residual, out=moved.view(-1)).div_(len(residual))
        inner = _INNER_ITERATIONS if iteration else _FIRST_INNER_ITERATIONS
        proximal(moved.add_(ahead), weight / unit, inner, out=following)
        if torch.sum((ahead - following) * (following - image)) > 0:
            momentum = 1.0
        previous, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        torch.lerp(image, following, 1 + (previous - 1) / momentum, out=ahead)
        image, following = following, image
    return np.asarray(image.numpy(), dtype=np.float64) * unit


def data_weights(estimate: Estimate) -> NDArray[np.float64]:
    """w_i = 1/v_i = M_i/(aT + 2b), float64 [N], 0 where untaken. Raises NothingMeasuredError.

    Coefficient 0 weighs no more than the heaviest other one: every pair measures it, and its true weight, some
    thousands of times larger, would make all steps as many times smaller. Variances near 0, such as a pair ratio of 1
    has, count as a thousandth of the median, or as a noise of a millionth of the mean light per pixel if that is more.
    """
    taken = np.isfinite(estimate.variance) & np.isfinite(estimate.coefficients)
    if not taken.any():
        raise NothingMeasuredError("no coefficient was measured; expected one pair at least")
    variance = estimate.variance[taken]
    least = max(_LEAST_OF_MEDIAN * float(np.median(variance)), (_LEAST_OF_LIGHT * estimate.total) ** 2 / len(taken))
    weights = np.zeros(len(taken))
    weights[taken] = 1 / np.maximum(variance, least or 1.0)
    if weights[1:].any():
        weights[0] = min(weights[0], weights[1:].max())
    return weights


def tv_weight(weights: NDArray[np.float64], total: float, weight_factor: float = TYPICAL_WEIGHT) -> float:
    """μ = weight_factor·r^0.3·sqrt(Σw), r = N/(T·sqrt(Σw)), in units of 1 over the light's.

    1/sqrt(Σw) is the noise per pixel of an evenly measured image, r its ratio to the mean light: scaling the light and
    its noise together changes neither r nor the image. The power of r is from experience: more of what a noisier image
    shows is noise. r counts as 1 at most, also where T is not above 0.
    """
    root = float(np.sqrt(weights.sum()))
    relative_noise = min(len(weights) / (total * root), 1.0) if total > 0 else 1.0
    return float(weight_factor * relative_noise**NOISE_EXPONENT * root)


class NothingMeasuredError(ValueError):
    """An estimate without a single coefficient."""


# Of the brightest pixel.
_SMALLEST_UNIT = 1e-9
_INNER_ITERATIONS = 5
# The dual field starts at 0: too few iterations would put back into a good start what total variation took out of it.
_FIRST_INNER_ITERATIONS = 30
_LEAST_OF_MEDIAN = 1e-3
_LEAST_OF_LIGHT = 1e-6
