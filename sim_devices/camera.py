"""The simulated camera: triggered by the bench, one frame per trigger while a sequence runs, none otherwise.

It keeps a record of its own: under which exposure every frame was taken that reached the circular buffer, and every
frame that was popped. A test that asks for this record need not believe any number on a frame.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim_devices.bench import OpticalBench
from sim_devices.frames import FrameBuffer, Popped, Region, Sensor, Taken

BINNINGS: Final = (1, 2, 4)
# Triggers are not compared more finely than sums of times in µs are exact.
_TOLERANCE_US: Final = 1e-3
_STALE: Final = -1


class TriggeredCamera:
    """A camera with a region of interest, binning and a circular buffer.

    ``arming_us`` is declared to the bench's clock at every sequence start. With ``readout_us`` a trigger is missed that
    comes earlier than exposure and readout after the last one. ``at_end`` is called when a sequence ends. ``buffer`` is
    a new one whenever frames of another size or number are to fit in.
    """

    def __init__(
        self,
        bench: OpticalBench,
        sensor: Sensor,
        buffer_mb: int,
        arming_us: float,
        readout_us: float | None,
        at_end: Callable[[], None],
    ) -> None:
        self.sensor = sensor
        self.binning = 1
        self.region: Region = (0, 0, sensor.width_px, sensor.height_px)
        self.exposure_us = 10_000.0
        self.buffer_mb = buffer_mb
        self.is_running = False
        imaged = bench.sensor_images
        if imaged is not None and imaged.shape != (sensor.height_px, sensor.width_px):
            raise ValueError(
                f"a sensor of {sensor.height_px} × {sensor.width_px} px (height × width) cannot show images of "
                f"{imaged.shape[0]} × {imaged.shape[1]} px; give the bench images of the sensor's size"
            )
        self._bench = bench
        self._arming_us = arming_us
        self._readout_us = readout_us
        self._at_end = at_end
        self.buffer = self._new_buffer(self.capacity())
        self._stop_on_overflow = True
        self._wanted = self._n_taken = 0
        self._started_us = 0.0
        self._last_trigger_us = -math.inf
        self._recent: Taken | None = None
        self._taken = array("q")
        self._sequence_starts: list[int] = []
        self._delivered = array("q")
        bench.attach(self)

    @property
    def taken(self) -> NDArray[np.int64]:
        """The exposures int64 [n] of all frames that ever reached the buffer, in order; -1 for stale ones."""
        with self._bench.lock:
            return np.array(self._taken, dtype=np.int64)

    @property
    def delivered(self) -> NDArray[np.int64]:
        """The exposures int64 [n] of all frames that were ever popped, in order; -1 for stale ones."""
        with self._bench.lock:
            return np.array(self._delivered, dtype=np.int64)

    def taken_in_sequence(self, number: int = -1) -> NDArray[np.int64]:
        """``taken`` of one sequence, counted from 0, or from the last one (-1) back. Raises IndexError."""
        with self._bench.lock:
            index = range(len(self._sequence_starts))[number]
            start, stop = [*self._sequence_starts[index : index + 2], len(self._taken)][:2]
            return np.array(self._taken[start:stop], dtype=np.int64)

    def expose(
        self, times_us: NDArray[np.float64], readings: NDArray[np.float64], exposures: NDArray[np.int64]
    ) -> None:
        """Triggers came: take the frames that the running sequence still wants."""
        if not self.is_running:
            return
        awake = self._awake(times_us)
        if awake is not None:
            times_us, readings, exposures = times_us[awake], readings[awake], exposures[awake]
        n = int(min(len(readings), self._wanted - self._n_taken))
        numbers = np.arange(self._n_taken, self._n_taken + n, dtype=np.int64)
        pixels = self._bench.pixel_sources(exposures[:n])
        taken = Taken(readings[:n], times_us[:n] - self._started_us, numbers, exposures[:n], pixels)
        self._n_taken += n
        if n:
            self._recent = taken
        if self._bench.camera_faults:
            self._store_with_faults(taken)
        else:
            self._store(taken)
        if self.is_running and self._n_taken >= self._wanted:
            self.end_sequence()

    def begin_sequence(self, n_frames: int, stop_on_overflow: bool) -> None:
        """Throw away what is in the buffer and take the next ``n_frames``."""
        self._bench.spend(self._arming_us)
        self.buffer = self._new_buffer(self.capacity())
        self._sequence_starts.append(len(self._taken))
        self._wanted, self._stop_on_overflow = n_frames, stop_on_overflow
        self._n_taken = 0
        self._last_trigger_us = -math.inf
        self._started_us = self._bench.time_us
        self.is_running = True
        n_stale = self._bench.take_stale_frames()
        if n_stale:
            self._store(self._stale(n_stale))

    def end_sequence(self) -> None:
        """Take no more frames; those in the buffer stay there."""
        self.is_running = False
        self._at_end()

    def pop(self) -> Popped:
        """The oldest frame in the buffer. Raises IndexError if there is none."""
        popped = self.buffer.pop()
        self._delivered.append(popped[3])
        return popped

    def set_region(self, region: Region) -> None:
        """Show a part of the sensor, in binned pixels; what is in the buffer is thrown away, its size kept."""
        self.region = region
        self.buffer = self._new_buffer(self.buffer.capacity)

    def set_binning(self, binning: int) -> None:
        """Bin, and show the same part of the sensor as before, as far as the binned pixels allow."""
        if binning != self.binning:
            x, y, width, height = (each * self.binning // binning for each in self.region)
            self.binning = binning
            self.set_region((x, y, max(1, width), max(1, height)))

    def set_buffer_mb(self, buffer_mb: int) -> None:
        """Make the buffer anew, of this size."""
        self.buffer_mb = buffer_mb
        self.buffer = self._new_buffer(self.capacity())

    def binned_size(self) -> tuple[int, int]:
        """Width and height of the whole sensor in binned pixels."""
        return self.sensor.width_px // self.binning, self.sensor.height_px // self.binning

    def possible_binnings(self) -> Sequence[int]:
        """Those that leave a pixel."""
        return [each for each in BINNINGS if each <= min(self.sensor.width_px, self.sensor.height_px)]

    def capacity(self) -> int:
        """How many frames of the size they have now fit into the buffer's memory."""
        return math.floor(self.buffer_mb * 2**20 / (self.region[2] * self.region[3] * self.sensor.bytes_per_px))

    def _awake(self, times_us: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Which triggers find the camera ready; None: all."""
        if self._readout_us is None:
            return None
        dead_us = self.exposure_us + self._readout_us - _TOLERANCE_US
        if (np.diff(times_us, prepend=self._last_trigger_us) >= dead_us).all():
            self._last_trigger_us = float(times_us[-1])
            return None
        awake = np.zeros(len(times_us), dtype=bool)
        for index, time_us in enumerate(times_us.tolist()):
            if time_us - self._last_trigger_us >= dead_us:
                awake[index] = True
                self._last_trigger_us = time_us
        return awake

    def _store_with_faults(self, taken: Taken) -> None:
        faults = self._bench.camera_faults
        taken = taken[~np.isin(taken.exposures, list(faults.missing))]
        start = 0
        for stop in np.flatnonzero(np.isin(taken.exposures, list(faults.overflows))).tolist():
            self._store(taken[start:stop])
            self._overflow()
            start = stop
        self._store(taken[start:])

    def _store(self, taken: Taken) -> None:
        while len(taken) and self.is_running:
            stored = self.buffer.insert(taken)
            self._taken.frombytes(taken.exposures[:stored].tobytes())
            taken = taken[stored:]
            if len(taken):
                self._overflow()

    def _overflow(self) -> None:
        if not self.is_running:
            return
        if self._stop_on_overflow:
            self.buffer.overflowed = True
            self.end_sequence()
        else:
            # MMCore throws the whole buffer away and goes on: what is read then does not fit what was shown.
            self.buffer.clear()

    def _stale(self, n: int) -> Taken:
        """The last frames that were taken, as often as needed; dark ones where none was ever taken."""
        recent = self._recent
        if recent is None:
            nothing = np.zeros(n)
            dark = self._nothing_collected(n) if self._bench.sensor_images is not None else None
            return Taken(nothing, nothing, np.arange(n, dtype=np.int64), np.full(n, _STALE, dtype=np.int64), dark)
        old = recent[np.arange(len(recent) - n, len(recent)) % len(recent)]
        return replace(old, exposures=np.full(n, _STALE, dtype=np.int64))

    def _nothing_collected(self, n: int) -> NDArray[np.object_]:
        sources = np.empty(n, dtype=np.object_)
        sources.fill(partial(np.zeros, (self.sensor.height_px, self.sensor.width_px)))
        return sources

    def _new_buffer(self, capacity: int) -> FrameBuffer:
        return FrameBuffer(self.sensor, capacity, self.binning, self.region)
