"""The simulated camera's circular buffer: sensor readings become frames when they are popped."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_BATCH_BYTES: Final = 2**18
_PIXEL_TYPES: Final[dict[int, type[np.unsignedinteger[Any]]]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}

Frame = NDArray[np.unsignedinteger[Any]]
Region = tuple[int, int, int, int]
# A frame [height, width], its time since the sequence's start in µs, its number, and its exposure's number.
Popped = tuple[Frame, float, int, int]


@dataclass(frozen=True)
class Sensor:
    """A sensor of height × width pixels. ``bit_depth`` bits of a pixel are used; full scale is their largest number."""

    height_px: int
    width_px: int
    bytes_per_px: int
    bit_depth: int

    def __post_init__(self) -> None:
        if self.bytes_per_px not in _PIXEL_TYPES:
            raise ValueError(f"a pixel of {self.bytes_per_px} bytes is not simulated; allowed: 1, 2, 4")
        if not 1 <= self.bit_depth <= 8 * self.bytes_per_px or self.height_px < 1 or self.width_px < 1:
            raise ValueError(f"no sensor: {self}")

    @property
    def full_scale(self) -> int:
        """The largest value of a pixel."""
        return (1 << self.bit_depth) - 1

    def frames(self, readings: NDArray[np.float64], binning: int = 1) -> Frame:
        """Frames [n, height // binning, width // binning] whose pixels add up to the readings float64 [n].

        A reading is rounded to whole units (which adds a variance of 1/12), kept between 0 and full scale of all
        pixels, and spread evenly: every pixel holds the quotient, and the first ones the remainder, one unit each.
        Binned pixels are the sums of binning × binning of these, clipped at full scale; pixels left over at the right
        and at the bottom are lost.
        """
        n_pixels = self.height_px * self.width_px
        totals = np.clip(np.rint(readings), 0, self.full_scale * n_pixels).astype(np.int64)
        quotients, remainders = np.divmod(totals, n_pixels)
        pixels = quotients[:, None] + (np.arange(n_pixels) < remainders[:, None])
        frames = pixels.reshape(-1, self.height_px, self.width_px)
        if binning > 1:
            height, width = self.height_px // binning, self.width_px // binning
            cells = frames[:, : height * binning, : width * binning].reshape(-1, height, binning, width, binning)
            frames = np.minimum(cells.sum(axis=(2, 4)), self.full_scale)
        return frames.astype(_PIXEL_TYPES[self.bytes_per_px])


@dataclass(frozen=True)
class Taken:
    """Frames as the camera took them, one entry per frame.

    readings float64; elapsed_us float64 since the start of the sequence that took them; numbers int64 as the camera
    counted them; exposures int64, the bench's numbers of the exposures that triggered them, -1 for a stale frame.
    """

    readings: NDArray[np.float64]
    elapsed_us: NDArray[np.float64]
    numbers: NDArray[np.int64]
    exposures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.readings)

    def __getitem__(self, some: slice | NDArray[Any]) -> Taken:
        return Taken(self.readings[some], self.elapsed_us[some], self.numbers[some], self.exposures[some])


class FrameBuffer:
    """A circular buffer of ``capacity`` frames that are made from readings in batches, when they are popped.

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
        frames = self._sensor.frames(taken.readings, self._binning)[:, y : y + height, x : x + width]
        self._n_waiting -= len(frames)
        details = taken.elapsed_us.tolist(), taken.numbers.tolist(), taken.exposures.tolist()
        self._ready.extend(zip(frames, *details, strict=True))
