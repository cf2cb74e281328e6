"""The best point of a grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray


def best_on_grid(
    score: Callable[[tuple[float, ...]], float], *axes: Sequence[float]
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """The point of the grid axes[0] × axes[1] × … with the highest score, and all scores, float64 [len(axis), …].

    Of equal scores the first in the order of the axes wins. Raises GridError where an axis is empty or a score is NaN.
    """
    shape = tuple(len(axis) for axis in axes)
    if not axes or 0 in shape:
        raise GridError(f"found a grid of {list(shape)} points; expected one point at least along every axis")
    points = list(product(*axes))
    scores = np.array([score(point) for point in points], dtype=np.float64)
    if np.isnan(scores).any():
        raise GridError(f"the score at {points[int(np.argmax(np.isnan(scores)))]} is NaN; expected a number")
    return points[int(np.argmax(scores))], scores.reshape(shape)


class GridError(ValueError):
    """A grid without points, or a score that cannot be compared."""
