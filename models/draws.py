"""How often each coefficient is measured: draws of M from a mask P and S repeats. M_0 = 0, every pair measures T."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Draw = Literal["bernoulli", "systematic"]


def drawn_counts(draw: Draw, mask: NDArray[np.float64], repeats: int, seed: int) -> NDArray[np.int32]:
    """M int32 [N] of a mask under a kind of draw."""
    return (bernoulli_draw if draw == "bernoulli" else systematic_draw)(mask, repeats, seed)


def bernoulli_draw(mask: NDArray[np.float64], repeats: int, seed: int) -> NDArray[np.int32]:
    """M int32 [N], M_i ~ Binomial(S, P_i): the sum of S Bernoulli realizations each; the total is random."""
    counts = np.random.default_rng([seed, _DRAW_STREAM]).binomial(repeats, mask).astype(np.int32)
    counts[0] = 0
    return counts


def systematic_draw(mask: NDArray[np.float64], repeats: int, seed: int) -> NDArray[np.int32]:
    """M int32 [N] with |M_i - S·P_i| < 1, E[M_i] = S·P_i, and a sum of exactly S·ΣP_i (i > 0) rounded.

    S·P is laid end to end, coefficients in a seeded random order so that neighbours in sequency are rounded
    independently, and M_i counts the points u, u + 1, u + 2, … on its stretch (systematic sampling, Madow 1949). The
    start u is uniform where the sum is whole; else it is drawn on the side that rounds the sum to the nearest, and the
    expectations share what the rounding adds or takes, half a pair among all of them at most.
    """
    rng = np.random.default_rng([seed, _DRAW_STREAM])
    wanted = repeats * np.asarray(mask, dtype=np.float64)
    wanted[0] = 0.0
    whole = np.floor(wanted)
    order = rng.permutation(len(wanted))
    ends = np.cumsum((wanted - whole)[order])
    total = round(float(ends[-1]))
    short = ends[-1] - np.floor(ends[-1])
    lowest, highest = (0.0, 1.0 - short) if total <= ends[-1] else (1.0 - short, 1.0)
    # At the upper end of its range the start rounds to one point too many, which even a coefficient of P = 0 could get.
    points = np.minimum(np.floor(ends + rng.uniform(lowest, highest)), total)
    counts = whole.astype(np.int32)
    counts[order] += np.diff(points, prepend=0.0).astype(np.int32)
    return counts


_DRAW_STREAM = 0xD2A3
