"""The detector's own dark level and noise, from readings with the light off before and after the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.cut_off import cut_moments
from calibration.outliers import is_outlier, robust_deviation, upper_deviation

_LEAST_READINGS = 10
"""Readings of a part for outliers to be told in it, and for the level to be followed from one part to the other."""


@dataclass(frozen=True)
class DarkLevel:
    """What readings with the light off show, in units above the stated offset.

    offset: in the middle of the run; shift: by how much it moved from before to after, with shift_error, 0 where that
    was not measured; follows: whether the level is taken to have moved evenly between the two. residual: [d] less the
    level of their part, without outliers; variance: units², with freedom degrees of freedom (0: not measured);
    readings: so many independent ones would know the offset as well; outliers: left out. cut: whether some are cut off
    at the floor; hidden: whether nearly all are.
    """

    offset: float
    shift: float
    shift_error: float
    follows: bool
    residual: NDArray[np.float64]
    variance: float
    freedom: float
    readings: float
    outliers: int
    cut: bool
    hidden: bool

    @property
    def measured(self) -> bool:
        """Whether there are any readings."""
        return len(self.residual) > 0

    def at(self, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The offset at times [n] of the run, which begins and ends with the first and the last of them."""
        if not self.follows:
            return np.full(len(time_s), self.offset)
        first, last = float(time_s.min()), float(time_s.max())
        place = (time_s - first) / max(last - first, np.finfo(float).tiny) - 0.5
        level: NDArray[np.float64] = self.offset + self.shift * place
        return level


def dark_level(
    before: NDArray[np.float64], after: NDArray[np.float64], step: float, floor: float | None, hidden_share: float
) -> DarkLevel:
    """Mean, shift and variance of readings before and after. Either may be empty.

    step: of readings; floor: at which value and below readings are cut off; hidden_share: of readings at the floor
    above which mean and variance cannot be told.
    """
    whole = [part for part in (before, after) if len(part)]
    parts = [_without_outliers(part, step, floor) for part in whole]
    if not parts:
        return DarkLevel(0.0, 0.0, 0.0, False, np.empty(0), 0.0, 0.0, 0.0, 0, False, False)
    off = np.concatenate(parts)
    lost = sum(map(len, whole)) - len(off)
    cut = floor is not None and bool(np.any(off <= floor))
    if floor is not None and float(np.mean(off <= floor)) > hidden_share:
        offset = float(off.mean())
        return DarkLevel(offset, 0.0, 0.0, False, off - offset, 0.0, 0.0, len(off), lost, True, True)
    both = len(parts) == 2 and min(map(len, parts)) >= _LEAST_READINGS
    if floor is not None and cut and len(off) > 1:
        moments = cut_moments(off, floor)
        offset, variance = float(moments.mean), float(moments.variance)
        shift, error = 0.0, 0.0
        if both and all(np.sum(part > floor) >= _LEAST_READINGS for part in parts):
            first, second = (cut_moments(part, floor) for part in parts)
            shift = float(second.mean - first.mean)
            error = float(first.mean_variance + second.mean_variance) ** 0.5
        readings = variance / float(moments.mean_variance)
        freedom = float(moments.freedom)
        return DarkLevel(offset, shift, error, False, off - offset, variance, freedom, readings, lost, True, False)
    levels, counts = [float(part.mean()) for part in parts], [len(part) for part in parts]
    freedom = len(off) - len(parts)
    residual = np.concatenate([part - level for part, level in zip(parts, levels, strict=True)])
    variance = float(np.sum(residual**2)) / freedom if freedom else 0.0
    if not both:
        offset = float(off.mean())
        return DarkLevel(
            offset,
            0.0,
            0.0,
            False,
            residual if freedom else off - offset,
            variance,
            freedom,
            len(off),
            lost,
            cut,
            False,
        )
    per_reading = 1 / counts[0] + 1 / counts[1]
    return DarkLevel(
        offset=sum(levels) / 2,
        shift=levels[1] - levels[0],
        shift_error=(max(variance, step**2 / 12) * per_reading) ** 0.5,
        follows=True,
        residual=residual,
        variance=variance,
        freedom=freedom,
        readings=4 / per_reading,
        outliers=lost,
        cut=False,
        hidden=False,
    )


def _without_outliers(value: NDArray[np.float64], step: float, floor: float | None) -> NDArray[np.float64]:
    """Readings with the light off [d] less those far from their median."""
    if len(value) < _LEAST_READINGS:
        return value
    residual = value - np.median(value)
    spread = robust_deviation(residual)
    if floor is not None and np.any(value <= floor):
        spread = max(spread, upper_deviation(residual))
    deviation = (spread**2 + step**2 / 4) ** 0.5
    return value[~is_outlier(residual, np.full(len(value), deviation))]
