"""What came back from a recipe, exposure by exposure: the plain data that every fit begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Exposures:
    """Readings in the order in which they were taken.

    pair: int64 [n], number of the pair whose picture was displayed (calibration.recipe); sign: int8 [n], +1 for its
    picture, -1 for the complement; (0, +1) is all of the region, (0, -1) darkness under light. value: float64 [n],
    bucket values in detector units, the stated offset subtracted. time_us: float64 [n], start since the run began.
    lit_s: float64 [n], how long the sample had been lit before. dark_before, dark_after: float64 [d], readings with the
    light off, before and after all others; empty where the light cannot be switched off. saturated: exposures with a
    pixel at full scale.
    """

    pair: NDArray[np.int64]
    sign: NDArray[np.int8]
    value: NDArray[np.float64]
    time_us: NDArray[np.float64]
    lit_s: NDArray[np.float64]
    dark_before: NDArray[np.float64]
    dark_after: NDArray[np.float64]
    saturated: int = 0

    @property
    def dark(self) -> NDArray[np.float64]:
        """All readings with the light off, float64 [d]."""
        return np.concatenate([self.dark_before, self.dark_after])
