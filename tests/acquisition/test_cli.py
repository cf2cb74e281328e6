"""The command line as a scientist meets it: what it prints, what it leaves, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from skimage.io import imread

from acquisition.acquisition_file import dump_acquisition, example_dry_run
from acquisition.run_layout import RunState
from acquisition.stored_run import StoredRun
from tests.acquisition.rehearsal import small_config


def hadascope(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "acquisition.cli", *(str(argument) for argument in arguments)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(dump_acquisition(small_config(output={"run": "run.zarr"})), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def default_dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The main job, as the README types it: no argument."""
    folder = tmp_path_factory.mktemp("main_job")
    return folder, hadascope(folder, "dry-run")


def test_the_main_job_leaves_a_finished_run_and_a_picture(
    default_dry_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, done = default_dry_run
    assert done.returncode == 0, done.stderr
    assert "Simulated devices" in done.stdout
    assert "PSNR" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["dry_run.png", "dry_run.zarr"]
    assert imread(folder / "dry_run.png").std() > 10


def test_the_main_job_is_the_one_the_example_file_describes(
    default_dry_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run = StoredRun(default_dry_run[0] / "dry_run.zarr")
    assert run.state is RunState.FINISHED
    assert run.n_pairs == int(run.repeats.sum())
    assert abs(run.n_pairs - 0.25 * 128**2 * 8) <= 8
    sample, image = run.image("sample"), run.image("image")
    assert sample.shape == image.shape == (128, 128)
    noise = float(np.sqrt(((image - sample) ** 2).mean()))
    assert noise < 0.01 * sample.max()


def test_the_image_was_refreshed_at_least_ten_times_while_the_light_was_on(
    default_dry_run: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    record = StoredRun(default_dry_run[0] / "dry_run.zarr").live_record
    assert len(record) >= 10
    assert (np.diff(record[:, 1]) > 0).all()  # each from more pairs than the one before
    assert (record[:, 2] >= 0).all()


def test_info_and_reconstruct_work_on_what_the_main_job_left(
    default_dry_run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = default_dry_run[0] / "dry_run.zarr"
    info = hadascope(tmp_path, "info", run)
    assert info.returncode == 0, info.stderr
    assert "finished" in info.stdout
    assert "simulated" in info.stdout
    again = hadascope(tmp_path, "reconstruct", run, "--picture", tmp_path / "again.png", "--estimator", "difference")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again.png").is_file()
    assert StoredRun(run).has_image("reconstructed")


def test_any_image_can_be_put_on_the_stage(tmp_path: Path, small_file: Path) -> None:
    tifffile.imwrite(tmp_path / "stripes.tif", np.tile(np.array([[1, 1, 1, 9]], np.uint8), (24, 8)))
    done = hadascope(tmp_path, "dry-run", small_file, "--sample", "stripes.tif", "--output", "stripes.zarr")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "stripes.png").is_file()
    sample = StoredRun(tmp_path / "stripes.zarr").image("sample")
    assert sample[:, 1].mean() > 0
    assert not np.allclose(sample, sample.mean())


def test_a_file_for_real_devices_is_rehearsed_on_simulated_ones(tmp_path: Path, small_file: Path) -> None:
    document = yaml.safe_load(small_file.read_text(encoding="utf-8"))
    document["devices"] = {
        "projector": {"kind": "alp", "library_dir": "/nowhere"},
        "detector": {"kind": "micro-manager", "port": 9},
        "light_source": {"kind": "micro-manager-shutter", "label": "LED"},
    }
    small_file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = hadascope(tmp_path, "dry-run", small_file)
    assert done.returncode == 0, done.stderr
    assert StoredRun(tmp_path / "run.zarr").facts["simulated"] is True
    real = hadascope(tmp_path, "acquire", small_file, "--output", "real.zarr", "--yes")
    assert real.returncode == 1
    assert "nothing listens on port 9" in real.stderr
    assert "Traceback" not in real.stderr
    assert not (tmp_path / "real.zarr").exists()


def test_plan_touches_no_device_and_leaves_nothing(tmp_path: Path, small_file: Path) -> None:
    done = hadascope(tmp_path, "plan", small_file)
    assert done.returncode == 0, done.stderr
    for figure in ("pairs", "exposures", "light time", "upload time", "DMD memory", "disk", "dose", "forecast PSNR"):
        assert figure in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_schema_prints_json(tmp_path: Path) -> None:
    done = hadascope(tmp_path, "schema")
    assert json.loads(done.stdout)["properties"].keys() >= {"sample", "sensing", "timing", "devices", "output"}


def test_help_names_every_command(tmp_path: Path) -> None:
    done = hadascope(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("plan", "dry-run", "acquire", "reconstruct", "schema", "info"):
        assert command in done.stdout


def probabilities(**changes: Any) -> np.ndarray[Any, Any]:
    mask = np.full(64, 0.5)
    for index, value in changes.items():
        mask[int(index.removeprefix("at"))] = value
    return mask


BAD_MASKS = {
    "NaN": (probabilities(at5=np.nan), "1 values that are NaN or infinite, the first at 5"),
    "over one": (probabilities(at3=1.5), "1 values outside [0, 1], the first 1.5 at 3"),
    "negative": (probabilities(at3=-0.5), "1 values outside [0, 1], the first -0.5 at 3"),
    "wrong size": (np.full(63, 0.5), "63 probabilities"),
    "wrong mean": (np.full(64, 0.4), "mean 0.4; expected α = 0.5"),
    "text": (np.array(["a"] * 64), "numbers"),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_that_is_none_is_refused(tmp_path: Path, small_file: Path, name: str) -> None:
    mask, reason = BAD_MASKS[name]
    np.save(tmp_path / "mask.npy", mask)
    refused(
        tmp_path,
        small_file,
        {"sensing": {"alpha": 0.5, "mask": {"kind": "learned", "file": "mask.npy"}}},
        "sensing.mask.file",
        reason,
    )


def test_a_mask_from_a_file_is_used(tmp_path: Path, small_file: Path) -> None:
    mask = np.zeros(64)
    mask[1:33] = 1.0
    np.save(tmp_path / "mask.npy", mask)
    edit(small_file, {"sensing": {"alpha": 0.5, "mask": {"kind": "learned", "file": "mask.npy"}}})
    done = hadascope(tmp_path, "dry-run", small_file)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(StoredRun(tmp_path / "run.zarr").repeats, mask)


BAD_VALUES: dict[str, tuple[dict[str, Any], str, str]] = {
    "side": ({"sensing": {"side": 12}}, "sensing.side", "a power of two"),
    "region": ({"dmd_region": {"left": 1020}}, "dmd_region.left", "0 to 1008"),
    "picture time": (
        {"timing": {"picture_time_us": 40, "illumination_time_us": 40}},
        "timing.picture_time_us",
        "at least 44",
    ),
    "illumination": (
        {"timing": {"illumination_time_us": 200}},
        "timing.illumination_time_us",
        "at most the picture time",
    ),
    "unknown key": ({"timing": {"exposure": 5}}, "timing.exposure", "picture_time_us"),
    "block": ({"blocks": {"longest_block_s": 0.0005}}, "blocks.longest_block_s", "a pair between two guards"),
    "run": ({"output": {"run": "."}}, "output.run", "a folder to make"),
    "run as a picture": ({"output": {"run": "run.png"}}, "output.run", "a folder to make"),
    "picture": ({"output": {"picture": "result.xyz"}}, "output.picture", "ends in .png"),
    "side of the generated sample": ({"sensing": {"side": 4}}, "sensing.side", "8 or more"),
}


@pytest.mark.parametrize("name", BAD_VALUES)
def test_a_bad_value_is_refused_with_its_key(tmp_path: Path, small_file: Path, name: str) -> None:
    changes, path, allowed = BAD_VALUES[name]
    refused(tmp_path, small_file, changes, path, allowed)


def test_a_sample_that_is_no_image_is_refused(tmp_path: Path, small_file: Path) -> None:
    (tmp_path / "notes.tif").write_text("no image")
    done = hadascope(tmp_path, "dry-run", small_file, "--sample", "notes.tif")
    assert_refusal(done, "notes.tif", "cannot be read as an image")
    assert not (tmp_path / "run.zarr").exists()


def test_an_output_that_exists_is_refused_and_left_alone(tmp_path: Path, small_file: Path) -> None:
    assert hadascope(tmp_path, "dry-run", small_file).returncode == 0
    before = (tmp_path / "run.zarr" / "zarr.json").read_bytes()
    (tmp_path / "run.png").unlink()
    assert_refusal(hadascope(tmp_path, "dry-run", small_file), "run.zarr", "--overwrite")
    assert (tmp_path / "run.zarr" / "zarr.json").read_bytes() == before
    assert hadascope(tmp_path, "dry-run", small_file, "--overwrite").returncode == 0


def test_overwriting_waits_until_the_devices_answer(tmp_path: Path, small_file: Path) -> None:
    assert hadascope(tmp_path, "dry-run", small_file).returncode == 0
    edit(
        small_file,
        {
            "devices": {
                "projector": {"kind": "alp"},
                "detector": {"kind": "micro-manager", "port": 9},
                "light_source": {"kind": "none"},
            }
        },
    )
    failed = hadascope(tmp_path, "acquire", small_file, "--overwrite", "--yes")
    assert failed.returncode == 1
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM to another process")
def test_a_request_to_terminate_ends_a_run_in_order(tmp_path: Path, small_file: Path) -> None:
    edit(small_file, {"bench": {"pace": 200.0}, "blocks": {"timeout_margin_s": 600.0}})
    command = [sys.executable, "-m", "acquisition.cli", "dry-run", str(small_file)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    commits = tmp_path / "run.zarr" / "readings" / "commits" / "c"
    deadline = time.monotonic() + 60
    while not commits.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "every committed block is kept" in said
    assert StoredRun(tmp_path / "run.zarr").state is RunState.STOPPED


@pytest.mark.parametrize("command", ["info", "reconstruct"])
def test_what_is_no_run_is_refused(tmp_path: Path, command: str) -> None:
    assert_refusal(hadascope(tmp_path, command, tmp_path), "is no run of Hadascope", "dry-run, acquire or calibrate")


def test_a_key_that_stands_twice_is_refused(tmp_path: Path, small_file: Path) -> None:
    small_file.write_text(
        small_file.read_text(encoding="utf-8") + "\ntiming: {picture_time_us: 50}\n", encoding="utf-8"
    )
    assert_refusal(hadascope(tmp_path, "plan", small_file), "'timing' stands twice")


def test_yaml_that_merges_is_yaml(tmp_path: Path, small_file: Path) -> None:
    text = small_file.read_text(encoding="utf-8").replace("timing:\n", "timing: &base\n")
    small_file.write_text(text + "\n", encoding="utf-8")
    merged = text.replace("timing: &base\n", "timing:\n  <<: {picture_time_us: 5000}\n")
    (tmp_path / "merged.yaml").write_text(merged, encoding="utf-8")
    done = hadascope(tmp_path, "plan", "merged.yaml")
    assert done.returncode == 0, done.stderr
    assert "100 µs per picture" in done.stdout  # what stands there itself wins over what is merged


def test_options_count_before_the_file_is_judged(tmp_path: Path, small_file: Path) -> None:
    tifffile.imwrite(tmp_path / "four.tif", np.arange(1, 17, dtype=np.uint8).reshape(4, 4))
    edit(small_file, {"sensing": {"side": 4}, "output": {"run": "bad.png"}})
    done = hadascope(tmp_path, "dry-run", small_file, "--sample", "four.tif", "--output", "four.zarr")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "four.png").is_file()


def test_a_section_that_is_none_is_refused_with_what_it_could_hold(tmp_path: Path, small_file: Path) -> None:
    small_file.write_text(
        small_file.read_text(encoding="utf-8").replace("timing:", "timing: 5\nwas_timing:"), encoding="utf-8"
    )
    assert_refusal(hadascope(tmp_path, "plan", small_file), "timing: found 5; allowed: a mapping of", "picture_time_us")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert_refusal(hadascope(tmp_path, "dry-run", "missing.yaml"), "missing.yaml", "No such file")


def test_the_example_file_says_what_the_readme_promises() -> None:
    example = yaml.safe_load(example_dry_run().read_text(encoding="utf-8"))
    assert (example["sensing"]["side"], example["sensing"]["alpha"], example["sensing"]["repeats"]) == (128, 0.25, 8)
    assert example["sensing"]["side"] * example["dmd_region"]["mirrors_per_px"] == 512


def edit(file: Path, changes: dict[str, dict[str, Any]]) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for section, values in changes.items():
        document[section].update(values)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")


def refused(folder: Path, file: Path, changes: dict[str, dict[str, Any]], path: str, reason: str) -> None:
    edit(file, changes)
    for command in ("plan", "dry-run", "acquire"):
        assert_refusal(hadascope(folder, command, file), path, reason)
    assert not (folder / "run.zarr").exists()


def assert_refusal(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
