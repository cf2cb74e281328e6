"""Readings of level pictures, numbered and less the offset that the light-off readings show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.cut_off import cut_moments
from calibration.drift import drift_degree, drift_design
from calibration.exposures import Exposures
from calibration.outliers import is_outlier, robust_deviation
from calibration.saturation import ceiling, value_step

LEAST_EXPOSURES = 10
"""Exposures of a level for its variance to be of use: with fewer its error is above half of itself."""


@dataclass(frozen=True)
class LevelReadings:
    """What is fitted.

    value: [n] above the measured offset; picture: [n], 2·pair + (sign < 0); share: of the mirrors, of each picture [G];
    time_s: [n]; design: columns of the drift [n, K]. off: [d] with the light off, less the offset; off_variance has
    off_freedom degrees of freedom, the offset the error of off_exposures readings; off_shift: how far the offset moved
    from before to after, in standard errors. step: of readings; full_scale, floor: values, above the measured offset,
    beyond and below which readings are cut off, None where that is not known or not so.
    """

    value: NDArray[np.float64]
    picture: NDArray[np.intp]
    time_s: NDArray[np.float64]
    design: NDArray[np.float64]
    share: NDArray[np.float64]
    off: NDArray[np.float64]
    off_variance: float
    off_freedom: float
    off_exposures: float
    off_outliers: int
    off_shift: float
    offset: float
    step: float
    full_scale: float | None
    floor: float | None

    @staticmethod
    def of(exposures: Exposures, levels: int, full_scale: float | None) -> LevelReadings:
        """Number the pictures, and find the offset, the step and the floor of what was read."""
        step = value_step(np.concatenate([exposures.value, exposures.dark]))
        picture = (2 * exposures.pair + (exposures.sign < 0)).astype(np.intp)
        floor = _floor(exposures, picture, levels + 2, step)
        parts = [_without_outliers(part, step) for part in (exposures.dark_before, exposures.dark_after)]
        parts = [part for part in parts if len(part)]
        off = np.concatenate(parts) if parts else np.empty(0)
        offset = float(off.mean()) if parts else 0.0
        variance, freedom, n_effective, shift = 0.0, float(len(off) - len(parts)), float(len(off)), 0.0
        if floor is not None and freedom > 0 and np.any(off <= floor):
            moments = cut_moments(off, floor)
            offset, variance, freedom = float(moments.mean), float(moments.variance), float(moments.freedom)
            n_effective = variance / float(moments.mean_variance)
            off = off - offset
        elif freedom > 0:
            off = np.concatenate([part - part.mean() for part in parts])
            variance = float(np.sum(off**2)) / freedom
            if len(parts) == 2 and variance > 0:
                error = (variance * (1 / len(parts[0]) + 1 / len(parts[1]))) ** 0.5
                shift = float(parts[1].mean() - parts[0].mean()) / error
        else:
            off = off - offset
        pairs = np.arange(levels // 2 + 1)
        shares = np.stack([pairs / levels, 1 - pairs / levels], axis=1)
        shares[0] = 1.0, 0.0
        time_s = exposures.time_us * 1e-6
        return LevelReadings(
            value=exposures.value - offset,
            picture=picture,
            time_s=time_s,
            design=drift_design(time_s, drift_degree(float(exposures.lit_s.max() - exposures.lit_s.min()))),
            share=shares.ravel(),
            off=off,
            off_variance=variance,
            off_freedom=max(freedom, 0.0),
            off_exposures=n_effective,
            off_outliers=len(exposures.dark) - len(off),
            off_shift=shift,
            offset=offset,
            step=step,
            full_scale=None if full_scale is None else full_scale - offset,
            floor=None if floor is None else floor - offset,
        )

    @property
    def n_pictures(self) -> int:
        """G: two of each pair, the guards' pair included."""
        return len(self.share)

    def is_cut_off(self, used: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pictures [G] with used readings at the floor, and enough above it to tell mean and variance by."""
        exposures, below = (
            np.bincount(self.picture, which, self.n_pictures) for which in (used, used & self.at_floor(self.value))
        )
        cut: NDArray[np.bool_] = (below > 0) & (exposures - below >= LEAST_EXPOSURES)
        return cut

    def at_floor(self, value: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which readings say "this or less" only."""
        return np.zeros(len(value), dtype=np.bool_) if self.floor is None else value <= self.floor


def _floor(exposures: Exposures, picture: NDArray[np.intp], n_pictures: int, step: float) -> float | None:
    """The value at which readings are cut off below, those with the light off included; None where they are not."""
    value = np.concatenate([exposures.value, exposures.dark])
    number = np.append(picture, np.full(len(exposures.dark), n_pictures))
    lowest = ceiling(-value, number, n_pictures + 1, 0.0, step)
    return None if lowest is None else -lowest + step / 2


def _without_outliers(value: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Readings with the light off [d] less those far from their median."""
    if len(value) < LEAST_EXPOSURES:
        return value
    residual = value - np.median(value)
    deviation = (robust_deviation(residual) ** 2 + step**2 / 4) ** 0.5
    return value[~is_outlier(residual, np.full(len(value), deviation))]
