"""The photon-transfer curve, var = b + a·m + q·m², fitted to measured variances.

A measured variance s² with f degrees of freedom has the variance 2v²/f, v the true one, so that dim pictures weigh
most and the weights follow from the fit itself. The light m is measured too: an error of δm moves the curve under the
point by g·δm with g = a + 2qm, which matters where few electrons meet a quiet detector (a dark picture, a = 20, b =
10). An error of the offset moves all points at once. Generalized least squares with

    Σ_ij = δ_ij·(2v_i²/f_i + g_i²·v_i/n_i + r_i²) + g_i·g_j·var(offset),

iterated to convergence, is the maximum-likelihood fit of means and variances together, to first order; r is what
rounding to steps coarser than the noise may have done to a variance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 30
_CONVERGED = 1e-7
_LEAST_RELATIVE_VARIANCE = 1e-9


@dataclass(frozen=True)
class Points:
    """Measured points of the curve, all float64, P of them in the last axis; light and variance may have axes before.

    light: m, units above the offset; variance: s², units²; freedom: f [P]; exposures: n [P]; lit: bool [P], False where
    the light was off: there m is 0 by definition. least_variance: units², what v is never below (a detector that reads
    whole steps of u has u²/12 at least where it varies at all). offset_error: variance of the offset over v at m = 0:
    one over the number of readings with the light off, 0 where the offset is given. rounding_error: units², [P] or [1],
    by how much rounding to coarse steps may have changed a variance (standard deviation); offset_rounding: units, the
    same of the offset.
    """

    light: NDArray[np.float64]
    variance: NDArray[np.float64]
    freedom: NDArray[np.float64]
    exposures: NDArray[np.float64]
    lit: NDArray[np.bool_]
    least_variance: float
    offset_error: float
    rounding_error: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    offset_rounding: float = 0.0

    def chosen(self, which: NDArray[np.bool_]) -> Points:
        """Some of the points."""
        return Points(
            self.light[..., which],
            self.variance[..., which],
            self.freedom[which],
            self.exposures[which],
            self.lit[which],
            self.least_variance,
            self.offset_error,
            np.broadcast_to(self.rounding_error, self.freedom.shape)[which],
            self.offset_rounding,
        )


@dataclass(frozen=True)
class VarianceCurve:
    """A fitted curve, or many.

    parameters: (a, b, q) float64 [..., 3]; covariance: float64 [..., 3, 3], what the weights promise; chi_squared:
    [...], of the points around the curve, to be held against P - 3 degrees of freedom.
    """

    parameters: NDArray[np.float64]
    covariance: NDArray[np.float64]
    chi_squared: NDArray[np.float64]

    @property
    def errors(self) -> NDArray[np.float64]:
        """Standard errors of (a, b, q) float64 [..., 3]."""
        errors: NDArray[np.float64] = np.sqrt(np.diagonal(self.covariance, axis1=-2, axis2=-1))
        return errors

    def at(self, light: NDArray[np.float64]) -> NDArray[np.float64]:
        """The variance b + a·m + q·m², float64, light [..., P]."""
        return curve_at(self.parameters, light)


def curve_at(parameters: NDArray[np.float64], light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance b + a·m + q·m² of parameters (a, b, q) [..., 3] at light [..., P] or [P]."""
    gain, variance, source = (parameters[..., index, None] for index in range(3))
    curve: NDArray[np.float64] = variance + gain * light + source * light**2
    return curve


def fit_variance_curve(points: Points, start: NDArray[np.float64] | None = None) -> VarianceCurve:
    """Fit (a, b, q) to at least three points, all sets of the leading axes at once; nothing is clipped at 0.

    start: (a, b, q) float64 [3] to weigh by at first; by default the measured variances weigh themselves.
    """
    light, measured = np.broadcast_arrays(points.light, points.variance)
    top = np.maximum(np.abs(light).max(axis=-1), np.finfo(float).tiny)[..., None]
    scales = np.concatenate([1 / top, np.ones_like(top), 1 / top**2], axis=-1)
    design = np.stack([light / top, np.ones_like(light), (light / top) ** 2], axis=-1)
    highest = measured.max(axis=-1, keepdims=True)
    least = np.maximum(points.least_variance, _LEAST_RELATIVE_VARIANCE * highest)
    # The measured variance bounds the weight of a point that the curve passes far below.
    least = np.maximum(least, measured / 2)
    if start is None:
        parameters, modelled = np.zeros((*light.shape[:-1], 3)), np.maximum(measured, least)
    else:
        parameters = np.broadcast_to(start, (*light.shape[:-1], 3))
        modelled = np.maximum(curve_at(parameters, light), least)
    for _ in range(_ROUNDS):
        before = parameters
        spread = _covariance(points, light, modelled, parameters)
        weighted = np.linalg.solve(spread, design)
        normal = np.swapaxes(design, -1, -2) @ weighted
        moment = (np.swapaxes(weighted, -1, -2) @ measured[..., None])[..., 0]
        # Without read noise darkness weighs 10¹⁸ times as much as light: even that out before inverting.
        even = 1 / np.sqrt(np.maximum(np.diagonal(normal, axis1=-2, axis2=-1), np.finfo(float).tiny))
        even = even[..., :, None] * even[..., None, :]
        inverse = np.linalg.pinv(normal * even, hermitian=True, rcond=1e-13) * even
        parameters = (inverse @ moment[..., None])[..., 0] * scales
        modelled = np.maximum(curve_at(parameters, light), least)
        error = np.sqrt(np.maximum(np.diagonal(inverse, axis1=-2, axis2=-1), 0)) * scales
        if np.all(np.abs(parameters - before) <= 1e-3 * error + _CONVERGED * np.abs(parameters)):
            break
    left = measured - curve_at(parameters, light)
    chi_squared = np.sum(left * np.linalg.solve(spread, left[..., None])[..., 0], axis=-1)
    return VarianceCurve(parameters, inverse * scales[..., :, None] * scales[..., None, :], chi_squared)


def _covariance(
    points: Points, light: NDArray[np.float64], modelled: NDArray[np.float64], parameters: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Σ float64 [..., P, P] of measured variances around the curve."""
    slope = (parameters[..., 0, None] + 2 * parameters[..., 2, None] * light) * points.lit
    own = 2 * modelled**2 / points.freedom + slope**2 * modelled / points.exposures
    own = own + np.square(points.rounding_error)
    dark = np.maximum(parameters[..., 1], points.least_variance) * points.offset_error + points.offset_rounding**2
    spread: NDArray[np.float64] = slope[..., :, None] * slope[..., None, :] * np.asarray(dark)[..., None, None]
    diagonal = np.arange(light.shape[-1])
    spread[..., diagonal, diagonal] += own
    return spread
