"""How long a run takes, and how its banks should grow: loading goes on beside the light, arming does not.

The clock of a run: the first bank is loaded in the dark. Then each bank is played, block by block, every block after
the time to arm the detector, while the next bank is loaded into the other half of the memory; the next one begins
when both are done.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from acquisition.schedule import BankSizes, Schedule, ScheduleLimits, ranked_coefficients

# What the search tries: sizes of the first bank, growth from bank to bank, and the largest as shares of the memory.
_FIRST_PICTURES = (256, 1024, 4096)
_GROWTHS = (1.0, 1.3, 1.6, 2.0, 3.0, 5.0)
_LARGEST_SHARES = (2, 3, 4, 6, 8, 12, 16, 24)


@dataclass(frozen=True)
class RunRates:
    """What the clock of a run is made of, in µs.

    picture_time_us: one exposure; upload_us: loading one picture; arming_us: arming the detector for one block;
    reading_us: reading one frame, beside the exposures.
    """

    picture_time_us: float
    upload_us: float
    arming_us: float
    reading_us: float = 0.0

    @property
    def exposure_us(self) -> float:
        """What an exposure takes until its frame is read."""
        return max(self.picture_time_us, self.reading_us)


@dataclass(frozen=True)
class RunTime:
    """Predicted times in s.

    light_s: exposures of blocks; upload_s, arming_s: in all; waiting_s: the part of the uploads that the light waits
    for; total_s: from the dark level to the end of the last block.
    """

    light_s: float
    upload_s: float
    arming_s: float
    waiting_s: float
    total_s: float

    @property
    def light_share(self) -> float:
        """Share of the whole time in which exposures are taken under light."""
        return self.light_s / self.total_s

    @property
    def largest_light_share(self) -> float:
        """What the share cannot exceed, whatever the order: light or uploads alone fill the time."""
        return self.light_s / max(self.light_s, self.upload_s)


def predict_run_time(schedule: Schedule, rates: RunRates, dark_exposures: int) -> RunTime:
    """The clock of a run of this schedule; dark_exposures: of the dark level that is measured before it."""
    played = [0.0] * len(schedule.banks)
    for block in schedule.blocks:
        played[block.bank.number] += rates.arming_us + block.n_exposures * rates.exposure_us
    uploads = [bank.n_pictures * rates.upload_us for bank in schedule.banks]
    dark_us = dark_exposures * (rates.upload_us + rates.exposure_us) + rates.arming_us
    light_us = schedule.n_exposures * rates.picture_time_us
    total_us = dark_us + _clock(played, uploads)
    arming_us = (len(schedule.blocks) + 1) * rates.arming_us
    return RunTime(
        light_s=light_us * 1e-6,
        upload_s=(sum(uploads) + dark_exposures * rates.upload_us) * 1e-6,
        arming_s=arming_us * 1e-6,
        waiting_s=(total_us - dark_us - sum(played)) * 1e-6,
        total_s=total_us * 1e-6,
    )


def plan_bank_sizes(
    repeats: NDArray[np.int32],
    importance: NDArray[np.float64],
    limits: ScheduleLimits,
    rates: RunRates,
    first_pictures: int | None = None,
) -> BankSizes:
    """The sizes under which the run ends soonest, of those that the search tries.

    limits: its bank_sizes.largest is what half of the memory holds; first_pictures: the first bank's, None to choose
    that too. A small first bank lets the light begin early; growth that keeps to the rate of loading hides it behind
    the light; large banks need few blocks; a small last one ends soon where loading bounds the run.
    """
    ranked = ranked_coefficients(repeats, importance)
    levels = repeats[ranked].astype(np.int64)
    most, least = limits.bank_sizes.largest, limits.smallest_block
    firsts = _FIRST_PICTURES if first_pictures is None else (first_pictures,)
    largests = {max(2 * most // share, least, first_pictures or 0) for share in _LARGEST_SHARES}
    candidates = {
        BankSizes(min(max(first, least), largest), growth, largest)
        for first, growth, largest in product(firsts, _GROWTHS, largests)
        if largest <= most
    }
    return min(
        sorted(candidates, key=lambda sizes: (sizes.first, sizes.growth, sizes.largest)),
        key=lambda sizes: _estimated_us(levels, sizes, limits, rates),
    )


def _clock(played_us: list[float], uploads_us: list[float]) -> float:
    """When the last bank has been played, the first one's upload beginning at 0."""
    now = uploads_us[0]
    for played, next_upload in zip(played_us, [*uploads_us[1:], 0.0], strict=True):
        now += max(played, next_upload)
    return now


def _estimated_us(levels: NDArray[np.int64], sizes: BankSizes, limits: ScheduleLimits, rates: RunRates) -> float:
    """The clock of a run whose ranked coefficients have these M, int64 [K], without making its schedule."""
    start = 0
    passes: list[NDArray[np.float64]] = []
    while start < len(levels):
        pairs, exposures = _filled(levels[start:], sizes.room(len(passes)), limits)
        passes.append(exposures)
        start += pairs
    played = [_played_us(exposures, limits.block_exposures, rates) for exposures in passes]
    return _clock(played, [float(exposures[0]) * rates.upload_us for exposures in passes])


def _filled(levels: NDArray[np.int64], room: int, limits: ScheduleLimits) -> tuple[int, NDArray[np.float64]]:
    """How many of the coefficients a bank of so many pictures takes, about, and the exposures of its passes."""
    per_section = 2 * limits.section_pairs + limits.guard_pictures
    pairs = max(int((room - limits.guard_pictures) / per_section * limits.section_pairs), 1)
    exposures = _pass_exposures(levels[:pairs], limits)
    while (too_many := int(exposures[0]) - room) > 0 and pairs > 1:
        pairs = max(pairs - max(too_many // 2, 1), 1)
        exposures = _pass_exposures(levels[:pairs], limits)
    return len(levels[:pairs]), exposures


def _pass_exposures(levels: NDArray[np.int64], limits: ScheduleLimits) -> NDArray[np.float64]:
    """Exposures of every pass r from 1 to the largest M: its pairs, guards at most G apart and wherever M drops."""
    counts = np.bincount(levels)
    of_level = 2 * counts + limits.guard_pictures * np.ceil(counts / limits.section_pairs)
    return np.asarray(of_level[::-1].cumsum()[::-1][1:] + limits.guard_pictures, dtype=np.float64)


def _played_us(pass_exposures: NDArray[np.float64], block_exposures: int, rates: RunRates) -> float:
    """Light and arming of a bank whose passes have so many exposures; equal ones share blocks."""
    sizes, counts = np.unique(pass_exposures, return_counts=True)
    passes_a_block = np.maximum(block_exposures // sizes, 1)
    blocks = np.ceil(counts / passes_a_block) * np.ceil(sizes / block_exposures)
    return float(blocks.sum() * rates.arming_us + pass_exposures.sum() * rates.exposure_us)
