"""The schedule: which pair, how often, in which order. Pure and seeded; touches no device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import GUARD_PICTURES, Bank, Block

_PAIR_ORDER_STREAM = 0x0D3


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
    def longest_block_exposures(self) -> int:
        """Most exposures in one block."""
        return max((block.n_exposures for block in self.blocks), default=0)

    @property
    def most_block_guards(self) -> int:
        """Most guards in one block."""
        return max((block.n_guards for block in self.blocks), default=0)

    @property
    def guard_pictures(self) -> int:
        """Pictures of one guard."""
        return self.banks[0].guard_pictures

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that is displayed, in order: two schedules with the same digest are the same."""
        digest = hashlib.sha256()
        for bank in self.banks:
            for pictures in bank.pictures:
                digest.update(pictures.astype("<i8").tobytes())
        for block in self.blocks:
            played = (block.number, block.bank.number, block.first_picture, block.last_picture, block.rounds)
            digest.update(np.array([*played, round(block.rest_s * 1e6)], dtype="<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class BankSizes:
    """Planned sizes of banks, in pictures: ``first``, each further one ``growth`` times as large, up to ``largest``."""

    first: int
    growth: float
    largest: int

    def room(self, bank: int) -> int:
        """Pictures that bank number ``bank`` may take at most."""
        grown = self.first * min(self.growth ** min(bank, 64), 2.0**40)
        return int(min(grown, self.largest))


@dataclass(frozen=True)
class ScheduleLimits:
    """What cuts a run into banks and blocks.

    bank_sizes: most pictures in each bank; guard_interval: most pairs between two guards; block_exposures: most
    exposures in one block; guard_codes: how often a guard shows the guard code.
    """

    bank_sizes: BankSizes
    guard_interval: int
    block_exposures: int
    guard_codes: int = 1

    def __post_init__(self) -> None:
        for found, what, key in (
            (self.bank_sizes.largest, "a bank takes", "devices.projector.memory_pictures"),
            (self.bank_sizes.first, "the first bank takes", "blocks.first_bank_pictures"),
            (self.block_exposures, "a block takes", "blocks.longest_block_s"),
        ):
            if found < self.smallest_block:
                raise ScheduleLimitError(
                    key, f"{what} {found} pictures, a pair between two guards takes {self.smallest_block}"
                )

    @property
    def guard_pictures(self) -> int:
        """Pictures of one guard."""
        return GUARD_PICTURES * self.guard_codes

    @property
    def smallest_block(self) -> int:
        """Pictures of a single pair between two guards."""
        return 2 * self.guard_pictures + 2

    @property
    def section_pairs(self) -> int:
        """Most pairs between two guards, so that a section fits into a block."""
        return min(self.guard_interval, (self.block_exposures - 2 * self.guard_pictures) // 2)


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
    ranked = ranked_coefficients(repeats, importance)
    plus_first = pair_order(len(repeats), seed)
    banks: list[Bank] = []
    at = 0
    while at < len(ranked):
        bank = _fill_bank(len(banks), ranked[at:], repeats, plus_first, limits)
        banks.append(bank)
        at += bank.n_pairs
    blocks: list[Block] = []
    for bank in banks:
        for pass_number, first, end, rounds in _passes_in_blocks(bank, limits.block_exposures):
            blocks.append(Block(len(blocks), bank, pass_number, first, end, rounds))
    return Schedule(np.asarray(repeats, dtype=np.int32), tuple(banks), tuple(blocks))


def pair_order(n_coefficients: int, seed: int) -> NDArray[np.bool_]:
    """Whether H+ comes before H-, bool [n_coefficients], fixed for every coefficient by the seed (DESIGN §5.7)."""
    return np.random.default_rng([seed, _PAIR_ORDER_STREAM]).random(n_coefficients) < 0.5


def ranked_coefficients(repeats: NDArray[np.int32], importance: NDArray[np.float64]) -> NDArray[np.int64]:
    """The coefficients that are taken, int64 [K], the most important ones first."""
    taken = np.flatnonzero(repeats)
    return np.asarray(taken[np.argsort(-importance[taken], kind="stable")], dtype=np.int64)


def _fill_bank(
    number: int,
    ranked: NDArray[np.int64],
    repeats: NDArray[np.int32],
    plus_first: NDArray[np.bool_],
    limits: ScheduleLimits,
) -> Bank:
    """The largest prefix of ``ranked`` whose pairs and guards fit into the bank's room."""
    room = limits.bank_sizes.room(number)
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
    level_starts = np.concatenate([[0], np.flatnonzero(np.diff(levels)) + 1, [len(levels)]])
    sections = [np.arange(start, end, limits.section_pairs) for start, end in pairwise(level_starts)]
    return Bank(
        number=number,
        coefficients=coefficients,
        repeats=levels.astype(np.int32),
        plus_first=plus_first[coefficients],
        section_starts=np.concatenate([*sections, [len(levels)]]).astype(np.int64),
        guard_codes=limits.guard_codes,
    )


def _passes_in_blocks(bank: Bank, block_exposures: int) -> Iterator[tuple[int, int, int, int]]:
    """(pass, first section, end section, rounds) of every block, each as long as the limit allows."""
    starts = bank.section_starts
    section_repeats = bank.repeats[starts[:-1]]
    exposures_before = 2 * starts + bank.guard_pictures * np.arange(len(starts))
    pass_number, last_pass = 1, int(bank.repeats[0])
    while pass_number <= last_pass:
        end_of_pass = int(np.count_nonzero(section_repeats >= pass_number))
        # All passes up to the smallest M of this prefix show the same pictures.
        equal_passes = int(section_repeats[end_of_pass - 1]) - pass_number + 1
        pass_exposures = int(exposures_before[end_of_pass]) + bank.guard_pictures
        rounds = min(equal_passes, block_exposures // pass_exposures)
        if rounds > 1:
            yield pass_number, 0, end_of_pass, rounds
            pass_number += rounds
            continue
        first = 0
        while first < end_of_pass:
            most = exposures_before[first] + block_exposures - bank.guard_pictures
            end = int(np.searchsorted(exposures_before[: end_of_pass + 1], most, side="right")) - 1
            yield pass_number, first, end, 1
            first = end
        pass_number += 1
