"""Every fault, at every place: the run is repaired or stops safely, and no reading is filed under another picture.

The oracle is twofold: without noise every reading is known from the dense Hadamard matrix, and the bench has on record
which picture was displayed when each frame was taken.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from acquisition import live as live_module
from acquisition import run as run_module
from acquisition.config import AcquisitionConfig
from acquisition.controller import SurplusFramesError
from acquisition.events import EventKind
from acquisition.integrity import AlignmentError, FrameNumberError, FrameTimeError, GuardsTooDimError
from acquisition.run import acquire, resume
from acquisition.run_layout import DiskFullError, RunState
from acquisition.run_store import RunStore
from acquisition.schedule import Schedule
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from devices import coherent_obis, micromanager_core, thorlabs_sc10
from devices.errors import (
    AlpCallError,
    DetectorTimeoutError,
    DeviceNotFoundError,
    DeviceNotFreeError,
    DeviceReplyError,
    DeviceSilentError,
    DeviceVanishedError,
    FrameBufferOverflowError,
    LightSourceFaultError,
    MicroManagerCallError,
    PictureMemoryError,
)
from sim_devices.alp_library import SimulatedAlpLibrary
from sim_devices.faults import (
    BufferOverflow,
    DoubledTrigger,
    EarlyEnd,
    Fault,
    LateStart,
    LateTrigger,
    LostTrigger,
    MissingFrame,
    Saturation,
    SilentCamera,
    StaleFrames,
)
from tests.acquisition.bench_record import (
    BEFORE_ANY_BANK,
    Watch,
    at_rest,
    no_thread_left,
    planned,
    prove_finished,
    prove_stored,
    watch,
    whole_light_config,
    with_devices,
)

Where = Literal["first", "middle", "guard", "last"]
ALP_ERROR_COMM, ALP_NOT_READY, ALP_MEMORY_FULL = 1011, 1004, 1007
_CALL_TIMEOUT_S = 0.8


@dataclass(frozen=True)
class Place:
    """A block, and an exposure of it: one of a pair, or one inside the guard in its middle."""

    block: int
    exposure: int

    @property
    def projection(self) -> int:
        """The bench's number of the block's projection, the dark level's being 0."""
        return self.block + 1


def place(schedule: Schedule, where: Where) -> Place:
    with_a_guard_inside = [block.number for block in schedule.blocks[1:-1] if block.n_guards > 2]
    middle = with_a_guard_inside[len(with_a_guard_inside) // 2]
    number = {"first": 0, "middle": middle, "guard": middle, "last": len(schedule.blocks) - 1}[where]
    block = schedule.blocks[number]
    return Place(number, int(block.guard_exposures[1, 0] if where == "guard" else block.pair_exposures[2]))


def stop(config: AcquisitionConfig, watched: Watch, cause: type[BaseException]) -> BaseException:
    """Play a run that is to fail; what ended it. Nothing is left running, nothing misfiled, the state is on record."""
    with no_thread_left(), pytest.raises(cause) as raised:
        acquire(config, observer=watched.observer)
    run = prove_stored(config)
    assert run.state is RunState.FAILED
    assert cause.__name__ in run.facts["cause"] or type(raised.value).__name__ in run.facts["cause"]
    assert watched.misfiled == []
    return raised.value


def go_on(config: AcquisitionConfig, watched: Watch) -> None:
    """Resume a run that failed, nothing being wrong any more: it finishes, and everything in it is right."""
    run = StoredRun(config.output.run)
    left, n_benches = run.n_blocks - len(run.committed), len(watched.benches)
    with no_thread_left():
        resume(config.output.run, observer=watched.observer)
    prove_finished(config)
    assert watched.misfiled == []
    assert (len(watched.benches) > n_benches) is (left > 0)  # where only the image is missing no device is touched
    if left:
        at_rest(watched)


# trigger, projection, camera: each happens once, and the block is played again

BENCH_FAULTS: dict[str, Callable[[Place], Fault]] = {
    "trigger lost": lambda at: LostTrigger(at.projection, at.exposure),
    "trigger doubled": lambda at: DoubledTrigger(at.projection, at.exposure),
    "trigger late": lambda at: LateTrigger(at.projection, at.exposure, 60.0),
    "trigger a picture late": lambda at: LateTrigger(at.projection, at.exposure, 100.0),
    "started one picture late": lambda at: LateStart(at.projection, 1),
    "started two pictures late": lambda at: LateStart(at.projection, 2),
    "ended early": lambda at: EarlyEnd(at.projection, at.exposure),
    "frame missing": lambda at: MissingFrame(at.projection, at.exposure),
    "one stale frame": lambda at: StaleFrames(at.projection, 1),
    "stale frames": lambda at: StaleFrames(at.projection, 3),
    "buffer overflows": lambda at: BufferOverflow(at.projection, at.exposure),
    "camera silent": lambda at: SilentCamera(at.projection),
}
OF_A_WHOLE_PROJECTION = {
    "started one picture late",
    "started two pictures late",
    "one stale frame",
    "stale frames",
    "camera silent",
}
# How the fault is noticed: by a camera that tells times and numbers of its frames, and by one that does not (None: a
# trigger that comes late within a section is then seen by nothing; the plan says so).
NOTICED: dict[str, tuple[type[Exception], type[Exception] | None]] = {
    "trigger lost": (DetectorTimeoutError, DetectorTimeoutError),
    "trigger doubled": (FrameTimeError, SurplusFramesError),
    "trigger late": (FrameTimeError, None),
    "trigger a picture late": (FrameTimeError, None),
    "started one picture late": (AlignmentError, AlignmentError),
    "started two pictures late": (AlignmentError, AlignmentError),
    "ended early": (DetectorTimeoutError, DetectorTimeoutError),
    "frame missing": (DetectorTimeoutError, DetectorTimeoutError),
    "one stale frame": (FrameNumberError, SurplusFramesError),
    "stale frames": (FrameNumberError, SurplusFramesError),
    "buffer overflows": (FrameBufferOverflowError, FrameBufferOverflowError),
    "camera silent": (DetectorTimeoutError, DetectorTimeoutError),
}
PLACES: tuple[Where, ...] = ("first", "middle", "guard", "last")


def repaired_cases() -> list[Any]:
    cases = []
    for name, (with_times, without) in NOTICED.items():
        for where in PLACES:
            if where == "guard" and name in OF_A_WHOLE_PROJECTION:
                continue
            cases.append(pytest.param(name, where, True, with_times, id=f"{name}-{where}-times"))
            seen = AlignmentError if without is None and where == "guard" else without
            if seen is not None:
                cases.append(pytest.param(name, where, False, seen, id=f"{name}-{where}-no times"))
    return cases


@pytest.mark.parametrize(("name", "where", "times", "cause"), repaired_cases())
def test_a_block_that_a_fault_has_struck_is_played_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    where: Where,
    times: bool,
    cause: type[Exception],
) -> None:
    config = whole_light_config(tmp_path)
    if times:
        config = with_devices(config, detector={"time_tolerance_us": 5.0})
    at = place(planned(config).schedule, where)
    fault = BENCH_FAULTS[name](at)
    watched = watch(monkeypatch, lambda bench: bench.bench.inject(fault))
    with no_thread_left():
        result = acquire(config, observer=watched.observer)
    assert watched.bench.bench.struck == (fault,)
    assert watched.repeats() == [(at.block, cause.__name__)]
    assert result.repeated == 1
    assert watched.misfiled == []
    prove_finished(config)
    at_rest(watched)


@pytest.mark.parametrize("name", NOTICED)
def test_a_block_of_several_rounds_is_played_again_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A bank so small that a block shows it three times without a gap; the fault strikes the second time."""
    config = with_devices(
        whole_light_config(
            tmp_path,
            sensing={"side": 8, "repeats": 3, "alpha": 0.25, "mask": {"kind": "low-sequency"}},
            blocks={"guard_interval": 4, "longest_block_s": 0.01, "dark_exposures": 4, "first_bank_pictures": 31},
        ),
        detector={"time_tolerance_us": 5.0},
    )
    schedule = planned(config).schedule
    block = next(each for each in schedule.blocks if each.rounds == 3)
    at = Place(block.number, block.n_exposures // 3 + 7)
    fault = BENCH_FAULTS[name](at)
    watched = watch(monkeypatch, lambda bench: bench.bench.inject(fault))
    acquire(config, observer=watched.observer)
    assert watched.repeats() == [(at.block, NOTICED[name][0].__name__)]
    assert watched.misfiled == []
    prove_finished(config)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_block_that_fails_each_time_stops_the_run_and_the_rest_can_be_played_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Where
) -> None:
    config = whole_light_config(tmp_path)
    at = place(planned(config).schedule, where)
    faults = [LostTrigger(at.projection + attempt, 3) for attempt in range(config.blocks.most_repeats + 1)]
    watched = watch(monkeypatch, lambda bench: bench.bench.inject(*faults))
    error = stop(config, watched, DetectorTimeoutError)
    assert "the run can be resumed" in "".join(error.__notes__)
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.parametrize("where", PLACES)
def test_a_camera_that_light_floods_is_told_from_one_that_reads_and_nothing_of_the_block_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Where
) -> None:
    """A flood that leaves no level to hold the guards against is too dim; where guards and pairs contradict each other
    they are misaligned.
    """
    config = whole_light_config(tmp_path)
    at = place(planned(config).schedule, where)
    watched = watch(monkeypatch, lambda bench: bench.bench.inject(Saturation(at.projection, at.exposure + 1)))
    acquire(config, observer=watched.observer)
    ((block, cause),) = watched.repeats()
    assert block == at.block
    assert cause in (GuardsTooDimError.__name__, AlignmentError.__name__)
    (text,) = (event.text for event in watched.events if event.kind is EventKind.BLOCK_REPEATED)
    assert f"{at.exposure + 1} of its exposures saturated the detector" in text
    assert watched.misfiled == []
    prove_finished(config)
    at_rest(watched)


# the ALP board

CALLS_IN_A_BLOCK = ("AlpProjStart", "AlpProjInquire", "AlpSeqControl", "AlpSeqInquire")
# Of a bank: which of its calls is meant, counted from the first one after the board was connected. The dark level's
# bank comes before the first one.
CALLS_OF_A_BANK = ("AlpSeqAlloc", "AlpSeqPut", "AlpSeqTiming", "AlpDevInquire", "AlpSeqFree")


@pytest.mark.parametrize(
    ("code", "where"),
    [
        pytest.param(ALP_ERROR_COMM, "first", id="lost-first"),
        pytest.param(ALP_ERROR_COMM, "middle", id="lost-middle"),
        pytest.param(ALP_ERROR_COMM, "last", id="lost-last"),
        # Elsewhere a board may be busy with a transfer, and is asked again.
        pytest.param(ALP_NOT_READY, "last", id="not ready-last"),
    ],
)
@pytest.mark.parametrize("call", CALLS_IN_A_BLOCK)
def test_a_board_that_does_not_answer_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, where: Where
) -> None:
    config = whole_light_config(tmp_path)
    number = place(planned(config).schedule, where).block
    if where == "last" and call.startswith("AlpSeq"):
        number -= 1  # the last block shows the same pictures as this one, and is set to nothing new
    watched = watch(monkeypatch)
    watched.before_block(number, lambda bench: bench.library.inject(call, 1, code))
    error = stop(config, watched, DeviceVanishedError if code == ALP_ERROR_COMM else AlpCallError)
    assert call in str(error)
    assert StoredRun(config.output.run).committed.tolist() == list(range(number))
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.parametrize("bank", ["first", "middle", "last"])
@pytest.mark.parametrize("call", CALLS_OF_A_BANK)
def test_a_board_that_is_lost_while_a_bank_is_made_ready_or_freed_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, bank: str
) -> None:
    config = whole_light_config(tmp_path)
    schedule = planned(config).schedule
    number = {"first": 0, "middle": 1, "last": len(schedule.banks) - 1}[bank]
    watched = watch(monkeypatch)
    # Banks are loaded one ahead: from the first block of the bank before on.
    asked_at = number if call in ("AlpSeqTiming", "AlpSeqFree") else max(0, number - 1)
    first_block = next(block.number for block in schedule.blocks if block.bank.number == asked_at)
    first_block = BEFORE_ANY_BANK if number == 0 and call != "AlpSeqFree" else first_block
    watched.before_block(first_block, lambda bench: bench.library.inject(call, 1, ALP_ERROR_COMM))
    error = stop(config, watched, DeviceVanishedError)
    assert call in str(error)
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.parametrize("bank", [0, 1, 2])
def test_a_board_whose_memory_is_full_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bank: int) -> None:
    config = whole_light_config(tmp_path)
    nth = 2 + bank  # the dark level's bank comes first
    watched = watch(monkeypatch, lambda bench: bench.library.inject("AlpSeqAlloc", nth, ALP_MEMORY_FULL))
    error = stop(config, watched, PictureMemoryError)
    assert "free a bank or plan smaller ones" in str(error)
    at_rest(watched)
    go_on(config, watched)


def test_a_board_that_is_not_free_is_found_out_before_any_light_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HeldLibrary(SimulatedAlpLibrary):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.hold()

    config = whole_light_config(tmp_path)
    with monkeypatch.context() as patched, no_thread_left():
        watched = watch(patched)
        patched.setattr("acquisition.simulated_bench.SimulatedAlpLibrary", HeldLibrary)
        with pytest.raises(DeviceNotFreeError, match=r"held by another program or by one that crashed.*power-cycle"):
            acquire(config, observer=watched.observer)
    assert not config.output.run.exists()
    acquire(config)
    prove_finished(config)


# Micro-Manager's server

HOWS: dict[str, type[Exception]] = {
    "vanish": DeviceNotFoundError,
    "hang": DeviceSilentError,
    "exception": MicroManagerCallError,
    "garbage": DeviceReplyError,
}


def over_a_port(folder: Path, light: str = "obis") -> AcquisitionConfig:
    return with_devices(
        whole_light_config(folder, sensing={"side": 8, "repeats": 2, "alpha": 0.4, "mask": {"kind": "low-sequency"}}),
        detector={"wire": "zmq", "arming_ms": 0.0},
        light_source={"wire": light},
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers do not wait long for devices that are silent."""
    patched = {
        (micromanager_core, "connect_core"): {"call_timeout_s": _CALL_TIMEOUT_S},
        (coherent_obis, "CoherentObis"): {"timeout_s": 0.8, "emission_timeout_s": 0.8},
        (thorlabs_sc10, "ThorlabsSc10"): {"timeout_s": 0.8, "blade_timeout_s": 0.8},
    }
    for (module, name), named in patched.items():
        monkeypatch.setattr(module, name, partial(getattr(module, name), **named))


def server_cases() -> list[Any]:
    return [
        pytest.param(method, where, how, id=f"{method}-{where}-{how}")
        for method in ("startSequenceAcquisition", "getRemainingImageCount", "popNextImage")
        for where in PLACES
        if where != "guard" or method == "popNextImage"
        for how in HOWS
    ]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("method", "where", "how"), server_cases())
def test_a_server_that_fails_stops_the_run_with_the_light_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, where: Where, how: Any
) -> None:
    config = over_a_port(tmp_path)
    at = place(planned(config).schedule, where)
    watched = watch(monkeypatch)
    nth = at.exposure + 1 if method == "popNextImage" else 1

    def break_it(bench: StandIns) -> None:
        assert bench.server is not None
        bench.server.fail(method, nth, how)

    watched.before_block(at.block, break_it)
    stop(config, watched, HOWS[how])
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    # A camera that cannot be told to stop stays armed; what triggers it is at rest.
    unreachable = how in ("vanish", "hang") and method != "startSequenceAcquisition"
    at_rest(watched, camera_on=unreachable)
    go_on(config, watched)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["vanish", "hang"])
def test_where_the_light_hangs_on_the_server_that_has_gone_it_stays_as_it_is_and_the_error_says_what_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any
) -> None:
    config = over_a_port(tmp_path, "shutter")
    watched = watch(monkeypatch)

    def break_it(bench: StandIns) -> None:
        assert bench.server is not None
        bench.server.fail("popNextImage", 3, how)

    watched.before_block(3, break_it)
    error = stop(config, watched, HOWS[how])
    assert "look at" in str(error)
    at_rest(watched, light_on=True, camera_on=True)
    go_on(config, watched)


# the light

LIGHT_FAULTS: dict[str, tuple[str, Callable[[Any], None], type[Exception]]] = {
    "laser silent": ("obis", lambda peer: peer.silent_after(0), DeviceSilentError),
    "laser garbled": ("obis", lambda peer: peer.garble(1), DeviceReplyError),
    "laser too hot": ("obis", lambda peer: peer.fault("diode too hot"), LightSourceFaultError),
    "laser's interlock open": ("obis", lambda peer: peer.fault("interlock"), LightSourceFaultError),
    "shutter silent": ("sc10", lambda peer: peer.silent_after(0), DeviceSilentError),
    "shutter's interlock tripped": ("sc10", lambda peer: peer.fault("interlock"), LightSourceFaultError),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("name", LIGHT_FAULTS)
def test_a_light_that_does_not_come_on_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, where: Where
) -> None:
    wire, breaks, cause = LIGHT_FAULTS[name]
    config = with_devices(whole_light_config(tmp_path), light_source={"wire": wire, "only_while_exposing": True})
    at = place(planned(config).schedule, where)
    watched = watch(monkeypatch)
    watched.before_block(at.block, lambda bench: breaks(bench.light))
    stop(config, watched, cause)
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("wire", ["obis", "sc10"])
def test_a_light_that_goes_out_under_a_block_leaves_no_reading_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str, where: Where
) -> None:
    config = with_devices(whole_light_config(tmp_path), light_source={"wire": wire})
    at = place(planned(config).schedule, where)
    watched = watch(monkeypatch)
    start = SimulatedAlpLibrary.AlpProjStart

    def interlock(library: SimulatedAlpLibrary, *arguments: Any) -> int:
        """Somebody opens the interlock just when the projection begins."""
        if watched.bench.bench.n_projections == at.projection and len(watched.benches) == 1:
            light: Any = watched.bench.light
            light.fault("interlock")
        return start(library, *arguments)

    monkeypatch.setattr(SimulatedAlpLibrary, "AlpProjStart", interlock)
    stop(config, watched, LightSourceFaultError)  # that is what the light says when the block is to be played again
    assert watched.repeats() == [(at.block, GuardsTooDimError.__name__)]
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.usefixtures("impatient")
def test_a_laser_that_cannot_be_told_to_be_off_is_reported_and_all_else_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = with_devices(whole_light_config(tmp_path), light_source={"wire": "obis"})
    last = len(planned(config).schedule.blocks)
    watched = watch(monkeypatch)
    watched.before_block(last, lambda bench: LIGHT_FAULTS["laser silent"][1](bench.light))
    error = stop(config, watched, DeviceSilentError)
    assert "SOURce:AM:STATe OFF" in str(error)
    assert StoredRun(config.output.run).committed.tolist() == list(range(last))
    at_rest(watched, light_on=True)
    go_on(config, watched)


# the disk

DISK_ERRORS = {"full": (errno.ENOSPC, DiskFullError), "failing": (errno.EIO, OSError)}


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("array", ["plus", "commits"])
@pytest.mark.parametrize("how", DISK_ERRORS)
def test_a_disk_that_takes_no_more_stops_the_run_and_keeps_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, array: str, where: Where
) -> None:
    config = whole_light_config(tmp_path)
    at = place(planned(config).schedule, where)
    code, cause = DISK_ERRORS[how]
    whole = LocalStore.set

    async def fails(store: LocalStore, key: str, value: Buffer) -> None:
        if key.startswith(f"readings/{array}/c/{at.block}/"):
            raise OSError(code, "the disk's own words")
        await whole(store, key, value)

    watched = watch(monkeypatch)
    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "set", fails)
        stop(config, watched, cause)
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    at_rest(watched)
    go_on(config, watched)


def test_a_disk_on_which_not_even_the_state_can_be_written_leaves_an_interrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = whole_light_config(tmp_path)
    whole, full = LocalStore.set, False

    async def fails(store: LocalStore, key: str, value: Buffer) -> None:
        nonlocal full
        full = full or key.startswith("readings/plus/c/4/")
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        await whole(store, key, value)

    watched = watch(monkeypatch)
    with monkeypatch.context() as broken, no_thread_left(), pytest.raises(DiskFullError) as raised:
        broken.setattr(LocalStore, "set", fails)
        acquire(config, observer=watched.observer)
    assert "could not be marked as failed" in "".join(raised.value.__notes__)
    run = prove_stored(config)
    assert run.state is RunState.INTERRUPTED
    assert run.committed.tolist() == [0, 1, 2, 3]
    at_rest(watched)
    go_on(config, watched)


# threads


class BrokeError(Exception):
    """What is raised in a thread that is to break."""


@pytest.mark.parametrize("bank", [0, 1, 2])
def test_an_exception_in_the_loaders_thread_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bank: int
) -> None:
    config = whole_light_config(tmp_path)
    of_bank = set(planned(config).schedule.banks[bank].coefficients.tolist())
    renderer = run_module._renderer

    def broken(config: AcquisitionConfig) -> Callable[..., NDArray[np.uint8]]:
        render = renderer(config)

        def breaks(indices: NDArray[np.int64], *arguments: Any) -> NDArray[np.uint8]:
            if of_bank & set(indices.tolist()):
                raise BrokeError
            return render(indices, *arguments)

        return breaks

    watched = watch(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "_renderer", broken)
        stop(config, watched, BrokeError)
    at_rest(watched)
    go_on(config, watched)


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_an_exception_in_the_store_writers_thread_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Where
) -> None:
    config = whole_light_config(tmp_path)
    at = place(planned(config).schedule, where)
    whole = RunStore.write_block

    def breaks(store: RunStore, readings: Any) -> None:
        if readings.block_number == at.block:
            raise BrokeError
        whole(store, readings)

    watched = watch(monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(RunStore, "write_block", breaks)
        stop(config, watched, BrokeError)
    assert StoredRun(config.output.run).committed.tolist() == list(range(at.block))
    at_rest(watched)
    go_on(config, watched)


def test_an_exception_in_the_live_pipelines_thread_ends_the_live_view_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = whole_light_config(tmp_path)
    whole = live_module.LivePipeline._show

    def breaks(pipeline: Any, *arguments: Any) -> None:
        whole(pipeline, *arguments)
        raise BrokeError("no more images")

    watched = watch(monkeypatch)
    monkeypatch.setattr(live_module.LivePipeline, "_show", breaks)
    with no_thread_left():
        result = acquire(config, observer=watched.observer)
    assert any("live view ended early" in warning and "no more images" in warning for warning in result.warnings)
    assert watched.misfiled == []
    prove_finished(config)
    at_rest(watched)
