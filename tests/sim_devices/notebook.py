"""What tests of the bench look and listen with."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Notebook:
    """A detector that writes everything down."""

    readings: list[float] = field(default_factory=list)
    times_us: list[float] = field(default_factory=list)
    exposures: list[int] = field(default_factory=list)

    def expose(
        self, times_us: NDArray[np.float64], readings: NDArray[np.float64], exposures: NDArray[np.int64]
    ) -> None:
        self.readings += readings.tolist()
        self.times_us += times_us.tolist()
        self.exposures += exposures.tolist()


@dataclass
class Clock:
    """A wall clock that stands still until it is moved."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now
