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
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.height_px * self.width_px * self.bytes_per_px

    def frames(self, readings: NDArray[np.float64]) -> Frame:
        """Frames [n, height, width] whose pixels add up to the readings float64 [n].

        A reading is rounded to whole units (which adds a variance of 1/12), kept between 0 and full scale of all
        pixels, and spread evenly: every pixel holds the quotient, and the first ones the remainder, one unit each.
        """
        n_pixels = self.height_px * self.width_px
        full = 2**self.bit_depth - 1
        totals = np.clip(np.rint(readings), 0, full * n_pixels).astype(np.int64)
        quotients, remainders = np.divmod(totals, n_pixels)
        pixels = quotients[:, None] + (np.arange(n_pixels) < remainders[:, None])
        return pixels.astype(_PIXEL_TYPES[self.bytes_per_px]).reshape(-1, self.height_px, self.width_px)


class FrameBuffer:
    """A circular buffer of ``capacity`` frames that are made from readings in batches, when they are popped."""

    def __init__(self, sensor: Sensor, capacity: int) -> None:
        self.sensor = sensor
        self.capacity = capacity
        self.overflowed = False
        self._waiting: deque[tuple[NDArray[np.float64], NDArray[np.float64], int]] = deque()
        self._ready: deque[tuple[Frame, float, int]] = deque()
        self._n_waiting = 0

    def __len__(self) -> int:
        return self._n_waiting + len(self._ready)

    def insert(self, readings: NDArray[np.float64], times_us: NDArray[np.float64], first_number: int) -> int:
        """Store as many of the readings as there is room for, numbered from ``first_number``; how many were stored."""
        room = self.capacity - len(self)
        if len(readings) > room:
            self.overflowed = True
            readings, times_us = readings[:room], times_us[:room]
        if len(readings):
            self._waiting.append((readings, times_us, first_number))
            self._n_waiting += len(readings)
        return len(readings)

    def pop(self) -> tuple[Frame, float, int]:
        """The oldest frame [height, width], its start in bench time in µs, its number. Raises IndexError if empty."""
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
        readings, times_us, first_number = self._waiting.popleft()
        n = max(1, _BATCH_BYTES // self.sensor.frame_bytes)
        if n < len(readings):
            self._waiting.appendleft((readings[n:], times_us[n:], first_number + n))
        frames = self.sensor.frames(readings[:n])
        self._n_waiting -= len(frames)
        numbers = range(first_number, first_number + len(frames))
        self._ready.extend(zip(frames, times_us[:n].tolist(), numbers, strict=True))
