"""What a projector promises: banks of 1-bit pictures, shown in finite projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProjectorInfo:
    """What a connected projector says of itself; ``free_pictures`` is its free memory in 1-bit pictures.

    What follows ``min_picture_time_us`` goes on a run's record and is empty or None where the projector does not say
    it: ``memory_pictures``, its free memory when it was connected; the longest picture time and sync delay it takes;
    the type code of its mirror chip; ``firmware``, its version as it states it; ``library`` and ``library_version``,
    the file and version of the vendor's library; and the settings that were read back.
    """

    name: str
    serial: str
    mirrors_height: int
    mirrors_width: int
    row_bytes: int
    free_pictures: int
    min_picture_time_us: int
    memory_pictures: int | None = None
    max_picture_time_us: int | None = None
    max_sync_delay_us: int | None = None
    dmd_type_code: int | None = None
    firmware: str = ""
    library: str = ""
    library_version: str = ""
    sync_polarity: str = ""
    binary_mode: str = ""


@dataclass(frozen=True)
class Timing:
    """How long pictures last: from one start to the next, and how long each is displayed.

    A picture is displayed ``sync_delay_us`` after its sync pulse begins, which lasts ``sync_pulse_us``; as a wish, a
    pulse of 0 is the projector's default width.
    """

    picture_time_us: int
    illumination_time_us: int
    sync_delay_us: int = 0
    sync_pulse_us: int = 0


class Projector(Protocol):
    """A projector of packed 1-bit pictures.

    A picture is uint8 [mirrors_height, row_bytes], top row first, bit 7 of a byte its leftmost mirror, 1 a mirror that
    sends light to the sample; bits beyond ``mirrors_width`` are padding. All methods raise DeviceStateError once the
    projector is closed, ``close`` excepted.

    Two threads may use a projector side by side as long as they use different banks: one displays, asks, halts and
    frees, another one allocates and loads. ``close`` may come from either: it cuts off a load that is under way.
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

        Returns when they are loaded; they must not be changed before. May be called from another thread than the one
        that displays. Raises PictureShapeError, UnknownBankError, and DeviceStateError while this bank is being
        projected or where the load was cut off; another bank's projection does not matter.
        """
        ...

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        """Set the bank's timing, for projections started from now on; what the device reads back.

        Raises TimingRefusedError where the picture time is below the device's minimum, the illumination time is longer
        than the picture time, the device refuses, or a time reads back off.
        """
        ...

    def start(self, bank: int, first: int, last: int, rounds: int = 1) -> None:
        """Start one finite projection of pictures ``first`` to ``last``, both included, and return at once.

        The range is shown ``rounds`` times without a gap. Raises UnknownBankError, ValueError for less than one round,
        and DeviceStateError while a projection is running or where the device does not show a range so often.
        """
        ...

    def is_projecting(self) -> bool:
        """Whether pictures are being displayed."""
        ...

    def status(self) -> dict[str, float]:
        """What the device measures of itself now, temperatures in °C; what it does not know is left out."""
        ...

    def halt(self) -> None:
        """Stop displaying now; without effect on an idle projector, and on a load that is under way."""
        ...

    def free(self, bank: int) -> None:
        """Give the bank's memory back. Raises UnknownBankError, and DeviceStateError while it is being projected."""
        ...

    def close(self) -> None:
        """Halt, free every bank and the device. Closing twice is closing once."""
        ...
