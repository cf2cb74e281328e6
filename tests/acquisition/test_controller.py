"""The controller keeps its order whatever happens: in the dark while loading, and light off first at every end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import acquisition.controller as controller_module
from acquisition.connect import ConnectedDevices
from acquisition.controller import (
    Controller,
    DeviceMismatchError,
    ProjectionTimeoutError,
    RunTimeouts,
    SurplusFramesError,
    check_projector,
)
from acquisition.integrity import AlignmentError, prove_alignment
from acquisition.readings import Readings
from acquisition.schedule import Schedule, ScheduleLimits, make_schedule
from devices.detector import Burst, DetectorInfo
from devices.dmd_types import DMD_TYPES, DmdType
from devices.errors import DetectorTimeoutError
from devices.light_source import LightSourceInfo
from devices.projector import ProjectorInfo, Timing
from models.noise import NoiseModel

CHIP = DmdType("tiny", 2, 8, 1, 44, (0,))
N_COEFFICIENTS = 16
TOTAL, DARK = 1000.0, 7.0
WANTED = Timing(picture_time_us=100, illumination_time_us=90)
NOISE = NoiseModel(gain=1.0, variance=1.0)
ENDING = ["light off", "halt", "disarm", "free"]


class DeviceBrokeError(Exception):
    """What a stand-in raises where a test breaks it."""


class Bench:
    """Three stand-ins that note every call in one list, and read what the displayed pictures say.

    A picture is rendered as its pattern's number and sign; H+ of i reads DARK + TOTAL/2 + i, H- the rest of TOTAL.
    breaks: the call that raises DeviceBrokeError, and at which time it is made (1: the first one).
    """

    def __init__(self, breaks: tuple[str, int] | None = None, free_pictures: int = 1000) -> None:
        self.calls: list[str] = []
        self.lit: list[bool] = []
        self.loads: list[tuple[int, int]] = []
        self.armed_us: list[int] = []
        self.timeouts_s: list[float] = []
        self.taken: list[Readings] = []
        self.accept: Callable[[Timing], Timing] = lambda timing: timing
        self.frames: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda readings: readings
        self.surplus = 0
        self.never_idle = False
        self.now_us = 12_345.0
        self.starts_us: list[float] = []
        self._breaks = breaks
        self.free_pictures = free_pictures
        self.light_on = True  # as a lamp may be found
        self._banks: dict[int, NDArray[np.uint8]] = {}
        self._displayed: NDArray[np.float64] = np.empty(0)

    @property
    def devices(self) -> ConnectedDevices:
        return ConnectedDevices(SpyProjector(self), SpyDetector(self), SpyLight(self), lambda: self.now_us)

    def note(self, call: str) -> None:
        self.calls.append(call)
        self.lit.append(self.light_on)
        if self._breaks == (call, self.calls.count(call)):
            raise DeviceBrokeError(call)

    def switch(self, on: bool) -> None:
        self.note("light on" if on else "light off")
        self.light_on = on

    def allocate(self, n_pictures: int) -> int:
        self.note("allocate")
        bank = len(self._banks) + 1
        self._banks[bank] = np.zeros((n_pictures, CHIP.mirrors_height, CHIP.row_bytes), dtype=np.uint8)
        return bank

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        self.note("load")
        self.loads.append((first, len(pictures)))
        self._banks[bank][first : first + len(pictures)] = pictures

    def display(self, bank: int, first: int, last: int) -> None:
        self.starts_us.append(self.now_us)
        self.note("start")
        shown = self._banks[bank][first : last + 1, :, 0].astype(np.float64)
        index, plus = shown[:, 0], shown[:, 1] > 0
        guards = index == 0
        light = np.where(plus, TOTAL / 2 + index, TOTAL / 2 - index)
        light[guards] = np.where(plus[guards], TOTAL, 0.0)
        self._displayed = DARK + light * self.light_on
        self.now_us += 100.0 * len(shown)

    def read(self, n_exposures: int) -> Burst:
        self.note("read")
        readings = self.frames(self._displayed)
        if len(readings) < n_exposures:
            raise DetectorTimeoutError(f"{len(readings)} of {n_exposures} frames came")
        self.surplus += len(readings) - n_exposures
        return Burst(readings[:n_exposures], None, None, 0)


class SpyProjector:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @property
    def info(self) -> ProjectorInfo:
        return ProjectorInfo("Spy", "1", 2, 8, 1, self._bench.free_pictures, 44)

    def allocate(self, n_pictures: int) -> int:
        return self._bench.allocate(n_pictures)

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        self._bench.load(bank, first, pictures)

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        self._bench.note("timing")
        return self._bench.accept(timing)

    def start(self, bank: int, first: int, last: int) -> None:
        self._bench.display(bank, first, last)

    def is_projecting(self) -> bool:
        return self._bench.never_idle

    def halt(self) -> None:
        self._bench.note("halt")

    def free(self, bank: int) -> None:
        self._bench.note("free")

    def close(self) -> None:
        self._bench.note("close")


class SpyDetector:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    info = DetectorInfo("Spy", 1, 1, 2)

    def arm(self, n_exposures: int, exposure_time_us: int) -> None:
        self._bench.note("arm")
        self._bench.armed_us.append(exposure_time_us)
        self._bench.now_us += 20_000.0

    def read(self, n_exposures: int, timeout_s: float) -> Burst:
        self._bench.timeouts_s.append(timeout_s)
        return self._bench.read(n_exposures)

    def surplus_frames(self) -> int:
        return self._bench.surplus

    def disarm(self) -> None:
        self._bench.note("disarm")

    def close(self) -> None:
        self._bench.note("close")


class SpyLight:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    info = LightSourceInfo("Spy", None)

    def on(self) -> None:
        self._bench.switch(True)

    def off(self) -> None:
        self._bench.switch(False)

    def is_on(self) -> bool:
        return self._bench.light_on

    def close(self) -> None:
        self._bench.note("close")


def render(indices: NDArray[np.int64], signs: NDArray[np.int8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out[:, 0, 0], out[:, 1, 0] = indices, signs > 0
    return out


def a_schedule() -> Schedule:
    """Two banks; the first one in several blocks and two passes."""
    repeats = np.ones(N_COEFFICIENTS, dtype=np.int32)
    repeats[0], repeats[1:6] = 0, 2
    limits = ScheduleLimits(bank_pictures=48, first_bank_pictures=24, guard_interval=3, block_exposures=24)
    return make_schedule(repeats, np.linspace(1, 0, N_COEFFICIENTS), limits, seed=1)


def prove(readings: Readings) -> None:
    prove_alignment(readings, NOISE)


def play(
    bench: Bench,
    *,
    prove: Callable[[Readings], None] = prove,
    consume: Callable[[Readings], None] | None = None,
    timeouts: RunTimeouts | None = None,
) -> None:
    """Play the schedule; the blocks that were handed on are in ``bench.taken``."""
    controller = Controller(bench.devices, WANTED, render, timeouts=timeouts)
    consumers = [bench.taken.append] if consume is None else [bench.taken.append, consume]
    controller.play(a_schedule(), prove, consumers)


def calls_of_a_whole_run() -> list[str]:
    bench = Bench()
    play(bench)
    return bench.calls


def test_every_pair_is_filed_under_what_was_displayed() -> None:
    bench = Bench()
    play(bench)
    schedule = a_schedule()
    assert len(bench.taken) == len(schedule.blocks) > len(schedule.banks) > 1
    for readings, block in zip(bench.taken, schedule.blocks, strict=True):
        assert (readings.index == block.coefficients).all()
        assert (readings.plus == DARK + TOTAL / 2 + block.coefficients).all()
        assert (readings.minus == DARK + TOTAL / 2 - block.coefficients).all()
    count = np.bincount(np.concatenate([each.index for each in bench.taken]), minlength=N_COEFFICIENTS)
    assert (count == schedule.repeats).all()


def test_the_light_is_off_while_pictures_are_loaded_and_on_while_they_are_displayed() -> None:
    bench = Bench()
    play(bench)
    lit = {
        call: {on for other, on in zip(bench.calls, bench.lit, strict=True) if other == call} for call in bench.calls
    }
    assert lit["allocate"] == lit["load"] == lit["timing"] == lit["free"] == {False}
    assert lit["start"] == lit["read"] == {True}


def test_the_dark_level_is_measured_with_the_light_off_and_leaves_nothing_behind() -> None:
    bench = Bench()
    dark = Controller(bench.devices, WANTED, render).measure_dark_level(5)
    assert dark.tolist() == [DARK] * 5
    assert "light on" not in bench.calls
    assert bench.lit[bench.calls.index("start")] is False
    assert bench.calls[-4:] == ENDING


def test_pictures_are_loaded_in_chunks_and_each_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "UPLOAD_CHUNK_BYTES", 10 * CHIP.picture_bytes)
    bench = Bench()
    play(bench)
    expected = []
    for bank in a_schedule().banks:
        firsts = range(0, bank.n_pictures, 10)
        expected += [(first, min(10, bank.n_pictures - first)) for first in firsts]
    assert bench.loads == expected
    assert all((each.plus == DARK + TOTAL / 2 + each.index).all() for each in bench.taken)


def test_the_schedules_banks_are_loaded_one_after_the_other_and_freed() -> None:
    calls = calls_of_a_whole_run()
    banks = [call for call in calls if call in ("allocate", "free")]
    assert banks == ["allocate", "free"] * len(a_schedule().banks)


def breaking_points() -> list[tuple[str, int]]:
    """Every device call of a whole run: which one, and for which time it is made."""
    calls = calls_of_a_whole_run()
    return [(call, calls[: at + 1].count(call)) for at, call in enumerate(calls)]


@pytest.mark.parametrize("at", range(len(breaking_points())), ids=lambda at: "{}-{}".format(*breaking_points()[at]))
def test_whatever_device_call_fails_the_light_goes_off_then_projection_then_detector(at: int) -> None:
    whole = calls_of_a_whole_run()
    bench = Bench(breaks=breaking_points()[at])
    with pytest.raises(DeviceBrokeError, match=whole[at]):
        play(bench)
    assert bench.calls[: at + 1] == whole[: at + 1]
    before_any_bank = whole[at] == "allocate" or whole[at : at + 2] == ["light off", "allocate"]
    if before_any_bank:
        still_to_end: list[str] = []
    elif whole[at] == "disarm" and whole[at + 1] != "free":
        still_to_end = ENDING  # the disarming after a burst
    elif whole[at] in ENDING:
        still_to_end = ENDING[ENDING.index(whole[at]) + 1 :]
    else:
        still_to_end = ENDING
    assert bench.calls[at + 1 :] == still_to_end
    assert not bench.light_on or whole[at] == "light off"


@pytest.mark.parametrize("error", [AlignmentError("shifted"), KeyboardInterrupt()], ids=["unproven", "interrupted"])
def test_a_block_that_is_not_proven_goes_nowhere_and_ends_the_run(error: BaseException) -> None:
    def refuse_the_second(readings: Readings) -> None:
        if readings.block_number == 1:
            raise error

    bench = Bench()
    with pytest.raises(type(error)):
        play(bench, prove=refuse_the_second)
    assert [each.block_number for each in bench.taken] == [0]
    assert bench.calls[-4:] == ENDING
    assert bench.calls.count("start") == 2


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupted"])
def test_a_consumer_that_fails_ends_the_run(error: BaseException) -> None:
    def fail(readings: Readings) -> None:
        raise error

    bench = Bench()
    with pytest.raises(type(error)):
        play(bench, consume=fail)
    assert bench.calls[-4:] == ENDING
    assert bench.calls.count("start") == 1


def test_renderer_errors_leave_no_bank_behind() -> None:
    def fail(indices: object, signs: object, out: object) -> NDArray[np.uint8]:
        raise MemoryError

    bench = Bench()
    with pytest.raises(MemoryError):
        Controller(bench.devices, WANTED, fail).play(a_schedule(), prove, ())
    assert bench.calls == ["light off", "allocate", *ENDING]


@pytest.mark.parametrize("lost", [0, 11, -1], ids=["first", "one in the middle", "last"])
def test_a_lost_frame_is_a_time_out_and_nothing_of_the_block_is_filed(lost: int) -> None:
    bench = Bench()
    bench.frames = lambda readings: np.delete(readings, lost)
    with pytest.raises(DetectorTimeoutError):
        play(bench)
    assert bench.taken == []
    assert bench.calls[-4:] == ENDING


def test_a_surplus_frame_is_noticed_and_nothing_of_the_block_is_filed() -> None:
    bench = Bench()
    bench.frames = lambda readings: np.append(readings, DARK)
    with pytest.raises(SurplusFramesError, match="1 frames more than the"):
        play(bench)
    assert bench.taken == []
    assert bench.calls[-4:] == ENDING


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_readings_that_are_as_many_but_shifted_are_noticed(shift: int) -> None:
    """The camera misses the first triggers, or sees some before them, and the number of frames is right again."""

    def shifted(readings: NDArray[np.float64]) -> NDArray[np.float64]:
        others = np.full(abs(shift), DARK)
        return np.concatenate([others, readings[:-shift]] if shift > 0 else [readings[-shift:], others])

    bench = Bench()
    bench.frames = shifted
    with pytest.raises(AlignmentError, match="trigger"):
        play(bench)
    assert bench.taken == []
    assert bench.calls[-4:] == ENDING


def test_a_projector_that_never_stops_is_halted() -> None:
    bench = Bench()
    bench.never_idle = True
    with pytest.raises(ProjectionTimeoutError, match="power-cycle"):
        play(bench, timeouts=RunTimeouts(slack=0.0, margin_s=0.0))
    assert bench.calls[-4:] == ENDING


def test_what_the_device_accepted_counts_and_not_what_was_wanted() -> None:
    bench = Bench()
    bench.accept = lambda timing: Timing(timing.picture_time_us + 20, timing.illumination_time_us - 3)
    play(bench)
    for readings, block in zip(bench.taken, a_schedule().blocks, strict=True):
        assert readings.time_us == pytest.approx(readings.start_us + 120 * block.pair_exposures)
        assert bench.timeouts_s[readings.block_number] == pytest.approx(2 * 120e-6 * block.n_exposures + 5)
    assert set(bench.armed_us) == {WANTED.illumination_time_us - 3}


def test_a_block_begins_when_its_projection_starts_not_when_the_camera_is_armed() -> None:
    bench = Bench()
    began_us = bench.now_us
    play(bench)
    assert [each.start_us for each in bench.taken] == pytest.approx([start - began_us for start in bench.starts_us])


def info(**changes: Any) -> ProjectorInfo:
    facts = {"name": "ALP XGA", "serial": "1", "mirrors_height": 768, "mirrors_width": 1024, "row_bytes": 128}
    return ProjectorInfo(**{**facts, "free_pictures": 500, "min_picture_time_us": 44, **changes})


def test_the_device_that_was_planned_for_is_taken() -> None:
    check_projector(info(), DMD_TYPES["xga"], 500)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mirrors_height": 1080}, "1080 mirror rows, XGA has 768"),
        ({"mirrors_width": 1920}, "1920 mirror columns, XGA has 1024"),
        ({"row_bytes": 256}, "256 bytes per mirror row, XGA has 128"),
        ({"free_pictures": 499}, "room for 499 pictures, the largest bank takes 500"),
    ],
)
def test_another_device_than_planned_for_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DeviceMismatchError, match=said):
        check_projector(info(**changes), DMD_TYPES["xga"], 500)
