"""Runs beside the bench's own record: under which picture was every reading taken, and what is left when a run ends."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition import run as run_module
from acquisition.bank import Block
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import PlayRules, RunTimeouts
from acquisition.events import Event, EventKind
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.run_layout import RunState
from acquisition.run_rules import play_rules
from acquisition.schedule import Schedule
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from devices.errors import AlpCallError
from tests.acquisition.rehearsal import asymmetric_sample, small_config

ALP_OK = 0
MEMORY_PICTURES = 128
BEFORE_ANY_BANK = -1
# Threads that libraries keep for the life of the process.
_KEPT_THREADS = ("asyncio_", "zarr_", "zarr-", "ThreadPoolExecutor", "tqdm")


def whole_light_config(folder: Path, side: int = 8, **changes: dict[str, Any]) -> AcquisitionConfig:
    """A run in ``folder`` without noise whose sample is whole detector units, so that every reading is exact.

    Banks of a few blocks, blocks of two sections: guards stand at both ends of a block and inside.
    """
    image = asymmetric_sample(side)
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / "sample.tif", image)
    sections: dict[str, dict[str, Any]] = {
        "sensing": {"side": side, "repeats": 2, "alpha": 0.5, "mask": {"kind": "low-sequency"}},
        "sample": {"image": str(folder / "sample.tif")},
        "blocks": {"guard_interval": 4, "longest_block_s": 0.0035, "dark_exposures": 4, "first_bank_pictures": 40},
        "bench": {"photoelectrons_per_px": float(image.mean())},
        "output": {"run": str(folder / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    document = small_config(**sections)
    projector = document.devices.projector.model_copy(update={"memory_pictures": MEMORY_PICTURES})
    return document.replace(devices=document.devices.model_copy(update={"projector": projector}))


def with_devices(config: AcquisitionConfig, **changes: dict[str, Any]) -> AcquisitionConfig:
    """The same run with other keys of its projector, detector or light_source."""
    document = config.model_dump(mode="json")
    for device, keys in changes.items():
        document["devices"][device].update(keys)
    return AcquisitionConfig.model_validate(document)


def planned(config: AcquisitionConfig) -> SensingPlan:
    """What a run of the configuration will play."""
    return plan_sensing(config, sample_on_stage(config))


def dense_coefficients(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z = H_N x of an image [n, n], float64 [N], from the dense matrix."""
    return np.asarray(hadamard(image.size).astype(np.float64) @ image.ravel())


@dataclass(frozen=True)
class Sighting:
    """An accepted block on the bench's record.

    projection: the bench's number of it, the dark level's being 0; wrong_pairs, wrong_guards: readings that were taken
    under another picture than the one they are filed under.
    """

    block: int
    projection: int
    wrong_pairs: int
    wrong_guards: int


class Watch:
    """Holds on to every bench that runs connect, looks at each accepted block, and lets things happen before one.

    prepare: called with the stand-ins of the first bench, before anything is played; free_pictures: room in the
    board's memory when the latest run had let go of its banks, before it let go of the board.
    """

    def __init__(self, prepare: Callable[[StandIns], None] | None = None) -> None:
        self.benches: list[StandIns] = []
        self.schedule: Schedule | None = None
        self.sightings: list[Sighting] = []
        self.events: list[Event] = []
        self.free_pictures: int | None = None
        self._reads_stored_blocks = False
        self.prepare = prepare
        self._before: dict[int, Callable[[StandIns], None]] = {}

    @property
    def bench(self) -> StandIns:
        """The bench of the latest run."""
        return self.benches[-1]

    @property
    def observer(self) -> Observer:
        return Observer(on_schedule=self.note_schedule, on_block=self.look, on_event=self.note_event)

    @property
    def misfiled(self) -> list[Sighting]:
        """The blocks that were accepted with a reading under another picture than the one it is filed under."""
        return [each for each in self.sightings if each.wrong_pairs or each.wrong_guards]

    def repeats(self) -> list[tuple[int, str]]:
        """Number and cause of every block that was played again."""
        again = [event for event in self.events if event.kind is EventKind.BLOCK_REPEATED]
        return [(event.facts["block"], event.facts["cause"]) for event in again]

    def before_block(self, block: int, happens: Callable[[StandIns], None]) -> None:
        """Let something happen once, when every block before this one has been accepted and its bank is loaded.

        block: its number, or BEFORE_ANY_BANK.
        """
        self._before[block] = happens

    @contextmanager
    def connected(self, config: AcquisitionConfig, sample: NDArray[np.float64] | None) -> Iterator[ConnectedDevices]:
        """What a run connects to, seen."""
        with connected_devices(config, sample) as devices:
            self.benches.append(devices.stand_ins)
            if self.prepare is not None:
                prepare, self.prepare = self.prepare, None
                prepare(devices.stand_ins)
            try:
                yield devices
            finally:
                with suppress(AlpCallError):
                    self.free_pictures = devices.projector.info.free_pictures

    def note_schedule(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def note_event(self, event: Event) -> None:
        self.events.append(event)
        if event.kind is EventKind.DARK_LEVEL:
            self._let_happen(BEFORE_ANY_BANK)
        if event.kind is EventKind.RESUMED:
            self._reads_stored_blocks = True
        if event.kind is EventKind.BANK:
            self._reads_stored_blocks = False
            self._let_happen(0)

    def look(self, readings: Readings) -> None:
        assert self.schedule is not None
        block = self.schedule.blocks[readings.block_number]
        if not self._reads_stored_blocks:
            self.sightings.append(sighted(block, self.bench))
        self._let_happen(readings.block_number + 1)

    def _let_happen(self, block: int) -> None:
        happens = self._before.pop(block, None)
        if happens is not None:
            happens(self.bench)


def sighted(block: Block, bench: StandIns) -> Sighting:
    """A block that was just accepted: its frames are the last ones that were popped."""
    projection = bench.bench.record[-1]
    places = bench.core.delivered[-block.n_exposures :] - projection.first_exposure
    there = (places >= 0) & (places < projection.n_exposures)
    pictures = np.where(there, projection.pictures[np.clip(places, 0, projection.n_exposures - 1)], -1)
    wrong = (pictures != block.first_picture + np.arange(block.n_exposures)) | (not projection.light_on)
    guards = np.zeros(block.n_exposures, dtype=bool)
    guards[block.guard_exposures] = True
    number = bench.bench.n_projections - 1
    return Sighting(block.number, number, int((wrong & ~guards).sum()), int((wrong & guards).sum()))


def watch(
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[StandIns], None] | None = None,
    *,
    margin_s: float = 0.15,
    picture: bool = False,
) -> Watch:
    """Watch all runs of a test; time-outs of bursts are short, and no picture is drawn unless asked for."""
    watched = Watch(prepare)

    def rules(config: AcquisitionConfig) -> PlayRules:
        return replace(play_rules(config), timeouts=RunTimeouts(margin_s=margin_s, readout_s=0.0005))

    monkeypatch.setattr(run_module, "connected_devices", watched.connected)
    monkeypatch.setattr(run_module, "play_rules", rules)
    if not picture:
        monkeypatch.setattr(run_module, "draw_result", lambda *_: None)
    return watched


def prove_stored(config: AcquisitionConfig) -> StoredRun:
    """Hold every committed reading of a run against the dense matrix; the run."""
    run = StoredRun(config.output.run)
    image = sample_on_stage(config)
    assert image is not None
    schedule, coefficients, total = planned(config).schedule, dense_coefficients(image), float(image.sum())
    for readings in run.blocks():
        block = schedule.blocks[readings.block_number]
        assert (readings.index == block.coefficients).all()
        assert (readings.plus == np.rint((total + coefficients[block.coefficients]) / 2)).all()
        assert (readings.minus == np.rint((total - coefficients[block.coefficients]) / 2)).all()
        assert (readings.bright == np.rint(total)).all()
        assert (readings.dark == 0).all()
    return run


def prove_finished(config: AcquisitionConfig) -> StoredRun:
    """The same of a run that finished: every coefficient was measured as often as scheduled, and rightly."""
    run = prove_stored(config)
    schedule = planned(config).schedule
    assert run.state is RunState.FINISHED
    assert run.committed.tolist() == list(range(len(schedule.blocks)))
    image = sample_on_stage(config)
    assert image is not None
    measured = schedule.repeats > 0
    assert (statistics(run)["count"] == schedule.repeats).all()
    assert np.allclose(statistics(run)["mean"][measured], dense_coefficients(image)[measured], rtol=0, atol=1e-6)
    return run


def statistics(run: StoredRun) -> dict[str, NDArray[Any]]:
    """What a finished run holds beyond its readings, by name."""
    group = zarr.open_group(run.path, mode="r")
    names = ("statistics/count", "statistics/mean", "statistics/variance", "images/wiener/0", "images/image/0")
    found = {}
    for name in names:
        array = group[name]
        assert isinstance(array, zarr.Array)
        found[name.split("/")[1]] = np.asarray(array[:])
    return found


def at_rest(
    watched: Watch, *, light_on: bool = False, camera_on: bool = False, memory_pictures: int = MEMORY_PICTURES
) -> None:
    """Nothing is displayed, the light is off, the camera stopped, every bank was freed and the board is free.

    light_on, camera_on: where what drives them has gone, they are as they were.
    """
    bench = watched.bench
    assert not bench.bench.is_displaying()
    assert bench.bench.light_on is light_on
    assert bench.core.is_sequence_running() is camera_on
    assert watched.free_pictures == memory_pictures
    device = ctypes.c_ulong(0)
    assert bench.library.AlpDevAlloc(0, 0, ctypes.byref(device)) == ALP_OK, "the board is not free"
    assert bench.library.AlpDevFree(device) == ALP_OK


@contextmanager
def no_thread_left() -> Iterator[None]:
    """No thread that was started inside runs afterwards, but those that libraries keep."""
    before = frozenset(threading.enumerate())
    yield
    assert threads_since(before) == []


def threads_since(before: frozenset[threading.Thread]) -> list[str]:
    """Names of the threads that have come since and are still there, but those that libraries keep."""
    return [
        thread.name
        for thread in threading.enumerate()
        if thread not in before and not thread.name.startswith(_KEPT_THREADS)
    ]


@dataclass(frozen=True)
class Footprint:
    """What the process holds."""

    rss_bytes: int
    handles: int
    open_files: int
    sockets: int
    threads: frozenset[threading.Thread]

    @classmethod
    def now(cls) -> Footprint:
        gc.collect()
        process = psutil.Process()
        return cls(
            process.memory_info().rss,
            process.num_handles() if psutil.WINDOWS else process.num_fds(),
            len(process.open_files()),
            len(process.net_connections()),
            frozenset(threading.enumerate()),
        )
