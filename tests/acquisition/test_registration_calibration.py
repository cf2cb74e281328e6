"""Where the mirrors lie on a camera that images them, measured on the bench and used by acquisitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from acquisition.acquisition_file import dump_acquisition
from acquisition.bucket_region import bucket_region
from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.fit_again import fit_again
from acquisition.registration_calibration import RegistrationResult, calibrate_registration
from acquisition.run import acquire
from acquisition.stored_run import StoredRun
from calibration.registration import NoImageError
from calibration.registration_file import read_registration
from sim_devices.sensor_images import View, mirrors_to_sensor
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.test_noise_calibration import noisy_config

VIEW = {"scale": 0.4, "rotation_deg": 8.0, "x_px": 25.0, "y_px": 4.0, "mirrored": False, "blur_px": 0.7}


def imaging_config(folder: Path, **detector: Any) -> AcquisitionConfig:
    """128 × 128 mirrors on a camera of 96 × 96 px that sees them turned."""
    seen = {"width_px": 96, "height_px": 96, "bytes_per_px": 2, "offset_per_px": 20.0, "view": VIEW, **detector}
    return noisy_config(
        folder,
        dmd_region={"top": 20, "left": 12, "mirrors_per_px": 16},
        bench={"photoelectrons_per_px": 2e5, "source_noise": 0.0, "lamp_drift": 0.0},
        noise={"gain": 2.0, "variance": 96 * 96 * 4.0},
        detector=seen,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[AcquisitionConfig, RegistrationResult]:
    folder = tmp_path_factory.mktemp("registration")
    config = imaging_config(folder)
    return config, calibrate_registration(config, CalibrationOutput(folder / "camera.json"))


def test_the_map_is_the_one_through_which_the_bench_looks(made: tuple[AcquisitionConfig, RegistrationResult]) -> None:
    _, result = made
    assert result.calibration.usable, result.reasons
    truth = mirrors_to_sensor(View(**VIEW))  # type: ignore[arg-type]
    corners = np.array([[12, 20, 1], [139, 20, 1], [12, 147, 1], [139, 147, 1]], dtype=float)
    found, expected = corners @ result.calibration.map.T, (corners @ truth.T)[:, :2]
    assert np.abs(found - expected).max() < 0.3


def test_an_acquisition_sums_the_pixels_of_its_mirrors_and_no_others(
    made: tuple[AcquisitionConfig, RegistrationResult], tmp_path: Path
) -> None:
    _, result = made
    named = imaging_config(tmp_path, registration=str(result.output.file))
    region = bucket_region(named)
    assert region is not None
    truth = mirrors_to_sensor(View(**VIEW))  # type: ignore[arg-type]
    ends = np.array([[11.5, 19.5, 1], [139.5, 19.5, 1], [11.5, 147.5, 1], [139.5, 147.5, 1]]) @ truth.T
    for lowest, size, along in ((region.x, region.width, ends[:, 0]), (region.y, region.height, ends[:, 1])):
        assert lowest <= along.min() + 0.5
        assert lowest + size - 1 >= along.max() - 0.5
        assert size < 96
    acquire(named)
    run = StoredRun(named.output.run)
    sample = sample_on_stage(named)
    assert sample is not None
    # What the optics blur beyond the margin is lost, and little is.
    assert run.facts["reference_total"] == pytest.approx(sample.sum(), rel=0.02)
    assert run.facts["registration"] == json.loads(result.output.file.read_text(encoding="utf-8"))


def test_the_same_frames_give_the_same_map_again(made: tuple[AcquisitionConfig, RegistrationResult]) -> None:
    output = made[1].output
    before = output.file.read_bytes()
    assert fit_again(output.raw).reasons == ()
    assert output.file.read_bytes() == before


def test_dots_at_the_cameras_full_scale_are_left_out_and_it_is_said(tmp_path: Path) -> None:
    """Of a 12-bit camera, say, whose pixels take two bytes."""
    config = imaging_config(tmp_path, full_scale=12_000)
    clipped = config.replace(bench=config.bench.model_copy(update={"saturation": 12_000}))
    result = calibrate_registration(clipped, CalibrationOutput(tmp_path / "camera.json"))
    assert result.calibration.usable, result.reasons
    said = json.loads((tmp_path / "camera.json").read_text(encoding="utf-8"))
    n = said["dots_saturated"]
    assert 2 <= n <= 12
    assert said["dots_used"] + n == said["dots_found"] == 25
    assert f"{n} of 25 dots were left out because they bring pixels to full scale" in result.notes[0]
    assert dict(result.rows())["dots"].endswith(f"of 25 shown, {n} saturated")


def test_a_region_that_lies_beside_the_sensor_in_part_is_not_relied_on(hadascope: CommandLine, tmp_path: Path) -> None:
    config = imaging_config(tmp_path, view={**VIEW, "x_px": 55.0})
    file = tmp_path / "bench.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    said = hadascope("calibrate", "registration", file, "--output", tmp_path / "camera.json")
    assert said.code == 1
    assert "of the image region's mirrors lie beside the frame of 96 × 96 px" in said.out
    with pytest.raises(ValidationError, match="says of itself that it is not usable"):
        imaging_config(tmp_path, registration=str(tmp_path / "camera.json"))


def test_a_detector_that_does_not_image_is_recognized(tmp_path: Path) -> None:
    with pytest.raises(NoImageError):
        calibrate_registration(imaging_config(tmp_path, view=None), CalibrationOutput(tmp_path / "camera.json"))
    assert not (tmp_path / "camera.json").exists()


def test_the_command_registers_and_the_file_that_names_it_beforehand_is_read(
    hadascope: CommandLine, tmp_path: Path
) -> None:
    config = imaging_config(tmp_path)
    document = dump_acquisition(config).replace("registration: null", f"registration: {tmp_path / 'run.camera.json'}")
    file = tmp_path / "bench.yaml"
    file.write_text(document, encoding="utf-8")
    assert hadascope("plan", file).code == 2
    said = hadascope("calibrate", "registration", file, "--output", tmp_path / "run.camera.json")
    assert said.code == 0, said.out + said.err
    for what in ("scale", "rotation", "residual", "dots", "usable"):
        assert what in said.out
    assert read_registration(tmp_path / "run.camera.json").usable
    assert hadascope("plan", file).code == 0
    assert hadascope("calibrate", "registration", file, "--grid", "2", "--overwrite").code == 2
