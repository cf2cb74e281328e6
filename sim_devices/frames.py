"""The simulated camera's circular buffer: sensor readings become frames when they are popped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_BATCH_BYTES: Final = 2**18
_PIXEL_TYPES: Final[dict[int, type[np.unsignedinteger[Any]]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}

Frame = NDArray[np.unsignedinteger[Any]]
Region = tuple[int, int, int, int]
# What makes the values float64 [height, width] of all pixels that an imaging camera collected for one frame.
PixelSource = Callable[[], NDArray[np.float64]]
# A frame [height, width], its time since the sequence's start in µs, its number, and its exposure's number.
Popped = tuple[Frame, float, int, int]


@dataclass(frozen=True)
class Sensor:
    """A sensor of height × width pixels. ``bit_depth`` bits of a pixel are used; full scale is their largest number.

    ``saturation`` is the value at which a pixel saturates, where that is below full scale.
    """

    height_px: int
    width_px: int
    bytes_per_px: int
    bit_depth: int
    saturation: int | None = None

    def __post_init__(self) -> None:
        if self.bytes_per_px not in _PIXEL_TYPES:
            raise ValueError(f"a pixel of {self.bytes_per_px} bytes is not simulated; allowed: 1, 2, 4")
        if not 1 <= self.bit_depth <= 8 * self.bytes_per_px or self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"no sensor: {self}")
        if self.saturation is not None and self.saturation < 1:
            raise ValueError(f"a pixel that saturates at {self.saturation} is not simulated; expected 1 or more")

    @property
    def full_scale(self) -> int:
        """The largest number that the bits of a pixel hold."""
        return (1 << self.bit_depth) - 1

    @property
    def largest(self) -> int:
        """The largest value that a pixel reads."""
        return self.full_scale if self.saturation is None else min(self.saturation, self.full_scale)

    def frames(self, readings: NDArray[np.float64], binning: int = 1) -> Frame:
        """Frames [n, height // binning, width // binning] whose pixels add up to the readings float64 [n].

        A reading is rounded to whole units (which adds a variance of 1/12), kept between 0 and the largest value of all
        pixels, and spread evenly: every pixel holds the quotient, and the first ones the remainder, one unit each.
        Binned pixels are the sums of binning × binning of these, clipped at the largest value; pixels left over at the
        right and at the bottom are lost.
        """
        n_pixels = self.height_px * self.width_px
        totals = np.clip(np.rint(readings), 0, self.largest * n_pixels).astype(np.int64)
        quotients, remainders = np.divmod(totals, n_pixels)
        pixels = quotients[:, None] + (np.arange(n_pixels) < remainders[:, None])
        return self._binned(pixels.reshape(-1, self.height_px, self.width_px), binning)

    def digitised(self, pixels: NDArray[np.float64], binning: int = 1) -> Frame:
        """Frames [n, height // binning, width // binning] of pixel values float64 [n, height, width].

        Every pixel is rounded to whole units and kept between 0 and the largest value; then they are binned as above.
        """
        return self._binned(np.clip(np.rint(pixels), 0, self.largest).astype(np.int64), binning)

    def _binned(self, frames: NDArray[np.int64], binning: int) -> Frame:
        if binning > 1:
            height, width = self.height_px // binning, self.width_px // binning
            cells = frames[:, : height * binning, : width * binning].reshape(-1, height, binning, width, binning)
            frames = np.minimum(cells.sum(axis=(2, 4)), self.largest)
        return frames.astype(_PIXEL_TYPES[self.bytes_per_px])


@dataclass(frozen=True)
class Taken:
    """Frames as the camera took them, one entry per frame.

    readings float64; elapsed_us float64 since the start of the sequence that took them; numbers int64 as the camera
    counted them; exposures int64, the bench's numbers of the exposures that triggered them, -1 for a stale frame;
    pixels object, what makes the pixels (PixelSource) where the camera images the mirrors. Readings are then not used.
    """

    readings: NDArray[np.float64]
    elapsed_us: NDArray[np.float64]
    numbers: NDArray[np.int64]
    exposures: NDArray[np.int64]
    pixels: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.readings)

    def __getitem__(self, some: slice | NDArray[Any]) -> Taken:
        pixels = None if self.pixels is None else self.pixels[some]
        return Taken(self.readings[some], self.elapsed_us[some], self.numbers[some], self.exposures[some], pixels)


class FrameBuffer:
    """A circular buffer of ``capacity`` frames that are made in batches, when they are popped.

    ``region`` is the part x, y, width, height in binned pixels that frames show.
    """

    def __init__(self, sensor: Sensor, capacity: int, binning: int, region: Region) -> None:
        self.capacity = capacity
        self.overflowed = False
        self._sensor = sensor
        self._binning = binning
        self._region = region
        self._waiting: deque[Taken] = deque()
        self._ready: deque[Popped] = deque()
        self._n_waiting = 0

    def __len__(self) -> int:
        return self._n_waiting + len(self._ready)

    def insert(self, taken: Taken) -> int:
        """Store as many of the frames as there is room for; how many were stored."""
        stored = taken[: self.capacity - len(self)] if len(taken) > self.capacity - len(self) else taken
        if len(stored):
            self._waiting.append(stored)
            self._n_waiting += len(stored)
        return len(stored)

    def pop(self) -> Popped:
        """The oldest frame. Raises IndexError if there is none."""
        if not self._ready:
            self._make_ready()
        return self._ready.popleft()

    def clear(self) -> None:
        """Throw all frames away, and the memory of an overflow."""
        self._waiting.clear()
        self._ready.clear()
        self._n_waiting = 0
        self.overflowed = False

    def _make_ready(self) -> None:
        taken = self._waiting.popleft()
        x, y, width, height = self._region
        n = max(1, _BATCH_BYTES // (self._sensor.height_px * self._sensor.width_px * self._sensor.bytes_per_px))
        if n < len(taken):
            self._waiting.appendleft(taken[n:])
            taken = taken[:n]
        if taken.pixels is None:
            frames = self._sensor.frames(taken.readings, self._binning)
        else:
            frames = self._sensor.digitised(np.stack([each() for each in taken.pixels]), self._binning)
        self._n_waiting -= len(frames)
        details = taken.elapsed_us.tolist(), taken.numbers.tolist(), taken.exposures.tolist()
        self._ready.extend(zip(frames[:, y : y + height, x : x + width], *details, strict=True))
