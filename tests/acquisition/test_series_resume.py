"""A series that was broken off goes on event by event, and becomes the uninterrupted one bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from acquisition import series as series_module
from acquisition.config import AcquisitionConfig
from acquisition.events import EventKind, read_events
from acquisition.observer import Observer
from acquisition.ome_images import plane_of
from acquisition.reconstruction import reconstruct
from acquisition.resumption import NothingToResumeError, PartOfSeriesError
from acquisition.run import resume
from acquisition.run_layout import NotARunError, RunState
from acquisition.run_lock import RunInUseError, lock_run, unlock_run
from acquisition.series import acquire_series, resume_series
from acquisition.series_store import SeriesStore
from acquisition.stored_models import DifferentRunError
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, event_path
from tests.acquisition.real_bench import RealBench
from tests.acquisition.series_bench import Moves, StopAt, all_arrays, must_be_the_same, series_config, watch_moves

# Beside the start, two channels, an interval that has to be waited for, and a plane above where the focus stands.
MDA: dict[str, Any] = {
    "axis_order": "tpcz",
    "time_plan": {"interval": 3, "loops": 2},
    "stage_positions": [{"x": 3, "y": 1}],
    "channels": ["FITC", "TRITC"],
    "z_plan": {"relative": [1.0]},
}
N_EVENTS = 4


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    return watch_moves(monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> AcquisitionConfig:
    """The series that nobody breaks off."""
    config = series_config(tmp_path_factory.mktemp("whole"), MDA)
    with pytest.MonkeyPatch.context() as patched:
        watch_moves(patched)
        acquire_series(config)
    return config


@pytest.fixture(scope="module")
def whole_arrays(whole: AcquisitionConfig) -> dict[str, NDArray[Any]]:
    arrays = all_arrays(whole.output.run)
    assert {"0/0", "events/t001_p000_c001_z000/readings/plus"} <= set(arrays)
    return arrays


def broken_off(folder: Path, stop: StopAt, mda: dict[str, Any] | None = None) -> AcquisitionConfig:
    config = series_config(folder, MDA if mda is None else mda)
    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=stop.observer)
    assert StoredSeries(config.output.run).state is RunState.STOPPED
    return config


def states(config: AcquisitionConfig) -> list[RunState | None]:
    return [state for _, state in StoredSeries(config.output.run).events]


@pytest.mark.parametrize(("event", "block"), [(0, None), (0, 0), (1, 1), (2, None), (2, 0), (3, 2)])
def test_wherever_a_series_was_broken_off_it_becomes_the_uninterrupted_one(
    tmp_path: Path, moves: Moves, whole_arrays: dict[str, NDArray[Any]], event: int, block: int | None
) -> None:
    config = broken_off(tmp_path, StopAt(event, block))
    finished: list[RunState | None] = [RunState.FINISHED] * event
    begun = [None] if block is None else [RunState.STOPPED]
    assert states(config) == [*finished, *begun, *[None] * (N_EVENTS - event - 1)]
    result = resume_series(config.output.run)
    assert result.n_events == N_EVENTS
    assert result.n_played == N_EVENTS - event
    assert StoredSeries(config.output.run).state is RunState.FINISHED
    assert states(config) == [RunState.FINISHED] * N_EVENTS
    must_be_the_same(config.output.run, whole_arrays)
    assert not any(moves.lit)


def test_the_times_of_a_series_go_on_where_they_stood(tmp_path: Path, moves: Moves, whole: AcquisitionConfig) -> None:
    config = broken_off(tmp_path, StopAt(2, 1))
    resume_series(config.output.run)
    for event in StoredSeries(whole.output.run).planned_events:
        found, wanted = (StoredRun(event_path(each.output.run, event)).facts["event"] for each in (config, whole))
        assert found == wanted


def test_a_series_that_was_broken_off_three_times_becomes_the_uninterrupted_one(
    tmp_path: Path, moves: Moves, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    config = broken_off(tmp_path, StopAt(1, 0))
    for stop in (StopAt(1, 2), StopAt(3)):
        with pytest.raises(KeyboardInterrupt):
            resume_series(config.output.run, observer=stop.observer)
    resume_series(config.output.run)
    must_be_the_same(config.output.run, whole_arrays)
    assert len(StoredSeries(config.output.run).facts["resumed"]) == 3


def test_an_event_that_was_deleted_is_acquired_again_and_the_others_are_left_alone(
    tmp_path: Path, moves: Moves, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    config = broken_off(tmp_path, StopAt(3))
    events = StoredSeries(config.output.run).planned_events
    for number in (0, 1):
        shutil.rmtree(event_path(config.output.run, events[number]))
    kept = event_path(config.output.run, events[2]) / "zarr.json"
    before = kept.read_bytes()
    assert states(config)[:4] == [None, None, RunState.FINISHED, None]
    resume_series(config.output.run)
    assert kept.read_bytes() == before
    must_be_the_same(config.output.run, whole_arrays)


def test_light_of_events_that_were_deleted_still_counts(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(2))
    lit = StoredSeries(config.output.run).facts["lit_by_place"]["0"]
    event = StoredSeries(config.output.run).planned_events[0]
    again = StoredRun(event_path(config.output.run, event)).lit_exposures
    shutil.rmtree(event_path(config.output.run, event))
    with pytest.raises(KeyboardInterrupt):
        resume_series(config.output.run, observer=StopAt(2).observer)
    assert StoredSeries(config.output.run).facts["lit_by_place"]["0"] == lit + again


def test_light_of_an_event_that_was_stopped_and_then_deleted_counts_too(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(1, 1))
    events = StoredSeries(config.output.run).planned_events
    runs = [StoredRun(event_path(config.output.run, event)) for event in events[:2]]
    lit = sum(run.lit_exposures for run in runs)
    assert runs[1].lit_exposures > 0
    shutil.rmtree(runs[1].path)
    assert StoredSeries(config.output.run).facts["lit_by_place"]["0"] == lit
    with pytest.raises(KeyboardInterrupt):
        resume_series(config.output.run, observer=StopAt(2).observer)
    again = StoredRun(runs[1].path).lit_exposures
    assert StoredSeries(config.output.run).facts["lit_by_place"]["0"] == lit + again


def test_what_somebody_moved_meanwhile_is_moved_back_before_a_series_goes_on(tmp_path: Path, lab: RealBench) -> None:
    """No event says anything of x and y: they are where the series began."""
    lab.core.set_xy_position(7.0, 8.0)
    document = lab.config(tmp_path / "run.zarr", output={"run": str(tmp_path / "run.zarr"), "snapshots": 0})
    mda = {"z_plan": {"absolute": [1.0, 2.0]}}
    config = AcquisitionConfig.model_validate({**document.model_dump(mode="json"), "mda": mda})
    say_yes = Observer(confirm=lambda _: True)
    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=replace(StopAt(1, 0).observer, confirm=say_yes.confirm))
    lab.core.set_xy_position(-50.0, 60.0)
    resume_series(config.output.run, observer=say_yes)
    assert (lab.core.get_x_position(), lab.core.get_y_position(), lab.core.get_position()) == (7.0, 8.0, 2.0)
    assert not any(lab.log.lit("set_xy_position") + lab.log.lit("set_position"))


def test_a_series_that_finished_goes_on_when_an_event_is_deleted_and_not_otherwise(
    tmp_path: Path, moves: Moves, whole: AcquisitionConfig, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    path = tmp_path / "series.zarr"
    shutil.copytree(whole.output.run, path)
    with pytest.raises(NothingToResumeError):
        resume_series(path)
    shutil.rmtree(event_path(path, StoredSeries(path).planned_events[-1]))
    resume_series(path)
    must_be_the_same(path, whole_arrays)


def test_a_plane_that_was_not_written_is_written_from_its_image_without_any_device(
    tmp_path: Path, moves: Moves, monkeypatch: pytest.MonkeyPatch, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    """The process died between the last image and its plane."""
    config = series_config(tmp_path, MDA)
    write_event = SeriesStore.write_event

    def dies_at_the_last(store: SeriesStore, event: Any, *planes: Any) -> None:
        if event.number == N_EVENTS - 1:
            raise KeyboardInterrupt
        write_event(store, event, *planes)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SeriesStore, "write_event", dies_at_the_last)
        acquire_series(config)
    last = event_path(config.output.run, StoredSeries(config.output.run).planned_events[-1])
    mark(last, state="finished")
    lit = StoredSeries(config.output.run).facts["lit_by_place"]["0"]
    mark(config.output.run, state="running", lit_by_place={"0": lit - 1})
    assert StoredSeries(config.output.run).state is RunState.INTERRUPTED

    def never(*_: object) -> None:
        raise AssertionError("a device was touched")

    monkeypatch.setattr(series_module, "connected_devices", never)
    resume_series(config.output.run)
    assert StoredSeries(config.output.run).facts["lit_by_place"]["0"] == lit
    must_be_the_same(config.output.run, whole_arrays)
    with pytest.raises(NothingToResumeError):
        resume_series(config.output.run)


def mark(path: Path, **facts: Any) -> None:
    """What a killed process leaves: marks that nobody could change."""
    document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    document["attributes"]["hadascope"].update(facts)
    (path / "zarr.json").write_text(json.dumps(document), encoding="utf-8")


def test_an_event_whose_image_alone_is_missing_is_reconstructed_and_the_bench_goes_on_after_it(
    tmp_path: Path, moves: Moves, monkeypatch: pytest.MonkeyPatch, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    config = series_config(tmp_path, MDA)
    calls = []

    def fails_at_the_third(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise RuntimeError("no memory for the image")
        return reconstruct(*arguments)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="no memory"):
        patched.setattr("acquisition.run.reconstruct", fails_at_the_third)
        acquire_series(config)
    assert states(config)[:4] == [RunState.FINISHED, RunState.FINISHED, RunState.FAILED, None]
    assert "no memory for the image" in StoredSeries(config.output.run).facts["cause"]
    resume_series(config.output.run)
    must_be_the_same(config.output.run, whole_arrays)


def test_a_process_that_is_killed_leaves_a_series_that_goes_on(
    tmp_path: Path, moves: Moves, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    config = series_config(tmp_path, MDA)
    file = tmp_path / "series.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json")), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "acquisition.cli", "dry-run", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    third = config.output.run / "events" / "t001_p000_c000_z000" / "events.jsonl"
    deadline = time.monotonic() + 60
    while not third.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert StoredSeries(config.output.run).state is RunState.INTERRUPTED
    resume_series(config.output.run)
    # Light that a killed process may have given counts, though nobody can tell.
    commits = "events/t001_p000_c000_z000/readings/commits"
    found = all_arrays(config.output.run)
    assert (found[commits][:, :5] == whole_arrays[commits][:, :5]).all()
    must_be_the_same(config.output.run, {**whole_arrays, commits: found[commits]})


def test_a_series_that_was_moved_goes_on_where_it_is(
    tmp_path: Path, moves: Moves, whole_arrays: dict[str, NDArray[Any]]
) -> None:
    config = broken_off(tmp_path, StopAt(2, 1))
    moved = tmp_path / "elsewhere" / "moved.zarr"
    moved.parent.mkdir()
    config.output.run.rename(moved)
    assert resume_series(moved).series == moved
    must_be_the_same(moved, whole_arrays)
    assert not config.output.run.exists()


def test_one_image_of_a_series_does_not_go_on_alone(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(1, 0))
    event = event_path(config.output.run, StoredSeries(config.output.run).planned_events[1])
    with pytest.raises(PartOfSeriesError, match="hadascope resume"):
        resume(event)
    assert StoredRun(event).state is RunState.STOPPED
    with pytest.raises(NotARunError, match="holds a series of images"):
        resume(config.output.run)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("sensing", "seed", 9), ("mda", "z_plan", {"relative": [2.0]}), ("mda", "channels", ["FITC"])],
)
def test_a_changed_file_is_refused_by_its_key(tmp_path: Path, moves: Moves, section: str, key: str, value: Any) -> None:
    config = broken_off(tmp_path, StopAt(1))
    document = config.model_dump(mode="json")
    document[section][key] = value
    before = all_arrays(config.output.run)
    with pytest.raises(DifferentRunError, match=rf"{section}\.{key}"):
        resume_series(config.output.run, AcquisitionConfig.model_validate(document))
    assert StoredSeries(config.output.run).state is RunState.STOPPED
    assert set(all_arrays(config.output.run)) == set(before)


def test_the_same_file_goes_on(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(3))
    resume_series(config.output.run, config)
    assert StoredSeries(config.output.run).state is RunState.FINISHED
    kinds = [event.kind for event in read_events(config.output.run)]
    assert kinds.count(EventKind.STARTED) == kinds.count(EventKind.RESUMED) == 1
    assert kinds.count(EventKind.IMAGE) == N_EVENTS
    assert kinds[-1] is EventKind.FINISHED


def test_a_damaged_event_says_what_to_do(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(2))
    stored = StoredSeries(config.output.run)
    damaged = event_path(config.output.run, stored.planned_events[1])
    (damaged / "zarr.json").write_text("{", encoding="utf-8")
    assert states(config)[:3] == [RunState.FINISHED, None, None]
    with pytest.raises(NotARunError) as error:
        resume_series(config.output.run)
    assert any("delete" in note and str(damaged) in note for note in error.value.__notes__)
    shutil.rmtree(damaged)
    resume_series(config.output.run)
    assert StoredSeries(config.output.run).state is RunState.FINISHED


def test_a_series_that_another_process_writes_is_left_alone(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(1))
    lock = lock_run(config.output.run)
    try:
        with pytest.raises(RunInUseError):
            resume_series(config.output.run)
    finally:
        unlock_run(lock)


def test_planes_are_missing_until_their_event_has_finished(tmp_path: Path, moves: Moves) -> None:
    config = broken_off(tmp_path, StopAt(1, 0))
    image = zarr.open_group(config.output.run / "0", mode="r")
    assert np.isfinite(plane_of(image, (0, 0, 0))).all()
    assert np.isnan(plane_of(image, (0, 1, 0))).all()
