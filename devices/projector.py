"""What a projector promises: banks of 1-bit pictures, shown in finite projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProjectorInfo:
    """What a connected projector says of itself; ``free_pictures`` is its free memory in 1-bit pictures."""

    name: str
    serial: str
    mirrors_height: int
    mirrors_width: int
    row_bytes: int
    free_pictures: int
    min_picture_time_us: int


@dataclass(frozen=True)
class Timing:
    """How long pictures last: from one start to the next, and how long each is displayed."""

    picture_time_us: int
    illumination_time_us: int


class Projector(Protocol):
    """A projector of packed 1-bit pictures.

    A picture is uint8 [mirrors_height, row_bytes], top row first, bit 7 of a byte its leftmost mirror, 1 a mirror that
    sends light to the sample; bits beyond ``mirrors_width`` are padding. All methods raise DeviceStateError once the
    projector is closed, ``close`` excepted.
    """

    @property
    def info(self) -> ProjectorInfo:
        """What the device says of itself now."""
        ...

    def allocate(self, n_pictures: int) -> int:
        """Room for a bank of so many pictures; its number. Raises PictureMemoryError."""
        ...

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        """Load pictures uint8 [K, mirrors_height, row_bytes], C-contiguous, into the bank from picture ``first`` on.

        Raises PictureShapeError, UnknownBankError, and DeviceStateError while this bank is being projected; another
        bank's projection does not matter.
        """
        ...

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        """Set the bank's timing, for projections started from now on; what the device reads back.

        Raises TimingRefusedError where the picture time is below the device's minimum, the illumination time is longer
        than the picture time, or the device refuses.
        """
        ...

    def start(self, bank: int, first: int, last: int) -> None:
        """Start one finite projection of pictures ``first`` to ``last``, both included, and return at once.

        Raises UnknownBankError, and DeviceStateError while a projection is running.
        """
        ...

    def is_projecting(self) -> bool:
        """Whether pictures are being displayed."""
        ...

    def halt(self) -> None:
        """Stop displaying now; without effect on an idle projector."""
        ...

    def free(self, bank: int) -> None:
        """Give the bank's memory back. Raises UnknownBankError, and DeviceStateError while it is being projected."""
        ...

    def close(self) -> None:
        """Halt, free every bank and the device. Closing twice is closing once."""
        ...
