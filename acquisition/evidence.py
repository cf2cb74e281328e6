"""What the readings so far say: sums per coefficient, light levels, and nothing that depends on a reconstruction."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.readings import Readings
from models.statistics import CoefficientStatistics

REFERENCE_PAIRS = 2000
FEWEST_FOR_A_SLOPE = 100


@dataclass(frozen=True)
class Evidence:
    """A state of the sums over accepted blocks.

    statistics: per coefficient; smoothed_sums: float64 [N], per coefficient the sum over its pairs of the smoothed
    dark-corrected total of the block at the pair's time (a straight line fitted to the block's pair sums);
    dark_level: mean reading of a dark picture with the light off; lit_dark_level: with the light on (background
    included); reference_total: T at the start of the run, from its first reference_pairs pairs (a straight line through
    their sums); n_blocks, n_pairs: how much is in it; saturated: exposures with a pixel at full scale.
    """

    statistics: CoefficientStatistics
    smoothed_sums: NDArray[np.float64]
    dark_level: float
    lit_dark_level: float
    reference_total: float
    reference_pairs: int
    n_blocks: int
    n_pairs: int
    saturated: int

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
        self.dark_level = dark_level
        self._lit_dark_sum = 0.0
        self._lit_dark_exposures = 0
        self._first_times_us = np.empty(0)
        self._first_sums = np.empty(0)
        self._n_blocks = 0
        self._saturated = 0
        self._n_pairs = 0

    def add(self, readings: Readings) -> None:
        """Add one accepted block."""
        sums = readings.plus + readings.minus
        line = straight_line(readings.time_us, sums)
        with self._lock:
            self._statistics.add(readings.index, readings.plus, readings.minus)
            np.add.at(self._line_sums, readings.index, line)
            self._lit_dark_sum += float(readings.dark.sum())
            self._lit_dark_exposures += readings.dark.size
            if len(self._first_sums) < REFERENCE_PAIRS:
                self._first_times_us = np.concatenate([self._first_times_us, readings.time_us])
                self._first_sums = np.concatenate([self._first_sums, sums])
            self._n_blocks += 1
            self._saturated += readings.saturated
            self._n_pairs += readings.n_pairs

    def snapshot(self) -> Evidence:
        """The newest state, a copy that later blocks do not change. Raises NoEvidenceError before the first block."""
        with self._lock:
            if self._n_blocks == 0:
                raise NoEvidenceError("no block has been accepted yet: there is nothing to reconstruct from")
            lit_dark_level = self._lit_dark_sum / self._lit_dark_exposures
            return Evidence(
                statistics=self._statistics.copy(),
                smoothed_sums=self._line_sums - 2 * lit_dark_level * self._statistics.count,
                dark_level=self.dark_level,
                lit_dark_level=lit_dark_level,
                reference_total=float(straight_line(self._first_times_us, self._first_sums)[0]) - 2 * lit_dark_level,
                reference_pairs=len(self._first_sums),
                n_blocks=self._n_blocks,
                n_pairs=self._n_pairs,
                saturated=self._saturated,
            )


def detector_dark_level(dark: NDArray[np.float64], under_light: bool) -> float:
    """The detector's own dark level: the mean of its readings float64 [exposures] with the light off.

    Where the light could not be switched off they hold background too, and the level is what the detector's stated
    offset leaves: 0.
    """
    return float(dark.mean()) if len(dark) and not under_light else 0.0


class NoEvidenceError(RuntimeError):
    """A reconstruction was asked for before the first block was accepted."""


def straight_line(time_us: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares line through ``values`` over time, evaluated at every time; the mean where there are few values."""
    centred = time_us - time_us.mean()
    spread = float(centred @ centred)
    if len(values) < FEWEST_FOR_A_SLOPE or spread == 0:
        return np.full(len(values), values.mean())
    return np.asarray(values.mean() + centred * float(centred @ values) / spread)
