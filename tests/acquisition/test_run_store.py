"""What is committed is read back bit for bit; what is not committed does not count."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition import run_store
from acquisition.bank import GUARD_PICTURES, Block
from acquisition.readings import Readings
from acquisition.run_layout import CorruptBlockError, DiskFullError, NotARunError, OutputExistsError, RunState
from acquisition.run_lock import RunInUseError
from acquisition.run_store import FrameShape, RunStore
from acquisition.schedule import BankSizes, Schedule, ScheduleLimits, make_schedule
from acquisition.stored_run import StoredRun
from models.statistics import CoefficientStatistics

FACTS: dict[str, Any] = {"state": RunState.RUNNING, "simulated": True, "config": {}}


def schedule_of(seed: int) -> Schedule:
    rng = np.random.default_rng(seed)
    repeats = rng.integers(0, 4, 64).astype(np.int32)
    repeats[:2] = 0, 1
    return make_schedule(repeats, rng.random(64), ScheduleLimits(BankSizes(40, 2.0, 80), 6, 50), seed)


def readings_of(block: Block, seed: int = 0) -> Readings:
    rng = np.random.default_rng([seed, block.number])
    plus, minus, time_us = rng.normal(1e6, 1e3, (3, block.n_pairs))
    guards = rng.normal(1e6, 1e3, (block.n_guards, GUARD_PICTURES))
    return Readings(
        block.number, block.pass_number, 17.0, block.coefficients, plus, minus, time_us, guards, saturated=3
    )


def new_store(path: Path, schedule: Schedule, **options: Any) -> RunStore:
    mask: NDArray[np.float64] = np.linspace(0, 1, len(schedule.repeats))
    return RunStore.create(path, schedule, {"mask": mask}, FACTS, **options)


def assert_same(one: Readings, other: Readings) -> None:
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(other, name)), name


@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False), some=st.floats(0, 1))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_committed_blocks_come_back_bit_for_bit_in_any_order_of_writing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, order: Any, some: float
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.zarr"
    schedule = schedule_of(seed)
    store = new_store(path, schedule)
    written = order.sample(schedule.blocks, round(some * len(schedule.blocks)))
    for block in written:
        store.write_block(readings_of(block, seed))
    store.close()
    run = StoredRun(path)
    assert list(run.committed) == sorted(block.number for block in written)
    assert run.n_pairs == sum(block.n_pairs for block in written)
    for found in run.blocks():
        assert_same(found, readings_of(schedule.blocks[found.block_number], seed))
    assert np.array_equal(run.repeats, schedule.repeats)


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    schedule = schedule_of(1)
    store = new_store(tmp_path / "run.zarr", schedule)
    for block in schedule.blocks[:3]:
        store.write_block(readings_of(block))
        run = StoredRun(tmp_path / "run.zarr")
        assert run.committed[-1] == block.number
        assert run.state is RunState.RUNNING
    store.close()


def test_one_chunk_holds_one_block_and_cells_past_its_end_hold_the_fill_value(tmp_path: Path) -> None:
    schedule = schedule_of(2)
    store = new_store(tmp_path / "run.zarr", schedule)
    shortest = min(schedule.blocks, key=lambda block: block.n_pairs)
    assert shortest.n_pairs < schedule.longest_block_pairs
    store.write_block(readings_of(shortest))
    store.close()
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")
    plus, index = group["readings/plus"], group["readings/index"]
    assert isinstance(plus, zarr.Array)
    assert isinstance(index, zarr.Array)
    assert plus.chunks == (1, schedule.longest_block_pairs)
    assert np.isnan(np.asarray(plus[shortest.number])[shortest.n_pairs :]).all()
    assert (np.asarray(index[shortest.number])[shortest.n_pairs :] == -1).all()
    assert group.metadata.zarr_format == 3


def test_a_block_whose_commit_was_not_written_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = schedule_of(3)
    store = new_store(tmp_path / "run.zarr", schedule)
    store.write_block(readings_of(schedule.blocks[0]))

    async def power_cut(*_: object) -> None:
        raise OSError(errno.EIO, "power cut")

    monkeypatch.setattr(store._commits.async_array.__class__, "setitem", power_cut)
    with pytest.raises(OSError, match="power cut"):
        store.write_block(readings_of(schedule.blocks[1]))
    monkeypatch.undo()
    store.close()
    assert list(StoredRun(tmp_path / "run.zarr").committed) == [0]


def test_no_space_left_is_said_and_what_was_committed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = schedule_of(4)
    store = new_store(tmp_path / "run.zarr", schedule)
    store.write_block(readings_of(schedule.blocks[0]))

    async def disk_full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(store._commits.async_array.__class__, "setitem", disk_full)
        with pytest.raises(DiskFullError, match="every block committed so far is kept"):
            store.write_block(readings_of(schedule.blocks[1]))
    store.close()
    (kept,) = StoredRun(tmp_path / "run.zarr").blocks()
    assert_same(kept, readings_of(schedule.blocks[0]))


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    schedule = schedule_of(5)
    store = new_store(tmp_path / "run.zarr", schedule)
    store.write_block(readings_of(schedule.blocks[0]))
    store.close()
    group = zarr.open_group(tmp_path / "run.zarr", mode="r+")
    plus = group["readings/plus"]
    assert isinstance(plus, zarr.Array)
    plus[0, 0] = 1.0
    with pytest.raises(CorruptBlockError, match="checksum"):
        list(StoredRun(tmp_path / "run.zarr").blocks())


def test_an_existing_run_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "run.zarr"
    schedule = schedule_of(6)
    store = new_store(path, schedule)
    store.write_block(readings_of(schedule.blocks[0]))
    store.close()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        new_store(path, schedule)
    assert len(StoredRun(path).committed) == 1
    new_store(path, schedule, overwrite=True).close()
    assert len(StoredRun(path).committed) == 0


@pytest.mark.parametrize("what", ["a file", "a folder", "another zarr group"])
def test_what_is_no_run_is_never_deleted(tmp_path: Path, what: str) -> None:
    path = tmp_path / "precious"
    if what == "a file":
        path.write_text("precious")
    elif what == "a folder":
        path.mkdir()
        (path / "precious.txt").write_text("precious")
    else:
        zarr.create_group(path, attributes={"precious": True})
    with pytest.raises((NotARunError, OutputExistsError)):
        new_store(path, schedule_of(7), overwrite=True)
    assert path.exists()
    with pytest.raises(NotARunError):
        StoredRun(path)


def test_statistics_images_and_facts_are_kept(tmp_path: Path) -> None:
    schedule = schedule_of(8)
    store = new_store(tmp_path / "run.zarr", schedule, dark=np.arange(5.0))
    statistics = CoefficientStatistics.empty(64)
    for block in schedule.blocks:
        readings = readings_of(block)
        store.write_block(readings)
        statistics.add(readings.index, readings.plus, readings.minus)
    image = np.random.default_rng(0).random((8, 8))
    store.write_statistics(statistics)
    store.write_image("image", image)
    store.write_live_record(np.ones((2, 4)))
    store.annotate(state=RunState.FINISHED, temperature=21.5)
    store.close()
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.FINISHED
    assert run.facts["temperature"] == 21.5
    assert run.facts["simulated"] is True
    assert np.array_equal(run.image("image"), image)
    assert np.array_equal(run.dark, np.arange(5.0))
    assert run.live_record.shape == (2, 4)
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")
    mean = group["statistics/mean"]
    assert isinstance(mean, zarr.Array)
    assert np.array_equal(np.asarray(mean[:]), statistics.mean, equal_nan=True)


def test_images_carry_the_metadata_of_ome_zarr(tmp_path: Path) -> None:
    store = new_store(tmp_path / "run.zarr", schedule_of(9))
    store.write_image("wiener", np.zeros((8, 8)), px_um=0.5)
    store.write_image("image", np.zeros((8, 8)))
    store.annotate(state=RunState.FINISHED)  # what is written later leaves it as it is
    store.close()
    for folder, path, side in (("images/wiener", "0", 0.5), ("images/image", "0", 1.0), ("", "images/image/0", 1.0)):
        document = json.loads((tmp_path / "run.zarr" / folder / "zarr.json").read_text())
        ome = document["attributes"]["ome"]
        assert ome["version"] == "0.5"
        (multiscale,) = ome["multiscales"]
        assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"]
        assert [axis.get("unit") for axis in multiscale["axes"]] == [None, *2 * ["micrometer" if side < 1 else None]]
        (level,) = multiscale["datasets"]
        assert level == {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1.0, side, side]}]}


def states(*runs: StoredRun) -> list[RunState]:
    """The runs' states as they are found now."""
    return [run.state for run in runs]


def leftovers(folder: Path) -> list[str]:
    """Everything in a folder but the runs themselves."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_run_has_one_writer_at_a_time(tmp_path: Path) -> None:
    path, schedule = tmp_path / "run.zarr", schedule_of(10)
    store = new_store(path, schedule)
    with pytest.raises(RunInUseError, match="another process"):
        RunStore.reopen(path)
    with pytest.raises(RunInUseError):
        new_store(path, schedule, overwrite=True)
    store.write_block(readings_of(schedule.blocks[0]))
    assert StoredRun(path).state is RunState.RUNNING
    store.close()
    store.close()
    again = RunStore.reopen(path)
    again.write_block(readings_of(schedule.blocks[1]))
    again.close()
    assert StoredRun(path).committed.tolist() == [0, 1]
    assert leftovers(tmp_path) == [] or os.name == "nt"


def test_two_runs_side_by_side_do_not_keep_each_other_out(tmp_path: Path) -> None:
    schedule = schedule_of(10)
    stores = [new_store(tmp_path / name, schedule) for name in ("one.zarr", "other.zarr")]
    assert [StoredRun(store.path).state for store in stores] == [RunState.RUNNING] * 2
    stores[0].close()
    assert [StoredRun(store.path).state for store in stores] == [RunState.INTERRUPTED, RunState.RUNNING]
    stores[1].close()


_WRITER = """
import sys
from pathlib import Path
from tests.acquisition.test_run_store import new_store, readings_of, schedule_of
schedule = schedule_of(11)
store = new_store(Path(sys.argv[1]), schedule)
store.write_block(readings_of(schedule.blocks[0]))
print("written", flush=True)
sys.stdin.read()
"""


def test_a_run_whose_writer_was_killed_is_found_interrupted_and_can_be_gone_on_with(tmp_path: Path) -> None:
    path, schedule = tmp_path / "run.zarr", schedule_of(11)
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        opened_before = StoredRun(path)
        assert states(opened_before) == [RunState.RUNNING]
        with pytest.raises(RunInUseError):
            RunStore.reopen(path)
        with pytest.raises(RunInUseError):
            new_store(path, schedule, overwrite=True)
        writer.kill()
    found = StoredRun(path)
    assert states(found, opened_before) == [RunState.INTERRUPTED] * 2
    assert found.marked_state is RunState.RUNNING
    (kept,) = found.blocks()
    assert_same(kept, readings_of(schedule.blocks[0]))
    store = RunStore.reopen(path)
    assert StoredRun(path).state is RunState.RUNNING
    store.annotate(state=RunState.FINISHED)
    store.close()
    assert StoredRun(path).state is RunState.FINISHED
    assert leftovers(tmp_path) == [] or os.name == "nt"


def test_a_run_that_ends_while_somebody_looks_is_not_taken_for_interrupted(tmp_path: Path) -> None:
    store = new_store(tmp_path / "run.zarr", schedule_of(10))
    run = StoredRun(tmp_path / "run.zarr")
    assert states(run) == [RunState.RUNNING]
    store.annotate(state=RunState.STOPPED)
    store.close()
    assert states(run) == [RunState.STOPPED]


def fails_in(place: str, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let making a run fail at its readings, at its last array, or when it is put in place."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    if place == "readings":
        monkeypatch.setattr(run_store, "_create_readings", fail)
    elif place == "dark":
        create_array = zarr.Group.create_array

        def fail_at_dark(self: zarr.Group, name: str, **options: Any) -> Any:
            return fail() if name == "dark" else create_array(self, name, **options)

        monkeypatch.setattr(zarr.Group, "create_array", fail_at_dark)
    else:
        monkeypatch.setattr(Path, "rename", fail)


@pytest.mark.parametrize("place", ["readings", "dark", "put in place"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError),
        (OSError(errno.EACCES, "Permission denied"), PermissionError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["disk full", "not allowed", "interrupted"],
)
def test_a_run_that_could_not_be_made_whole_leaves_nothing_and_what_it_would_have_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException, raised: type[BaseException]
) -> None:
    old, new, schedule = tmp_path / "old.zarr", tmp_path / "new.zarr", schedule_of(12)
    store = new_store(old, schedule)
    store.write_block(readings_of(schedule.blocks[0]))
    store.close()
    with monkeypatch.context() as broken:
        fails_in(place, broken, error)
        for path in (new, old):
            with pytest.raises(raised):
                new_store(path, schedule, overwrite=True, dark=np.zeros(3))
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["old.zarr"]
    assert StoredRun(old).committed.tolist() == [0]
    for path in (new, old):
        new_store(path, schedule, overwrite=True).close()
        assert len(StoredRun(path).committed) == 0


_KILLED = """
import os, sys
from pathlib import Path
from acquisition import run_store
from tests.acquisition.test_run_store import new_store, schedule_of
run_store._create_readings = lambda *_: os._exit(9)
new_store(Path(sys.argv[1]), schedule_of(12), overwrite=True)
"""


@pytest.mark.parametrize("there_before", [False, True], ids=["nothing there", "a run there"])
def test_a_process_that_dies_while_it_makes_a_run_leaves_nothing_at_its_path(
    tmp_path: Path, there_before: bool
) -> None:
    path, schedule = tmp_path / "run.zarr", schedule_of(12)
    if there_before:
        store = new_store(path, schedule)
        store.write_block(readings_of(schedule.blocks[0]))
        store.close()
    died = subprocess.run([sys.executable, "-c", _KILLED, str(path)], cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == 9
    assert path.exists() == there_before
    if there_before:
        assert StoredRun(path).committed.tolist() == [0]
    new_store(path, schedule, overwrite=True).close()
    assert len(StoredRun(path).committed) == 0
    assert leftovers(tmp_path) == [] or os.name == "nt"


def test_frames_that_are_kept_come_back_with_their_block(tmp_path: Path) -> None:
    schedule = schedule_of(13)
    store = new_store(tmp_path / "run.zarr", schedule, frames=FrameShape(3, 5, "uint16"))
    rng = np.random.default_rng(0)
    written = []
    for block in schedule.blocks:
        frames = rng.integers(0, 2**16, (block.n_exposures, 3, 5), dtype=np.uint16)
        written.append(replace(readings_of(block), frames=frames))
        store.write_block(written[-1])
    store.close()
    assert len({block.n_exposures for block in schedule.blocks}) > 1
    for found, kept in zip(StoredRun(tmp_path / "run.zarr").blocks(), written, strict=True):
        assert found.frames is not None
        assert found.frames.dtype == np.uint16
        assert_same(found, kept)
    array = zarr.open_group(tmp_path / "run.zarr", mode="r")["readings/frames"]
    assert isinstance(array, zarr.Array)
    assert array.chunks == (1, schedule.longest_block_exposures, 3, 5)


def test_a_changed_pixel_of_a_kept_frame_is_noticed(tmp_path: Path) -> None:
    schedule = schedule_of(13)
    store = new_store(tmp_path / "run.zarr", schedule, frames=FrameShape(3, 5, "uint16"))
    block = schedule.blocks[0]
    store.write_block(replace(readings_of(block), frames=np.ones((block.n_exposures, 3, 5), dtype=np.uint16)))
    store.close()
    frames = zarr.open_group(tmp_path / "run.zarr", mode="r+")["readings/frames"]
    assert isinstance(frames, zarr.Array)
    frames[0, 2, 1, 1] = 2
    with pytest.raises(CorruptBlockError):
        list(StoredRun(tmp_path / "run.zarr").blocks())


def test_the_benchs_state_comes_back_bit_for_bit_with_each_block(tmp_path: Path) -> None:
    schedule = schedule_of(14)
    store = new_store(tmp_path / "run.zarr", schedule, bench_fields=4)
    written = [
        replace(readings_of(block), bench_state=(float(block.number), 0.1 * block.number, 1e17, 1 / 3))
        for block in schedule.blocks
    ]
    for readings in written:
        store.write_block(readings)
    store.close()
    assert [found.bench_state for found in StoredRun(tmp_path / "run.zarr").blocks()] == [
        readings.bench_state for readings in written
    ]
    plain = new_store(tmp_path / "real.zarr", schedule)
    plain.write_block(readings_of(schedule.blocks[0]))
    plain.close()
    (found,) = StoredRun(tmp_path / "real.zarr").blocks()
    assert found.bench_state == ()
    assert found.frames is None


def test_light_of_blocks_that_were_thrown_away_counts_until_the_end_of_the_run(tmp_path: Path) -> None:
    schedule = schedule_of(15)
    facts = {
        **FACTS,
        "config": {"devices": {"light_source": {"power_mw": 2.0}}, "timing": {"illumination_time_us": 80}},
        "accepted_timing": {"illumination_time_us": 90},
    }
    store = RunStore.create(tmp_path / "run.zarr", schedule, {"mask": np.zeros(64)}, facts)
    assert StoredRun(tmp_path / "run.zarr").lit_exposures == 0
    lit = [100, 260, 400]
    for block, so_far in zip(schedule.blocks, lit, strict=False):
        store.write_block(replace(readings_of(block), lit_exposures=so_far))
        run = StoredRun(tmp_path / "run.zarr")
        assert run.lit_exposures == so_far
        assert run.dose_mj == pytest.approx(so_far * 90e-6 * 2.0)
    store.annotate(state=RunState.FAILED, lit_exposures=470)  # a fourth block was thrown away
    store.close()
    assert StoredRun(tmp_path / "run.zarr").dose_mj == pytest.approx(470 * 90e-6 * 2.0)


def missing(store: RunStore, number: int) -> None:
    """The commit record of a block was never written."""
    commits = zarr.open_group(store.path, mode="r+")["readings/commits"]
    assert isinstance(commits, zarr.Array)
    commits[number] = -1


def damaged(store: RunStore, number: int) -> None:
    """A reading of a block was changed afterwards."""
    minus = zarr.open_group(store.path, mode="r+")["readings/minus"]
    assert isinstance(minus, zarr.Array)
    minus[number, 0] = 1.0


def lost(store: RunStore, number: int) -> None:
    """The file of a block's readings is gone."""
    (store.path / "readings" / "plus" / "c" / str(number) / "0").unlink()


def cut(store: RunStore, number: int) -> None:
    """The file of a block's readings was cut off, as a power cut does."""
    os.truncate(store.path / "readings" / "plus" / "c" / str(number) / "0", 100)


def emptied(store: RunStore, number: int) -> None:
    """The file of a block's readings is empty."""
    os.truncate(store.path / "readings" / "time_us" / "c" / str(number) / "0", 0)


@pytest.mark.parametrize("wrong", [missing, damaged, lost, cut, emptied])
@pytest.mark.parametrize("number", [0, 2, -1], ids=["first", "middle", "last"])
def test_intact_blocks_end_before_the_first_that_is_missing_or_damaged(
    tmp_path: Path, number: int, wrong: Callable[[RunStore, int], None]
) -> None:
    schedule = schedule_of(16)
    store = new_store(tmp_path / "run.zarr", schedule)
    for block in schedule.blocks:
        store.write_block(readings_of(block))
    store.close()
    number %= len(schedule.blocks)
    assert [each.block_number for each in StoredRun(store.path).intact_blocks()] == list(range(len(schedule.blocks)))
    wrong(store, number)
    assert [each.block_number for each in StoredRun(store.path).intact_blocks()] == list(range(number))


@pytest.mark.parametrize("layout", [1, None, 99])
def test_a_run_of_another_layout_is_refused_with_the_version_that_wrote_it(tmp_path: Path, layout: int | None) -> None:
    store = new_store(tmp_path / "run.zarr", schedule_of(17))
    store.annotate(layout=layout, versions={"hadascope": "0.0.7"})
    store.close()
    with pytest.raises(NotARunError, match=rf"layout {layout}.*0\.0\.7"):
        StoredRun(tmp_path / "run.zarr")


@pytest.mark.parametrize("part", ["zarr.json", "readings/plus/zarr.json", "readings/commits/zarr.json"])
@pytest.mark.parametrize("text", [None, "", "null", "[1]", "3", '{"attributes": {'])
def test_a_run_whose_files_are_not_all_there_is_refused_by_name(tmp_path: Path, part: str, text: str | None) -> None:
    path = tmp_path / "run.zarr"
    new_store(path, schedule_of(1)).close()
    (path / part).unlink()
    if text is not None:
        (path / part).write_text(text, encoding="utf-8")
    with pytest.raises(NotARunError, match=r"run\.zarr is (a damaged|no) run"):
        StoredRun(path)
