"""What the readings so far say: sums per coefficient, light levels, and nothing that depends on a reconstruction."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.readings import Readings
from models.statistics import CoefficientStatistics


@dataclass(frozen=True)
class Evidence:
    """A state of the sums over accepted blocks.

    statistics: per coefficient; smoothed_sums: float64 [N], per coefficient the sum over its pairs of the smoothed
    dark-corrected total of the block at the pair's time (a straight line fitted to the block's pair sums);
    dark_level: mean reading of a dark picture with the light off; lit_dark_level: with the light on (background
    included); reference_total: T at the start of the run; n_blocks, n_pairs: how much is in it.
    """

    statistics: CoefficientStatistics
    smoothed_sums: NDArray[np.float64]
    dark_level: float
    lit_dark_level: float
    reference_total: float
    n_blocks: int
    n_pairs: int

    @property
    def background(self) -> float:
        """B: light per exposure that does not depend on the mirrors, detector units."""
        return self.lit_dark_level - self.dark_level


class EvidenceCollector:
    """Adds up accepted blocks; one writer, any number of readers of ``snapshot``."""

    def __init__(self, n_coefficients: int, dark_level: float) -> None:
        self._lock = threading.Lock()
        self._statistics = CoefficientStatistics.empty(n_coefficients)
        self._line_sums = np.zeros(n_coefficients)
        self._dark_level = dark_level
        self._lit_dark_sum = 0.0
        self._lit_dark_exposures = 0
        self._reference_sum: float | None = None
        self._n_blocks = 0
        self._n_pairs = 0

    def add(self, readings: Readings) -> None:
        """Add one accepted block."""
        sums = readings.plus + readings.minus
        line = _straight_line(readings.time_us, sums)
        with self._lock:
            self._statistics.add(readings.index, readings.plus, readings.minus)
            np.add.at(self._line_sums, readings.index, line)
            self._lit_dark_sum += float(readings.dark.sum())
            self._lit_dark_exposures += readings.dark.size
            if self._reference_sum is None:
                self._reference_sum = float(line[0])
            self._n_blocks += 1
            self._n_pairs += readings.n_pairs

    def snapshot(self) -> Evidence:
        """The newest state, a copy that later blocks do not change. Raises NoEvidenceError before the first block."""
        with self._lock:
            if self._reference_sum is None:
                raise NoEvidenceError("no block has been accepted yet: there is nothing to reconstruct from")
            lit_dark_level = self._lit_dark_sum / self._lit_dark_exposures
            return Evidence(
                statistics=self._statistics.copy(),
                smoothed_sums=self._line_sums - 2 * lit_dark_level * self._statistics.count,
                dark_level=self._dark_level,
                lit_dark_level=lit_dark_level,
                reference_total=self._reference_sum - 2 * lit_dark_level,
                n_blocks=self._n_blocks,
                n_pairs=self._n_pairs,
            )


class NoEvidenceError(RuntimeError):
    """A reconstruction was asked for before the first block was accepted."""


def _straight_line(time_us: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares line through ``values`` over time, evaluated at every time; the mean where there are few values."""
    centred = time_us - time_us.mean()
    spread = float(centred @ centred)
    if len(values) < _FEWEST_FOR_A_SLOPE or spread == 0:
        return np.full(len(values), values.mean())
    return np.asarray(values.mean() + centred * float(centred @ values) / spread)


_FEWEST_FOR_A_SLOPE = 100
