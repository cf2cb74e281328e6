"""A stored run is shown as it is, also while it is written, half written, replaced or deleted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.evidence import EvidenceCollector
from acquisition.live_view import stored_view
from acquisition.live_view.state import ViewState
from acquisition.live_view.stored_feed import StoredFeed
from acquisition.observer import Observer, Place
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.readings import Readings
from acquisition.reconstruction import reconstruct
from acquisition.run import acquire
from acquisition.run_layout import NotARunError
from acquisition.series import acquire_series
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, event_path
from tests.acquisition.bench_record import no_thread_left, whole_light_config
from tests.acquisition.live_view.test_viewed_runs import free_port, sequency_map
from tests.acquisition.live_view.viewer import TIMEOUT_S, Viewer, ask
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.series_bench import series_config

ROOT = Path(__file__).parents[3]


def a_config(folder: Path, **sensing: int) -> AcquisitionConfig:
    return whole_light_config(
        folder, sensing={"repeats": 6, **sensing}, blocks={"longest_block_s": 0.01}, output={"snapshots": 0}
    )


def feed_of(path: Path) -> StoredFeed:
    return StoredFeed(path, poll_s=0.01)


def shown(feed: StoredFeed, is_so: Callable[[ViewState], bool]) -> ViewState:
    """The first state of which this is so."""
    until_s = time.monotonic() + TIMEOUT_S
    while not is_so(state := feed.state()):
        assert time.monotonic() < until_s, state
        time.sleep(0.005)
    return state


def array(state: ViewState, name: str) -> NDArray[Any]:
    return next(each.values for each in state.arrays if each.name == name)


def names(state: ViewState) -> set[str]:
    return {each.name for each in state.arrays}


def warned_of(text: str) -> Callable[[ViewState], bool]:
    return lambda state: any(text in remark.text for remark in state.warnings)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = a_config(tmp_path_factory.mktemp("stored"))
    acquire(config)
    return config.output.run


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A run to damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy.zarr"))


def interrupted_after(config: AcquisitionConfig, n_blocks: int) -> Path:
    def stop(readings: Readings) -> None:
        if readings.block_number == n_blocks - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    return config.output.run


def test_a_finished_run_shows_its_stored_image_and_all_of_its_readings(finished: Path) -> None:
    run = StoredRun(finished)
    with no_thread_left(), feed_of(finished) as feed:
        state = shown(feed, lambda state: names(state) >= {"image", "counts"})
        assert (state.state, state.pairs, state.blocks) == ("finished", run.n_pairs, run.n_blocks)
        assert state.pairs_total == run.n_pairs
        assert np.array_equal(array(state, "image"), run.image("image").astype(np.float32))
        assert np.array_equal(array(state, "counts"), sequency_map(run))
        assert (state.can_stop, state.left_s, state.lit_exposures) == (False, None, run.lit_exposures)
        why_not = feed.stop()
    assert why_not is not None
    assert "only reads" in why_not


def test_a_run_that_did_not_finish_is_reconstructed_from_what_was_committed(tmp_path: Path) -> None:
    config = a_config(tmp_path)
    run = StoredRun(interrupted_after(config, 3))
    collector = EvidenceCollector(64, float(run.dark.mean()))
    for readings in run.blocks():
        collector.add(readings)
    expected = reconstruct(collector.snapshot(), config)
    with feed_of(run.path) as feed:
        state = shown(feed, lambda state: "image" in names(state))
    assert (state.state, state.blocks, state.pairs) == ("stopped", 3, run.n_pairs)
    assert np.array_equal(array(state, "image"), expected.image.astype(np.float32))
    assert state.quality == expected.said_of_quality(float(expected.image.max()))


def test_new_blocks_of_a_run_that_is_being_written_are_added(tmp_path: Path) -> None:
    """The run is played in this process; what is stored is all that the view knows of it."""
    seen: list[ViewState] = []
    config = a_config(tmp_path)
    with ExitStack() as stack:
        feeds: list[StoredFeed] = []

        def look(readings: Readings) -> None:
            played = readings.block_number
            if played == 1:
                feeds.append(stack.enter_context(feed_of(config.output.run)))
            # The block that was just played may still be on its way to the disk.
            seen.extend(shown(feed, lambda state: state.blocks >= played) for feed in feeds)

        acquire(config, observer=Observer(on_block=look))
        last = shown(feeds[0], lambda state: state.state == "finished" and "image" in names(state))
    assert last.pairs == StoredRun(config.output.run).n_pairs
    assert {state.state for state in seen[:-1]} == {"running"}
    blocks = [state.blocks for state in seen]
    assert blocks == sorted(blocks)
    assert len(set(blocks)) >= 4
    assert any("image" in names(state) for state in seen)


def test_a_run_that_is_deleted_stays_as_it_was_seen_last_and_a_new_one_begins_anew(
    copied: Path, tmp_path: Path
) -> None:
    with feed_of(copied) as feed:
        before = shown(feed, lambda state: "image" in names(state))
        shutil.rmtree(copied)
        gone = shown(feed, lambda state: state.state == "gone")
        assert np.array_equal(array(gone, "image"), array(before, "image"))
        other = a_config(tmp_path / "other", seed=9, repeats=4)
        acquire(other)
        other.output.run.rename(copied)
        anew = shown(feed, lambda state: state.state == "finished" and state.pairs > 0)
        assert anew.pairs == StoredRun(copied).n_pairs != before.pairs
        revisions = {each.name: each.revision for each in before.arrays}
        assert all(revisions[each.name] != each.revision for each in anew.arrays)


def test_a_run_that_is_overwritten_begins_anew(copied: Path, tmp_path: Path) -> None:
    other = a_config(tmp_path / "other", repeats=4)
    acquire(other)
    with feed_of(copied) as feed:
        before = shown(feed, lambda state: "image" in names(state))
        copied.rename(tmp_path / "replaced.zarr")
        other.output.run.rename(copied)
        anew = shown(feed, lambda state: state.pairs_total != before.pairs_total and "image" in names(state))
        assert np.array_equal(array(anew, "counts"), sequency_map(StoredRun(copied)))


@pytest.mark.parametrize("torn", ["", '{"attributes": {"hadasc', "\0\0\0", "[]", '{"zarr_format": 3}'])
def test_torn_metadata_is_warned_of_and_read_when_it_is_whole(copied: Path, torn: str) -> None:
    whole = (copied / "zarr.json").read_text(encoding="utf-8")
    with no_thread_left(), feed_of(copied) as feed:
        shown(feed, lambda state: "image" in names(state))
        (copied / "zarr.json").write_text(torn, encoding="utf-8")
        troubled = shown(feed, warned_of("copy.zarr cannot be read now"))
        assert "image" in names(troubled)
        (copied / "zarr.json").write_text(whole, encoding="utf-8")
        shown(feed, lambda state: state.state == "finished" and len(state.warnings) == len(troubled.warnings))


@pytest.mark.parametrize("damage", ["missing", "torn", "changed"])
def test_a_damaged_block_is_warned_of_and_all_before_it_are_shown(copied: Path, damage: str) -> None:
    chunk = next(path for path in (copied / "readings" / "plus" / "c").glob("2*/**/*") if path.is_file())
    whole = chunk.read_bytes()
    if damage == "missing":
        chunk.unlink()
    else:
        chunk.write_bytes(whole[:5] if damage == "torn" else bytes(8) + whole[8:])
    run = StoredRun(copied)
    with feed_of(copied) as feed:
        state = shown(feed, warned_of("cannot be read now"))
        assert state.blocks == 2
        chunk.write_bytes(whole)
        whole_again = shown(feed, lambda state: state.blocks == run.n_blocks and "image" in names(state))
        assert np.array_equal(array(whole_again, "counts"), sequency_map(run))


def test_a_torn_line_of_the_events_is_left_out_and_warnings_are_shown(copied: Path) -> None:
    line = {"time": "2026-11-21T10:00:00.000+00:00", "kind": "warning", "text": "it is dim"}
    with (copied / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps(line) + "\n" + '{"time": "2026')
    with feed_of(copied) as feed:
        state = shown(feed, warned_of("it is dim"))
    assert [(remark.kind, remark.time) for remark in state.warnings] == [("warning", line["time"])]


def test_without_its_model_a_run_is_shown_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: AcquisitionConfig) -> None:
        raise AcquisitionFileError("the acquisition file", [Problem("reconstruction.model", "nothing", "a model")])

    path = interrupted_after(a_config(tmp_path), 3)
    monkeypatch.setattr(stored_view, "network_model", missing)
    with feed_of(path) as feed:
        state = shown(feed, lambda state: "image" in names(state))
    assert "made by wiener-tv here" in state.warnings[0].text


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder", "another zarr group"])
def test_what_is_no_run_is_refused(tmp_path: Path, what: str, hadascope: CommandLine) -> None:
    path = tmp_path / "x.zarr"
    if what == "a file":
        path.write_text("no run", encoding="utf-8")
    elif what != "nothing":
        path.mkdir()
    if what == "another zarr group":
        (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}', encoding="utf-8")
    with pytest.raises(NotARunError):
        StoredFeed(path)
    done = hadascope("view", path, "--port", 0)
    assert done.code == 2
    assert "no run of Hadascope" in done.err


@pytest.mark.parametrize("part", ["readings", "schedule"])
def test_a_run_of_which_a_part_is_missing_is_refused_and_not_half_shown(
    hadascope: CommandLine, copied: Path, part: str
) -> None:
    shutil.rmtree(copied / part)
    done = hadascope("view", copied, "--port", 0)
    assert done.code == 2
    assert "is a damaged run" in done.err


@pytest.mark.skipif(os.name != "posix", reason="other processes are sent signals on POSIX only")
def test_the_view_command_serves_a_run_until_it_is_asked_to_end(finished: Path) -> None:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "acquisition.cli", "view", str(finished), "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = f"http://127.0.0.1:{port}/"
        assert process.stdout.readline().strip() == f"live view: {link}"
        with Viewer(link) as viewer:
            update = viewer.look_until(state="finished", pairs=StoredRun(finished).n_pairs)
            assert update.header["can_stop"] is False
            refused = ask(link, "/stop", "POST")
            assert (refused.status, refused.said["stopping"]) == (409, False)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0


def test_even_without_news_a_viewer_can_tell_that_somebody_is_there(finished: Path) -> None:
    now_s = 0.0
    feed = StoredFeed(finished, clock=lambda: now_s)
    first = feed.state().version
    assert feed.state().version == first
    now_s = 1.0
    assert feed.state().version == first + 1


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every run that a view opens from now on."""
    paths: list[Path] = []

    def open_and_note(path: Path) -> StoredRun:
        paths.append(path)
        return StoredRun(path)

    monkeypatch.setattr("acquisition.live_view.stored_feed.StoredRun", open_and_note)
    return paths


def test_a_run_that_has_ended_is_read_again_only_when_something_has_changed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = opened(monkeypatch)
    feed = StoredFeed(copied)
    while feed._look():
        pass
    before = len(times)
    for _ in range(3):
        feed._look()
    assert len(times) == before
    with (copied / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps({"time": "2026-11-21T10:00:00Z", "kind": "warning", "text": "a late one"}) + "\n")
    feed._look()
    assert feed.state().warnings[-1].text == "a late one"


def test_a_long_run_is_opened_once_to_be_read_and_its_stored_image_comes_first(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = opened(monkeypatch)
    monkeypatch.setattr(stored_view, "_READING_S", -1.0)  # not even one block is read in time
    feed = StoredFeed(finished)
    before = len(times)
    assert all(feed._look() for _ in range(3))
    assert len(times) == before + 1
    assert np.array_equal(array(feed.state(), "image"), StoredRun(finished).image("image").astype(np.float32))


def test_a_series_that_was_stopped_between_two_images_does_not_look_finished(tmp_path: Path) -> None:
    config = series_config(tmp_path, {"z_plan": {"absolute": [0, 1]}})

    def stop(place: Place) -> None:
        if place.number == 1:
            raise KeyboardInterrupt("enough seen")

    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=Observer(on_place=stop))
    with feed_of(config.output.run) as feed:
        state = shown(feed, lambda state: "image" in names(state) and state.blocks == state.blocks_total)
    assert state.place is not None
    assert (state.place.number, state.state, state.cause) == (0, "stopped", "KeyboardInterrupt: enough seen")


def test_of_a_series_the_newest_image_is_shown_and_which_one_it_is(tmp_path: Path) -> None:
    config = series_config(tmp_path, {"z_plan": {"absolute": [0, 1]}})
    feeds: list[StoredFeed] = []
    seen: list[ViewState] = []
    with ExitStack() as stack:

        def look(readings: Readings) -> None:
            if not feeds and readings.block_number == 1:
                feeds.append(stack.enter_context(feed_of(config.output.run)))
                seen.append(shown(feeds[0], lambda state: state.blocks >= 1))

        acquire_series(config, observer=Observer(on_block=look))
        last = shown(feeds[0], lambda state: state.state == "finished" and "image" in names(state))
    first, second = StoredSeries(config.output.run).planned_events
    assert seen[0].place == Place(0, 2, first.words)
    assert seen[0].state == "running"
    assert last.place == Place(1, 2, second.words)
    run = StoredRun(event_path(config.output.run, second))
    assert np.array_equal(array(last, "image"), run.image("image").astype(np.float32))
    assert np.array_equal(array(last, "counts"), sequency_map(run))
