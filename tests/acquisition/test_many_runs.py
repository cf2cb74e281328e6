"""A hundred acquisitions in one process, ended in every way: no thread, socket, file or memory is left over."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.config import AcquisitionConfig
from acquisition.problems import AcquisitionFileError
from acquisition.run import acquire, resume
from acquisition.run_layout import RunState
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from devices.errors import DetectorTimeoutError, DeviceVanishedError
from sim_devices.faults import DoubledTrigger, LostTrigger
from tests.acquisition.bench_record import (
    Footprint,
    Watch,
    at_rest,
    prove_finished,
    prove_stored,
    threads_since,
    watch,
    whole_light_config,
    with_devices,
)

N_RUNS = 100
MOST_GROWTH_BYTES = 32 * 2**20


def tiny(folder: Path, wire: str, light: str) -> AcquisitionConfig:
    config = whole_light_config(
        folder, sensing={"side": 8, "repeats": 2, "alpha": 0.25, "mask": {"kind": "low-sequency"}}
    )
    return with_devices(config, detector={"wire": wire, "arming_ms": 0.0}, light_source={"wire": light})


def finishes(config: AcquisitionConfig, watched: Watch) -> None:
    acquire(config, observer=watched.observer)
    prove_finished(config)


def is_repaired(config: AcquisitionConfig, watched: Watch) -> None:
    watched.prepare = lambda bench: bench.bench.inject(LostTrigger(1, 7), DoubledTrigger(3, 2))
    acquire(config, observer=watched.observer)
    assert len(watched.repeats()) == 2
    prove_finished(config)


def is_interrupted_and_resumed(config: AcquisitionConfig, watched: Watch) -> None:
    def interrupt(bench: StandIns) -> None:
        raise KeyboardInterrupt

    watched.before_block(2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=watched.observer)
    assert prove_stored(config).state is RunState.STOPPED
    resume(config.output.run, observer=watched.observer)
    prove_finished(config)


def never_gets_a_block_right(config: AcquisitionConfig, watched: Watch) -> None:
    watched.prepare = lambda bench: bench.bench.inject(*(LostTrigger(each, 3) for each in range(2, 6)))
    fails(config, watched, DetectorTimeoutError)


def loses_its_board(config: AcquisitionConfig, watched: Watch) -> None:
    watched.before_block(1, lambda bench: bench.library.inject("AlpProjStart", 1, 1011))
    fails(config, watched, DeviceVanishedError)


def is_refused(config: AcquisitionConfig, watched: Watch) -> None:
    with pytest.raises(AcquisitionFileError):
        acquire(config.replace(sensing=config.sensing.model_copy(update={"alpha": 1e-6})), observer=watched.observer)
    assert not config.output.run.exists()


def fails(config: AcquisitionConfig, watched: Watch, cause: type[Exception]) -> None:
    with pytest.raises(cause):
        acquire(config, observer=watched.observer)
    assert StoredRun(config.output.run).state is RunState.FAILED
    prove_stored(config)


ENDINGS: tuple[Callable[[AcquisitionConfig, Watch], None], ...] = (
    finishes,
    is_repaired,
    is_interrupted_and_resumed,
    never_gets_a_block_right,
    loses_its_board,
    is_refused,
)


def test_a_hundred_acquisitions_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wires = [("direct", "shutter")] * 6 + [("direct", "obis"), ("zmq", "shutter"), ("zmq", "obis"), ("direct", "sc10")]
    orders = np.random.default_rng(3).permutation(N_RUNS)
    early: Footprint | None = None
    for number in range(N_RUNS):
        ending = ENDINGS[int(orders[number]) % len(ENDINGS)]
        wire, light = wires[number % len(wires)]
        config = tiny(tmp_path / f"run{number}", wire, light)
        with monkeypatch.context() as patched:
            watched = watch(patched, margin_s=0.05, picture=number % 25 == 0)
            ending(config, watched)
            assert watched.misfiled == []
            if watched.benches:
                at_rest(watched)
        del watched
        gc.collect()  # a bench and the detector that watches it hold each other
        if number == N_RUNS // 5:  # what libraries keep for ever is there by now
            early = Footprint.now()
    end = Footprint.now()
    assert early is not None
    print(f"{early.rss_bytes >> 20} MB after {N_RUNS // 5} runs, {end.rss_bytes >> 20} MB after {N_RUNS}")
    assert threads_since(early.threads) == []
    assert end.handles <= early.handles
    assert end.open_files <= early.open_files
    assert end.sockets <= early.sockets
    assert end.rss_bytes - early.rss_bytes < MOST_GROWTH_BYTES
