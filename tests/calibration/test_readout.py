"""A measured readout time is read from its file, or the error says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calibration.calibration_file import CalibrationFileError
from calibration.readout import ReadoutCalibration, read_readout_calibration

WHOLE: dict[str, Any] = {"version": 1, "camera": "Prime BSI", "readout_us": 11.2, "measured": "2026-01-31T10:00:00Z"}


def written(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = read_readout_calibration(written(tmp_path / "readout.json", WHOLE))
    assert found == ReadoutCalibration(camera="Prime BSI", readout_us=11.2, measured="2026-01-31T10:00:00Z")
    path = tmp_path / "again.json"
    path.write_text(found.model_dump_json(), encoding="utf-8")
    assert read_readout_calibration(path) == found


def test_a_readout_of_no_time_is_one() -> None:
    assert ReadoutCalibration(camera="global", readout_us=0.0, measured="today").readout_us == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"readout_us": -1.0}, "readout_us"),
        ({"readout_us": "soon"}, "readout_us"),
        ({"readout_us": None}, "readout_us"),
        ({"version": 2}, "version"),
        ({"camera": 7}, "camera"),
        ({"exposure_us": 3}, "exposure_us"),
    ],
)
def test_what_a_file_says_wrong_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "readout.json", {**WHOLE, **changes})
    with pytest.raises(CalibrationFileError, match=rf"readout\.json is no calibration of a readout time \({said}: "):
        read_readout_calibration(path)


@pytest.mark.parametrize("missing", ["camera", "readout_us", "measured"])
def test_what_a_file_leaves_out_is_named(tmp_path: Path, missing: str) -> None:
    path = written(tmp_path / "readout.json", {key: value for key, value in WHOLE.items() if key != missing})
    with pytest.raises(CalibrationFileError, match=missing):
        read_readout_calibration(path)


@pytest.mark.parametrize("content", [b"", b"readout_us: 11", b"[]", b"\xff\xfe", b'{"readout_us": Infinity}'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "readout.json"
    path.write_bytes(content)
    with pytest.raises(CalibrationFileError, match="expected a JSON object with version, camera, readout_us"):
        read_readout_calibration(path)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match=r"missing\.json cannot be read \(.+\): correct the path"):
        read_readout_calibration(tmp_path / "missing.json")
    with pytest.raises(CalibrationFileError, match="cannot be read"):
        read_readout_calibration(tmp_path)
