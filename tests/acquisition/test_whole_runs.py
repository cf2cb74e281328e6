"""Whole acquisitions from a configuration to the files they leave."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from scipy.linalg import hadamard
from skimage.io import imread

from acquisition import run as run_module
from acquisition import run_store
from acquisition.bank import Block
from acquisition.bench_check import DeviceMismatchError
from acquisition.config import AcquisitionConfig
from acquisition.evidence import NoEvidenceError
from acquisition.integrity import AlignmentError, GuardsTooDimError
from acquisition.observer import Observer
from acquisition.plan import run_bytes
from acquisition.readings import Readings
from acquisition.run import acquire
from acquisition.run_layout import DiskFullError, OutputExistsError, RunState
from acquisition.run_store import RunStore
from acquisition.sensing_plan import plan_sensing
from acquisition.stored_reconstruction import reconstruct_run, stored_evidence
from acquisition.stored_run import StoredRun
from devices.errors import TimingRefusedError
from models.priors import power_law_prior
from tests.acquisition.rehearsal import asymmetric_sample, small_config

CROPS = Path(__file__).parents[3] / "shared" / "data" / "open" / "crops_test.npz"


def config_of(tmp_path: Path, image: NDArray[Any] | None = None, **changes: dict[str, Any]) -> AcquisitionConfig:
    """A run in ``tmp_path`` whose stage shows ``image`` value by value."""
    image = asymmetric_sample(8) if image is None else image
    tifffile.imwrite(tmp_path / "sample.tif", image.astype(np.float64))
    sections: dict[str, dict[str, Any]] = {
        "sample": {"image": str(tmp_path / "sample.tif")},
        # As good as no noise, so that the Wiener image shrinks nothing.
        "noise": {"gain": 1e-12},
        "bench": {"gain": 1.0, "photoelectrons_per_px": float(image.mean())},
        "output": {"run": str(tmp_path / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    return small_config(**sections)


def noisy(tmp_path: Path) -> AcquisitionConfig:
    return config_of(
        tmp_path,
        sensing={"alpha": 0.5, "repeats": 6},
        noise={"gain": 2.0, "variance": 50.0},
        bench={"shot_noise": True, "seed": 4, "gain": 2.0},
        reconstruction={"estimator": "pair-ratio", "tv_weight": 1.0},
    )


def test_without_noise_the_image_is_the_sample_to_float_precision(tmp_path: Path) -> None:
    result = acquire(config_of(tmp_path))
    assert np.allclose(result.reconstruction.wiener, asymmetric_sample(8), rtol=1e-12)
    assert np.allclose(StoredRun(tmp_path / "run.zarr").image("sample"), asymmetric_sample(8), rtol=1e-12)


@pytest.mark.skipif(
    not CROPS.is_file(), reason=f"REAL IMAGES ARE NOT HERE: {CROPS} is missing, nothing was evaluated on them"
)
@pytest.mark.parametrize("number", [0, 100])
def test_real_images_come_back_to_float_precision_when_everything_is_measured_without_noise(
    tmp_path: Path, number: int
) -> None:
    crop = np.load(CROPS)["img"][number]
    crop = crop[:64, :64].astype(np.float64)
    result = acquire(
        config_of(
            tmp_path,
            crop,
            sensing={"side": 64, "repeats": 2},
            dmd_region={"mirrors_per_px": 4, "rotation_deg": 90, "flip_vertical": True},
            devices={"detector": {"kind": "simulated", "width_px": 4, "height_px": 4, "bytes_per_px": 4}},
        )
    )
    assert np.allclose(result.reconstruction.estimate.coefficients, dense(crop), rtol=1e-12, atol=1e-6 * crop.sum())
    assert np.abs(result.reconstruction.wiener - crop).max() < 1e-9 * crop.max()


def dense(image: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = hadamard(len(image)).astype(np.float64)
    return np.asarray((matrix @ image @ matrix).ravel())


def test_every_number_in_the_run_can_be_computed_again_from_the_raw_readings(tmp_path: Path) -> None:
    result = acquire(noisy(tmp_path))
    run = StoredRun(tmp_path / "run.zarr")
    evidence = stored_evidence(run)
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")

    def stored(name: str) -> NDArray[Any]:
        array = group[name]
        assert isinstance(array, zarr.Array)
        return np.asarray(array[:])

    count = np.zeros(64)
    differences: dict[int, list[float]] = {}
    for readings in run.blocks():
        for index, plus, minus in zip(readings.index, readings.plus, readings.minus, strict=True):
            count[index] += 1
            differences.setdefault(int(index), []).append(plus - minus)
    assert np.array_equal(stored("statistics/count"), count)
    assert np.array_equal(count, run.repeats)
    for index, values in differences.items():
        assert stored("statistics/mean")[index] == pytest.approx(np.mean(values))
        if len(values) > 1:
            assert stored("statistics/variance")[index] == pytest.approx(np.var(values, ddof=1), rel=1e-6)
    assert evidence.n_pairs == run.n_pairs
    again = reconstruct_run(tmp_path / "run.zarr")
    assert np.array_equal(again.reconstruction.image, result.reconstruction.image)
    assert np.array_equal(StoredRun(tmp_path / "run.zarr").image("reconstructed"), run.image("image"))


def test_a_run_says_what_it_was_and_that_it_was_simulated(tmp_path: Path) -> None:
    config = noisy(tmp_path)
    acquire(config)
    facts = StoredRun(tmp_path / "run.zarr").facts
    assert facts["state"] == "finished"
    assert facts["simulated"] is True
    assert AcquisitionConfig.model_validate(facts["config"]) == config
    assert facts["devices"]["projector"]["mirrors_width"] == 1024
    assert facts["devices"]["detector"]["name"] == "SimulatedCamera"
    assert set(facts["versions"]) >= {"hadascope", "torch", "zarr", "ALP4lib", "pycromanager", "python"}


def test_the_picture_shows_something(tmp_path: Path) -> None:
    result = acquire(noisy(tmp_path))
    picture = imread(result.picture)
    assert result.picture == tmp_path / "run.png"
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture.std() > 10


def test_the_same_seed_gives_the_same_readings_and_another_one_gives_others(tmp_path: Path) -> None:
    readings = []
    for number, seed in enumerate((4, 4, 5)):
        config = noisy(tmp_path)
        document = config.model_dump(mode="json")
        document["bench"]["seed"] = seed
        document["output"]["run"] = str(tmp_path / f"run{number}.zarr")
        acquire(AcquisitionConfig.model_validate(document))
        readings.append(np.concatenate([block.plus for block in StoredRun(tmp_path / f"run{number}.zarr").blocks()]))
    assert np.array_equal(readings[0], readings[1])
    assert not np.array_equal(readings[0], readings[2])


def test_interrupted_runs_are_marked_and_stay_readable(tmp_path: Path) -> None:
    blocks = 0

    def interrupt(_: Readings) -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 2:
            raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        acquire(noisy(tmp_path), observer=Observer(on_block=interrupt))
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.STOPPED
    assert len(run.committed) == 2
    assert threading.active_count() <= threads + 2  # zarr's own loop thread and pool stay
    again = reconstruct_run(tmp_path / "run.zarr")
    assert again.evidence.n_blocks == 2


def test_a_block_that_cannot_be_proven_ends_the_run_and_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(block: Block, *_: object) -> None:
        if block.number == 1:
            raise AlignmentError("a trigger was lost")

    monkeypatch.setattr(run_module, "prove_alignment", refuse)
    with pytest.raises(AlignmentError):
        acquire(noisy(tmp_path))
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.FAILED
    assert "a trigger was lost" in run.facts["cause"]
    assert list(run.committed) == [0]


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RunStore.write_block

    def fill_up(store: RunStore, readings: Readings) -> None:
        if readings.block_number == 2:
            raise DiskFullError(errno.ENOSPC, "no space left on the disk of the output")
        whole(store, readings)

    monkeypatch.setattr(run_store.RunStore, "write_block", fill_up)
    with pytest.raises(DiskFullError):
        acquire(noisy(tmp_path))
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.FAILED
    assert list(run.committed) == [0, 1]
    assert len(list(run.blocks())) == 2


def test_too_little_space_is_refused_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(DiskFullError, match="0 MB are free"):
        acquire(noisy(tmp_path))
    assert not (tmp_path / "run.zarr").exists()


@pytest.mark.parametrize("what", ["run.zarr", "run.png"])
def test_what_exists_is_not_overwritten_unasked(tmp_path: Path, what: str) -> None:
    acquire(noisy(tmp_path))
    if what == "run.png":
        config = noisy(tmp_path)
        config = config.replace(
            output=config.output.model_copy(update={"run": tmp_path / "other.zarr", "picture": tmp_path / "run.png"})
        )
    else:
        (tmp_path / "run.png").unlink()
        config = noisy(tmp_path)
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*"))
    with pytest.raises(OutputExistsError, match="never overwritten unasked"):
        acquire(config)
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("*")) == before
    assert acquire(config, overwrite=True).run.exists()


def test_light_that_does_not_depend_on_the_mirrors_is_measured_and_taken_out(tmp_path: Path) -> None:
    config = config_of(tmp_path, bench={"background_photoelectrons": 5000.0})
    result = acquire(config)
    facts = StoredRun(tmp_path / "run.zarr").facts
    assert facts["dark_level"] == 0.0
    assert facts["lit_dark_level"] == 5000.0
    assert result.reconstruction.estimate.total == pytest.approx(asymmetric_sample(8).sum())
    assert np.allclose(result.reconstruction.wiener, asymmetric_sample(8), rtol=1e-9)


@pytest.mark.parametrize("kind", ["simulated", "none"])
def test_background_is_known_of_whether_or_not_the_light_can_be_switched(tmp_path: Path, kind: str) -> None:
    config = config_of(
        tmp_path,
        noise={"gain": 2.0, "variance": 100.0},
        bench={"gain": 2.0, "shot_noise": True, "background_photoelectrons": 2e5},
        devices={"light_source": {"kind": kind}},
    )
    result = acquire(config)
    total = 2.0 * asymmetric_sample(8).sum()  # as many photo-electrons as the sample has units
    variance = 2.0 * (total + 2 * 4e5) + 2 * 100.0
    assert np.median(result.reconstruction.estimate.variance[1:]) == pytest.approx(variance, rel=0.02)
    assert any("cannot be switched off" in warning for warning in result.warnings) == (kind == "none")


def test_saturation_is_warned_of(tmp_path: Path) -> None:
    total = asymmetric_sample(8).sum()
    small = {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 2}
    config = config_of(tmp_path, bench={"photoelectrons_per_px": 70_000 / 64}, devices={"detector": small})
    assert total > 65_535
    result = acquire(config)
    assert any("saturated the detector" in warning for warning in result.warnings)
    assert StoredRun(tmp_path / "run.zarr").facts["warnings"] == list(result.warnings)


def test_a_picture_that_cannot_be_drawn_does_not_make_a_measured_run_a_failed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no ink")

    monkeypatch.setattr(run_module, "draw_result", fail)
    result = acquire(noisy(tmp_path))
    assert any("no ink" in warning for warning in result.warnings)
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED


@pytest.mark.parametrize("longest_block_s", [0.02, 0.005])
def test_a_run_takes_no_more_of_the_disk_than_was_planned(tmp_path: Path, longest_block_s: float) -> None:
    config = config_of(
        tmp_path, sensing={"repeats": 20}, blocks={"longest_block_s": longest_block_s}, dmd_region={"rotation_deg": 90}
    )
    result = acquire(config)
    paths = [result.picture, *result.run.rglob("*")]
    taken = sum(4096 * max(1, -(-path.stat().st_size // 4096)) for path in paths)
    schedule = plan_sensing(config, asymmetric_sample(8)).schedule
    assert taken <= run_bytes(schedule, snapshots=config.output.snapshots)


@pytest.mark.parametrize("refused", ["timing", "memory"])
def test_nothing_is_overwritten_before_the_device_has_accepted_everything(tmp_path: Path, refused: str) -> None:
    acquire(noisy(tmp_path))
    document = noisy(tmp_path).model_dump(mode="json")
    if refused == "timing":
        document["timing"]["illumination_time_us"] = document["timing"]["picture_time_us"]
    else:
        document["blocks"]["dark_exposures"] = 100_000
    with pytest.raises((TimingRefusedError, DeviceMismatchError)):
        acquire(AcquisitionConfig.model_validate(document), overwrite=True)
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED
    assert (tmp_path / "run.png").is_file()


def test_a_failed_run_leaves_no_picture_of_the_one_it_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acquire(noisy(tmp_path))

    def refuse(*_: object) -> None:
        raise AlignmentError("a trigger was lost")

    monkeypatch.setattr(run_module, "prove_alignment", refuse)
    with pytest.raises(AlignmentError):
        acquire(noisy(tmp_path), overwrite=True)
    assert not (tmp_path / "run.png").exists()


def test_a_run_that_was_planned_with_images_is_reconstructed_without_them(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((5, 8, 8))
    np.save(tmp_path / "images.npy", images)
    document = noisy(tmp_path).model_dump(mode="json")
    document["reconstruction"]["prior"] = {"kind": "images", "file": str(tmp_path / "images.npy")}
    result = acquire(AcquisitionConfig.model_validate(document))
    (tmp_path / "images.npy").unlink()
    again = reconstruct_run(tmp_path / "run.zarr", tmp_path / "again.png")
    assert np.array_equal(again.reconstruction.image, result.reconstruction.image)
    # The oracle: coefficients of the images at the run's total light.
    scaled = images / images.sum(axis=(1, 2), keepdims=True) * result.reconstruction.estimate.total
    coefficients = np.array([dense(image) for image in scaled])
    typical = power_law_prior(8, result.reconstruction.estimate.total).variance
    assert np.allclose(again.reconstruction.prior.mean, coefficients.mean(axis=0), atol=1e-6 * coefficients.max())
    assert np.allclose(
        again.reconstruction.prior.variance,
        (4 * coefficients.var(axis=0, ddof=1) + 10 * typical) / 14 * 1.2,
        atol=1e-9 * coefficients.max() ** 2,
    )


def test_a_reconstruction_is_not_overwritten_unasked_and_says_how_it_was_made(tmp_path: Path) -> None:
    acquire(noisy(tmp_path))
    reconstruct_run(tmp_path / "run.zarr", tmp_path / "one.png", estimator="difference")
    with pytest.raises(OutputExistsError, match="reconstructed image"):
        reconstruct_run(tmp_path / "run.zarr", tmp_path / "two.png")
    made = zarr.open_group(tmp_path / "run.zarr", mode="r")["images/reconstructed"].attrs["hadascope"]
    assert isinstance(made, dict)
    assert made["reconstruction"]["estimator"] == "difference"


def test_a_run_without_a_committed_block_has_nothing_to_reconstruct(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AlignmentError("a trigger was lost")

    monkeypatch.setattr(run_module, "prove_alignment", refuse)
    with pytest.raises(AlignmentError):
        acquire(noisy(tmp_path))
    with pytest.raises(NoEvidenceError):
        reconstruct_run(tmp_path / "run.zarr")


def test_a_sample_too_dim_to_prove_anything_is_refused_before_the_light_is_on(tmp_path: Path) -> None:
    config = config_of(tmp_path, noise={"gain": 1.0, "variance": 1e11})
    with pytest.raises(GuardsTooDimError, match="too dim"):
        acquire(config)
    assert not (tmp_path / "run.zarr").exists()
