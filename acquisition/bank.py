"""A bank of pictures in the DMD's memory, and the blocks that play ranges of it.

A bank holds its pairs sorted by M descending, cut into sections of at most G pairs and wherever M drops; a guard
stands before every section and after the last one::

    guard 0 | pairs of section 0 | guard 1 | pairs of section 1 | guard 2 | …

so pass r, the pairs with M ≥ r, is a prefix that ends on a guard, and every block is one contiguous range of
pictures that begins and ends on a guard. The guard code ends on a dark picture, and so does every projection.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Bright is H+ of i = 0, dark is H- of i = 0. Shifted by one or two pictures the code differs from itself in at
# least two places, it holds both levels, and it ends dark. A guard is one code, or several where the sample is dim.
GUARD_SIGNS = np.array([1, -1, -1, 1, -1], dtype=np.int8)
GUARD_PICTURES = len(GUARD_SIGNS)
GUARD_BRIGHT = GUARD_SIGNS > 0


def guard_bright(guard_pictures: int) -> NDArray[np.bool_]:
    """Bool [guard_pictures]: which pictures of a guard, a whole number of codes, are bright."""
    return np.tile(GUARD_BRIGHT, guard_pictures // GUARD_PICTURES)


@dataclass(frozen=True)
class Bank:
    """The pictures that are in the DMD's memory together.

    coefficients: int64 [K], pattern indices, sorted by repeats descending; repeats: int32 [K], M of each;
    plus_first: bool [K], True where H+ is displayed before H-; section_starts: int64 [sections + 1], the pair with
    which each section begins, and K at the end; guard_codes: how often a guard shows the guard code.
    """

    number: int
    coefficients: NDArray[np.int64]
    repeats: NDArray[np.int32]
    plus_first: NDArray[np.bool_]
    section_starts: NDArray[np.int64]
    guard_codes: int = 1

    @property
    def n_pairs(self) -> int:
        """Pairs the bank holds, each once."""
        return len(self.coefficients)

    @property
    def guard_pictures(self) -> int:
        """Pictures of one guard."""
        return GUARD_PICTURES * self.guard_codes

    @property
    def n_pictures(self) -> int:
        """Pictures the bank takes in the DMD's memory."""
        return 2 * self.n_pairs + self.guard_pictures * len(self.section_starts)

    def guard_picture(self, guard: int) -> int:
        """Position of a guard's first picture in the bank."""
        return int(self.guard_pictures * guard + 2 * self.section_starts[guard])

    @cached_property
    def pictures(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Pattern index int64 [n_pictures] and sign int8 [n_pictures] (+1: H+, -1: H-) of every picture, in order."""
        indices = np.zeros(self.n_pictures, dtype=np.int64)
        signs = np.empty(self.n_pictures, dtype=np.int8)
        guards = np.arange(len(self.section_starts))
        guard_starts = self.guard_pictures * guards + 2 * self.section_starts
        signs[guard_starts[:, None] + np.arange(self.guard_pictures)] = np.tile(GUARD_SIGNS, self.guard_codes)
        section = np.searchsorted(self.section_starts, np.arange(self.n_pairs), side="right")
        first = self.guard_pictures * section + 2 * np.arange(self.n_pairs)
        indices[first] = indices[first + 1] = self.coefficients
        signs[first] = np.where(self.plus_first, 1, -1)
        signs[first + 1] = -signs[first]
        return indices, signs


@dataclass(frozen=True)
class Block:
    """One stretch of a pass, or several equal passes: one projection start, one detector burst.

    Pictures first_picture..last_picture of its bank, inclusive: the sections first_section..end_section - 1 with a
    guard before each and one after the last; all of it ``rounds`` times without a gap. ``pass_number`` counts from 1;
    with several rounds it is the first pass of them. ``rest_s``: how long the light is off before it, s.
    """

    number: int
    bank: Bank
    pass_number: int
    first_section: int
    end_section: int
    rounds: int = 1
    rest_s: float = 0.0

    @property
    def n_pairs(self) -> int:
        """Pairs displayed in the block."""
        return self.rounds * self._pairs_a_round

    @property
    def n_guards(self) -> int:
        """Guards displayed in the block."""
        return self.rounds * self._guards_a_round

    @property
    def n_exposures(self) -> int:
        """Pictures displayed in the block, and readings taken under them."""
        return 2 * self.n_pairs + self.bank.guard_pictures * self.n_guards

    @property
    def first_picture(self) -> int:
        """First picture of the block in its bank."""
        return self.bank.guard_picture(self.first_section)

    @property
    def last_picture(self) -> int:
        """Last picture of the block in its bank; it is dark."""
        return self.first_picture + self._exposures_a_round - 1

    @property
    def coefficients(self) -> NDArray[np.int64]:
        """Pattern indices int64 [n_pairs], in the order of display."""
        return np.tile(self.bank.coefficients[self._pairs], self.rounds)

    @property
    def plus_first(self) -> NDArray[np.bool_]:
        """Bool [n_pairs]: True where H+ was displayed before H-."""
        return np.tile(self.bank.plus_first[self._pairs], self.rounds)

    @property
    def guard_exposures(self) -> NDArray[np.int64]:
        """Exposures of the block that show guards, int64 [n_guards, guard_pictures]."""
        first = self.bank.guard_pictures * np.arange(self._guards_a_round) + 2 * self._pairs_before
        one_round = first[:, None] + np.arange(self.bank.guard_pictures)
        return np.asarray((self._round_starts[:, None, None] + one_round).reshape(-1, self.bank.guard_pictures))

    @property
    def pair_exposures(self) -> NDArray[np.int64]:
        """First exposure of every pair, counted from the block's start, int64 [n_pairs]; the second one follows it."""
        pairs = np.arange(self._pairs_a_round)
        guards_before = np.searchsorted(self._pairs_before[:-1], pairs, side="right")
        one_round = self.bank.guard_pictures * guards_before + 2 * pairs
        return np.asarray((self._round_starts[:, None] + one_round).ravel())

    @property
    def section_exposures(self) -> NDArray[np.int64]:
        """Exposures of every stretch of pairs between two guards, int64 [rounds · sections]."""
        return np.tile(2 * np.diff(self._pairs_before), self.rounds)

    @property
    def _pairs(self) -> slice:
        starts = self.bank.section_starts
        return slice(int(starts[self.first_section]), int(starts[self.end_section]))

    @property
    def _pairs_a_round(self) -> int:
        starts = self.bank.section_starts
        return int(starts[self.end_section] - starts[self.first_section])

    @property
    def _guards_a_round(self) -> int:
        return self.end_section - self.first_section + 1

    @property
    def _exposures_a_round(self) -> int:
        return 2 * self._pairs_a_round + self.bank.guard_pictures * self._guards_a_round

    @property
    def _pairs_before(self) -> NDArray[np.int64]:
        """Pairs of a round before each of its guards, int64 [guards of a round]."""
        starts = self.bank.section_starts[self.first_section : self.end_section + 1]
        return np.asarray(starts - starts[0], dtype=np.int64)

    @property
    def _round_starts(self) -> NDArray[np.int64]:
        return self._exposures_a_round * np.arange(self.rounds, dtype=np.int64)
