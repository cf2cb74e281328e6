"""What a calibration projects, as plain data: pairs of complementary pictures, in an order, with rests in the dark.

A recipe numbers its pairs of pictures from 1. Of pair k, sign +1 is a picture and -1 its complement: every mirror of
the image region is on in exactly one of them, as in a Hadamard pair. (0, +1) has all mirrors of the region on and
(0, -1) none: the pictures of the guards. So whoever plays Hadamard pairs can play a recipe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recipe:
    """What is displayed, in order.

    pairs: int64 [K], numbers of the pairs of one pass, 1 or more, in order of display; a pair may stand there many
    times. plus_first: bool [K], whether the picture comes before its complement. passes: how often all of it is played.
    section_pairs: pairs between two guards. rests_s: float64 [passes], time without light before each pass, s.
    keeps_frames: whether what is fitted needs the detector's frames, and not only their sums.
    """

    name: str
    pairs: NDArray[np.int64]
    plus_first: NDArray[np.bool_]
    passes: int
    section_pairs: int
    rests_s: NDArray[np.float64]
    keeps_frames: bool = False

    def __post_init__(self) -> None:
        if len(self.pairs) == 0 or self.pairs.min() < 1 or len(self.plus_first) != len(self.pairs):
            raise ValueError(f"found {len(self.pairs)} pairs and {len(self.plus_first)} orders; expected one a pair")
        if self.passes < 1 or self.section_pairs < 1 or len(self.rests_s) != self.passes:
            raise ValueError(f"found {self.passes} passes and {len(self.rests_s)} rests; expected one rest a pass")

    @property
    def n_pairs(self) -> int:
        """Pairs displayed in all."""
        return len(self.pairs) * self.passes


class PictureSource(Protocol):
    """Renders the pictures of a recipe."""

    def render(
        self, indices: NDArray[np.integer], signs: NDArray[np.integer], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Packed pictures uint8 [K, mirrors_height, row_bytes] of pairs ``indices`` [K] and ``signs`` [K], ±1."""
        ...
