"""Snapshots are the images that the first blocks of a run give, however the run came to its end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition import ome_images, snapshots
from acquisition.config import AcquisitionConfig
from acquisition.observer import Observer
from acquisition.reconstruction import NothingSeenError, reconstruct
from acquisition.run import acquire, resume
from acquisition.run_layout import CorruptBlockError, DiskFullError, RunState
from acquisition.snapshots import snapshot_blocks, write_snapshots
from acquisition.stored_run import StoredRun
from models.priors import fit_power_law
from tests.acquisition.bench_record import whole_light_config
from tests.acquisition.ome_readers import must_be_valid, opened
from tests.acquisition.stored_snapshots import stored_snapshots


def config_in(folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    """Every coefficient once, in about twenty blocks, with a pixel size."""
    sensing = {"repeats": 1, "alpha": 1.0, "mask": {"kind": "uniform"}}
    return whole_light_config(folder, 8, sensing=sensing, dmd_region={"um_per_mirror": 0.25}, **changes)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AcquisitionConfig:
    """A run that has finished."""
    config = config_in(tmp_path_factory.mktemp("snapshots"))
    acquire(config)
    return config


def dense_image(run: StoredRun, config: AcquisitionConfig, n_blocks: int) -> NDArray[np.float64]:
    """The linear image of the first blocks, float64 [n, n], by a dense Hadamard matrix: every coefficient once."""
    n = config.sensing.side
    blocks = list(run.blocks())[:n_blocks]
    index = np.concatenate([each.index for each in blocks])
    assert len(set(index.tolist())) == len(index)  # none was measured twice
    plus, minus = (np.concatenate([getattr(each, name) for each in blocks]) for name in ("plus", "minus"))
    dark = np.concatenate([each.dark.ravel() for each in blocks]).mean()
    total = float((plus + minus - 2 * dark).mean())
    z, variance = np.zeros(n * n), np.full(n * n, np.inf)
    z[index] = plus - minus
    z[0] = total
    background = max(dark - run.dark.mean(), 0.0)
    variance[index] = config.noise.gain * (total + 2 * background) + 2 * config.noise.variance
    variance[0] = variance[index[0]] / len(index)
    prior = fit_power_law(z, variance, n, total)
    weight = np.zeros(n * n)
    taken = np.isfinite(variance)
    weight[taken] = prior.variance[taken] / (prior.variance[taken] + variance[taken])
    coefficients = prior.mean + weight * np.where(taken, z - prior.mean, 0.0)
    return np.asarray(np.maximum(hadamard(n * n) @ coefficients / n**2, 0.0).reshape(n, n), dtype=np.float64)


def test_each_snapshot_is_the_image_of_the_blocks_before_it(config: AcquisitionConfig) -> None:
    run = StoredRun(config.output.run)
    found = stored_snapshots(run)
    assert found.images.dtype == np.float32
    assert len(found.images) == config.output.snapshots == 8
    for image, n_blocks in zip(found.images, found.blocks.tolist(), strict=True):
        np.testing.assert_allclose(image, dense_image(run, config, n_blocks), rtol=1e-5, atol=1e-3)
    assert np.array_equal(found.images[-1], run.image("image").astype(np.float32))
    assert not np.allclose(found.images[0], found.images[-1])


def test_pairs_and_times_of_snapshots_are_those_of_their_blocks(config: AcquisitionConfig) -> None:
    run = StoredRun(config.output.run)
    found, blocks = stored_snapshots(run), list(run.blocks())
    pairs = np.cumsum([block.n_pairs for block in blocks])
    assert found.pairs.tolist() == pairs[found.blocks - 1].tolist()
    assert found.pairs[-1] == run.n_pairs
    for n_blocks, time_s in zip(found.blocks.tolist(), found.times_s.tolist(), strict=True):
        last_pair_s = (blocks[n_blocks - 1].time_us.max() + 2 * config.timing.picture_time_us) * 1e-6
        assert time_s > last_pair_s - 1e-6  # a guard follows
        if n_blocks < len(blocks):
            assert time_s < blocks[n_blocks].start_us * 1e-6


def test_the_fields_reader_opens_them_over_time(config: AcquisitionConfig) -> None:
    path = config.output.run / "images" / "snapshots"
    must_be_valid(path)
    seen, found = opened(path), stored_snapshots(StoredRun(config.output.run))
    assert seen.axes == "tcyx"
    assert seen.units == {"t": "second", "y": "micrometer", "x": "micrometer"}
    assert seen.channels == ["reconstruction"]
    assert seen.scales[0]["x"] == 0.25 * config.dmd_region.mirrors_per_px
    assert seen.scales[0]["t"] == pytest.approx((found.times_s[-1] - found.times_s[0]) / 7)
    assert np.array_equal(seen.levels[0][:, 0], found.images)


@given(n_blocks=st.integers(1, 5000), most=st.integers(0, 100))
def test_snapshots_are_evenly_spaced_and_the_last_one_is_the_whole_run(n_blocks: int, most: int) -> None:
    found = snapshot_blocks(n_blocks, most)
    assert len(found) == min(n_blocks, most)
    gaps = np.diff([0, *found])
    if found:
        assert found[-1] == n_blocks
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(("wanted", "longest_block_s", "expected"), [(0, 0.0035, None), (1, 0.0035, 1), (8, 10.0, 1)])
def test_a_run_holds_as_many_snapshots_as_asked_for_and_no_more_than_blocks(
    tmp_path: Path, wanted: int, longest_block_s: float, expected: int | None
) -> None:
    config = config_in(
        tmp_path,
        output={"snapshots": wanted},
        blocks={"longest_block_s": longest_block_s, "first_bank_pictures": 200, "guard_interval": 64},
    )
    config = config.replace(devices=config_without_memory_limit(config))
    acquire(config)
    run = StoredRun(config.output.run)
    assert (run.n_blocks == 1) == (longest_block_s == 10.0)
    assert run.has_image("snapshots") == (expected is not None)
    if expected is not None:
        found = stored_snapshots(run)
        assert found.blocks.tolist() == [run.n_blocks]
        assert len(found.images) == expected
        must_be_valid(config.output.run / "images" / "snapshots")


def config_without_memory_limit(config: AcquisitionConfig) -> Any:
    projector = config.devices.projector.model_copy(update={"memory_pictures": None})
    return config.devices.model_copy(update={"projector": projector})


@pytest.mark.parametrize("stopped_after", [0, 3])
def test_a_run_that_was_stopped_and_resumed_has_the_same_snapshots_bit_for_bit(
    config: AcquisitionConfig, tmp_path: Path, stopped_after: int
) -> None:
    def stop(readings: Any) -> None:
        if readings.block_number == stopped_after:
            raise KeyboardInterrupt

    path = tmp_path / "stopped.zarr"
    elsewhere = config.replace(output=config.output.model_copy(update={"run": path, "picture": tmp_path / "s.png"}))
    with pytest.raises(KeyboardInterrupt):
        acquire(elsewhere, observer=Observer(on_block=stop))
    assert not StoredRun(path).has_image("snapshots")
    resume(path)
    found, whole = (stored_snapshots(StoredRun(each)) for each in (path, config.output.run))
    assert found.images.tobytes() == whole.images.tobytes()
    assert found.times_s.tobytes() == whole.times_s.tobytes()
    assert found.pairs.tolist() == whole.pairs.tolist()


def test_while_no_light_was_seen_there_is_no_snapshot(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = StoredRun(config.output.run)
    before, really = stored_snapshots(run), reconstruct

    def dark_at_first(evidence: Any, *rest: Any) -> Any:
        if evidence.n_blocks <= before.blocks[1]:
            raise NothingSeenError("dark")
        return really(evidence, *rest)

    monkeypatch.setattr(snapshots, "reconstruct", dark_at_first)
    write_snapshots(run, config)
    found = stored_snapshots(StoredRun(config.output.run))
    assert found.blocks.tolist() == before.blocks[2:].tolist()
    assert found.images.tobytes() == before.images[2:].tobytes()
    monkeypatch.undo()
    write_snapshots(run, config)  # as it was
    assert stored_snapshots(StoredRun(config.output.run)).images.tobytes() == before.images.tobytes()


def test_a_disk_that_is_full_then_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, really = config_in(tmp_path), ome_images.write_image

    def full(group: Any, path: str, *rest: Any, **named: Any) -> Any:
        if path == "images/snapshots":
            raise OSError(errno.ENOSPC, "no space left on device")
        return really(group, path, *rest, **named)

    monkeypatch.setattr(ome_images, "write_image", full)
    with pytest.raises(DiskFullError):
        acquire(config)
    assert StoredRun(config.output.run).state is RunState.FAILED
    monkeypatch.undo()
    resume(config.output.run)
    assert StoredRun(config.output.run).state is RunState.FINISHED
    assert len(stored_snapshots(StoredRun(config.output.run)).images) == 8


def test_readings_that_were_damaged_meanwhile_make_no_snapshots(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    acquire(config)
    (config.output.run / "readings" / "plus" / "c" / "2" / "0").unlink()
    with pytest.raises(CorruptBlockError):
        write_snapshots(StoredRun(config.output.run), config)
    with pytest.raises(KeyError):
        StoredRun(config.output.run).ome_image("none of this name")
