"""Processes that are killed at random moments: the run they leave is readable, interrupted, and resumed bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from acquisition import run as run_module
from acquisition.config import AcquisitionConfig
from acquisition.events import Event, EventKind
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.resumption import NothingToResumeError
from acquisition.run import acquire, resume
from acquisition.run_layout import RunState
from acquisition.stored_run import StoredRun
from tests.acquisition.bench_record import planned, statistics
from tests.acquisition.rehearsal import asymmetric_sample, small_config

EARLY_KILLS, KILLS, KILLED_TWICE = 4, 16, 4
# Libraries are warmed up for some tenths of a second, then there is light for more than one.
LONGEST_S = 1.4
_PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs in this process; drawing takes longer than measuring."""
    monkeypatch.setattr(run_module, "draw_result", lambda *_: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def config(folder: Path) -> AcquisitionConfig:
    """About a second of light, in blocks of a twentieth of one and several banks; noise, bleaching, background."""
    image = asymmetric_sample(16)
    tifffile.imwrite(folder / "sample.tif", image)
    document = small_config(
        sample={"image": str(folder / "sample.tif")},
        sensing={"side": 16, "alpha": 0.5, "repeats": 3},
        timing={"picture_time_us": 1000, "illumination_time_us": 900},
        blocks={"guard_interval": 8, "longest_block_s": 0.05, "first_bank_pictures": 100},
        noise={"gain": 2.0, "variance": 50.0},
        bench={
            "shot_noise": True,
            "seed": 5,
            "bleaching_per_s": 0.5,
            "background_photoelectrons": 40.0,
            "photoelectrons_per_px": 100.0,
            "pace": 1.0,
        },
        reconstruction={"estimator": "pair-ratio", "tv_weight": 0.6},
        output={"run": str(folder / "whole.zarr")},
    )
    devices = document.devices
    projector = devices.projector.model_copy(update={"memory_pictures": 300})
    detector = devices.detector.model_copy(update={"arming_ms": 1.0})
    return document.replace(devices=devices.model_copy(update={"projector": projector, "detector": detector}))


@pytest.fixture(scope="module")
def whole(config: AcquisitionConfig) -> StoredRun:
    """The run that nobody kills; at no pace, which changes no reading."""
    acquire(config.replace(bench=config.bench.model_copy(update={"pace": 0.0})))
    run = StoredRun(config.output.run)
    assert run.n_blocks > 12
    assert len(planned(config).schedule.banks) > 2
    assert 1.0 < run.n_exposures * 1e-3 < LONGEST_S
    return run


def command(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "acquisition.cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def dry_run(config: AcquisitionConfig, run: Path) -> subprocess.Popen[bytes]:
    file = run.with_suffix(".yaml")
    file.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")  # JSON is YAML
    return command("dry-run", file, "--output", run)


def kill_when_under_light(process: subprocess.Popen[bytes], run: Path, after_s: float) -> None:
    """Wait until the process writes the run, then so long, and kill it."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (run / "events.jsonl").exists():
        assert process.poll() is None, "the run ended by itself before it began"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(after_s)
    process.kill()
    process.wait()


def same_readings(one: StoredRun, other: StoredRun) -> bool:
    """Whether every reading of every block is the same, bit for bit."""
    return all(
        np.array_equal(getattr(block, name), getattr(twin, name))
        for block, twin in zip(one.blocks(), other.blocks(), strict=True)
        for name in ("index", "plus", "minus", "guards", "pass_number")
    )


def prove_the_same(run: StoredRun, whole: StoredRun) -> None:
    assert run.state is RunState.FINISHED
    assert same_readings(run, whole)
    for name, values in statistics(whole).items():
        assert np.array_equal(statistics(run)[name], values, equal_nan=True), name


def moments(seed: int, n: int, longest_s: float) -> list[tuple[int, float]]:
    """So many random moments, s; the same ones each time, so that a failure can be looked into."""
    return list(enumerate(np.random.default_rng(seed).uniform(0, longest_s, n).tolist()))


@pytest.mark.parametrize(("number", "after_s"), moments(1, KILLS, LONGEST_S))
def test_a_run_that_was_killed_under_light_is_resumed_as_if_nothing_had_been(
    folder: Path, config: AcquisitionConfig, whole: StoredRun, number: int, after_s: float
) -> None:
    path = folder / f"killed{number}.zarr"
    kill_when_under_light(dry_run(config, path), path, after_s)
    run = StoredRun(path)
    assert run.state is RunState.INTERRUPTED
    committed = run.committed.tolist()
    assert committed == list(range(len(committed)))
    if number < KILLED_TWICE:
        # … and killed again while it is resumed.
        process = command("resume", path)
        deadline = time.monotonic() + _PATIENCE_S
        while "resumed" not in StoredRun(path).facts and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(after_s / 3)
        process.kill()
        process.wait()
        assert len(StoredRun(path).committed) >= len(committed)
    try:
        resume(path)
    except NothingToResumeError:
        assert number < KILLED_TWICE  # it had finished before it was killed again
    prove_the_same(StoredRun(path), whole)


@pytest.mark.parametrize(("number", "after_s"), moments(2, EARLY_KILLS, 3.0))
def test_a_run_that_was_killed_at_any_moment_since_its_start_can_be_resumed_or_started_anew(
    folder: Path, config: AcquisitionConfig, whole: StoredRun, number: int, after_s: float
) -> None:
    path = folder / f"early{number}.zarr"
    process = dry_run(config, path)
    time.sleep(after_s)
    process.kill()
    process.wait()
    if not path.exists():
        acquire(config.replace(output=config.output.model_copy(update={"run": path})))
    elif StoredRun(path).state is RunState.INTERRUPTED:
        resume(path)
    prove_the_same(StoredRun(path), whole)


def test_a_run_goes_on_with_the_times_that_it_would_have_had_wherever_it_was_broken_off(
    folder: Path, config: AcquisitionConfig, whole: StoredRun
) -> None:
    """At the beginning, at the first block of a bank, amid a bank: the bench's clock, uploads and all, goes on."""
    unpaced = config.replace(bench=config.bench.model_copy(update={"pace": 0.0}))
    blocks = planned(config).schedule.blocks
    second_bank = next(block.number for block in blocks if block.bank.number == 1)
    for number in (0, 1, second_bank, second_bank + 1):
        path = folder / f"stopped{number}.zarr"

        def stop_there(readings: Readings, last: int = number - 1) -> None:
            if readings.block_number == last:
                raise KeyboardInterrupt

        def stop_before_the_first(event: Event, at_once: bool = number == 0) -> None:
            if at_once and event.kind is EventKind.BANK:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            acquire(
                unpaced.replace(output=config.output.model_copy(update={"run": path})),
                observer=Observer(on_block=stop_there, on_event=stop_before_the_first),
            )
        assert len(StoredRun(path).committed) == number
        resume(path)
        for block, twin in zip(whole.blocks(), StoredRun(path).blocks(), strict=True):
            assert np.array_equal(block.time_us, twin.time_us), (number, block.block_number)
            assert block.bench_state == twin.bench_state, (number, block.block_number)
