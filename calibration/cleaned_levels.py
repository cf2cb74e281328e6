"""Levels cleared of drift, outliers, saturation and nonlinearity, and the photon-transfer curve through the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.cut_off import cut_moments
from calibration.drift import DriftingLight, fit_drifting_light
from calibration.level_faults import TOO_COARSE, LevelFaults, find_faults
from calibration.level_readings import LEAST_EXPOSURES, LevelReadings
from calibration.outliers import is_outlier, robust_deviation, upper_deviation
from calibration.variance_curve import Points, VarianceCurve, fit_variance_curve
from calibration.verdict import TooFewLevelsError

LEAST_LEVELS = 4
"""Usable levels beside darkness: three parameters and one degree of freedom to be wrong by."""

ROUNDING_ERROR = 1 / 4
"""Squared steps by which rounding may change the variance of readings quieter than their step: -0.12 to +0.17, for
all dark ones alike."""
ROUNDING_MATTERS = 3.0
"""Squared steps: where light alone knows b no better than that, a does not care what rounding did to darkness."""

_ROUNDS = 8


@dataclass(frozen=True)
class CleanedLevels:
    """A fit as far as it has come. points: one per picture, and a last one with the light off where there is one."""

    drifting: DriftingLight
    used: NDArray[np.bool_]
    points: Points
    faults: LevelFaults
    curve: VarianceCurve

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each picture is left out [G], "" where it is not."""
        return self.faults.reasons

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Points that the curve is fitted to."""
        kept = np.ones(len(self.points.freedom), dtype=np.bool_)
        kept[: len(self.reasons)] = [not reason for reason in self.reasons]
        return kept


def clean_levels(readings: LevelReadings) -> CleanedLevels:
    """Drift, outliers, levels to leave out and the curve depend on each other: go round until nothing changes."""
    picture, n_pictures = readings.picture, readings.n_pictures
    used = np.ones(len(picture), dtype=np.bool_)
    steady = np.ones(n_pictures, dtype=np.bool_)
    weighing = _first_variances(readings)
    state: CleanedLevels | None = None
    for _ in range(_ROUNDS):
        drifting = fit_drifting_light(readings.value, picture, readings.design, 1 / weighing, used, steady)
        used_before, used = used, ~_outlying(readings, drifting, None if state is None else state.curve)
        before = state
        state = _assess(readings, drifting, used)
        steady = state.kept[:n_pictures]
        least = np.maximum(state.points.variance[:n_pictures] / 2, least_variance(readings))
        weighing = np.maximum(state.curve.at(drifting.light), least)
        if before is not None and before.reasons == state.reasons and np.array_equal(used, used_before):
            return state
    assert state is not None
    return state


def least_variance(readings: LevelReadings) -> float:
    """What rounding to whole steps leaves of the smallest noise; a trifle where there are no steps."""
    return max(readings.step**2 / 12, 1e-9 * float(np.var(readings.value)))


def distinct_levels(share: NDArray[np.float64], kept: NDArray[np.bool_]) -> int:
    """Levels of light among kept pictures; two halves are one, darkness is none."""
    return len(np.unique(share[kept[: len(share)] & (share > 0)]))


def kinds(reasons: tuple[str, ...]) -> list[str]:
    """One reason of each kind to leave levels out."""
    kinds: dict[str, str] = {}
    for each in reasons:
        if each:
            kinds.setdefault(each.split(":")[0], each)
    return sorted(kinds.values())


def remedy(reasons: tuple[str, ...]) -> str:
    """What to do where too many levels are left out for these reasons."""
    if any(each.startswith(TOO_COARSE) for each in reasons):
        return "Raise the detector's gain, or the light"
    if any(each.startswith("only") for each in reasons):
        return f"Play the whole recipe, with {LEAST_EXPOSURES} exposures of each level or more"
    return "Reduce the light"


def _first_variances(readings: LevelReadings) -> NDArray[np.float64]:
    """Robust variance of each picture's readings [G], never below that of a dimmer one: saturation weighs nothing."""
    level, variance = np.zeros((2, readings.n_pictures))
    for each in np.unique(readings.picture):
        own = readings.value[readings.picture == each]
        level[each], variance[each] = np.median(own), robust_deviation(own) ** 2
    order = np.argsort(level)
    variance[order] = np.maximum.accumulate(np.maximum(variance[order], least_variance(readings)))
    return variance


def _outlying(readings: LevelReadings, drifting: DriftingLight, curve: VarianceCurve | None) -> NDArray[np.bool_]:
    """Readings [n] too far from their picture's light: by the readings' own spread at first, then by the curve too."""
    picture = readings.picture
    variance, middle = np.zeros((2, readings.n_pictures))
    at_floor = readings.at_floor
    for each in np.unique(picture):
        own = drifting.residual[picture == each]
        variance[each], middle[each] = robust_deviation(own) ** 2, np.median(own)
        if at_floor[picture == each].any():
            variance[each] = max(variance[each], upper_deviation(own) ** 2)
    if curve is None:
        # The first means and the first drift may be wrong by whatever outliers and saturation made of them.
        deviation = 1.5 * np.sqrt(variance + readings.step**2)
        return is_outlier(drifting.residual - middle[picture], deviation[picture])
    variance += readings.step**2 / 12
    variance = np.maximum(variance, np.maximum(curve.at(drifting.light), least_variance(readings)))
    skewness = max(float(curve.parameters[0]), 0.0) ** 2 * np.maximum(drifting.light, 0.0) / variance**1.5
    return is_outlier(drifting.residual, np.sqrt(variance)[picture], skewness[picture])


def _assess(readings: LevelReadings, drifting: DriftingLight, used: NDArray[np.bool_]) -> CleanedLevels:
    """Points, what is wrong with them, and the curve through the others."""
    points = _points(readings, drifting, used)
    faults = find_faults(readings, points, used)
    kept = np.ones(len(points.freedom), dtype=np.bool_)
    kept[: readings.n_pictures] = [not reason for reason in faults.reasons]
    distinct = distinct_levels(readings.share, kept)
    if distinct < 2 or kept.sum() < 3:
        raise TooFewLevelsError(
            f"found {distinct} usable level{'s' * (distinct != 1)} of light beside darkness, of {LEAST_LEVELS} needed; "
            f"the others: {'; '.join(kinds(faults.reasons))}. {remedy(faults.reasons)}"
        )
    points = _without_idle_rounding(readings, points, kept)
    return CleanedLevels(drifting, used, points, faults, fit_variance_curve(points.chosen(kept)))


def _without_idle_rounding(readings: LevelReadings, points: Points, kept: NDArray[np.bool_]) -> Points:
    """Rounding errors of darkness are taken out where light's photon noise is far above them."""
    fine = kept & (points.rounding_error == 0)
    if np.array_equal(fine, kept) or fine.sum() < LEAST_LEVELS:
        return points
    from_light = float(fit_variance_curve(points.chosen(fine)).errors[1])
    if from_light < ROUNDING_MATTERS * readings.step**2:
        return points
    return replace(points, rounding_error=np.zeros_like(points.rounding_error))


def _points(readings: LevelReadings, drifting: DriftingLight, used: NDArray[np.bool_]) -> Points:
    """Mean light and variance of every picture, the light off last where it was read at least twice."""
    picture, n_pictures = readings.picture, readings.n_pictures
    exposures = np.bincount(picture, used, n_pictures)
    at_least_one = np.maximum(exposures, 1)
    light = drifting.light * np.bincount(picture, used * drifting.curve, n_pictures) / at_least_one
    freedom = np.maximum(drifting.freedom - (np.bincount(picture, minlength=n_pictures) - exposures), 1.0)
    variance = np.bincount(picture, used * drifting.residual**2, n_pictures) / freedom
    effective = at_least_one.astype(np.float64)
    for each in np.flatnonzero(readings.is_cut_off(used)):
        assert readings.floor is not None
        moments = cut_moments(readings.raw[used & (picture == each)], readings.floor)
        light[each], variance[each] = float(moments.mean) - readings.off.offset, float(moments.variance)
        freedom[each] = float(moments.freedom)
        effective[each] = float(moments.variance / moments.mean_variance)
    off = readings.off
    off_variance = np.array([off.variance])
    rounding = ROUNDING_ERROR * readings.step**2
    points = Points(
        light=light,
        variance=variance,
        freedom=freedom,
        exposures=effective,
        lit=np.ones(n_pictures, dtype=np.bool_),
        least_variance=readings.step**2 / 12,
        offset_error=1 / off.readings if off.measured else 0.0,
        rounding_error=np.where(readings.is_coarse(variance), rounding, 0.0),
        # Where all dark readings are one number the offset may lie anywhere within half a step of it.
        offset_rounding=readings.step / 12**0.5 if off.freedom and readings.is_coarse(off_variance).any() else 0.0,
    )
    if off.freedom == 0:
        return points
    return replace(
        points,
        light=np.append(light, 0.0),
        variance=np.append(variance, off.variance),
        freedom=np.append(freedom, off.freedom),
        exposures=np.append(effective, off.readings),
        lit=np.append(points.lit, False),
        rounding_error=np.where(readings.is_coarse(np.append(variance, off_variance)), rounding, 0.0),
    )
