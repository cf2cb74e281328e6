"""What every picture sends, and the smooth curve on which all their light drifts together.

    y_j = μ_g(j)·d(t_j) + noise,    d(t) = 1 + Σ_k c_k·(P_k(t) - mean P_k),

g(j) the picture of exposure j, P_k the Legendre polynomials over the duration of the run; the mean of d over all
exposures is 1. Weighted least squares in μ and c together: for given c every μ_g is a ratio of sums; what is left of
the columns of c once the picture's own d is projected out is solved for, and the loop (Gauss-Newton) ends in a few
rounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIGHEST_DEGREE = 8
SECONDS_PER_DEGREE = 0.25
"""One degree of freedom for each of these seconds of light: a short run has no time for slow drift."""

_ROUNDS = 12
_CONVERGED = 1e-10
_BINS = 64


@dataclass(frozen=True)
class DriftingLight:
    """Light and drift of a run.

    light: μ float64 [G]; curve: d float64 [n]; coefficients: c float64 [K]; residual: float64 [n], y - μ·d; freedom:
    float64 [G], degrees of freedom of each picture's residuals: its exposures less what the fit took from them (the
    sum of 1 - leverage).
    """

    light: NDArray[np.float64]
    curve: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    residual: NDArray[np.float64]
    freedom: NDArray[np.float64]


def drift_degree(light_s: float) -> int:
    """Degrees of freedom of the curve for a run of this much light, s: 1 to 8."""
    return int(np.clip(np.ceil(light_s / SECONDS_PER_DEGREE), 1, HIGHEST_DEGREE))


def drift_design(time_s: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Columns P_1 … P_degree float64 [n, degree] at times [n], each with mean 0 over them."""
    first, last = float(time_s.min()), float(time_s.max())
    place = (2 * time_s - first - last) / max(last - first, np.finfo(float).tiny)
    columns = np.polynomial.legendre.legvander(place, degree)[:, 1:]
    centred: NDArray[np.float64] = columns - columns.mean(axis=0)
    return centred


def fit_drifting_light(
    value: NDArray[np.float64],
    picture: NDArray[np.intp],
    design: NDArray[np.float64],
    weight: NDArray[np.float64],
    used: NDArray[np.bool_],
    steady: NDArray[np.bool_],
) -> DriftingLight:
    """Fit μ and d to readings value [n] of pictures numbered picture [n], drift columns design [n, K].

    weight: [G], one over the variance of a reading of each picture; used: [n], readings that count (the others get a
    residual too); steady: [G], pictures that the drift may be learned from (not the saturated ones).
    """
    n_pictures, n_columns = len(weight), design.shape[1]
    teaches = used & steady[picture]
    coefficients = np.zeros(n_columns)
    for _ in range(_ROUNDS):
        curve = 1 + design @ coefficients
        light, residual = _light(value, picture, curve, used, n_pictures)
        columns = _own_light_projected_out(design * light[picture][:, None], picture, curve, teaches, n_pictures)
        weighted = columns * weight[picture][:, None]
        normal = columns.T @ weighted
        step = np.linalg.lstsq(normal, weighted.T @ residual, rcond=1e-12)[0]
        coefficients = coefficients + step
        if np.abs(step).max(initial=0.0) < _CONVERGED:
            break
    curve = 1 + design @ coefficients
    light, residual = _light(value, picture, curve, used, n_pictures)
    leverage = np.einsum("jk,kl,jl->j", weighted, np.linalg.pinv(normal, rcond=1e-12, hermitian=True), columns)
    taken = np.bincount(picture, leverage, n_pictures)
    freedom = np.maximum(np.bincount(picture, used, n_pictures) - 1 - taken, 0.0)
    return DriftingLight(light, curve, coefficients, residual, freedom)


def faster_than_smooth(
    time_s: NDArray[np.float64],
    residual: NDArray[np.float64],
    light: NDArray[np.float64],
    variance: NDArray[np.float64],
    degree: int,
) -> float:
    """Probability that noise alone leaves the residuals of neighbouring exposures this much alike.

    All arrays [n]; light and variance are those that the model gives each reading. In each of 64 stretches of time the
    relative excess of light, Σ(μ·r/v)/√Σ(μ²/v), is normal with variance 1 where the curve follows the drift; their
    squares add up to χ² with 64 - degree degrees of freedom.
    """
    from scipy.special import chdtrc

    order = np.argsort(time_s, kind="stable")
    stretch = np.arange(len(order)) * _BINS // max(len(order), 1)
    signal = np.bincount(stretch, (light * residual / variance)[order], _BINS)
    information = np.bincount(stretch, (light**2 / variance)[order], _BINS)
    told = information > 0
    chi_squared = float(np.sum(signal[told] ** 2 / information[told]))
    return float(chdtrc(max(int(told.sum()) - degree, 1), chi_squared))


def _light(
    value: NDArray[np.float64],
    picture: NDArray[np.intp],
    curve: NDArray[np.float64],
    used: NDArray[np.bool_],
    n_pictures: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """μ [G] for a given curve, Σ d·y/Σ d², and the residuals [n]; 0 for a picture without readings."""
    squares = np.bincount(picture, used * curve**2, n_pictures)
    light = np.bincount(picture, used * curve * value, n_pictures) / np.where(squares > 0, squares, 1.0)
    return light, value - light[picture] * curve


def _own_light_projected_out(
    columns: NDArray[np.float64],
    picture: NDArray[np.intp],
    curve: NDArray[np.float64],
    teaches: NDArray[np.bool_],
    n_pictures: int,
) -> NDArray[np.float64]:
    """The columns [n, K] less their projection on each picture's own curve; 0 where nothing is to be learned."""
    squares = np.bincount(picture, teaches * curve**2, n_pictures)
    squares = np.where(squares > 0, squares, 1.0)
    along = np.stack([np.bincount(picture, teaches * curve * column, n_pictures) for column in columns.T], axis=1)
    left: NDArray[np.float64] = columns - curve[:, None] * (along / squares[:, None])[picture]
    return left * teaches[:, None]
