"""Whatever ends a run, the order is the same; exit code and state tell what it was, and the process ends by itself."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from acquisition import cli, cli_frame, integrity
from acquisition import run as run_module
from acquisition.config import AcquisitionConfig
from acquisition.events import Event, EventKind
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.run import acquire
from acquisition.run_layout import DiskFullError, RunState
from acquisition.run_store import RunStore
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from devices import coherent_obis, micromanager_core
from devices.errors import DeviceNotFoundError, DeviceVanishedError
from sim_devices.alp_library import SimulatedAlpLibrary
from tests.acquisition.bench_record import (
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

ALP_OK, ALP_ERROR_COMM = 0, 1011
ORDER = ["light off", "halted", "disarmed", "bank freed", "marked", "board freed"]
POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="other processes are sent signals on POSIX only")


class BrokeError(Exception):
    """What is raised where a test breaks something."""


class Wire:
    """What arrives at the ends of the cables, in order, from the moment on that a test cares for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def tap(self, bench: StandIns) -> None:
        """Note what ends a run."""
        library: Any = bench.library
        core: Any = bench.core
        light: Any = bench.bench
        for stand_in, method, name in (
            (library, "AlpProjHalt", "halted"),
            (library, "AlpSeqFree", "bank freed"),
            (library, "AlpDevFree", "board freed"),
            (core, "stop_sequence_acquisition", "disarmed"),
            (light, "set_light", "light off"),
        ):
            setattr(stand_in, method, self._noted(getattr(stand_in, method), name))

    def on_event(self, event: Event) -> None:
        if event.kind in (EventKind.FAILED, EventKind.STOPPED):
            self.calls.append("marked")

    def ending(self) -> list[str]:
        """Each call once, where it came first after the light was told to be off."""
        start = self.calls.index("light off") if "light off" in self.calls else 0
        return list(dict.fromkeys(self.calls[start:]))

    def _noted(self, method: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name != "light off" or not arguments[0]:
                self.calls.append(name)
            return method(*arguments)

        return call


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def amid_a_block(happens: Callable[..., Any]) -> Callable[[StandIns, Wire], None]:
    """Let something happen when the third frame of the next block is read."""

    def break_it(bench: StandIns, wire: Wire) -> None:
        core: Any = bench.core
        pop, left = core.pop_next_image, 3

        def breaks() -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                wire.calls.clear()
                happens()
            return pop()

        core.pop_next_image = breaks

    return break_it


def board_lost(bench: StandIns, wire: Wire) -> None:
    wire.calls.clear()
    bench.library.inject("AlpProjStart", 1, ALP_ERROR_COMM)


def server_gone(bench: StandIns, wire: Wire) -> None:
    assert bench.server is not None
    wire.calls.clear()
    bench.server.fail("popNextImage", 3, "vanish")


ENDINGS: dict[str, tuple[Callable[[StandIns, Wire], None], type[BaseException], RunState]] = {
    "Ctrl-C": (amid_a_block(interrupt), KeyboardInterrupt, RunState.STOPPED),
    "SIGINT": (amid_a_block(partial(signal.raise_signal, signal.SIGINT)), KeyboardInterrupt, RunState.STOPPED),
    "board lost": (board_lost, DeviceVanishedError, RunState.FAILED),
    "server gone": (server_gone, DeviceNotFoundError, RunState.FAILED),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_is_broken_off_amid_a_block_ends_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(coherent_obis, "CoherentObis", partial(coherent_obis.CoherentObis, timeout_s=1.0))
    monkeypatch.setattr(micromanager_core, "connect_core", partial(micromanager_core.connect_core, call_timeout_s=1.0))
    breaks, cause, state = ENDINGS[name]
    config = whole_light_config(tmp_path)
    if name == "server gone":
        config = with_devices(config, detector={"wire": "zmq"}, light_source={"wire": "obis"})
    wire = Wire()
    watched = watch(monkeypatch, wire.tap)
    watched.before_block(3, lambda bench: breaks(bench, wire))
    with no_thread_left(), pytest.raises(cause):
        acquire(config, observer=observed(watched, wire))
    unreachable = ["disarmed"] if name == "server gone" else []
    assert wire.ending() == [each for each in ORDER if each not in unreachable]
    assert prove_stored(config).state is state
    assert StoredRun(config.output.run).committed.tolist() == [0, 1, 2]
    assert watched.misfiled == []
    at_rest(watched, camera_on=name == "server gone")


@pytest.mark.parametrize("where", ["consumer", "writer", "loader", "proof"])
def test_a_run_that_an_exception_ends_between_two_blocks_ends_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The camera is disarmed already, after the burst: what is left to end comes in the same order."""
    config = whole_light_config(tmp_path)
    wire = Wire()
    watched = watch(monkeypatch, wire.tap)
    breaks_in(where, monkeypatch, watched, config, wire)
    with no_thread_left(), pytest.raises(BrokeError):
        acquire(config, observer=observed(watched, wire))
    ending = wire.ending()
    assert ending == sorted(ending, key=ORDER.index)
    if where != "writer":  # which breaks in its own time, perhaps when much has ended already
        assert [each for each in ending if each != "disarmed"] == [each for each in ORDER if each != "disarmed"]
    run = prove_stored(config)
    assert run.state is RunState.FAILED
    assert "BrokeError" in run.facts["cause"]
    at_rest(watched)


def observed(watched: Watch, wire: Wire) -> Observer:
    def on_event(event: Event) -> None:
        wire.on_event(event)
        watched.note_event(event)

    return replace(watched.observer, on_event=on_event)


def breaks_in(
    where: str, monkeypatch: pytest.MonkeyPatch, watched: Watch, config: AcquisitionConfig, wire: Wire
) -> None:
    """Raise BrokeError there, about the run's middle."""

    def broken(*_: object) -> None:
        wire.calls.clear()
        raise BrokeError

    if where == "consumer":
        watched.before_block(4, broken)
    elif where == "writer":
        whole = RunStore.write_block
        monkeypatch.setattr(
            RunStore,
            "write_block",
            lambda store, readings: broken() if readings.block_number == 4 else whole(store, readings),
        )
    elif where == "loader":
        of_bank = set(planned(config).schedule.banks[2].coefficients.tolist())
        renderer = run_module._renderer

        def breaking(config: AcquisitionConfig) -> Callable[..., Any]:
            render = renderer(config)
            return lambda indices, *rest: broken() if of_bank & set(indices.tolist()) else render(indices, *rest)

        monkeypatch.setattr(run_module, "_renderer", breaking)
    else:
        prove = integrity.prove_alignment

        def refuses(block: Any, readings: Readings, *rest: Any) -> None:
            prove(block, readings, *rest)
            if readings.block_number == 4:
                broken()

        monkeypatch.setattr(run_module, "prove_alignment", refuses)


def test_a_run_that_finishes_lets_go_of_everything_in_order_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = whole_light_config(tmp_path)
    last = len(planned(config).schedule.blocks)
    wire = Wire()
    watched = watch(monkeypatch, wire.tap)
    watched.before_block(last - 1, lambda _: wire.calls.clear())
    with no_thread_left():
        acquire(config, observer=watched.observer)
    # The last bank is given back as soon as its last block is over; all else waits for the end.
    assert [each for each in wire.ending() if each not in ("disarmed", "bank freed")] == [
        "light off",
        "halted",
        "board freed",
    ]
    prove_finished(config)
    at_rest(watched)


# the command line


def written(config: AcquisitionConfig) -> Path:
    """The acquisition file; JSON is YAML."""
    file = config.output.run.with_suffix(".yaml")
    file.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    return file


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    """Of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["hadascope", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_exit_code_0_is_a_run_that_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = whole_light_config(tmp_path)
    watch(monkeypatch)
    assert exit_code(monkeypatch, "dry-run", written(config)) == 0
    prove_finished(config)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_exit_code_130_is_a_run_that_somebody_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    config = whole_light_config(tmp_path)
    watched = watch(monkeypatch, lambda bench: amid_a_run(bench, partial(signal.raise_signal, signal.Signals[name])))
    before = signal.getsignal(signal.Signals[name])
    assert exit_code(monkeypatch, "dry-run", written(config)) == cli_frame.INTERRUPTED
    assert "every committed block is kept" in capfd.readouterr().err
    assert signal.getsignal(signal.Signals[name]) is before
    assert prove_stored(config).state is RunState.STOPPED
    at_rest(watched)


def amid_a_run(bench: StandIns, happens: Callable[[], None], after_frames: int = 120) -> None:
    """Let something happen when so many frames of a run were read."""
    core: Any = bench.core
    pop, left = core.pop_next_image, after_frames

    def breaks() -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            happens()
        return pop()

    core.pop_next_image = breaks


def test_exit_code_1_is_a_run_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = whole_light_config(tmp_path)
    watched = watch(monkeypatch)
    whole = RunStore.write_block

    def full(store: RunStore, readings: Readings) -> None:
        if readings.block_number == 4:
            raise DiskFullError(errno.ENOSPC, "no space left on the disk of the output")
        whole(store, readings)

    monkeypatch.setattr(RunStore, "write_block", full)
    assert exit_code(monkeypatch, "dry-run", written(config)) == cli_frame.RUN_FAILED
    assert "no space left" in capfd.readouterr().err
    assert prove_stored(config).state is RunState.FAILED
    at_rest(watched)


def test_exit_code_2_is_an_acquisition_that_cannot_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = whole_light_config(tmp_path)
    file = written(config)
    file.write_text(file.read_text(encoding="utf-8").replace('"alpha": 0.5', '"alpha": 7'), encoding="utf-8")
    assert exit_code(monkeypatch, "dry-run", file) == cli_frame.BAD_INPUT
    assert not config.output.run.exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_request_to_stop_does_not_interrupt_the_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    config = whole_light_config(tmp_path)
    wire = Wire()
    again: list[str] = []

    def prepare(bench: StandIns) -> None:
        library: Any = bench.library
        halt, free = library.AlpProjHalt, library.AlpSeqFree

        def stop_again(method: Callable[..., int], *arguments: Any) -> int:
            if again:
                signal.raise_signal(signal.Signals[name])
            return method(*arguments)

        library.AlpProjHalt, library.AlpSeqFree = partial(stop_again, halt), partial(stop_again, free)
        wire.tap(bench)

        def first() -> None:
            wire.calls.clear()
            again.append(name)
            signal.raise_signal(signal.SIGINT)

        amid_a_run(bench, first)

    watched = watch(monkeypatch, prepare)
    assert exit_code(monkeypatch, "dry-run", written(config)) == cli_frame.INTERRUPTED
    assert "every committed block is kept" in capfd.readouterr().err
    assert wire.ending() == [each for each in ORDER if each != "marked"]
    assert prove_stored(config).state is RunState.STOPPED
    at_rest(watched)


def test_a_board_that_a_crashed_program_still_holds_explains_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    allocate = SimulatedAlpLibrary.AlpDevAlloc

    def held(library: SimulatedAlpLibrary, *arguments: Any) -> int:
        library.hold()
        return allocate(library, *arguments)

    monkeypatch.setattr(SimulatedAlpLibrary, "AlpDevAlloc", held)
    config = whole_light_config(tmp_path)
    assert exit_code(monkeypatch, "dry-run", written(config)) == cli_frame.RUN_FAILED
    said = capfd.readouterr().err
    assert "held by another program or by one that crashed" in said
    assert "unplug the board's USB cable or power-cycle it" in said
    assert not config.output.run.exists()


def test_a_board_that_cannot_be_given_back_is_said_and_everything_else_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = whole_light_config(tmp_path)
    watched = watch(monkeypatch, lambda bench: bench.library.inject("AlpDevFree", 1, ALP_ERROR_COMM))
    assert exit_code(monkeypatch, "dry-run", written(config)) == cli_frame.RUN_FAILED
    assert "the board stays allocated" in capfd.readouterr().err
    run = prove_stored(config)
    assert run.committed.tolist() == list(range(run.n_blocks))
    assert run.state is RunState.FAILED
    assert not watched.bench.bench.light_on
    assert not watched.bench.bench.is_displaying()


# processes of their own


def paced(folder: Path) -> AcquisitionConfig:
    """A run of many seconds, in real time."""
    config = whole_light_config(
        folder, timing={"picture_time_us": 5000, "illumination_time_us": 4500}, bench={"pace": 1.0}
    )
    return config.replace(
        blocks=config.blocks.model_copy(update={"longest_block_s": 0.2}),
        sensing=config.sensing.model_copy(update={"repeats": 40}),
    )


@POSIX_ONLY
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_process_that_is_asked_to_end_ends_in_order(tmp_path: Path, name: str) -> None:
    config = paced(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "acquisition.cli", "dry-run", str(written(config))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (config.output.run.exists() and len(StoredRun(config.output.run).committed)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=60)
    assert process.returncode == cli_frame.INTERRUPTED
    assert "every committed block is kept" in said
    run = prove_stored(config)
    assert run.state is RunState.STOPPED
    assert 0 < len(run.committed) < run.n_blocks


SERVER_HANGS = """
import sys
from dataclasses import replace
from functools import partial
from acquisition import cli
from devices import micromanager_core
from sim_devices.micromanager_server import MicroManagerServer

start = MicroManagerServer.start

def start_and_hang(server):
    started = start(server)
    server.fail("popNextImage", 60, "{how}")
    return started

MicroManagerServer.start = start_and_hang
MicroManagerServer.stop = lambda server: None  # another program's server does not end with this one
micromanager_core.connect_core = partial(micromanager_core.connect_core, call_timeout_s=1.0)
sys.argv = ["hadascope", "dry-run", sys.argv[1]]
cli.main()
"""


@pytest.mark.parametrize("how", ["hang", "vanish"])
def test_a_process_whose_server_has_gone_ends_by_itself(tmp_path: Path, how: str) -> None:
    config = with_devices(whole_light_config(tmp_path), detector={"wire": "zmq"})
    ended = subprocess.run(
        [sys.executable, "-c", SERVER_HANGS.format(how=how), str(written(config))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == cli_frame.RUN_FAILED, ended.stderr
    assert "Micro-Manager server" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert StoredRun(config.output.run).state is RunState.FAILED
