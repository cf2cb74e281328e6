"""Frames that are kept: the very pixels whose sums are the readings, block by block, also after a resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.device_sections import Devices
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.run import acquire, resume
from acquisition.run_layout import RunState
from acquisition.sensing_plan import plan_sensing
from acquisition.simulated_bench import simulated_sample
from acquisition.stored_run import StoredRun
from tests.acquisition.real_bench import OFFSET_PER_PX, RealBench, SimulatedBenches
from tests.acquisition.rehearsal import asymmetric_sample, small_config
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

BLOCKS = {"guard_interval": 4, "longest_block_s": 0.004, "timeout_margin_s": 0.02}
OFFSET = 7.0
REGIONS = [None, {"x": 2, "y": 1, "width": 3, "height": 2}, {"x": 5, "y": 4, "width": 1, "height": 1}]


def keeping(folder: Path, region: dict[str, int] | None = None, **detector: Any) -> AcquisitionConfig:
    """A noisy run on a 6 × 5 camera that keeps its frames."""
    config = small_config(
        blocks=BLOCKS,
        sensing={"repeats": 2, "alpha": 0.5},
        noise={"gain": 1.0, "variance": 9.0},
        bench={"shot_noise": True, "photoelectrons_per_px": 500.0},
        output={"run": str(folder / "run.zarr")},
    )
    devices = config.devices.model_dump(mode="json")
    camera = {"width_px": 6, "height_px": 5, "bytes_per_px": 2, "offset_per_px": OFFSET}
    devices["detector"].update({**camera, "keep_frames": True, "region": region, **detector})
    return config.replace(devices=Devices.model_validate(devices))


def readings_in_order(block: Any, readings: Readings) -> NDArray[np.float64]:
    """All readings of a block in the order of display, pairs and guards, without asking how they were filed."""
    values = np.full(block.n_exposures, np.nan)
    plus_first = np.asarray(block.plus_first)
    values[block.pair_exposures] = np.where(plus_first, readings.plus, readings.minus)
    values[block.pair_exposures + 1] = np.where(plus_first, readings.minus, readings.plus)
    values[block.guard_exposures] = readings.guards
    assert not np.isnan(values).any()
    return values


def prove_frames(config: AcquisitionConfig, shape: tuple[int, int], offset_per_px: float) -> StoredRun:
    """Every stored frame, its offset subtracted, adds up to its stored reading exactly; the run."""
    run = StoredRun(config.output.run)
    sample = simulated_sample(config) if config.simulated else None
    schedule = plan_sensing(config, sample, run.facts["buffer_frames"]).schedule
    for readings in run.blocks():
        block = schedule.blocks[readings.block_number]
        assert readings.frames is not None
        assert readings.frames.shape == (block.n_exposures, *shape)
        sums = readings.frames.astype(np.int64).sum(axis=(1, 2)) - offset_per_px * shape[0] * shape[1]
        assert (sums == readings_in_order(block, readings)).all()
    return run


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("wire", ["direct", "zmq"])
def test_frames_add_up_to_the_readings(
    tmp_path: Path, benches: SimulatedBenches, region: dict[str, int] | None, wire: str
) -> None:
    config = keeping(tmp_path, region, wire=wire)
    # A region of the frame gets its share of the light: what is expected of the whole does not hold for it.
    if region is not None:
        config = only_part_of_the_light(config)
    acquire(config)
    shape = (5, 6) if region is None else (region["height"], region["width"])
    run = prove_frames(config, shape, OFFSET)
    assert run.state is RunState.FINISHED
    assert run.n_blocks > 2


def only_part_of_the_light(config: AcquisitionConfig) -> AcquisitionConfig:
    """So bright that even one pixel proves alignment, and pixels that hold it."""
    devices = config.devices.model_dump(mode="json")
    devices["detector"]["bytes_per_px"] = 4
    bench = config.bench.model_copy(update={"photoelectrons_per_px": 50_000.0})
    return config.replace(devices=Devices.model_validate(devices), bench=bench)


@pytest.mark.parametrize(("bytes_per_px", "dtype"), [(2, "uint16"), (4, "uint32")])
def test_frames_are_stored_as_the_camera_gave_them(
    tmp_path: Path, benches: SimulatedBenches, bytes_per_px: int, dtype: str
) -> None:
    config = keeping(tmp_path, bytes_per_px=bytes_per_px)
    acquire(config)
    frames = zarr.open_array(config.output.run / "readings" / "frames", mode="r")
    assert frames.dtype == np.dtype(dtype)
    longest = max(projection.n_exposures for projection in benches.bench.record)
    assert frames.shape == (StoredRun(config.output.run).n_blocks, longest, 5, 6)
    assert frames.chunks == (1, *frames.shape[1:])


def test_frames_are_kept_of_a_real_camera_too(tmp_path: Path, lab: RealBench) -> None:
    region = {"x": 1, "y": 0, "width": 2, "height": 3}
    config = lab.config(
        tmp_path / "run.zarr",
        detector={"keep_frames": True, "region": region},
        blocks=BLOCKS,
        sample={"expected_total": float(asymmetric_sample(8).sum()) * 6 / 16},
        noise={"gain": 1.0, "variance": 4.0},
    )
    acquire(config, observer=Observer(confirm=lambda _: True))
    assert prove_frames(config, (3, 2), OFFSET_PER_PX).state is RunState.FINISHED


def test_a_resumed_run_keeps_the_frames_of_before_and_after(tmp_path: Path, benches: SimulatedBenches) -> None:
    def stop(readings: Readings) -> None:
        if readings.block_number == 1:
            raise KeyboardInterrupt

    whole, config = keeping(tmp_path / "whole"), keeping(tmp_path)
    acquire(whole)
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    stopped = prove_frames(config, (5, 6), OFFSET)
    assert stopped.committed.tolist() == [0, 1]
    kept = [np.asarray(readings.frames) for readings in stopped.blocks()]
    resume(config.output.run)
    run = prove_frames(config, (5, 6), OFFSET)
    assert run.state is RunState.FINISHED
    frames = [np.asarray(readings.frames) for readings in run.blocks()]
    assert len(frames) == run.n_blocks > 2
    assert all((before == after).all() for before, after in zip(kept, frames, strict=False))
    uninterrupted = [np.asarray(readings.frames) for readings in StoredRun(whole.output.run).blocks()]
    assert all((one == other).all() for one, other in zip(uninterrupted, frames, strict=True))


def test_without_being_asked_no_frame_is_kept(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = keeping(tmp_path, keep_frames=False)
    acquire(config)
    assert not (config.output.run / "readings" / "frames").exists()
    assert all(readings.frames is None for readings in StoredRun(config.output.run).blocks())


def test_a_changed_frame_is_noticed(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = keeping(tmp_path)
    acquire(config)
    frames = zarr.open_array(config.output.run / "readings" / "frames", mode="r+")
    before = int(np.asarray(frames[1, 3, 2, 2]))
    frames[1, 3, 2, 2] = before + 1
    blocks = StoredRun(config.output.run).intact_blocks()
    assert [readings.block_number for readings in blocks] == [0]
