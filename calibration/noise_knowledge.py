"""What a run knows of its noise when its readings are held against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.noise import NoiseModel

# Rounding a reading to whole units adds 1/12 to its variance. Of readings that vary by less than half a unit it can
# make anything from constants to a variance of 1/4, three times as much.
ROUNDING = 1 / 12
_COARSE = 3


@dataclass(frozen=True)
class NoiseKnowledge:
    """a and b, source noise q (variance of the light's relative fluctuation from exposure to exposure), and the
    covariance float64 [3, 3] of (a, b, q), None where they are taken as exact.

    rounding: how much whole units in the readings may add to b, at most: 0 where b was measured on readings of the same
    camera, which were rounded, too; n/12 where b is stated, for readings that are sums of n rounded numbers.
    """

    noise: NoiseModel
    source_noise: float = 0.0
    covariance: NDArray[np.float64] | None = None
    rounding: float = ROUNDING

    @property
    def parameters(self) -> NDArray[np.float64]:
        """(a, b, q)."""
        return np.array([self.noise.gain, self.noise.variance, self.source_noise])

    @property
    def coarse(self) -> float:
        """Readings of a smaller variance than this, units², say little of it once they are rounded."""
        return _COARSE * max(self.rounding, ROUNDING)

    def covariance_of(self, design: NDArray[np.float64]) -> NDArray[np.float64]:
        """Covariance float64 [k, k] of G(a, b, q), design G float64 [k, 3]."""
        covariance = np.zeros((3, 3)) if self.covariance is None else self.covariance
        return np.asarray(design @ covariance @ design.T)

    def error_of(self, design: NDArray[np.float64]) -> float:
        """Standard error of Gᵀ(a, b, q), design G float64 [3]."""
        return float(np.sqrt(max(float(self.covariance_of(design[None, :])[0, 0]), 0.0)))
