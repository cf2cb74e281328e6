"""Readings of level pictures, numbered and less the offset that the light-off readings show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.dark_level import DarkLevel, dark_level
from calibration.drift import drift_degree, drift_design
from calibration.exposures import Exposures
from calibration.saturation import ceiling, value_step

LEAST_EXPOSURES = 50
"""Exposures of a level: with fewer the error of its variance is above a fifth, and intervals come out too short."""
COARSE = 0.5
"""Squared steps of readings below which a variance is rounding's as much as its own; at 0.5 they differ by 10⁻³."""
HIDDEN = 0.75
"""Share of readings at the lowest value above which too little is left to tell mean and variance by."""

_LEAST_ABOVE_FLOOR = 10


@dataclass(frozen=True)
class LevelReadings:
    """What is fitted.

    value: [n] above the measured offset, where that was at the time; raw: [n] above the stated one, as read; picture:
    [n], 2·pair + (sign < 0); share: of the mirrors, of each picture [G]; time_s: [n]; design: columns of the drift
    [n, K]. off: what was read with the light off. step: of readings; full_scale, floor: raw values beyond and below
    which readings are cut off, None where that is not known or not so.
    """

    value: NDArray[np.float64]
    raw: NDArray[np.float64]
    picture: NDArray[np.intp]
    time_s: NDArray[np.float64]
    design: NDArray[np.float64]
    share: NDArray[np.float64]
    off: DarkLevel
    step: float
    full_scale: float | None
    floor: float | None

    @staticmethod
    def of(exposures: Exposures, levels: int, full_scale: float | None, floor: float | None) -> LevelReadings:
        """Number the pictures, and find the offset, the step and the floor of what was read."""
        step = value_step(np.concatenate([exposures.value, exposures.dark]))
        picture = (2 * exposures.pair + (exposures.sign < 0)).astype(np.intp)
        cut = _floor(exposures, picture, levels + 2, step, floor)
        off = dark_level(exposures.dark_before, exposures.dark_after, step, cut, HIDDEN)
        pairs = np.arange(levels // 2 + 1)
        shares = np.stack([pairs / levels, 1 - pairs / levels], axis=1)
        shares[0] = 1.0, 0.0
        time_s = exposures.time_us * 1e-6
        return LevelReadings(
            value=exposures.value - off.at(time_s),
            raw=exposures.value,
            picture=picture,
            time_s=time_s,
            design=drift_design(time_s, drift_degree(float(exposures.lit_s.max() - exposures.lit_s.min()))),
            share=shares.ravel(),
            off=off,
            step=step,
            full_scale=full_scale,
            floor=cut,
        )

    @property
    def n_pictures(self) -> int:
        """G: two of each pair, the guards' pair included."""
        return len(self.share)

    @property
    def at_floor(self) -> NDArray[np.bool_]:
        """Which readings [n] say "this or less" only."""
        return np.zeros(len(self.raw), dtype=np.bool_) if self.floor is None else self.raw <= self.floor

    def is_cut_off(self, used: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pictures [G] with used readings at the floor, and enough above it to tell mean and variance by."""
        exposures, below = self._below(used)
        cut: NDArray[np.bool_] = (below > 0) & ~self.is_hidden(used) & (exposures - below >= _LEAST_ABOVE_FLOOR)
        return cut

    def is_hidden(self, used: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Pictures [G] of which nearly all used readings are at the floor."""
        exposures, below = self._below(used)
        hidden: NDArray[np.bool_] = below > HIDDEN * exposures
        return hidden

    def is_coarse(self, variance: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which variances, units², are as much the rounding's as the noise's."""
        coarse: NDArray[np.bool_] = variance < COARSE * self.step**2
        return coarse

    def _below(self, used: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        exposures = np.bincount(self.picture, used, self.n_pictures)
        below = np.bincount(self.picture, used & self.at_floor, self.n_pictures)
        return exposures.astype(np.float64), below.astype(np.float64)


def _floor(
    exposures: Exposures, picture: NDArray[np.intp], n_pictures: int, step: float, known: float | None
) -> float | None:
    """Half a step above the value at which readings are cut off below, None where they are not.

    known: the lowest value that there is; readings may pile up above it.
    """
    value = np.concatenate([exposures.value, exposures.dark])
    number = np.append(picture, np.full(len(exposures.dark), n_pictures))
    lowest = ceiling(-value, number, n_pictures + 1, 0.0, step)
    found = [] if lowest is None else [-lowest + step / 2]
    if known is not None and value.min() <= known + step / 2:
        found.append(known + step / 2)
    return max(found, default=None)
