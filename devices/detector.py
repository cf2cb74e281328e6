"""What a detector promises: armed once, one frame per displayed exposure, one bucket value per frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DetectorInfo:
    """What a connected detector says of itself; None for what it does not say.

    ``width_px``, ``height_px``: a frame's size. ``bit_depth``: bits of a pixel that are used; ``full_scale``: its
    largest value. ``buffer_frames``: how many frames wait for being read before some are lost. ``binning``: sensor
    pixels a side that make one pixel. ``roi``: x, y, width, height of the part of the sensor that is read, in binned
    pixels. ``version``: of the program that drives it. ``readout_us``: time from an exposure's end to the earliest
    start of the next one. ``accepted_exposure_us``: the exposure time that it read back when it was armed last.
    ``gain_settings``: names and values of its settings that bear on how many units a photo-electron gives.
    """

    name: str
    width_px: int
    height_px: int
    bytes_per_px: int
    bit_depth: int | None = None
    full_scale: int | None = None
    buffer_frames: int | None = None
    binning: int | None = None
    roi: tuple[int, int, int, int] | None = None
    version: str | None = None
    readout_us: float | None = None
    accepted_exposure_us: float | None = None
    gain_settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Burst:
    """Frames read in one go.

    ``bucket_values`` float64 [n]: the sum of each frame over the region, offset subtracted, in detector units.
    ``frame_numbers`` int64 [n] and ``times_us`` float64 [n]: the camera's count and clock, None if it gives none.
    ``saturated``: in how many of the frames a pixel of the region stood at full scale. ``frames`` [n, height, width]:
    the region's pixels, unsigned integers, where frames are kept.
    """

    bucket_values: NDArray[np.float64]
    frame_numbers: NDArray[np.int64] | None
    times_us: NDArray[np.float64] | None
    saturated: int
    frames: NDArray[Any] | None = None


class Detector(Protocol):
    """A detector whose exposures the projector triggers."""

    @property
    def info(self) -> DetectorInfo:
        """What the detector says of itself."""
        ...

    def arm(self, n_exposures: int, exposure_time_us: int) -> None:
        """Be ready for ``n_exposures`` triggers (and notice further ones); frames from before are thrown away.

        Raises DeviceStateError where it is armed already, TimingRefusedError where it cannot expose for this time.
        """
        ...

    def read(self, n_exposures: int, timeout_s: float) -> Burst:
        """The next ``n_exposures`` frames, in order, waiting at most ``timeout_s`` for all of them.

        Raises DetectorTimeoutError (it says how many came), FrameBufferOverflowError, DeviceStateError unless armed.
        """
        ...

    def surplus_frames(self) -> int:
        """Frames that have come and were not read: after a whole burst, 0 unless triggers were doubled."""
        ...

    def disarm(self) -> None:
        """Expect no more triggers; without effect on a detector that is not armed."""
        ...

    def close(self) -> None:
        """Disarm and leave the device as others expect it. Closing twice is closing once."""
        ...
