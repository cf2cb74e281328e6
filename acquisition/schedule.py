"""The schedule: which pair, how often, in which order. Pure and seeded; touches no device.

A bank holds its pairs sorted by M descending, cut into sections of at most G pairs and wherever M drops; a guard
stands before every section and after the last one::

    guard 0 | pairs of section 0 | guard 1 | pairs of section 1 | guard 2 | …

so pass r, the pairs with M ≥ r, is a prefix that ends on a guard, and every block is one contiguous range of
pictures that begins and ends on a guard. The guard code ends on a dark picture, and so does every projection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Bright is H+ of i = 0, dark is H- of i = 0. Shifted by one or two pictures the code differs from itself in at
# least two places, it holds both levels, and it ends dark.
GUARD_SIGNS = np.array([1, -1, -1, 1, -1], dtype=np.int8)
GUARD_PICTURES = len(GUARD_SIGNS)
GUARD_BRIGHT = GUARD_SIGNS > 0


@dataclass(frozen=True)
class Bank:
    """The pictures that are in the DMD's memory together.

    coefficients: int64 [K], pattern indices, sorted by repeats descending; repeats: int32 [K], M of each;
    plus_first: bool [K], True where H+ is displayed before H-; section_starts: int64 [sections + 1], the pair with
    which each section begins, and K at the end.
    """

    number: int
    coefficients: NDArray[np.int64]
    repeats: NDArray[np.int32]
    plus_first: NDArray[np.bool_]
    section_starts: NDArray[np.int64]

    @property
    def n_pairs(self) -> int:
        """Pairs the bank holds, each once."""
        return len(self.coefficients)

    @property
    def n_pictures(self) -> int:
        """Pictures the bank takes in the DMD's memory."""
        return 2 * self.n_pairs + GUARD_PICTURES * len(self.section_starts)

    def guard_picture(self, guard: int) -> int:
        """Position of a guard's first picture in the bank."""
        return int(GUARD_PICTURES * guard + 2 * self.section_starts[guard])

    @cached_property
    def pictures(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """Pattern index int64 [n_pictures] and sign int8 [n_pictures] (+1: H+, -1: H-) of every picture, in order."""
        indices = np.zeros(self.n_pictures, dtype=np.int64)
        signs = np.empty(self.n_pictures, dtype=np.int8)
        guards = np.arange(len(self.section_starts))
        at_guard = (GUARD_PICTURES * guards + 2 * self.section_starts)[:, None] + np.arange(GUARD_PICTURES)
        signs[at_guard] = GUARD_SIGNS
        section = np.searchsorted(self.section_starts, np.arange(self.n_pairs), side="right")
        first = GUARD_PICTURES * section + 2 * np.arange(self.n_pairs)
        indices[first] = indices[first + 1] = self.coefficients
        signs[first] = np.where(self.plus_first, 1, -1)
        signs[first + 1] = -signs[first]
        return indices, signs


@dataclass(frozen=True)
class Block:
    """One stretch of a pass: one projection start, one detector burst.

    Pictures first_picture..last_picture of its bank, inclusive: the sections first_section..end_section - 1 with a
    guard before each and one after the last. ``pass_number`` counts from 1.
    """

    number: int
    bank: Bank
    pass_number: int
    first_section: int
    end_section: int

    @property
    def n_pairs(self) -> int:
        """Pairs displayed in the block."""
        starts = self.bank.section_starts
        return int(starts[self.end_section] - starts[self.first_section])

    @property
    def n_guards(self) -> int:
        """Guards displayed in the block."""
        return self.end_section - self.first_section + 1

    @property
    def n_exposures(self) -> int:
        """Pictures displayed in the block, and readings taken under them."""
        return 2 * self.n_pairs + GUARD_PICTURES * self.n_guards

    @property
    def first_picture(self) -> int:
        """First picture of the block in its bank."""
        return self.bank.guard_picture(self.first_section)

    @property
    def last_picture(self) -> int:
        """Last picture of the block in its bank; it is dark."""
        return self.first_picture + self.n_exposures - 1

    @property
    def coefficients(self) -> NDArray[np.int64]:
        """Pattern indices int64 [n_pairs], in the order of display."""
        return self.bank.coefficients[self._pairs]

    @property
    def plus_first(self) -> NDArray[np.bool_]:
        """Bool [n_pairs]: True where H+ was displayed before H-."""
        return self.bank.plus_first[self._pairs]

    @property
    def guard_exposures(self) -> NDArray[np.int64]:
        """Exposures of the block that show guards, int64 [n_guards, GUARD_PICTURES]."""
        sections = np.arange(self.first_section, self.end_section + 1)
        pairs_before = self.bank.section_starts[sections] - self.bank.section_starts[self.first_section]
        first = GUARD_PICTURES * np.arange(self.n_guards) + 2 * pairs_before
        return np.asarray(first[:, None] + np.arange(GUARD_PICTURES), dtype=np.int64)

    @property
    def pair_exposures(self) -> NDArray[np.int64]:
        """First exposure of every pair, counted from the block's start, int64 [n_pairs]; the second one follows it."""
        pairs = np.arange(self.n_pairs)
        ends = (
            self.bank.section_starts[self.first_section : self.end_section]
            - self.bank.section_starts[self.first_section]
        )
        return np.asarray(GUARD_PICTURES * np.searchsorted(ends, pairs, side="right") + 2 * pairs, dtype=np.int64)

    @property
    def _pairs(self) -> slice:
        starts = self.bank.section_starts
        return slice(int(starts[self.first_section]), int(starts[self.end_section]))


@dataclass(frozen=True)
class Schedule:
    """A whole run: how often every coefficient is measured, and the blocks that measure it, in order.

    repeats: int32 [N], M of every coefficient in natural order (M_0 = 0).
    """

    repeats: NDArray[np.int32]
    banks: tuple[Bank, ...]
    blocks: tuple[Block, ...]

    @property
    def n_pairs(self) -> int:
        """Pairs displayed in all: ΣM."""
        return int(self.repeats.sum(dtype=np.int64))

    @property
    def n_exposures(self) -> int:
        """Exposures in all, guards included."""
        return sum(block.n_exposures for block in self.blocks)

    @property
    def longest_block_pairs(self) -> int:
        """Most pairs in one block."""
        return max((block.n_pairs for block in self.blocks), default=0)

    @property
    def most_block_guards(self) -> int:
        """Most guards in one block."""
        return max((block.n_guards for block in self.blocks), default=0)


@dataclass(frozen=True)
class ScheduleLimits:
    """What cuts a run into banks and blocks.

    bank_pictures: most pictures in one bank; first_bank_pictures: pictures of the first one, each further one being
    twice as large; guard_interval: most pairs between two guards; block_exposures: most exposures in one block.
    """

    bank_pictures: int
    first_bank_pictures: int
    guard_interval: int
    block_exposures: int

    def __post_init__(self) -> None:
        smallest = 2 * GUARD_PICTURES + 2
        for found, what, key in (
            (self.bank_pictures, "half of the DMD's memory holds", "devices.projector.memory_pictures"),
            (self.first_bank_pictures, "the first bank takes", "blocks.first_bank_pictures"),
            (self.block_exposures, "a block takes", "blocks.longest_block_s"),
        ):
            if found < smallest:
                raise ScheduleLimitError(key, f"{what} {found} pictures, a pair between two guards takes {smallest}")


class ScheduleLimitError(ValueError):
    """The limits leave no room for one pair between two guards; ``key`` is where the acquisition file sets them."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def make_schedule(
    repeats: NDArray[np.int32], importance: NDArray[np.float64], limits: ScheduleLimits, seed: int
) -> Schedule:
    """The schedule of one run, the same for the same arguments.

    repeats: int [N], M of every coefficient; importance: float64 [N], the prior variance λ: coefficients of large λ
    come into the first banks, so that the live image is worth looking at early; seed: order of H+ and H- in each pair.
    """
    taken = np.flatnonzero(repeats)
    ranked = taken[np.argsort(-importance[taken], kind="stable")]
    plus_first = np.random.default_rng([seed, _PAIR_ORDER_STREAM]).random(len(repeats)) < 0.5
    banks: list[Bank] = []
    at = 0
    while at < len(ranked):
        room = min(limits.first_bank_pictures << min(len(banks), 40), limits.bank_pictures)
        bank = _fill_bank(len(banks), ranked[at:], repeats, plus_first, room, limits)
        banks.append(bank)
        at += bank.n_pairs
    blocks: list[Block] = []
    for bank in banks:
        for pass_number, first, end in _passes_in_blocks(bank, limits.block_exposures):
            blocks.append(Block(len(blocks), bank, pass_number, first, end))
    return Schedule(np.asarray(repeats, dtype=np.int32), tuple(banks), tuple(blocks))


_PAIR_ORDER_STREAM = 0x0D3


def _fill_bank(
    number: int,
    ranked: NDArray[np.int64],
    repeats: NDArray[np.int32],
    plus_first: NDArray[np.bool_],
    room: int,
    limits: ScheduleLimits,
) -> Bank:
    """The largest prefix of ``ranked`` whose pairs and guards fit into ``room`` pictures."""
    fits, too_many = 1, min(len(ranked), room // 2) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _bank(number, ranked[:middle], repeats, plus_first, limits).n_pictures <= room:
            fits = middle
        else:
            too_many = middle
    return _bank(number, ranked[:fits], repeats, plus_first, limits)


def _bank(
    number: int,
    chosen: NDArray[np.int64],
    repeats: NDArray[np.int32],
    plus_first: NDArray[np.bool_],
    limits: ScheduleLimits,
) -> Bank:
    coefficients = chosen[np.argsort(-repeats[chosen], kind="stable")]
    levels = repeats[coefficients]
    section_pairs = min(limits.guard_interval, (limits.block_exposures - 2 * GUARD_PICTURES) // 2)
    level_starts = np.concatenate([[0], np.flatnonzero(np.diff(levels)) + 1, [len(levels)]])
    section_starts = np.concatenate(
        [np.arange(start, end, section_pairs) for start, end in pairwise(level_starts)] + [[len(levels)]]
    )
    return Bank(
        number, coefficients, levels.astype(np.int32), plus_first[coefficients], section_starts.astype(np.int64)
    )


def _passes_in_blocks(bank: Bank, block_exposures: int) -> Iterator[tuple[int, int, int]]:
    """(pass, first section, end section) of every block, each as long as the limit allows."""
    starts = bank.section_starts
    section_repeats = bank.repeats[starts[:-1]]
    exposures_before = 2 * starts + GUARD_PICTURES * np.arange(len(starts))
    for pass_number in range(1, int(bank.repeats[0]) + 1):
        end_of_pass = int(np.count_nonzero(section_repeats >= pass_number))
        first = 0
        while first < end_of_pass:
            most = exposures_before[first] + block_exposures - GUARD_PICTURES
            end = int(np.searchsorted(exposures_before[: end_of_pass + 1], most, side="right")) - 1
            yield pass_number, first, end
            first = end
