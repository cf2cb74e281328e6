"""The schedule of a recipe: one bank, played as often as the recipe says, in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from acquisition.bank import GUARD_PICTURES, Bank, Block
from acquisition.schedule import Schedule, ScheduleLimitError
from calibration.recipe import Recipe


def recipe_schedule(recipe: Recipe, memory_pictures: int, block_exposures: int) -> Schedule:
    """Schedule of a recipe; memory_pictures: that the DMD holds; block_exposures: most in one block.

    ``repeats`` of the schedule counts the displays of each pair by its number, that of 0 being 0. Raises
    ScheduleLimitError where a pass does not fit into the memory, or what lies between two guards into a block.
    """
    n_pairs = len(recipe.pairs)
    bank = Bank(
        number=0,
        coefficients=recipe.pairs.astype(np.int64),
        repeats=np.full(n_pairs, recipe.passes, dtype=np.int32),
        plus_first=recipe.plus_first,
        section_starts=np.append(np.arange(0, n_pairs, recipe.section_pairs), n_pairs),
    )
    longest_section = 2 * min(recipe.section_pairs, n_pairs) + 2 * GUARD_PICTURES
    for key, what, found, needed in (
        ("devices.projector.memory_pictures", "the DMD holds", memory_pictures, bank.n_pictures),
        ("blocks.longest_block_s", "a block takes", block_exposures, longest_section),
    ):
        if found < needed:
            raise ScheduleLimitError(key, f"{what} {found} pictures, and calibrating {recipe.name} takes {needed}")
    blocks = tuple(_blocks(bank, recipe, block_exposures))
    return Schedule(np.bincount(recipe.pairs).astype(np.int32) * recipe.passes, (bank,), blocks)


def _blocks(bank: Bank, recipe: Recipe, block_exposures: int) -> Iterator[Block]:
    sections = len(bank.section_starts) - 1
    before = 2 * bank.section_starts + GUARD_PICTURES * np.arange(sections + 1)
    rests = recipe.rests_s.tolist()
    number = at = 0
    while at < recipe.passes:
        unbroken = next((later for later in range(at + 1, recipe.passes) if rests[later]), recipe.passes) - at
        rounds = min(unbroken, block_exposures // bank.n_pictures)
        if rounds:
            yield Block(number, bank, at + 1, 0, sections, rounds, rests[at])
            number, at = number + 1, at + rounds
            continue
        first = 0
        while first < sections:
            most = before[first] + block_exposures - GUARD_PICTURES
            end = int(np.searchsorted(before, most, side="right")) - 1
            yield Block(number, bank, at + 1, first, end, 1, 0.0 if first else rests[at])
            number, first = number + 1, end
        at += 1
