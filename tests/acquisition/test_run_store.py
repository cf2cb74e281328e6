"""What is committed is read back bit for bit; what is not committed does not count."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.readings import Readings
from acquisition.run_store import (
    CorruptBlockError,
    DiskFullError,
    NotARunError,
    OutputExistsError,
    RunState,
    RunStore,
    StoredRun,
)
from acquisition.schedule import GUARD_PICTURES, Block, Schedule, ScheduleLimits, make_schedule
from models.statistics import CoefficientStatistics

FACTS: dict[str, Any] = {"state": RunState.RUNNING, "simulated": True, "config": {}}


def schedule_of(seed: int) -> Schedule:
    rng = np.random.default_rng(seed)
    repeats = rng.integers(0, 4, 64).astype(np.int32)
    repeats[:2] = 0, 1
    return make_schedule(repeats, rng.random(64), ScheduleLimits(80, 40, 6, 50), seed)


def readings_of(block: Block, seed: int = 0) -> Readings:
    rng = np.random.default_rng([seed, block.number])
    plus, minus, time_us = rng.normal(1e6, 1e3, (3, block.n_pairs))
    guards = rng.normal(1e6, 1e3, (block.n_guards, GUARD_PICTURES))
    return Readings(
        block.number, block.pass_number, 17.0, block.coefficients, plus, minus, time_us, guards, saturated=3
    )


def new_store(path: Path, schedule: Schedule, *, overwrite: bool = False) -> RunStore:
    mask: NDArray[np.float64] = np.linspace(0, 1, len(schedule.repeats))
    return RunStore.create(path, schedule, mask, FACTS, overwrite=overwrite)


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
    store = new_store(tmp_path / "run.zarr", schedule)
    statistics = CoefficientStatistics.empty(64)
    for block in schedule.blocks:
        readings = readings_of(block)
        store.write_block(readings)
        statistics.add(readings.index, readings.plus, readings.minus)
    image = np.random.default_rng(0).random((8, 8))
    store.write_statistics(statistics)
    store.write_image("image", image)
    store.write_dark(np.arange(5.0))
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
    store.write_image("image", np.zeros((8, 8)))
    store.close()
    document = json.loads((tmp_path / "run.zarr" / "images" / "image" / "zarr.json").read_text())
    ome = document["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert [axis["name"] for axis in multiscale["axes"]] == ["y", "x"]
    assert multiscale["datasets"][0]["path"] == "0"
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 1.0]}]
