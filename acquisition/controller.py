"""The controller: plays a schedule on connected devices, block by block, and hands every accepted block on.

It knows banks, blocks, exposures and readings; what the pictures show and what becomes of the readings is not its
business. Whatever ends a run, the order is the same: light off, projection halted, detector stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.connect import ConnectedDevices
from acquisition.integrity import prove_contiguous
from acquisition.readings import Readings, file_readings
from acquisition.schedule import Block, Schedule
from devices.detector import Burst
from devices.dmd_types import DmdType
from devices.projector import ProjectorInfo, Timing

# Pictures go to the device in chunks of about this many bytes: large enough for the bus, small beside the memory.
UPLOAD_CHUNK_BYTES = 64 * 2**20

Render = Callable[[NDArray[np.int64], NDArray[np.int8], NDArray[np.uint8]], NDArray[np.uint8]]


class DeviceMismatchError(ValueError):
    """The connected device is not the one the acquisition file describes."""


class SurplusFramesError(RuntimeError):
    """More frames came than pictures were displayed."""


class ProjectionTimeoutError(TimeoutError):
    """The projector still shows pictures long after the block must have ended."""


@dataclass(frozen=True)
class RunTimeouts:
    """How long to wait, derived from the picture time.

    A burst of n exposures may take slack·n·picture time + margin_s before it is given up. A frame too many is waited
    for during one picture time + readout_s.
    """

    slack: float = 2.0
    margin_s: float = 5.0
    readout_s: float = 0.002

    def surplus_s(self, picture_time_us: float) -> float:
        """How long to wait for a frame too many, s: it may still be read out when the last picture has ended."""
        return picture_time_us * 1e-6 + self.readout_s

    def burst_s(self, n_exposures: int, picture_time_us: float) -> float:
        """Time-out of one burst in s."""
        return self.slack * n_exposures * picture_time_us * 1e-6 + self.margin_s


class Controller:
    """Plays blocks on devices.

    devices: connected; timing: wanted picture and illumination time; render: (indices, signs, out) → packed pictures;
    timeouts: see RunTimeouts.
    """

    def __init__(
        self, devices: ConnectedDevices, timing: Timing, render: Render, *, timeouts: RunTimeouts | None = None
    ) -> None:
        self._devices = devices
        self._timing = timing
        self._render = render
        self._timeouts = RunTimeouts() if timeouts is None else timeouts
        self._started_us = devices.clock_us()
        self.accepted_timing: Timing | None = None

    def measure_dark_level(self, n_exposures: int) -> NDArray[np.float64]:
        """Readings float64 [n_exposures] under dark pictures with the light off."""
        dark_pictures = np.zeros(n_exposures, dtype=np.int64), np.full(n_exposures, -1, dtype=np.int8)
        with self._loaded(*dark_pictures) as bank:
            burst, _ = self._burst(bank, 0, n_exposures - 1)
        return burst.bucket_values

    def play(
        self,
        schedule: Schedule,
        prove: Callable[[Readings], None],
        consumers: Sequence[Callable[[Readings], None]],
    ) -> None:
        """Play the whole schedule.

        prove: raises where a block's readings may not belong to its pictures; consumers: take each proven block, in
        order. The light is on while a bank's blocks are played and off while pictures are loaded. Raises what the
        devices, ``prove`` and the consumers raise; the light is off then.
        """
        light = self._devices.light_source
        blocks_of_bank: dict[int, list[Block]] = {}
        for block in schedule.blocks:
            blocks_of_bank.setdefault(block.bank.number, []).append(block)
        for bank in schedule.banks:
            with self._loaded(*bank.pictures) as loaded:
                light.on()
                for block in blocks_of_bank[bank.number]:
                    readings = self._play_block(loaded, block)
                    prove(readings)
                    for consume in consumers:
                        consume(readings)

    @contextmanager
    def _loaded(self, indices: NDArray[np.int64], signs: NDArray[np.int8]) -> Iterator[int]:
        """A new bank's id, its pictures loaded in the dark; afterwards, and after every error, all is off again."""
        devices = self._devices
        devices.light_source.off()
        bank = devices.projector.allocate(len(indices))
        with ExitStack() as ending:  # the last one registered comes first, and each comes whatever the others raise
            ending.callback(devices.projector.free, bank)
            ending.callback(devices.detector.disarm)
            ending.callback(devices.projector.halt)
            ending.callback(devices.light_source.off)
            self._load(bank, indices, signs)
            yield bank

    def _load(self, bank: int, indices: NDArray[np.int64], signs: NDArray[np.int8]) -> None:
        """Render pictures and load them, chunk by chunk; set the bank's timing."""
        projector = self._devices.projector
        info = projector.info
        picture_bytes = info.mirrors_height * info.row_bytes
        chunk = min(len(indices), max(1, UPLOAD_CHUNK_BYTES // picture_bytes))
        buffer = np.zeros((chunk, info.mirrors_height, info.row_bytes), dtype=np.uint8)
        for first in range(0, len(indices), chunk):
            some = slice(first, first + chunk)
            pictures = self._render(indices[some], signs[some], buffer[: len(indices[some])])
            projector.load(bank, first, pictures)
        self.accepted_timing = projector.set_timing(bank, self._timing)

    def _play_block(self, loaded: int, block: Block) -> Readings:
        burst, start_us = self._burst(loaded, block.first_picture, block.last_picture)
        return file_readings(block, burst, start_us, self._timing_in_use.picture_time_us)

    def _burst(self, bank: int, first: int, last: int) -> tuple[Burst, float]:
        """One projection start, one detector burst, n exposures out, n readings in; and the start's time in µs."""
        projector, detector, timing = self._devices.projector, self._devices.detector, self._timing_in_use
        n_exposures = last - first + 1
        timeout_s = self._timeouts.burst_s(n_exposures, timing.picture_time_us)
        detector.arm(n_exposures, timing.illumination_time_us)
        start_us = self._devices.clock_us() - self._started_us  # arming takes its time before it
        projector.start(bank, first, last)
        burst = detector.read(n_exposures, timeout_s)
        prove_contiguous(burst.frame_numbers)
        self._wait_until_idle(timeout_s)
        time.sleep(self._timeouts.surplus_s(timing.picture_time_us))
        surplus = detector.surplus_frames()
        if surplus:
            raise SurplusFramesError(
                f"{surplus} frames more than the {n_exposures} exposures of the block came from {detector.info.name}: "
                "readings cannot be told apart. Check that the camera is triggered by the DMD only, once per picture"
            )
        detector.disarm()
        return burst, start_us

    def _wait_until_idle(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._devices.projector.is_projecting():
            if time.monotonic() > deadline:
                raise ProjectionTimeoutError(
                    f"{self._devices.projector.info.name} still projects {timeout_s:.1f} s after its last exposure was "
                    "read; power-cycle the DMD, or lengthen the time-outs"
                )
            time.sleep(0.0005)

    @property
    def _timing_in_use(self) -> Timing:
        """What the device accepted, once it was asked."""
        return self._timing if self.accepted_timing is None else self.accepted_timing


def check_projector(info: ProjectorInfo, chip: DmdType, largest_bank_pictures: int) -> None:
    """Raise DeviceMismatchError where the device differs from what the schedule was planned for."""
    for what, found, wanted in (
        ("mirror rows", info.mirrors_height, chip.mirrors_height),
        ("mirror columns", info.mirrors_width, chip.mirrors_width),
        ("bytes per mirror row", info.row_bytes, chip.row_bytes),
    ):
        if found != wanted:
            raise DeviceMismatchError(
                f"{info.name} has {found} {what}, {chip.name} has {wanted}: correct devices.projector.dmd"
            )
    if info.free_pictures < largest_bank_pictures:
        raise DeviceMismatchError(
            f"{info.name} has room for {info.free_pictures} pictures, the largest bank takes {largest_bank_pictures}: "
            f"set devices.projector.memory_pictures to {info.free_pictures} at most"
        )
