"""A lamp, a sample and a detector of which everything is known, in a few lines that share nothing with the product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.exposures import Exposures

GUARD = ((0, 1), (0, -1), (0, -1), (0, 1), (0, -1))


@dataclass(frozen=True)
class Light:
    """What a simulated stability measurement is made of; light in detector units, T in one exposure.

    structure: how much more light one half of the mirrors sends than the other, as a share of T; source: relative
    deviation from exposure to exposure; slow, slow_s: relative deviation and time of what the lamp does slowly; first:
    added to the first exposure of a pair; rests: of a 0.2 share of the time in the middle.
    """

    total: float = 20_000.0
    gain: float = 1.0
    variance: float = 50.0
    background: float = 0.0
    offset: float = 3.0
    bleaching: float = 0.0
    drift: float = 0.0
    source: float = 0.0
    slow: float = 0.0
    slow_s: float = 1.0
    contrast: float = np.inf
    structure: float = 0.02
    first: float = 0.0
    offset_drift: float = 0.0
    sections: int = 78
    section_pairs: int = 64
    picture_time_us: float = 1000.0
    lit_share: float = 0.9
    rest_s: float = 2.0
    rests: int = 5

    def exposures(self, seed: int) -> Exposures:
        """Draw a measurement."""
        rng = np.random.default_rng(seed)
        pair, sign, place, wall = [], [], [], []
        now = 0.0
        rest_at = set(np.rint(np.linspace(0.4, 0.6, self.rests) * self.sections).astype(int)) if self.rests else set()
        for section in range(self.sections):
            now += self.rest_s if section in rest_at else 0.0
            shown = [(*picture, 0) for picture in GUARD]
            for plus in rng.permutation(np.arange(self.section_pairs) % 2 == 0):
                signs = (1, -1) if plus else (-1, 1)
                shown += [(1, signs[0], 1), (1, signs[1], 2)]
            for each in shown:
                pair.append(each[0])
                sign.append(each[1])
                place.append(each[2])
                wall.append(now)
                now += self.picture_time_us * 1e-6
        numbers, signs_, time_s = np.array(pair), np.array(sign, dtype=np.int8), np.array(wall)
        lit_s = np.arange(len(time_s)) * self.picture_time_us * 1e-6 * self.lit_share
        share = np.where(numbers == 0, signs_ > 0, (1 + signs_ * self.structure) / 2)
        share = share + (1 - share) / self.contrast
        lamp = np.exp(-self.drift * time_s) * (1 + self.slow * self._slow(time_s, rng))
        lamp = lamp * (1 + self.source * rng.standard_normal(len(time_s)))
        light = (self.total * share * np.exp(-self.bleaching * lit_s) + self.background) * lamp
        value = self.gain * rng.poisson(np.maximum(light, 0) / self.gain).astype(np.float64)
        value += (
            self.variance**0.5 * rng.standard_normal(len(value)) + self.offset + self.first * (np.array(place) == 1)
        )
        dark = self.offset + self.variance**0.5 * rng.standard_normal((2, 256))
        return Exposures(
            pair=numbers,
            sign=signs_,
            value=value,
            time_us=time_s * 1e6,
            lit_s=np.asarray(lit_s, dtype=np.float64),
            dark_before=dark[0],
            dark_after=dark[1] + self.offset_drift,
        )

    def _slow(self, time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """An Ornstein-Uhlenbeck process of unit variance, exact at the given times."""
        if self.slow == 0:
            return np.zeros(len(time_s))
        keep = np.exp(-np.diff(time_s) / self.slow_s)
        steps = rng.standard_normal(len(time_s)) * np.concatenate([[1.0], np.sqrt(1 - keep**2)])
        walk = np.empty(len(time_s))
        walk[0] = steps[0]
        for index, each in enumerate(keep.tolist(), start=1):
            walk[index] = each * walk[index - 1] + steps[index]
        return walk
