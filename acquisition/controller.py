"""The controller: plays a schedule on connected devices, block by block, and hands every accepted block on.

It knows banks, blocks, exposures and readings; what the pictures show and what becomes of the readings is not its
business. While one bank is displayed the next one is loaded. A block that cannot be trusted is thrown away whole and
played again. Whatever ends a run, the order is the same: light off, projection halted, detector stopped, loading
ended, memory freed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import Bank, Block
from acquisition.bank_loader import LoadingBank, Render
from acquisition.connected_devices import ConnectedDevices
from acquisition.events import EventKind, Journal
from acquisition.integrity import (
    AlignmentError,
    FrameNumberError,
    FrameTimeError,
    GuardsTooDimError,
    prove_contiguous,
    prove_times,
)
from acquisition.interrupts import Ending
from acquisition.readings import Readings, file_readings
from acquisition.schedule import Schedule
from devices.detector import Burst
from devices.errors import DetectorTimeoutError, FrameBufferOverflowError
from devices.projector import Timing

_TELEMETRY_S = 10.0


class SurplusFramesError(RuntimeError):
    """More frames came than pictures were displayed."""


class ProjectionTimeoutError(TimeoutError):
    """The projector still shows pictures long after the block must have ended."""


class DoseLimitError(RuntimeError):
    """The sample would get more light than the acquisition file allows."""


# What may be a trigger that was lost, doubled or late, or frames that were, or light: played again, the block may well
# succeed.
REPAIRABLE = (
    AlignmentError,
    GuardsTooDimError,
    FrameNumberError,
    FrameTimeError,
    SurplusFramesError,
    DetectorTimeoutError,
    FrameBufferOverflowError,
)


@dataclass(frozen=True)
class RunTimeouts:
    """How long to wait, derived from the time an exposure takes until its frame is read.

    A burst of n exposures may take slack·n·exposure time + margin_s before it is given up. A frame too many is waited
    for during one picture time + readout_s.
    """

    slack: float = 1.5
    margin_s: float = 2.0
    readout_s: float = 0.002

    def surplus_s(self, picture_time_us: float) -> float:
        """How long to wait for a frame too many, s: it may still be read out when the last picture has ended."""
        return picture_time_us * 1e-6 + self.readout_s

    def burst_s(self, n_exposures: int, exposure_us: float) -> float:
        """Time-out of one burst in s."""
        return self.slack * n_exposures * exposure_us * 1e-6 + self.margin_s


def _any_number(illumination_time_us: float) -> None:
    """No dose limit."""


@dataclass(frozen=True)
class PlayRules:
    """How blocks are played.

    timing: wanted of the projector; camera_exposure_us: of the detector; reading_us: time to read one frame;
    time_tolerance_us: how far frame times may be off, None: not checked; most_repeats: of a block that failed;
    only_while_exposing: light off between blocks; lit_exposures_within: how many exposures of an illumination time in
    µs the dose limit allows, None: any number.
    """

    timing: Timing
    camera_exposure_us: int
    reading_us: float = 0.0
    time_tolerance_us: float | None = None
    most_repeats: int = 3
    only_while_exposing: bool = False
    lit_exposures_within: Callable[[float], int | None] = _any_number
    timeouts: RunTimeouts = RunTimeouts()


def _nothing_to_restore() -> None:
    """A run that begins has nothing behind it."""


def _any_timing(accepted: Timing) -> None:
    """A run that begins takes what the projector accepts."""


@dataclass(frozen=True)
class Continuation:
    """Where a resumed run goes on.

    first_block: number of the first block to play; restore: brings a simulated bench to where it was, called once
    before the first exposure; check_timing: raises where the projector accepts another timing than it did, called
    before the light goes on.
    """

    first_block: int = 0
    restore: Callable[[], None] = _nothing_to_restore
    check_timing: Callable[[Timing], None] = _any_timing


_FROM_THE_START = Continuation()


class Controller:
    """Plays blocks on devices.

    devices: connected; render: (indices, signs, out) → packed pictures; journal: told of repeated blocks, banks, and
    what the devices say of themselves. elapsed_us, lit_exposures: what a resumed run begins with.
    """

    def __init__(
        self,
        devices: ConnectedDevices,
        render: Render,
        rules: PlayRules,
        journal: Journal,
        *,
        elapsed_us: float = 0.0,
        lit_exposures: int = 0,
    ) -> None:
        self._devices = devices
        self._render = render
        self._rules = rules
        self._journal = journal
        self._started_us = devices.clock_us() - elapsed_us
        self._next_telemetry = 0.0
        self._light_is_on = False
        self.lit_exposures = lit_exposures
        self.accepted_timing: Timing | None = None

    def measure_dark_level(self, n_exposures: int) -> NDArray[np.float64]:
        """Readings float64 [n_exposures] under dark pictures with the light off."""
        with self._devices_at_rest_afterwards() as banks:
            pictures = np.zeros(n_exposures, np.int64), np.full(n_exposures, -1, np.int8)
            dark = LoadingBank(self._devices.projector, self._render, *pictures)
            banks.append(dark)
            dark.wait()
            self.accepted_timing = dark.set_timing(self._rules.timing)
            burst, _ = self._burst(dark.number, 0, n_exposures - 1)
        return burst.bucket_values

    def play(
        self,
        schedule: Schedule,
        prove: Callable[[Block, Readings], None],
        consumers: Sequence[Callable[[Readings], None]],
        continuation: Continuation | None = None,
    ) -> None:
        """Play a schedule, or what is left of it.

        prove: raises where a block's readings may not belong to its pictures; consumers: take each proven block, in
        order. The light is on while blocks are played, and off while pictures are waited for. Raises what the devices,
        ``prove`` and the consumers raise, and DoseLimitError; the light is off then.
        """
        going_on = _FROM_THE_START if continuation is None else continuation
        parts = _by_bank(schedule.blocks[going_on.first_block :])
        resumes_inside_bank = bool(parts) and parts[0].blocks[0] is not parts[0].first_of_bank(schedule)
        if going_on.first_block == 0:
            going_on.restore()
        with self._devices_at_rest_afterwards() as banks:
            upcoming = self._begin_loading(banks, parts[0].bank) if parts else None
            for place, part in enumerate(parts):
                assert upcoming is not None
                loaded, upcoming = upcoming, None
                if not loaded.is_loaded:
                    self._switch_off()
                loaded.wait()
                # What a simulated bench goes on from holds the uploads that were under way: of this bank where it
                # begins here, of the next one too where it does not.
                if place == 0 and going_on.first_block and not resumes_inside_bank:
                    going_on.restore()
                self.accepted_timing = loaded.set_timing(self._rules.timing)
                going_on.check_timing(self.accepted_timing)
                if place + 1 < len(parts):
                    upcoming = self._begin_loading(banks, parts[place + 1].bank)
                if place == 0 and resumes_inside_bank:
                    going_on.restore()
                text = f"bank {part.bank.number} of {len(schedule.banks)}: {len(part.blocks)} blocks"
                self._journal.add(EventKind.BANK, text, bank=part.bank.number, pictures=part.bank.n_pictures)
                for block in part.blocks:
                    readings = self._play_block(loaded.number, block, prove)
                    for consume in consumers:
                        consume(readings)
                    if upcoming is not None:
                        upcoming.check()
                    self._note_telemetry()
                with Ending() as freeing:
                    freeing.callback(self._free, banks, loaded)

    def _play_block(self, loaded: int, block: Block, prove: Callable[[Block, Readings], None]) -> Readings:
        """The readings of a block, proven; played again where that may help."""
        if block.rest_s:
            self._switch_off()
            self._devices.wait(block.rest_s)
        for attempt in range(1, self._rules.most_repeats + 2):
            self._keep_to_dose(block)
            try:
                readings = self._attempt(loaded, block)
                prove(block, readings)
            except REPAIRABLE as error:
                self._switch_off()
                self._devices.projector.halt()
                self._devices.detector.disarm()
                facts: dict[str, Any] = {"block": block.number, "attempt": attempt, "cause": type(error).__name__}
                if attempt > self._rules.most_repeats:
                    self._journal.add(EventKind.BLOCK_FAILED, f"block {block.number} fails again: {error}", **facts)
                    error.add_note(f"block {block.number} was played {attempt} times and failed each time")
                    raise
                self._journal.add(EventKind.BLOCK_REPEATED, f"block {block.number} is played again: {error}", **facts)
            else:
                return readings
        raise AssertionError("unreachable")

    def _attempt(self, loaded: int, block: Block) -> Readings:
        burst, start_us = self._burst(loaded, block.first_picture, block.last_picture, block.rounds, lit=True)
        readings = file_readings(block, burst, start_us, self._timing_in_use.picture_time_us)
        return replace(readings, lit_exposures=self.lit_exposures, bench_state=self._devices.bench_state())

    def _burst(self, bank: int, first: int, last: int, rounds: int = 1, *, lit: bool = False) -> tuple[Burst, float]:
        """One projection start, one detector burst, n exposures out, n readings in; and the start's time in µs."""
        projector, detector = self._devices.projector, self._devices.detector
        rules, timing = self._rules, self._timing_in_use
        n_exposures = (last - first + 1) * rounds
        exposure_us = max(timing.picture_time_us, rules.reading_us)
        timeout_s = rules.timeouts.burst_s(n_exposures, exposure_us)
        detector.arm(n_exposures, rules.camera_exposure_us)
        if lit:
            self._switch_on()
            self.lit_exposures += n_exposures
        start_us = self._devices.clock_us() - self._started_us  # arming takes its time before it
        projector.start(bank, first, last, rounds)
        burst = detector.read(n_exposures, timeout_s)
        self._wait_until_idle(timeout_s)
        if lit and rules.only_while_exposing:
            self._switch_off()
        prove_contiguous(burst.frame_numbers)
        if rules.time_tolerance_us is not None:
            prove_times(burst.times_us, timing.picture_time_us, rules.time_tolerance_us)
        time.sleep(rules.timeouts.surplus_s(timing.picture_time_us))
        surplus = detector.surplus_frames()
        if surplus:
            raise SurplusFramesError(
                f"{surplus} frames more than the {n_exposures} exposures of the block came from {detector.info.name}: "
                "readings cannot be told apart. Check that the camera is triggered by the DMD only, once per picture"
            )
        detector.disarm()
        return burst, start_us

    @contextmanager
    def _devices_at_rest_afterwards(self) -> Iterator[list[LoadingBank]]:
        """The banks in memory; afterwards, and after every error, the light is off, nothing moves, memory is free."""
        devices = self._devices
        banks: list[LoadingBank] = []

        def free_banks() -> None:
            with Ending() as freeing:
                for bank in banks:
                    freeing.callback(devices.projector.free, bank.number)

        def end_loading() -> None:
            with Ending() as abandoning:
                for bank in banks:
                    abandoning.callback(bank.abandon)

        self._switch_off()
        with Ending() as ending:  # the last one registered comes first, and each comes whatever the others raise
            ending.callback(free_banks)
            ending.callback(end_loading)
            ending.callback(devices.detector.disarm)
            ending.callback(devices.projector.halt)
            ending.callback(self._switch_off)
            yield banks

    def _free(self, banks: list[LoadingBank], bank: LoadingBank) -> None:
        self._devices.projector.free(bank.number)
        banks.remove(bank)

    def _begin_loading(self, banks: list[LoadingBank], bank: Bank) -> LoadingBank:
        loading = LoadingBank(self._devices.projector, self._render, *bank.pictures)
        banks.append(loading)
        return loading

    def _switch_on(self) -> None:
        if not self._light_is_on:
            self._devices.light_source.on()
            self._light_is_on = True

    def _switch_off(self) -> None:
        self._light_is_on = False
        try:
            self._devices.light_source.off()
        except Exception as error:
            error.add_note("the light may be on: look at it, and switch it off by hand")
            raise

    def _wait_until_idle(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._devices.projector.is_projecting():
            if time.monotonic() > deadline:
                raise ProjectionTimeoutError(
                    f"{self._devices.projector.info.name} still projects {timeout_s:.1f} s after its last exposure was "
                    "read; power-cycle the DMD, or lengthen blocks.timeout_margin_s"
                )
            time.sleep(0.0005)

    def _keep_to_dose(self, block: Block) -> None:
        most = self._rules.lit_exposures_within(self._timing_in_use.illumination_time_us)
        if most is not None and self.lit_exposures + block.n_exposures > most:
            raise DoseLimitError(
                f"the sample has had {self.lit_exposures} exposures under light, repeated blocks included, and block "
                f"{block.number} of {block.n_exposures} more would exceed the {most} that sample.dose_limit_mj allows. "
                "Everything so far is kept"
            )

    def _note_telemetry(self) -> None:
        now = time.monotonic()
        if now < self._next_telemetry:
            return
        self._next_telemetry = now + _TELEMETRY_S
        projector, light = self._devices.projector.status(), self._devices.light_source.status()
        said = ", ".join(f"{name} {value}" for name, value in {**projector, **light}.items())
        self._journal.add(
            EventKind.TELEMETRY, said or "the devices tell nothing", projector=projector, light_source=light
        )

    @property
    def _timing_in_use(self) -> Timing:
        """What the device accepted, once it was asked."""
        return self._rules.timing if self.accepted_timing is None else self.accepted_timing


@dataclass(frozen=True)
class _Part:
    """The blocks of one bank that are to be played."""

    bank: Bank
    blocks: tuple[Block, ...]

    def first_of_bank(self, schedule: Schedule) -> Block:
        """The bank's first block, whether it is still to be played or not."""
        return next(block for block in schedule.blocks if block.bank.number == self.bank.number)


def _by_bank(blocks: Sequence[Block]) -> list[_Part]:
    groups = (tuple(group) for _, group in groupby(blocks, key=lambda block: block.bank.number))
    return [_Part(group[0].bank, group) for group in groups]
