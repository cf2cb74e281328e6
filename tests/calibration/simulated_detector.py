"""A detector written down in a few lines, independent of the bench: what recipes of light levels read under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.exposures import Exposures
from calibration.recipe import Recipe

GUARD = ((0, 1), (0, -1), (0, -1), (0, 1), (0, -1))


@dataclass(frozen=True)
class SimulatedDetector:
    """y = clip(round(a·Poisson(light·(1 + ε)/a) + N(0, b) + offset)), of a sample that is not even."""

    gain: float
    variance: float
    total: float = 52428.0
    offset: float = 100.0
    background: float = 0.0
    source_noise: float = 1e-3
    drift: float = 0.01
    drift_periods: float = 1.0
    floor: float = -np.inf
    ceiling: float = 65535.0
    compression: float = 0.0
    rounds: bool = True
    n_dark: int = 200
    picture_time_us: float = 1000.0

    def light(self, levels: int) -> NDArray[np.float64]:
        """Light of picture 2·pair + (sign < 0) float64 [levels + 2]: levels are up to 5 % of them off their share."""
        share = np.arange(levels // 2 + 1) / levels
        share = share * (1 + 0.05 * np.sin(7.0 * np.arange(levels // 2 + 1)))
        share[0] = 1.0
        return self.total * np.stack([share, 1 - share], axis=1).ravel() + self.background

    def read(self, recipe: Recipe, levels: int, seed: int) -> Exposures:
        rng = np.random.default_rng(seed)
        pair, sign = displayed(recipe)
        n = len(pair)
        time_s = self.picture_time_us * 1e-6 * np.arange(n, dtype=np.float64)
        curve = 1 + self.drift * np.sin(2 * np.pi * self.drift_periods * time_s / time_s[-1] + 0.3)
        light = self.light(levels)[2 * pair + (sign < 0)] * curve
        light = light * np.maximum(1 + self.source_noise * rng.standard_normal(n), 0)
        dark = self._detect(np.zeros(self.n_dark), rng)
        return Exposures(
            pair=pair,
            sign=sign.astype(np.int8),
            value=self._detect(light, rng),
            time_us=time_s * 1e6,
            lit_s=time_s,
            dark_before=dark[: self.n_dark // 2],
            dark_after=dark[self.n_dark // 2 :],
        )

    def _detect(self, light: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Readings, the stated offset subtracted."""
        collected = self.gain * rng.poisson(light / self.gain)
        value = collected * (1 - self.compression * collected / 65535.0)
        value = value + self.variance**0.5 * rng.standard_normal(len(light)) + self.offset
        if self.rounds:
            value = np.round(value)
        read: NDArray[np.float64] = np.clip(value, self.floor, self.ceiling) - self.offset
        return read


def displayed(recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair and sign of every exposure: a guard before each section of each pass, and one at the end."""
    pairs: list[int] = []
    signs: list[int] = []

    def guard() -> None:
        for pair, sign in GUARD:
            pairs.append(pair)
            signs.append(sign)

    for _ in range(recipe.passes):
        for place, (pair, plus) in enumerate(zip(recipe.pairs, recipe.plus_first, strict=True)):
            if place % recipe.section_pairs == 0:
                guard()
            pairs += [int(pair), int(pair)]
            signs += [1, -1] if plus else [-1, 1]
    guard()
    return np.array(pairs), np.array(signs)
