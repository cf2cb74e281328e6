"""Readings that a detector cuts off below: no negative numbers, although the noise of darkness goes that far.

Of n readings n₀ lie at the limit c or below, and are known no better; the others are y_i. With θ = (m - c)/σ, η = 1/σ
and y counted from c the logarithm of the likelihood of normal noise is

    n₀·log Φ(-θ) + n₁·log η - ½·Σ(η·y_i - θ)²,

concave in (θ, η) (Olsen 1978), so that Newton's method finds mean and variance from three sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 40


@dataclass(frozen=True)
class CutMoments:
    """Mean and variance of what the readings were before they were cut off, [...] float64.

    mean_variance: that of the mean; freedom: degrees of freedom that would make a variance of whole readings as
    uncertain.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    mean_variance: NDArray[np.float64]
    freedom: NDArray[np.float64]


def cut_moments(value: NDArray[np.float64], limit: float) -> CutMoments:
    """Of sets of readings [..., n] of which those at ``limit`` or below are cut off. At least two must lie above it."""
    from scipy.special import log_ndtr

    above = value > limit
    over = np.where(above, value - limit, 0.0)
    seen = np.maximum(above.sum(axis=-1).astype(np.float64), 1.0)
    cut = value.shape[-1] - seen
    first, second = over.sum(axis=-1), np.maximum((over**2).sum(axis=-1), np.finfo(float).tiny)
    theta, eta = first / seen, np.ones_like(seen)
    scale = np.sqrt(second / seen)
    first, second = first / scale, second / scale**2
    theta = theta / scale
    for _ in range(_ROUNDS):
        ratio = np.exp(-(theta**2) / 2 - 0.5 * np.log(2 * np.pi) - log_ndtr(-theta))
        bend = -ratio * (ratio - theta)
        down_theta = -cut * ratio + eta * first - seen * theta
        down_eta = seen / eta - eta * second + theta * first
        tt, te, ee = cut * bend - seen, first, -seen / eta**2 - second
        determinant = tt * ee - te**2
        step_theta = (ee * down_theta - te * down_eta) / determinant
        step_eta = (tt * down_eta - te * down_theta) / determinant
        shorten = 0.5 * eta / np.maximum(np.abs(step_eta), 0.5 * eta)
        theta, eta = theta - shorten * step_theta, eta - shorten * step_eta
    theta_variance, eta_variance, common = -ee / determinant, -tt / determinant, te / determinant
    mean_variance = (theta_variance - 2 * theta / eta * common + (theta / eta) ** 2 * eta_variance) / eta**2
    total = cut + seen
    return CutMoments(
        mean=limit + scale * theta / eta,
        variance=(scale / eta) ** 2 * total / (total - 1),
        mean_variance=scale**2 * mean_variance,
        # var(σ²) = 4·var(η)/η⁶ is 2σ⁴/f.
        freedom=eta**2 / (2 * eta_variance),
    )
