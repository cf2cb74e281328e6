"""Sequency orders as index permutations of natural order: a row's sequency is how often its sign changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.hadamard import check_side


def sequency_rank(n: int) -> NDArray[np.int64]:
    """Sequency of every row of H_n in natural order, int64 [n].

    Row u changes its sign as often as the inverse Gray code of its bit-reversed index says. Raises SideError.
    """
    check_side(n)
    bits = n.bit_length() - 1
    index = np.arange(n, dtype=np.int64)
    reverse = np.zeros(n, dtype=np.int64)
    for bit in range(bits):
        reverse |= ((index >> bit) & 1) << (bits - 1 - bit)
    rank = reverse.copy()
    shift = 1
    while shift < max(bits, 1):
        rank ^= rank >> shift
        shift *= 2
    return rank


def sequency_order(n: int) -> NDArray[np.int64]:
    """Natural index of the row with k sign changes, for every k, int64 [n]. Raises SideError."""
    return np.argsort(sequency_rank(n)).astype(np.int64)


def image_sequency(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertical and horizontal sequency of every pattern i = u·n + v, two int64 [N]. Raises SideError."""
    rank = sequency_rank(n)
    return np.repeat(rank, n), np.tile(rank, n)


def order_by_total_sequency(n: int) -> NDArray[np.int64]:
    """All patterns from low to high 2-D sequency, int64 [N]: by the sum of both, the larger of them, the index."""
    vertical, horizontal = image_sequency(n)
    keys = (np.arange(n * n), np.maximum(vertical, horizontal), vertical + horizontal)
    return np.lexsort(keys).astype(np.int64)
