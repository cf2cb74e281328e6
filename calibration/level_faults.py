"""Why levels are left out of a photon-transfer curve: few exposures, saturated, too coarse, not linear, beyond such."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.level_readings import COARSE, LEAST_EXPOSURES, LevelReadings
from calibration.linearity import TOLERANCE, Bend, find_bend, superposition
from calibration.saturation import ceiling, collapsed
from calibration.variance_curve import Points

TOO_COARSE = "too coarse"
"""How the reason of a level begins whose noise is lost in the steps of readings."""

_COLLAPSED = "saturated: its variance falls below what dimmer levels foretell"


@dataclass(frozen=True)
class LevelFaults:
    """reasons: why each picture is left out [G], "" where it is not.

    deviation, deviation_error: from linearity, shares of the light [G], NaN where that was not tested. bend: of the
    detector, None where none could be looked for.
    """

    reasons: tuple[str, ...]
    deviation: NDArray[np.float64]
    deviation_error: NDArray[np.float64]
    bend: Bend | None


def find_faults(readings: LevelReadings, points: Points, used: NDArray[np.bool_]) -> LevelFaults:
    """Look at every picture's readings, variance and mean."""
    n_pictures = readings.n_pictures
    light, variance = points.light[:n_pictures], points.variance[:n_pictures]
    exposures = np.bincount(readings.picture, used, n_pictures)
    reasons = [f"only {int(n)} exposures" if n < LEAST_EXPOSURES else "" for n in exposures]

    for each in np.flatnonzero(readings.is_hidden(used)).tolist():
        reasons[each] = "cut off: nearly all of its readings are the lowest value that there is"

    top = _ceiling(readings, used, light, variance)
    if top is not None:
        at_top = np.bincount(readings.picture, used & (readings.raw >= top - readings.step / 2), n_pictures)
        for each in np.flatnonzero(at_top).tolist():
            share = at_top[each] / exposures[each]
            reasons[each] = f"saturated: {share:.1%} of readings at the ceiling of {top:g}"

    for each in _coarse(readings, variance, reasons):
        reasons[each] = (
            f"{TOO_COARSE}: a variance of {variance[each]:.2g}, in steps of {readings.step:.3g}, is the rounding's as "
            f"much as the light's (below {COARSE:g} squared steps)"
        )

    sound = np.array([not reason for reason in reasons])
    candidate = np.append(sound, np.ones(len(points.freedom) - n_pictures, dtype=np.bool_))
    for each in np.flatnonzero(collapsed(points, candidate)[:n_pictures]).tolist():
        reasons[each] = _COLLAPSED

    deviation, deviation_error, bend = _hold_against_linearity(readings, points, reasons)
    failing = [each for each in range(n_pictures) if reasons[each].startswith(("saturated", "not linear"))]
    if failing:
        lowest = min(failing, key=lambda each: float(readings.share[each]))
        for index in range(n_pictures):
            if readings.share[index] > readings.share[lowest] and not reasons[index]:
                reasons[index] = f"brighter than the level at {readings.share[lowest]:.3g}, which is left out"
    return LevelFaults(tuple(reasons), deviation, deviation_error, bend)


def _coarse(readings: LevelReadings, variance: NDArray[np.float64], reasons: list[str]) -> list[int]:
    """Lit pictures too quiet for the step, from the dimmest up: a brighter one behind a noisy one is saturated."""
    lit = [each for each in np.argsort(readings.share, kind="stable").tolist() if readings.share[each] > 0]
    sound = [each for each in lit if not reasons[each]]
    coarse = readings.is_coarse(variance)[sound]
    first_fine = int(np.argmin(np.append(coarse, False)))
    return sound[:first_fine]


def _hold_against_linearity(
    readings: LevelReadings, points: Points, reasons: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64], Bend | None]:
    """Deviations [G] with their errors, and the bend; writes into ``reasons`` what is not linear."""
    n_pictures = readings.n_pictures
    light, mean_variance = points.light[:n_pictures], (points.variance / points.exposures)[:n_pictures]
    deviation, deviation_error = np.full((2, n_pictures), np.nan)
    # A pair's pictures are neighbours, the halves last.
    halves = np.arange(n_pictures - 2, n_pictures)
    pairs = light.reshape(-1, 2)
    brighter = np.where(pairs[:, 0] >= pairs[:, 1], 0, 1) + 2 * np.arange(len(pairs))
    dimmer = brighter ^ 1
    sum_variance = mean_variance[dimmer] + mean_variance[brighter]

    # A bend takes noise away as well: where that is all that speaks against a level, its mean is a witness still.
    witness = np.array([not each or each.startswith((TOO_COARSE, _COLLAPSED)) for each in reasons])
    sound = witness[dimmer] & witness[brighter]
    bend = None
    if witness[halves].all():
        bend = find_bend(light[dimmer[sound]], light[brighter[sound]], sum_variance[sound])
    if bend is not None and bend.significant:
        told = witness[dimmer] & ~np.array([each.startswith("only") for each in reasons])[brighter]
        of = brighter[told]
        test = superposition(
            bend.light(light[dimmer[told]]),
            light[of],
            sum_variance[told],
            bend.total,
            bend.total_variance,
            TOLERANCE,
        )
        deviation[of], deviation_error[of] = test.deviation, test.error
        smooth = np.append(dimmer[told], brighter[sound][bend.fits])
        smooth = smooth[readings.share[smooth] > 0]
        sent = bend.light(light[smooth])
        deviation[smooth], deviation_error[smooth] = -bend.curvature * sent, bend.error * np.abs(sent)
        failing = set(of[test.fails].tolist()) - set(smooth.tolist())
        failing |= set(smooth[np.abs(deviation[smooth]) > TOLERANCE].tolist())
    else:
        good = np.array([not each or each.startswith(TOO_COARSE) for each in reasons])
        if not good[halves].all():
            return deviation, deviation_error, bend
        told = good[dimmer] & ~np.array([each.startswith("only") for each in reasons])[brighter]
        told[-1] = False
        of = brighter[told]
        half_total, half_variance = float(light[halves].sum()), float(mean_variance[halves].sum())
        test = superposition(light[dimmer[told]], light[of], sum_variance[told], half_total, half_variance)
        deviation[of], deviation_error[of] = test.deviation, test.error
        failing = set(of[test.fails].tolist())
    for each in sorted(failing):
        amount = f"{abs(deviation[each]):.2%} too {'much' if deviation[each] > 0 else 'little'}"
        reasons[each] = reasons[each] or f"not linear: reads {amount}"
    return deviation, deviation_error, bend


def _ceiling(
    readings: LevelReadings, used: NDArray[np.bool_], light: NDArray[np.float64], variance: NDArray[np.float64]
) -> float | None:
    """The value at which readings stop: the known full scale where they reach it, or where they pile up."""
    value, picture = readings.raw[used], readings.picture[used]
    if readings.full_scale is not None and value.max() >= readings.full_scale - readings.step / 2:
        return readings.full_scale
    dim = float(variance[light <= 0.6 * light.max()].max(initial=0.0)) ** 0.5
    return ceiling(value, picture, readings.n_pictures, dim, readings.step)
