"""Where a detector stops: readings that pile up at a ceiling, and light whose noise has gone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.variance_curve import Points, curve_at, fit_variance_curve

FALSE_ALARM = 1e-7
"""Probability that readings without a ceiling pile up at the highest value, per measurement."""
COLLAPSE_FALSE_ALARM = 1e-5
"""Probability that noise alone makes a level's variance look collapsed, per level."""

_TRUSTED = 4


def value_step(value: NDArray[np.float64]) -> float:
    """The smallest step between two different readings [n], units; 0 where all are the same."""
    if len(value) == 0:
        return 0.0
    steps = np.diff(np.unique(value))
    steps = steps[steps > 1e-9 * max(float(np.abs(value).max()), 1.0)]
    return float(steps.min()) if len(steps) else 0.0


def ceiling(
    value: NDArray[np.float64], picture: NDArray[np.intp], n_pictures: int, dim_deviation: float, step: float
) -> float | None:
    """The highest reading [n], where readings pile up there more than noise explains; None where they do not.

    dim_deviation: standard deviation of readings at half the light, never above that of brighter ones without a
    ceiling; step: of the readings. Of a picture with mean m and standard deviation σ (at least dim_deviation)
    n·step·φ(z)/σ readings are expected at one value, z = (highest - m)/σ; one is there by choice of the highest, and
    the others are Poisson.
    """
    from scipy.special import pdtrc

    top = float(value.max())
    at_top = np.bincount(picture, value >= top - step / 2, n_pictures)
    most = int(np.argmax(at_top))
    if at_top[most] < 3:
        return None
    own = value[picture == most]
    deviation = max(float(own.std()), dim_deviation)
    if deviation < step:
        # So quiet a detector reads few different numbers, and many readings share the highest.
        return None
    z = (top - float(own.mean())) / deviation
    expected = len(own) * min(step / deviation * float(np.exp(-(z**2) / 2)) / (2 * np.pi) ** 0.5, 1.0)
    # P(Poisson(expected) ≥ count - 1)
    return top if float(pdtrc(at_top[most] - 2, expected)) < FALSE_ALARM else None


def collapsed(points: Points, candidate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Points whose variance lies too far below the curve through all dimmer ones, bool [P].

    candidate: bool [P], points to be looked at. Begins with the dark ones and the four dimmest pictures, which are
    taken to be sound, and goes up; beyond the first that fails nothing is trusted, and all are marked.
    """
    from scipy.special import ndtri

    threshold = -ndtri(COLLAPSE_FALSE_ALARM)
    marked = np.zeros(len(points.freedom), dtype=np.bool_)
    order = np.argsort(np.where(points.lit, points.light, -np.inf), kind="stable")
    order = order[candidate[order]]
    first = int((~points.lit[order]).sum()) + 1 + _TRUSTED
    for place in range(first, len(order)):
        below, here = np.isin(np.arange(len(marked)), order[:place]), order[place]
        curve = fit_variance_curve(points.chosen(below))
        light = points.light[here]
        row = np.array([light, 1.0, light**2])
        forecast = float(curve_at(curve.parameters, points.light[here : here + 1])[0])
        error = (2 * forecast**2 / points.freedom[here] + row @ curve.covariance @ row) ** 0.5
        if points.variance[here] - forecast < -threshold * error:
            marked[order[place:]] = True
            break
    return marked
