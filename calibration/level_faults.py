"""Why levels are left out of a photon-transfer curve: too few exposures, saturated, not linear, brighter than such."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.level_readings import LEAST_EXPOSURES, LevelReadings
from calibration.linearity import superposition
from calibration.saturation import ceiling, collapsed
from calibration.variance_curve import Points


def reasons_to_leave_out(
    readings: LevelReadings, points: Points, used: NDArray[np.bool_]
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.float64]]:
    """Why each picture is left out, "" where it is not [G], and how far it deviates from linearity, with error [G]."""
    n_pictures = readings.n_pictures
    light, variance = points.light[:n_pictures], points.variance[:n_pictures]
    exposures = np.bincount(readings.picture, used, n_pictures)
    reasons = [f"only {int(n)} exposures" if n < LEAST_EXPOSURES else "" for n in exposures]

    top = _ceiling(readings, used, light, variance)
    if top is not None:
        at_top = np.bincount(readings.picture, used & (readings.value >= top - readings.step / 2), n_pictures)
        for each in np.flatnonzero(at_top):
            share = at_top[each] / exposures[each]
            reasons[each] = f"saturated: {share:.1%} of readings at the ceiling of {top + readings.offset:g}"

    sound = np.array([not reason for reason in reasons])
    candidate = np.append(sound, np.ones(len(points.freedom) - n_pictures, dtype=np.bool_))
    for each in np.flatnonzero(collapsed(points, candidate)[:n_pictures]):
        reasons[each] = "saturated: its variance falls below what dimmer levels foretell"

    deviation, deviation_error = np.full((2, n_pictures), np.nan)
    halves = slice(n_pictures - 2, n_pictures)
    if not any(reasons[halves]):
        # A pair's pictures are neighbours, the halves last.
        mean_variance = variance / points.exposures[:n_pictures]
        pairs = light[: n_pictures - 2].reshape(-1, 2)
        brighter = np.where(pairs[:, 0] >= pairs[:, 1], 0, 1) + 2 * np.arange(len(pairs))
        dimmer = brighter ^ 1
        told = np.array([not reasons[each].startswith("only") for each in brighter]) & np.array(
            [not reasons[each] for each in dimmer]
        )
        brighter, dimmer = brighter[told], dimmer[told]
        test = superposition(
            light[dimmer],
            light[brighter],
            mean_variance[dimmer] + mean_variance[brighter],
            float(light[halves].sum()),
            float(mean_variance[halves].sum()),
        )
        deviation[brighter], deviation_error[brighter] = test.deviation, test.error
        for each, share in zip(brighter[test.fails].tolist(), test.deviation[test.fails].tolist(), strict=True):
            reasons[each] = (
                reasons[each] or f"not linear: reads {abs(share):.2%} too {'much' if share > 0 else 'little'}"
            )

    failing = [each for each in range(n_pictures) if reasons[each].startswith(("saturated", "not linear"))]
    if failing:
        lowest = min(failing, key=lambda each: float(readings.share[each]))
        for index in range(n_pictures):
            if readings.share[index] > readings.share[lowest] and not reasons[index]:
                reasons[index] = f"brighter than the level at {readings.share[lowest]:.3g}, which is left out"
    return tuple(reasons), deviation, deviation_error


def _ceiling(
    readings: LevelReadings, used: NDArray[np.bool_], light: NDArray[np.float64], variance: NDArray[np.float64]
) -> float | None:
    """The value at which readings stop: the known full scale where they reach it, or where they pile up."""
    value, picture = readings.value[used], readings.picture[used]
    if readings.full_scale is not None and value.max() >= readings.full_scale - readings.step / 2:
        return readings.full_scale
    dim = float(variance[light <= 0.6 * light.max()].max(initial=0.0)) ** 0.5
    return ceiling(value, picture, readings.n_pictures, dim, readings.step)
