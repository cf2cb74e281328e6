"""What the readings so far add up to for the view: measured pairs, and pair sums over time, in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.sequency import sequency_order

MOST_POINTS = 600
_FEWEST_PAIRS = 16


class Tally:
    """Adds up blocks of one run of side n."""

    def __init__(self, side: int) -> None:
        self._order = sequency_order(side)
        self._counts = np.zeros(side * side, dtype=np.int64)
        self._sums = PooledSums()
        self.pairs = 0
        self.blocks = 0
        self.last_time_s = 0.0

    def add(
        self,
        index: NDArray[np.int64],
        plus: NDArray[np.float64],
        minus: NDArray[np.float64],
        time_us: NDArray[np.float64],
    ) -> None:
        """Add one block: patterns, readings under H+ and H-, and times since the run began, [K] each."""
        np.add.at(self._counts, index, 1)
        time_s = time_us * 1e-6
        self._sums.add(time_s, plus + minus)
        self.pairs += len(index)
        self.blocks += 1
        self.last_time_s = max(self.last_time_s, float(time_s.max(initial=0.0)))

    @property
    def counts(self) -> NDArray[np.uint16]:
        """Measured pairs so far, uint16 [n, n], rows by vertical and columns by horizontal sequency."""
        n = len(self._order)
        ordered = self._counts.reshape(n, n)[np.ix_(self._order, self._order)]
        return np.ascontiguousarray(np.minimum(ordered, np.iinfo(np.uint16).max), dtype=np.uint16)

    def pair_sums(self, dark_level: float) -> NDArray[np.float32]:
        """Time in s, mean of y+ + y- less twice the dark level, its standard error, float32 [K, 3], K at most 600."""
        points = self._sums.points()
        points[:, 1] -= 2 * dark_level
        return points.astype(np.float32)


class PooledSums:
    """Means of values in the order they came, over ever more neighbours, so that there are at most 600 of them."""

    def __init__(self) -> None:
        self._per_point = _FEWEST_PAIRS
        self._around: float | None = None
        # Number, Σ time, Σ value and Σ value² of every point, values less what they lie around.
        self._points = np.zeros((0, 4))

    def add(self, time_s: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        """Add values [K] and their times [K]."""
        if len(values) == 0:
            return
        if self._around is None:
            self._around = float(values.mean())
        centred = values - self._around
        room = 0
        if len(self._points) and (filled := int(self._points[-1, 0])) < self._per_point:
            room = self._per_point - filled
        starts = np.array([0, *range(room, len(values), self._per_point)][0 if room else 1 :])
        each = np.stack([np.ones(len(values)), time_s, centred, centred**2], axis=1)
        added = np.add.reduceat(each, starts, axis=0)
        if room:
            self._points[-1] += added[0]
            added = added[1:]
        self._points = np.concatenate([self._points, added])
        while len(self._points) > MOST_POINTS:
            self._points = np.add.reduceat(self._points, np.arange(0, len(self._points), 2), axis=0)
            self._per_point *= 2

    def points(self) -> NDArray[np.float64]:
        """Mean time, mean value and its standard error, float64 [K, 3]."""
        number, times, values, squares = self._points.T
        mean = values / np.maximum(number, 1)
        scatter = np.maximum(squares - number * mean**2, 0.0)
        freedom = np.maximum(number - 1, 0)
        pooled = scatter.sum() / max(freedom.sum(), 1)
        variance = np.where(freedom > 0, scatter / np.maximum(freedom, 1), pooled)
        error = np.sqrt(variance / np.maximum(number, 1))
        return np.stack([times / np.maximum(number, 1), mean + (self._around or 0.0), error], axis=1)
