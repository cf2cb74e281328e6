"""The calibrate commands: what they write and say, their exit codes, and the README's way from there to acquiring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from acquisition.acquisition_file import dump_acquisition, example_dry_run
from sim_devices.bench import OpticalBench
from tests.acquisition.real_bench import CommandLine, RealBench
from tests.acquisition.test_noise_calibration import config_with, noisy_config
from tests.readme import yaml_example

LEVELS = "16"


def written(folder: Path, **sections: Any) -> Path:
    """An acquisition file in a folder; a section that is named replaces the file's own."""
    document = yaml.safe_load(dump_acquisition(noisy_config(folder)))
    document.update(sections)
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def readme_bench(folder: Path) -> Path:
    """The README's own bench as a file in a folder, of 8 × 8 px."""
    example = yaml.safe_load(example_dry_run().read_text(encoding="utf-8"))
    document = {**example, **yaml_example("sample"), "bench": {"pace": 0.0}}
    document["output"] = {"run": str(folder / "hela.zarr")}
    document["sensing"] = {**example["sensing"], "side": 8}
    document["dmd_region"] = {"mirrors_per_px": 16}
    file = folder / "bench.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def test_the_way_of_the_readme_leads_from_calibrating_to_acquiring(hadascope: CommandLine, tmp_path: Path) -> None:
    """The file names a calibration that is not there yet; the command writes it, and then the file can be acquired."""
    named = yaml_example("noise")["noise"]["calibration"]
    path = tmp_path / named
    bench = {"gain": 2.0, "variance": 400.0, "photoelectrons_per_px": 400.0}
    file = written(tmp_path, noise={"calibration": str(path)}, bench=bench)
    refused = hadascope("acquire", file)
    assert refused.code == 2
    assert "noise.calibration" in refused.err
    assert hadascope("calibrate", "noise", file, "--output", path, "--exposures", "60").code == 0
    assert {each.suffix for each in tmp_path.glob(path.stem + "*")} == {".json", ".zarr", ".png"}
    assert hadascope("acquire", file).code == 0
    info = hadascope("info", tmp_path / "run.zarr")
    assert info.code == 0


def test_what_was_measured_is_said_with_its_interval_and_a_verdict(hadascope: CommandLine, tmp_path: Path) -> None:
    said = hadascope("calibrate", "noise", written(tmp_path), "--exposures", "60")
    assert said.code == 0
    for what in ("gain a", "variance b", "offset", "95 %", "detector units per", "usable"):
        assert what in said.out
    assert "run.noise.json" in said.out.replace("\n", "")
    assert json.loads((tmp_path / "run.noise.json").read_text(encoding="utf-8"))["usable"] is True


def test_a_calibration_that_cannot_be_relied_on_says_why_and_fails(hadascope: CommandLine, tmp_path: Path) -> None:
    """So few exposures leave the gain open by more than half of itself."""
    bench = {"photoelectrons_per_px": 1e5, "gain": 0.01, "variance": 4e4, "source_noise": 0.001}
    said = hadascope("calibrate", "noise", written(tmp_path, bench=bench), "--exposures", "50")
    assert said.code == 1
    assert "not usable" in said.out
    calibration = json.loads((tmp_path / "run.noise.json").read_text(encoding="utf-8"))
    assert calibration["usable"] is False
    assert calibration["reasons"]


def test_no_light_is_a_verdict_without_a_file(
    hadascope: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = OpticalBench.decode
    monkeypatch.setattr(OpticalBench, "decode", lambda bench, pictures: 0 * decode(bench, pictures))
    said = hadascope("calibrate", "noise", written(tmp_path), "--exposures", "60")
    assert said.code == 1
    assert "not usable" in said.err
    assert "open the shutter" in said.err
    assert "Traceback" not in said.out + said.err
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--levels", "7"), "even number"),
        (("--levels", "4"), "--levels"),
        (("--exposures", "3"), "--exposures"),
        (("--exposures", "1e20"), "--exposures"),
        (("--output", "noise.zarr"), ".json"),
    ],
)
def test_what_cannot_be_is_refused_before_any_device_is_touched(
    hadascope: CommandLine, tmp_path: Path, arguments: tuple[str, str], said: str
) -> None:
    answer = hadascope("calibrate", "noise", written(tmp_path), *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("run*"))


def test_nothing_is_overwritten_unasked(hadascope: CommandLine, tmp_path: Path) -> None:
    file = written(tmp_path)
    (tmp_path / "run.noise.json").write_text("mine", encoding="utf-8")
    assert hadascope("calibrate", "noise", file, "--exposures", "60").code == 2
    assert (tmp_path / "run.noise.json").read_text(encoding="utf-8") == "mine"
    assert hadascope("calibrate", "noise", file, "--exposures", "60", "--overwrite").code == 0


def test_a_calibration_is_fitted_again_from_its_readings(hadascope: CommandLine, tmp_path: Path) -> None:
    assert hadascope("calibrate", "noise", written(tmp_path), "--exposures", "60").code == 0
    before = (tmp_path / "run.noise.json").read_bytes()
    (tmp_path / "run.noise.json").unlink()
    assert hadascope("calibrate", "again", tmp_path / "run.noise.zarr").code == 0
    assert (tmp_path / "run.noise.json").read_bytes() == before
    assert hadascope("calibrate", "again", tmp_path / "nothing.zarr").code == 2


def test_a_file_of_real_devices_is_rehearsed_and_says_so(
    hadascope: CommandLine, tmp_path: Path, lab: RealBench
) -> None:
    file = readme_bench(tmp_path)
    assert hadascope("calibrate", "noise", file, "--dry-run", "--exposures", "200").code == 0
    written = json.loads((tmp_path / "hela.noise.rehearsed.json").read_text(encoding="utf-8"))
    assert written["identity"]["simulated"] is True
    assert not lab.was_touched


def test_a_registration_of_a_real_camera_is_rehearsed_with_one_that_images(
    hadascope: CommandLine, tmp_path: Path, lab: RealBench
) -> None:
    said = hadascope("calibrate", "registration", readme_bench(tmp_path), "--dry-run")
    assert said.code == 0, said.out + said.err
    assert "25 used of 25 seen" in said.out
    written = json.loads((tmp_path / "hela.registration.rehearsed.json").read_text(encoding="utf-8"))
    assert written["usable"] is True
    assert written["identity"]["simulated"] is True
    assert not lab.was_touched


def test_real_light_is_asked_for_first(hadascope: CommandLine, tmp_path: Path, lab: RealBench) -> None:
    file = lab.file(tmp_path)
    answer = hadascope("calibrate", "noise", file)
    assert answer.code == 2
    assert "--yes" in answer.err
    assert not lab.was_touched
    hadascope.person, hadascope.answer = True, "n"
    assert hadascope("calibrate", "noise", file, "--exposures", "60").code == 1
    assert hadascope.asked == 1
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()
    assert not list(tmp_path.glob("run*"))


def test_real_drivers_are_let_go_of_whatever_the_verdict(
    hadascope: CommandLine, tmp_path: Path, lab: RealBench
) -> None:
    """The laboratory's bench is without noise: there is light, and nothing to measure."""
    answer = hadascope("calibrate", "noise", lab.file(tmp_path), "--exposures", "60", "--yes")
    assert answer.code == 1
    assert "not usable" in answer.err
    assert lab.bench.was_lit
    lab.must_be_let_go_of()


def test_a_calibration_that_a_plan_names_must_be_this_cameras(hadascope: CommandLine, tmp_path: Path) -> None:
    assert hadascope("calibrate", "noise", written(tmp_path), "--exposures", "60").code == 0
    config = config_with(
        noisy_config(tmp_path),
        tmp_path,
        noise={"calibration": str(tmp_path / "run.noise.json")},
        timing={"illumination_time_us": 70},
    )
    file = tmp_path / "other.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    answer = hadascope("acquire", file)
    assert answer.code == 2
    assert "the exposure time in µs was 90.0, and is 70.0 now" in answer.err
    checked = hadascope("check", file)
    assert checked.code == 2
    assert "noise calibration" in checked.out


def test_images_of_any_camera_tell_their_noise(hadascope: CommandLine, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    scene = 20 + 150 * np.add.outer(np.linspace(0, 1, 192), np.linspace(0, 1, 192)) / 2
    stack = 2.0 * rng.poisson(scene / 2.0, (4, 192, 192)) + rng.normal(0, 3.0, (4, 192, 192))
    np.save(tmp_path / "stack.npy", stack.astype(np.float32))
    said = hadascope("calibrate", "images", tmp_path / "stack.npy", "--plot", tmp_path / "noise.png")
    assert said.code == 0, said.out + said.err
    assert "one image" in said.out
    assert "4 repeats" in said.out
    assert (tmp_path / "noise.png").is_file()
    again = hadascope("calibrate", "images", tmp_path / "stack.npy", "--plot", tmp_path / "noise.png")
    assert again.code == 2
    assert "exists" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("images", "vol.npy"), "shape [0, 256, 256]"),
        (("images", "stack.npy", "--full-scale", "-5"), "found a full scale of -5"),
        (("images", "stack.npy", "--full-scale", "nan"), "found a full scale of nan"),
        (("images", "stacks.npz:dark"), "expected one of raw"),
        (("stability", "bench.yaml", "--seconds", "nan"), "found nan s of light"),
        (("stability", "bench.yaml", "--seconds=-1"), "found -1 s of light"),
    ],
)
def test_numbers_and_files_that_make_no_sense_are_bad_input(
    hadascope: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path)
    np.save("vol.npy", np.zeros((0, 256, 256)))
    np.save("stack.npy", np.random.default_rng(0).poisson(50.0, (2, 64, 64)))
    np.savez("stacks.npz", raw=np.zeros((2, 64, 64)))
    answer = hadascope("calibrate", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.out + answer.err
    assert not list(tmp_path.glob("run*"))


def test_images_without_noise_to_be_found_are_a_verdict(hadascope: CommandLine, tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.full((128, 128), 7.0))
    said = hadascope("calibrate", "images", tmp_path / "flat.npy")
    assert said.code == 1
    assert "not possible" in said.out
    assert hadascope("calibrate", "images", tmp_path / "nothing.npy").code == 2
