"""Calibration files: whole, versioned, refused where they are not, and bound to the camera they were made with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from calibration.calibration_file import CalibrationFileError, write_calibration
from calibration.estimate import Estimate
from calibration.identity import CameraIdentity
from calibration.noise_file import NoiseCalibration, read_noise_calibration

IDENTITY = CameraIdentity(
    simulated=False,
    camera="Zyla",
    exposure_us=700.0,
    region=(0, 0, 8, 8),
    roi=(100, 100, 64, 64),
    binning=2,
    bytes_per_px=2,
    offset_per_px=100.0,
    settings={"Zyla.Gain": "high"},
)
CALIBRATION = NoiseCalibration(
    hadascope="0.1.0",
    measured="2026-11-21T12:00:00+00:00",
    raw="bench.noise.zarr",
    usable=True,
    reasons=(),
    notes=(),
    identity=IDENTITY,
    gain=Estimate(value=2.0, low=1.9, high=2.1),
    variance=0.0,
    variance_estimate=Estimate(value=-3.0, low=None, high=4.0),
    source_noise=Estimate(value=1e-6, low=None, high=2e-6),
    offset=Estimate(value=6400.0, low=6399.0, high=6401.0),
    covariance=((0.01, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1e-14)),
    linear_up_to=5e4,
    exposures=18_750,
    light_s=18.75,
)


def test_a_calibration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write_calibration(tmp_path / "noise.json", CALIBRATION)
    assert read_noise_calibration(tmp_path / "noise.json") == CALIBRATION
    assert [each.name for each in tmp_path.iterdir()] == ["noise.json"]


def test_a_variance_that_came_out_below_zero_is_kept_beside_the_zero_that_is_used() -> None:
    assert CALIBRATION.noise.variance == 0
    assert CALIBRATION.variance_estimate.value == -3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": 2}, "version"),
        ({"kind": "stability"}, "kind"),
        ({"gain": None}, "gain"),
        ({"gain": {"value": -1.0, "low": -2.0, "high": 0.0}}, "more than 0"),
        ({"variance": -1.0}, "variance"),
        ({"colour": "red"}, "colour"),
        ({"reasons": ["too dim"]}, "reasons why not"),
        ({"variance": 400.0}, "beside an estimate of -3"),
        ({"gain": {"value": 2.0, "low": 2.1, "high": 1.9}}, "an interval from 2.1 to 1.9"),
        ({"covariance": [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]}, "negative variances"),
        ({"usable": False, "reasons": ["saturated throughout"]}, "saturated throughout"),
    ],
)
def test_a_file_that_says_something_else_is_refused_with_the_reason(
    tmp_path: Path, changed: dict[str, Any], why: str
) -> None:
    path = tmp_path / "noise.json"
    path.write_text(json.dumps(CALIBRATION.model_dump(mode="json") | changed), encoding="utf-8")
    with pytest.raises(CalibrationFileError, match=why):
        read_noise_calibration(path)


def test_a_file_that_an_editor_marked_as_utf_8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "noise.json"
    path.write_text(CALIBRATION.model_dump_json(), encoding="utf-8-sig")
    assert read_noise_calibration(path) == CALIBRATION


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise.json").write_bytes(content)
    with pytest.raises(CalibrationFileError, match="noise model"):
        read_noise_calibration(tmp_path / "noise.json")


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValidationError):
        NoiseCalibration.model_validate({**CALIBRATION.model_dump(), "light_s": float("nan")})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"camera": "Orca"}, "the camera was Zyla, and is Orca now"),
        ({"exposure_us": 800.0}, "exposure time in µs was 700.0, and is 800.0 now"),
        ({"region": None}, r"region .* was \(0, 0, 8, 8\), and is not set now"),
        ({"roi": (0, 0, 64, 64)}, "region of interest"),
        ({"binning": 1}, "binning was 2"),
        ({"bytes_per_px": 1}, "bytes of a pixel"),
        ({"offset_per_px": 99.0}, "offset of a pixel"),
        ({"settings": {"Zyla.Gain": "low"}}, "Zyla.Gain was high, and is low now"),
        ({"settings": {}}, "Zyla.Gain was high, and is not set now"),
        ({"settings": {"Zyla.Gain": "high", "PMT.Voltage": "600"}}, "PMT.Voltage was not set, and is 600 now"),
    ],
)
def test_every_setting_that_bears_on_the_noise_tells_another_detector(changed: dict[str, Any], said: str) -> None:
    (difference,) = IDENTITY.differences(IDENTITY.model_copy(update=changed))
    assert re.search(said, difference)


def test_the_same_detector_differs_in_nothing() -> None:
    assert list(IDENTITY.differences(IDENTITY.model_copy())) == []
