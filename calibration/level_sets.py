"""Level sets: pixels of like brightness, told by their surroundings, and block by block for the bootstrap.

A pixel's own noise must not decide to which set it belongs: sets of pixels that happen to read high have means that are
too high, and variances that belong to a lower one. So a pixel is sorted by the mean of a ring around it, in which its
own noise has no part. Whatever the image is, the mean over a set of (variance - a·mean - b) then has expectation zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RING_PX, HOLE_PX = 13, 7
_PIXELS_PER_EDGE, _FEWEST_EDGES, _MOST_EDGES = 400, 6, 24
_BLOCKS_ACROSS = 8


@dataclass(frozen=True)
class LevelSums:
    """Sums over the pixels of one level set within one block of the image, each float64 [blocks, levels].

    count: pixels; mean: sum of their means, detector units; variance: sum of their variances, units².
    """

    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def surroundings(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of a ring around every pixel, 13 px wide with a hole of 7 px, float64 [h, w]."""
    from scipy.ndimage import uniform_filter

    outer, inner = (uniform_filter(image, size, mode="reflect") * size**2 for size in (RING_PX, HOLE_PX))
    ring: NDArray[np.float64] = (outer - inner) / (RING_PX**2 - HOLE_PX**2)
    return ring


def level_of(guide: NDArray[np.float64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number of each pixel's level set, int64 [h, w], from 0.

    Edges stand at quantiles of the guide, so that many pixels share a set, and at equal steps, so that rare bright ones
    have sets of their own. keep: the pixels that count for the edges.
    """
    kept = guide[keep]
    parts = np.linspace(0, 1, int(np.clip(len(kept) // _PIXELS_PER_EDGE, _FEWEST_EDGES, _MOST_EDGES)) + 1)
    edges = np.union1d(np.quantile(kept, parts), kept.min() + parts * (kept.max() - kept.min()))
    return np.searchsorted(edges[1:-1], guide, side="right").astype(np.int64)


def level_sums(
    mean: NDArray[np.float64], variance: NDArray[np.float64], level: NDArray[np.int64], keep: NDArray[np.bool_]
) -> LevelSums:
    """Sums over ``keep`` of means and variances [h, w] by level set and by square block of the image."""
    height, width = mean.shape
    block_px = max(min(height, width) // _BLOCKS_ACROSS, 1)
    rows, columns = np.arange(height) // block_px, np.arange(width) // block_px
    n_blocks, n_levels = (rows[-1] + 1) * (columns[-1] + 1), int(level.max()) + 1
    cell = ((rows[:, None] * (columns[-1] + 1) + columns) * n_levels + level)[keep]

    def summed(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        found = np.bincount(cell, weights, minlength=n_blocks * n_levels).astype(np.float64)
        return found.reshape(n_blocks, n_levels)

    return LevelSums(summed(None), summed(mean[keep]), summed(variance[keep]))
