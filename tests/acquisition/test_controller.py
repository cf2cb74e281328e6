"""The controller keeps its order whatever happens: one bank shown, the next one loaded, light off first at each end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import acquisition.bank_loader as bank_loader_module
import acquisition.controller as controller_module
from acquisition.bank import Block
from acquisition.bank_loader import Render
from acquisition.bench_check import DeviceMismatchError, check_projector
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import (
    Continuation,
    Controller,
    DoseLimitError,
    PlayRules,
    ProjectionTimeoutError,
    RunTimeouts,
    SurplusFramesError,
)
from acquisition.events import Event, EventKind, Journal
from acquisition.integrity import AlignmentError, FrameNumberError, FrameTimeError, prove_alignment
from acquisition.readings import Readings
from acquisition.schedule import BankSizes, Schedule, ScheduleLimits, make_schedule
from devices.detector import Burst, DetectorInfo
from devices.dmd_types import DMD_TYPES, DmdType
from devices.errors import DetectorTimeoutError, FrameBufferOverflowError
from devices.light_source import LightSourceInfo
from devices.projector import ProjectorInfo, Timing
from models.noise import NoiseModel

CHIP = DmdType("tiny", 2, 8, 1, 44, (0,))
N_COEFFICIENTS = 16
TOTAL, DARK = 1000.0, 7.0
WANTED = Timing(picture_time_us=100, illumination_time_us=90)
RULES = PlayRules(WANTED, camera_exposure_us=90, most_repeats=2)
NOISE = NoiseModel(gain=1.0, variance=1.0)
REST = ["light off", "halt", "disarm"]


class DeviceBrokeError(Exception):
    """What a stand-in raises where a test breaks it."""


class Bench:
    """Three stand-ins that note what the light path calls in one list, and read what the displayed pictures say.

    A picture is rendered as its pattern's number and sign; H+ of i reads DARK + TOTAL/2 + i, H- the rest of TOTAL.
    What the loading threads call is noted apart, in ``loads``. So that the order of calls is the same every time, the
    first bank takes until it is waited for, and every other one is loaded before the first block beside it is shown.
    breaks: whether a call raises DeviceBrokeError, by its name and for which time it is made (1: the first one).
    """

    def __init__(
        self, breaks: Callable[[str, int], bool] = lambda call, time: False, free_pictures: int = 1000
    ) -> None:
        self.calls: list[str] = []
        self.lit: list[bool] = []
        self.loads: list[tuple[int, int, int]] = []  # bank, first picture, how many
        self.displayed_while_loading: list[tuple[int, int | None]] = []
        self.armed_us: list[int] = []
        self.timeouts_s: list[float] = []
        self.starts: list[tuple[int, int, int]] = []  # first picture, last one, rounds
        self.starts_us: list[float] = []
        self.taken: list[Readings] = []
        self.events: list[Event] = []
        self.accept: Callable[[Timing], Timing] = lambda timing: timing
        self.frames: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda readings: readings
        self.times: Callable[[int], NDArray[np.float64] | None] = lambda n: None
        self.numbers: Callable[[int], NDArray[np.int64] | None] = lambda n: None
        self.before_load: Callable[[int], None] = self.until_waited_for
        self.before_start: Callable[[], None] = end_of_loading
        self.before_read_ends: Callable[[], None] = lambda: None
        self.surplus = 0
        self.never_idle = False
        self.now_us = 12_345.0
        self.free_pictures = free_pictures
        self.light_on = True  # as a lamp may be found
        self.displayed_bank: int | None = None
        self.banks: dict[int, NDArray[np.uint8]] = {}
        self.breaks = breaks
        self._allocated = 0
        self._noted = threading.Condition()
        self._displayed: NDArray[np.float64] = np.empty(0)

    @property
    def devices(self) -> ConnectedDevices:
        return ConnectedDevices(SpyProjector(self), SpyDetector(self), SpyLight(self), lambda: self.now_us)

    def note(self, call: str) -> None:
        with self._noted:
            self.calls.append(call)
            self.lit.append(self.light_on)
            self._noted.notify_all()
        if self.breaks(call, self.calls.count(call)):
            raise DeviceBrokeError(call)

    def until(self, happened: Callable[[], bool]) -> None:
        """Wait for what the light path does, but not for ever."""
        with self._noted:
            assert self._noted.wait_for(happened, timeout=10)

    def switch(self, on: bool) -> None:
        self.note("light on" if on else "light off")
        self.light_on = on

    def allocate(self, n_pictures: int) -> int:
        self.note("allocate")
        self._allocated += 1
        self.banks[self._allocated] = np.zeros((n_pictures, CHIP.mirrors_height, CHIP.row_bytes), dtype=np.uint8)
        return self._allocated

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        self.before_load(bank)
        self.displayed_while_loading.append((bank, self.displayed_bank))
        self.loads.append((bank, first, len(pictures)))
        if self.breaks("load", len(self.loads)):
            raise DeviceBrokeError("load")
        self.banks[bank][first : first + len(pictures)] = pictures

    def display(self, bank: int, first: int, last: int, rounds: int) -> None:
        self.before_start()
        self.starts_us.append(self.now_us)
        self.displayed_bank = bank
        self.note("start")
        self.starts.append((first, last, rounds))
        shown = np.tile(self.banks[bank][first : last + 1, :, 0].astype(np.float64), (rounds, 1))
        index, plus = shown[:, 0], shown[:, 1] > 0
        guards = index == 0
        light = np.where(plus, TOTAL / 2 + index, TOTAL / 2 - index)
        light[guards] = np.where(plus[guards], TOTAL, 0.0)
        self._displayed = DARK + light * self.light_on
        self.now_us += 100.0 * len(shown)

    def read(self, n_exposures: int) -> Burst:
        self.note("read")
        self.before_read_ends()
        self.displayed_bank = None
        readings = self.frames(self._displayed)
        if len(readings) < n_exposures:
            raise DetectorTimeoutError(f"{len(readings)} of {n_exposures} frames came")
        self.surplus += len(readings) - n_exposures
        return Burst(readings[:n_exposures], self.numbers(n_exposures), self.times(n_exposures), 0)

    def free(self, bank: int) -> None:
        self.note("free")
        del self.banks[bank]

    @property
    def is_at_rest(self) -> bool:
        """Nothing is in memory, nothing is loaded any more, and the light is off."""
        return not self.banks and not loading_threads() and not self.light_on

    def until_waited_for(self, bank: int) -> None:
        if bank == 1:
            self.until(lambda: self.calls.count("light off") >= 2)


def loading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loading bank")]


def end_of_loading() -> None:
    for thread in loading_threads():
        thread.join(10)


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

    def start(self, bank: int, first: int, last: int, rounds: int = 1) -> None:
        self._bench.display(bank, first, last, rounds)

    def is_projecting(self) -> bool:
        return self._bench.never_idle

    def status(self) -> dict[str, float]:
        return {"DMD temperature": 31.5}

    def halt(self) -> None:
        self._bench.note("halt")

    def free(self, bank: int) -> None:
        self._bench.free(bank)

    def close(self) -> None:
        self._bench.note("close")


class SpyDetector:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    info = DetectorInfo("Spy", 1, 1, 2)

    def arm(self, n_exposures: int, exposure_time_us: int) -> None:
        self._bench.note("arm")
        self._bench.armed_us.append(exposure_time_us)
        self._bench.surplus = 0
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

    def status(self) -> dict[str, float | str]:
        return {"power": "3 mW"}

    def close(self) -> None:
        self._bench.note("close")


def render(indices: NDArray[np.int64], signs: NDArray[np.int8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out[:, 0, 0], out[:, 1, 0] = indices, signs > 0
    return out


def a_schedule() -> Schedule:
    """Three banks; the first one in several blocks and passes, of which some are played in rounds."""
    repeats = np.ones(N_COEFFICIENTS, dtype=np.int32)
    repeats[0], repeats[1:5] = 0, 4
    limits = ScheduleLimits(BankSizes(24, 2.0, 30), guard_interval=3, block_exposures=48)
    return make_schedule(repeats, np.linspace(1, 0, N_COEFFICIENTS), limits, seed=1)


def prove(block: Block, readings: Readings) -> None:
    prove_alignment(block, readings, NOISE)


def controller_of(
    bench: Bench, rules: PlayRules = RULES, *, render: Render = render, elapsed_us: float = 0.0, lit_exposures: int = 0
) -> Controller:
    journal = Journal(bench.events.append)
    return Controller(bench.devices, render, rules, journal, elapsed_us=elapsed_us, lit_exposures=lit_exposures)


def play(
    bench: Bench,
    rules: PlayRules = RULES,
    *,
    prove: Callable[[Block, Readings], None] = prove,
    consume: Callable[[Readings], None] = lambda readings: None,
    continuation: Continuation | None = None,
) -> Controller:
    """Play the schedule; the blocks that were handed on are in ``bench.taken``."""
    controller = controller_of(bench, rules)
    controller.play(a_schedule(), prove, [bench.taken.append, consume], continuation)
    return controller


def repeats_in(bench: Bench) -> list[Event]:
    return [event for event in bench.events if event.kind is EventKind.BLOCK_REPEATED]


def calls_of_a_whole_run() -> list[str]:
    bench = Bench()
    play(bench)
    return bench.calls


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert loading_threads() == []


def test_every_pair_is_filed_under_what_was_displayed() -> None:
    bench = Bench()
    play(bench)
    schedule = a_schedule()
    assert len(bench.taken) == len(schedule.blocks) > len(schedule.banks) > 2
    for readings, block in zip(bench.taken, schedule.blocks, strict=True):
        assert (readings.index == block.coefficients).all()
        assert (readings.plus == DARK + TOTAL / 2 + block.coefficients).all()
        assert (readings.minus == DARK + TOTAL / 2 - block.coefficients).all()
    count = np.bincount(np.concatenate([each.index for each in bench.taken]), minlength=N_COEFFICIENTS)
    assert (count == schedule.repeats).all()
    assert bench.is_at_rest


def test_every_block_is_one_projection_of_its_range_as_often_as_it_has_rounds() -> None:
    bench = Bench()
    play(bench)
    blocks = a_schedule().blocks
    assert bench.starts == [(block.first_picture, block.last_picture, block.rounds) for block in blocks]
    assert {block.rounds for block in blocks} > {1}


def test_the_calls_of_a_run_come_in_this_order() -> None:
    """A bank is loaded beside the one before it; each block is armed, lit, started, read and disarmed."""
    schedule = a_schedule()
    expected = ["light off", "allocate", "light off"]
    for bank in schedule.banks:
        is_last = bank.number == len(schedule.banks) - 1
        expected += ["timing", *([] if is_last else ["allocate"])]
        for block in schedule.blocks:
            if block.bank.number == bank.number:
                expected += ["arm", *(["light on"] if block.number == 0 else []), "start", "read", "disarm"]
        expected.append("free")
    assert calls_of_a_whole_run() == [*expected, *REST]


def test_the_first_bank_is_loaded_in_the_dark_and_pictures_are_displayed_under_light() -> None:
    bench = Bench()
    play(bench)
    lit = list(zip(bench.calls, bench.lit, strict=True))
    before_the_first_light = lit[1 : bench.calls.index("light on")]
    assert {call for call, _ in before_the_first_light} >= {"allocate", "timing", "arm"}
    assert not any(on for _, on in before_the_first_light)
    assert {on for call, on in lit if call in ("start", "read")} == {True}


def test_no_bank_is_loaded_while_it_is_displayed_and_never_are_more_than_two_in_memory() -> None:
    bench = Bench()
    most = 0

    def watch(bank: int) -> None:
        nonlocal most
        bench.until_waited_for(bank)
        most = max(most, len(bench.banks))

    bench.before_load = watch
    play(bench)
    assert all(loading != displayed for loading, displayed in bench.displayed_while_loading)
    assert most == 2
    assert sorted({bank for bank, _, _ in bench.loads}) == [1, 2, 3]


def test_the_next_bank_is_loaded_while_one_is_displayed() -> None:
    """Each waits for the other: a transfer begins only while a picture is displayed, a display ends only after it."""
    bench = Bench()
    bench.before_start = lambda: None
    bench.before_read_ends = end_of_loading

    def wait_for_display(bank: int) -> None:
        bench.until(lambda: bench.calls.count("light off") >= 2 if bank == 1 else bench.displayed_bank == bank - 1)

    bench.before_load = wait_for_display
    play(bench)
    assert {each for each in bench.displayed_while_loading if each[0] > 1} == {(2, 1), (3, 2)}


def test_the_light_goes_off_while_a_bank_is_waited_for() -> None:
    bench = Bench()
    bench.before_start = lambda: None

    def wait_for_darkness(bank: int) -> None:
        bench.until(lambda: bench.calls.count("light off") >= bank + 1)

    bench.before_load = wait_for_darkness
    play(bench)
    assert bench.calls.count("light on") == len(a_schedule().banks)
    for at, call in enumerate(bench.calls):
        if call == "timing":
            assert bench.calls[at - 1] == "light off"
            assert not bench.lit[at]
    assert len(bench.taken) == len(a_schedule().blocks)


def test_the_light_is_on_only_while_exposing_where_that_is_asked_for() -> None:
    bench = Bench()
    play(bench, PlayRules(WANTED, 90, only_while_exposing=True))
    lit = {
        call: {on for other, on in zip(bench.calls, bench.lit, strict=True) if other == call} for call in bench.calls
    }
    assert lit["start"] == lit["read"] == {True}
    assert lit["allocate"] | lit["timing"] | lit["arm"] | lit["disarm"] | lit["free"] == {False}
    assert bench.calls.count("light on") == len(a_schedule().blocks)


def test_the_dark_level_is_measured_with_the_light_off_and_leaves_nothing_behind() -> None:
    bench = Bench()
    bench.before_load = lambda bank: None
    dark = controller_of(bench).measure_dark_level(5)
    assert dark.tolist() == [DARK] * 5
    assert bench.calls == ["light off", "allocate", "timing", "arm", "start", "read", "disarm", *REST, "free"]
    assert bench.lit[bench.calls.index("start")] is False
    assert bench.is_at_rest


def test_pictures_are_loaded_in_chunks_and_each_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_loader_module, "UPLOAD_CHUNK_BYTES", 10 * CHIP.picture_bytes)
    bench = Bench()
    play(bench)
    expected = []
    for number, bank in enumerate(a_schedule().banks, start=1):
        firsts = range(0, bank.n_pictures, 10)
        expected += [(number, first, min(10, bank.n_pictures - first)) for first in firsts]
    assert bench.loads == expected
    assert all((each.plus == DARK + TOTAL / 2 + each.index).all() for each in bench.taken)


WHOLE_RUN = calls_of_a_whole_run()


def ending_from(calls: list[str], at: int) -> list[str]:
    """What is still to be called when the call at this place of a whole run fails."""
    if at == 0:
        return []  # nothing was begun
    if at >= len(calls) - len(REST):
        return calls[at + 1 :]
    in_memory = calls[:at].count("allocate") - calls[:at].count("free")
    return [*REST, *["free"] * in_memory]


@pytest.mark.parametrize("at", range(len(WHOLE_RUN)), ids=lambda at: f"{at}-{WHOLE_RUN[at]}")
def test_whatever_device_call_fails_the_light_goes_off_then_projection_then_detector_then_memory(at: int) -> None:
    whole = WHOLE_RUN
    broken = (whole[at], whole[: at + 1].count(whole[at]))
    bench = Bench(breaks=lambda call, time: (call, time) == broken)
    with pytest.raises(DeviceBrokeError, match=whole[at]):
        play(bench)
    assert bench.calls == [*whole[: at + 1], *ending_from(whole, at)]
    assert not bench.light_on or whole[at] == "light off"
    assert loading_threads() == []


@pytest.mark.parametrize("at", range(1, 4))
def test_whatever_transfer_fails_ends_the_run_in_order(at: int) -> None:
    bench = Bench(breaks=lambda call, time: (call, time) == ("load", at))
    with pytest.raises(DeviceBrokeError, match="load"):
        play(bench)
    assert len(bench.loads) == at
    resting = bench.calls.index("halt") - 1
    in_memory = bench.calls[:resting].count("allocate") - bench.calls[:resting].count("free")
    assert bench.calls[resting:] == [*REST, *["free"] * in_memory]
    assert bench.is_at_rest


def test_a_transfer_that_fails_ends_the_run_after_the_block_at_hand() -> None:
    """The second bank fails while the first block of the first one is played: the others are not played any more."""
    bench = Bench(breaks=lambda call, time: (call, time) == ("load", 2))
    with pytest.raises(DeviceBrokeError, match="load"):
        play(bench)
    assert [each.block_number for each in bench.taken] == [0]


@pytest.mark.parametrize("first_to_fail", ["timing", "start", "read", "free"])
def test_each_step_of_the_ending_is_taken_whatever_the_others_raise(first_to_fail: str) -> None:
    """From some call on everything fails: the ending tries all of it once."""
    bench = Bench()
    broken = False

    def breaks(call: str, _: int) -> bool:
        nonlocal broken
        broken |= call == first_to_fail
        return broken and call != "load"

    bench.breaks = breaks
    with pytest.raises(DeviceBrokeError):
        play(bench)
    after = bench.calls[bench.calls.index(first_to_fail) + 1 :]
    assert after == [*REST, *["free"] * len(bench.banks)]
    assert loading_threads() == []


def test_a_transfer_that_does_not_end_keeps_nothing_else_from_being_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_loader_module, "_STUCK_S", 0.05)
    bench = Bench(breaks=lambda call, time: call == "read")
    bench.before_start = lambda: None
    released = threading.Event()

    def hang(bank: int) -> None:
        if bank == 1:
            bench.until_waited_for(bank)
        else:
            assert released.wait(10)

    bench.before_load = hang
    with pytest.raises(DeviceBrokeError, match="read") as ended:
        play(bench)
    assert "power-cycle it" in "".join(ended.value.__notes__)
    assert bench.calls[-5:] == [*REST, "free", "free"]
    released.set()
    end_of_loading()


@pytest.mark.parametrize(
    "error",
    [
        AlignmentError("shifted"),
        FrameNumberError("a gap"),
        FrameTimeError("late"),
        SurplusFramesError("one too many"),
        DetectorTimeoutError("one too few"),
        FrameBufferOverflowError("full"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_block_that_fails_once_is_played_again_and_handed_on_once(error: Exception) -> None:
    failures = [error]

    def refuse_once(block: Block, readings: Readings) -> None:
        if block.number == 1 and failures:
            raise failures.pop()
        prove(block, readings)

    bench = Bench()
    play(bench, prove=refuse_once)
    blocks = a_schedule().blocks
    assert [each.block_number for each in bench.taken] == [block.number for block in blocks]
    assert bench.calls.count("start") == len(blocks) + 1
    (repeated,) = repeats_in(bench)
    assert repeated.facts == {"block": 1, "attempt": 1, "cause": type(error).__name__}
    # Between the two attempts everything is brought to rest, and the sample waits in the dark.
    second_start = [at for at, call in enumerate(bench.calls) if call == "start"][1]
    expected = ["start", "read", "disarm", *REST, "arm", "light on", "start"]
    assert bench.calls[second_start : second_start + len(expected)] == expected


@pytest.mark.parametrize("most_repeats", [0, 1, 3])
def test_a_block_that_fails_each_time_goes_nowhere_and_ends_the_run_with_a_note(most_repeats: int) -> None:
    def refuse_the_second(block: Block, readings: Readings) -> None:
        if block.number == 1:
            raise AlignmentError("shifted")

    bench = Bench()
    with pytest.raises(AlignmentError) as raised:
        play(bench, PlayRules(WANTED, 90, most_repeats=most_repeats), prove=refuse_the_second)
    assert raised.value.__notes__ == [f"block 1 was played {most_repeats + 1} times and failed each time"]
    assert [each.block_number for each in bench.taken] == [0]
    assert bench.calls.count("start") == 2 + most_repeats
    assert [event.facts["attempt"] for event in repeats_in(bench)] == list(range(1, most_repeats + 1))
    assert bench.calls[-5:] == [*REST, "free", "free"]
    assert bench.is_at_rest


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DeviceBrokeError("prover")], ids=["interrupted", "broken"])
def test_what_repeating_cannot_help_ends_the_run_at_once(error: BaseException) -> None:
    def fail_at_the_second(block: Block, readings: Readings) -> None:
        if block.number == 1:
            raise error

    bench = Bench()
    with pytest.raises(type(error)):
        play(bench, prove=fail_at_the_second)
    assert [each.block_number for each in bench.taken] == [0]
    assert bench.calls.count("start") == 2
    assert bench.calls[-5:] == [*REST, "free", "free"]
    assert bench.is_at_rest


def test_a_block_whose_reading_failed_leaves_nothing_on_while_it_waits_to_be_played_again() -> None:
    bench = Bench()
    bench.frames = lambda readings: readings[:-1]
    with pytest.raises(DetectorTimeoutError):
        play(bench, PlayRules(WANTED, 90, most_repeats=1))
    first_read = bench.calls.index("read")
    assert bench.calls[first_read + 1 : first_read + 6] == [*REST, "arm", "light on"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupted"])
def test_a_consumer_that_fails_ends_the_run(error: BaseException) -> None:
    def fail(readings: Readings) -> None:
        raise error

    bench = Bench()
    with pytest.raises(type(error)):
        play(bench, consume=fail)
    assert bench.calls[-5:] == [*REST, "free", "free"]
    assert bench.calls.count("start") == 1
    assert bench.is_at_rest


def test_renderer_errors_leave_no_bank_behind() -> None:
    def fail(indices: object, signs: object, out: object) -> NDArray[np.uint8]:
        raise MemoryError

    bench = Bench()
    with pytest.raises(MemoryError):
        controller_of(bench, render=fail).play(a_schedule(), prove, ())
    assert bench.calls == ["light off", "allocate", "light off", *REST, "free"]
    assert bench.is_at_rest


@pytest.mark.parametrize("lost", [0, 11, -1], ids=["first", "one in the middle", "last"])
def test_a_lost_frame_is_a_time_out_and_nothing_of_the_block_is_filed(lost: int) -> None:
    bench = Bench()
    bench.frames = lambda readings: np.delete(readings, lost)
    with pytest.raises(DetectorTimeoutError) as raised:
        play(bench)
    assert "played 3 times" in raised.value.__notes__[0]
    assert bench.taken == []
    assert bench.is_at_rest


def test_a_surplus_frame_is_noticed_and_nothing_of_the_block_is_filed() -> None:
    bench = Bench()
    bench.frames = lambda readings: np.append(readings, DARK)
    with pytest.raises(SurplusFramesError, match="1 frames more than the"):
        play(bench)
    assert bench.taken == []
    assert bench.is_at_rest


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
    assert bench.calls.count("start") == 1 + RULES.most_repeats
    assert bench.is_at_rest


def test_frame_numbers_with_a_gap_are_noticed() -> None:
    bench = Bench()
    bench.numbers = lambda n: np.arange(n) + (np.arange(n) > 4)
    with pytest.raises(FrameNumberError):
        play(bench)
    assert bench.taken == []


def test_frame_times_are_held_against_the_picture_time_the_device_accepted_where_that_is_asked_for() -> None:
    bench = Bench()
    bench.accept = lambda timing: Timing(120, 90)
    bench.times = lambda n: 120.0 * np.arange(n, dtype=np.float64)
    play(bench, PlayRules(WANTED, 90, time_tolerance_us=5.0))
    assert len(bench.taken) == len(a_schedule().blocks)
    other = Bench()
    other.times = lambda n: 120.0 * np.arange(n, dtype=np.float64)
    with pytest.raises(FrameTimeError):
        play(other, PlayRules(WANTED, 90, time_tolerance_us=5.0))
    assert other.taken == []
    unasked = Bench()
    unasked.times = other.times
    play(unasked)
    assert len(unasked.taken) == len(a_schedule().blocks)


def test_a_projector_that_never_stops_is_halted() -> None:
    bench = Bench()
    bench.never_idle = True
    with pytest.raises(ProjectionTimeoutError, match="power-cycle"):
        play(bench, PlayRules(WANTED, 90, timeouts=RunTimeouts(slack=0.0, margin_s=0.0)))
    assert bench.calls[-5:] == [*REST, "free", "free"]


def test_what_the_device_accepted_counts_and_not_what_was_wanted() -> None:
    bench = Bench()
    bench.accept = lambda timing: Timing(timing.picture_time_us + 20, timing.illumination_time_us - 3)
    controller = play(bench)
    assert controller.accepted_timing == Timing(120, 87)
    for readings, block in zip(bench.taken, a_schedule().blocks, strict=True):
        assert readings.time_us == pytest.approx(readings.start_us + 120 * block.pair_exposures)
        assert bench.timeouts_s[readings.block_number] == pytest.approx(1.5 * 120e-6 * block.n_exposures + 2)
    assert set(bench.armed_us) == {RULES.camera_exposure_us}


def test_a_burst_has_as_much_time_as_its_frames_take_to_be_read() -> None:
    bench = Bench()
    play(bench, PlayRules(WANTED, 90, reading_us=700.0))
    expected = [1.5 * 700e-6 * block.n_exposures + 2 for block in a_schedule().blocks]
    assert bench.timeouts_s == pytest.approx(expected)


def test_a_block_begins_when_its_projection_starts_not_when_the_camera_is_armed() -> None:
    bench = Bench()
    began_us = bench.now_us
    play(bench)
    assert [each.start_us for each in bench.taken] == pytest.approx([start - began_us for start in bench.starts_us])


@pytest.mark.parametrize("first_block", range(len(a_schedule().blocks)))
def test_a_run_goes_on_from_any_block(first_block: int) -> None:
    bench = Bench()
    restored: list[list[str]] = []
    play(bench, continuation=Continuation(first_block, restore=lambda: restored.append(list(bench.calls))))
    blocks = a_schedule().blocks[first_block:]
    assert [each.block_number for each in bench.taken] == [block.number for block in blocks]
    assert all((each.plus == DARK + TOTAL / 2 + each.index).all() for each in bench.taken)
    assert bench.calls.count("allocate") == len({block.bank.number for block in blocks})
    # Once, and before any exposure.
    (before,) = restored
    assert "arm" not in before
    assert "start" not in before


def test_a_simulated_bench_is_restored_with_the_transfers_that_were_under_way() -> None:
    """From a bank's first block on its own is declared anew; inside a bank, the next one's is declared before as well.

    The very first block's state was taken before anything was in memory.
    """
    schedule = a_schedule()
    begins_bank_1 = next(block.number for block in schedule.blocks if block.bank.number == 1)
    allocated = []
    for first_block in (0, 1, begins_bank_1):
        bench = Bench()

        def restore(bench: Bench = bench) -> None:
            allocated.append(bench.calls.count("allocate"))

        play(bench, continuation=Continuation(first_block, restore=restore))
    assert allocated == [0, 2, 1]


def test_every_banks_accepted_timing_is_held_against_the_one_before_and_before_the_light_goes_on() -> None:
    bench = Bench()
    checked: list[Timing] = []
    play(bench, continuation=Continuation(2, check_timing=checked.append))
    assert checked == [WANTED] * len({block.bank.number for block in a_schedule().blocks[2:]})

    def refuse(accepted: Timing) -> None:
        raise ValueError("another timing")

    refused = Bench()
    with pytest.raises(ValueError, match="another timing"):
        play(refused, continuation=Continuation(2, check_timing=refuse))
    assert "light on" not in refused.calls
    assert "start" not in refused.calls
    assert refused.is_at_rest


def test_where_all_blocks_are_there_already_nothing_is_played() -> None:
    bench = Bench()
    play(bench, continuation=Continuation(len(a_schedule().blocks)))
    assert bench.calls == ["light off", *REST]


def test_a_run_that_goes_on_counts_time_and_light_from_where_it_stood() -> None:
    bench = Bench()
    began_us = bench.now_us
    controller = controller_of(bench, elapsed_us=5e6, lit_exposures=1000)
    controller.play(a_schedule(), prove, [bench.taken.append], Continuation(2))
    assert bench.taken[0].start_us == pytest.approx(5e6 + bench.starts_us[0] - began_us)
    lit = np.cumsum([block.n_exposures for block in a_schedule().blocks[2:]])
    assert [each.lit_exposures for each in bench.taken] == (1000 + lit).tolist()
    assert controller.lit_exposures == 1000 + lit[-1]


def test_exposures_of_blocks_that_were_thrown_away_count_as_light() -> None:
    failures = [AlignmentError("shifted"), AlignmentError("shifted")]

    def refuse_twice(block: Block, readings: Readings) -> None:
        if failures:
            raise failures.pop()

    bench = Bench()
    controller = play(bench, prove=refuse_twice)
    schedule = a_schedule()
    thrown_away = 2 * schedule.blocks[0].n_exposures
    assert controller.lit_exposures == schedule.n_exposures + thrown_away
    assert bench.taken[0].lit_exposures == 3 * schedule.blocks[0].n_exposures


@pytest.mark.parametrize("spare", [0, -1])
def test_a_run_stops_before_the_block_that_would_exceed_the_dose(spare: int) -> None:
    blocks = a_schedule().blocks
    most = sum(block.n_exposures for block in blocks[:3]) + spare
    bench = Bench()
    with pytest.raises(DoseLimitError, match=f"would exceed the {most}"):
        play(bench, PlayRules(WANTED, 90, lit_exposures_within=lambda illumination_time_us: most))
    assert len(bench.taken) == (3 if spare == 0 else 2)
    assert bench.taken[-1].lit_exposures <= most
    assert bench.is_at_rest


def test_the_dose_is_that_of_the_illumination_time_the_device_accepted() -> None:
    bench = Bench()
    bench.accept = lambda timing: Timing(timing.picture_time_us, timing.illumination_time_us - 3)
    asked: list[float] = []

    def within(illumination_time_us: float) -> int:
        asked.append(illumination_time_us)
        return 10**6

    play(bench, PlayRules(WANTED, 90, lit_exposures_within=within))
    assert set(asked) == {87}


def test_repeats_are_held_against_the_dose_as_well() -> None:
    def refuse(block: Block, readings: Readings) -> None:
        raise AlignmentError("shifted")

    bench = Bench()
    most = 2 * a_schedule().blocks[0].n_exposures
    with pytest.raises(DoseLimitError):
        play(
            bench,
            PlayRules(WANTED, 90, most_repeats=50, lit_exposures_within=lambda illumination_time_us: most),
            prove=refuse,
        )
    assert bench.calls.count("start") == 2


def test_a_dose_that_is_just_enough_is_enough() -> None:
    bench = Bench()
    play(bench, PlayRules(WANTED, 90, lit_exposures_within=lambda illumination_time_us: a_schedule().n_exposures))
    assert len(bench.taken) == len(a_schedule().blocks)


def test_banks_and_what_devices_say_of_themselves_are_in_the_journal() -> None:
    bench = Bench()
    play(bench)
    banks = [event.text for event in bench.events if event.kind is EventKind.BANK]
    schedule = a_schedule()
    assert len(banks) == len(schedule.banks)
    of_first = sum(block.bank.number == 0 for block in schedule.blocks)
    assert banks[0] == f"bank 0 of {len(banks)}: {of_first} blocks"
    telemetry = next(event for event in bench.events if event.kind is EventKind.TELEMETRY)
    assert telemetry.facts == {"projector": {"DMD temperature": 31.5}, "light_source": {"power": "3 mW"}}
    assert telemetry.text == "DMD temperature 31.5, power 3 mW"


def test_telemetry_is_noted_now_and_then_and_not_after_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    play(bench)
    monkeypatch.setattr(controller_module, "_TELEMETRY_S", 0.0)
    often = Bench()
    play(often)
    counts = [sum(event.kind is EventKind.TELEMETRY for event in each.events) for each in (bench, often)]
    assert counts == [1, len(a_schedule().blocks)]


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
        ({"free_pictures": 499}, "room for 499 pictures, and 500 are needed at a time"),
    ],
)
def test_another_device_than_planned_for_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(DeviceMismatchError, match=said):
        check_projector(info(**changes), DMD_TYPES["xga"], 500)
