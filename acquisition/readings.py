"""What one block gave: the raw readings of every pair and every guard, filed under what was displayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import Block, guard_bright
from devices.detector import Burst


@dataclass(frozen=True)
class Readings:
    """Raw readings of one accepted block, in detector units.

    index: int64 [K], pattern of each pair; plus, minus: float64 [K], readings under H+ and H-; time_us: float64 [K],
    start of the pair's first exposure since the run began; guards: float64 [n_guards, guard_pictures];
    saturated: exposures with a pixel at full scale; lit_exposures: exposures under light until the block's end, thrown
    away ones included; bench_state: what a simulated bench goes on from after the block, empty on a real one; frames:
    the detector's frames of all exposures [n_exposures, h, w], where they are kept.
    """

    block_number: int
    pass_number: int
    start_us: float
    index: NDArray[np.int64]
    plus: NDArray[np.float64]
    minus: NDArray[np.float64]
    time_us: NDArray[np.float64]
    guards: NDArray[np.float64]
    saturated: int = 0
    lit_exposures: int = 0
    bench_state: tuple[float, ...] = ()
    frames: NDArray[Any] | None = None

    @property
    def n_pairs(self) -> int:
        """Pairs in the block."""
        return len(self.index)

    @property
    def bright(self) -> NDArray[np.float64]:
        """Readings under the guards' bright pictures, float64 [n_guards, bright per guard]."""
        return self.guards[:, guard_bright(self.guards.shape[1])]

    @property
    def dark(self) -> NDArray[np.float64]:
        """Readings under the guards' dark pictures, float64 [n_guards, dark per guard]; the light is on."""
        return self.guards[:, ~guard_bright(self.guards.shape[1])]


def file_readings(block: Block, burst: Burst, start_us: float, picture_time_us: float) -> Readings:
    """File the bucket values of a burst under the pictures of its block.

    start_us: when the projection began, since the run began. Raises BurstLengthError where the burst has not exactly
    one reading per exposure.
    """
    values = burst.bucket_values
    if len(values) != block.n_exposures:
        raise BurstLengthError(
            f"block {block.number} displayed {block.n_exposures} pictures and {len(values)} readings came back; "
            "none of them can be filed"
        )
    first = block.pair_exposures
    plus_at = np.where(block.plus_first, first, first + 1)
    minus_at = np.where(block.plus_first, first + 1, first)
    return Readings(
        block_number=block.number,
        pass_number=block.pass_number,
        start_us=start_us,
        index=block.coefficients,
        plus=values[plus_at],
        minus=values[minus_at],
        time_us=np.asarray(start_us + picture_time_us * first, dtype=np.float64),
        guards=values[block.guard_exposures],
        saturated=burst.saturated,
        frames=burst.frames,
    )


class BurstLengthError(ValueError):
    """A block's burst has not exactly one reading per displayed picture."""
