"""A registration as a file, and as a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from calibration.calibration_file import CalibrationFileError, write_calibration
from calibration.identity import CameraIdentity
from calibration.registration import Registration
from calibration.registration_file import RegistrationCalibration, read_registration
from calibration.registration_plot import draw_registration
from tests.calibration.registration_scene import CORNERS, PICTURES, REGION, map_of, mapped

IDENTITY = CameraIdentity(
    simulated=True,
    camera="Camera",
    exposure_us=900.0,
    region=None,
    roi=(0, 0, 200, 190),
    binning=1,
    bytes_per_px=2,
    offset_per_px=100.0,
    settings={},
)


def a_registration(**changes: Any) -> Registration:
    """Dots a little off a known map, one of them unseen, one of them far off."""
    matrix = map_of(scale=0.8, rotation_deg=25.0, mirrored=True)
    found = mapped(matrix, PICTURES.positions) + np.random.default_rng(2).normal(0, 0.1, (25, 2))
    found[4], found[9] = np.nan, (20.0, 150.0)
    used = ~np.isin(np.arange(25), [4, 9])
    saturated, error_px = np.arange(25) == 9, np.array([0.1, 0.2, 0.15, 0.1])
    whole = Registration(
        matrix, PICTURES.positions, found, used, saturated, CORNERS, error_px, notes=("one is bright",)
    )
    return replace(whole, **changes)


def as_file(registration: Registration) -> RegistrationCalibration:
    return RegistrationCalibration.of(
        registration,
        hadascope="0.1.0",
        measured="2026-01-31T10:00:00Z",
        raw="registration.zarr",
        identity=IDENTITY,
        frame_px=(200, 190),
        dmd="xga",
        region=REGION,
    )


def test_a_registration_is_read_as_it_was_written(tmp_path: Path) -> None:
    registration = a_registration()
    written = as_file(registration)
    write_calibration(tmp_path / "registration.json", written)
    read = read_registration(tmp_path / "registration.json")
    assert read == written
    assert (read.map == registration.matrix).all()
    assert (read.dots, read.dots_found, read.dots_used, read.dots_saturated) == (25, 24, 23, 1)
    assert read.notes == ("one is bright",)
    assert read.corner_error_px == 0.2
    assert (read.mirrors.left, read.mirrors.top, read.mirrors.extent) == (31, 20, 128)
    assert np.isclose([read.scale_x, read.scale_y, read.rotation_deg], [0.8, 0.8, 25.0]).all()
    assert read.mirrored


def test_an_unusable_registration_is_written_and_not_read(tmp_path: Path) -> None:
    unknown = np.full(4, np.inf)
    written = as_file(a_registration(reasons=("3 of 25 dots can be used",), corner_error_px=unknown))
    write_calibration(tmp_path / "registration.json", written)
    assert not json.loads((tmp_path / "registration.json").read_bytes())["usable"]
    with pytest.raises(CalibrationFileError, match=r"not usable \(3 of 25 dots can be used\): register again"):
        read_registration(tmp_path / "registration.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version"),
        ({"kind": "noise"}, "kind"),
        ({"matrix": [[1, 0, 0]]}, "matrix"),
        ({"matrix": [[1, 0, 0], [2, 0, 0]]}, "on a line"),
        ({"usable": True, "reasons": ["it is not"]}, "reasons why not"),
        ({"usable": False}, "reasons why not"),
        ({"frame_px": [200, 0]}, "expected 1 or more"),
        ({"rms_px": -1.0}, "rms_px"),
        ({"mirrors": {"dmd": "xga", "left": -1, "top": 0, "extent": 4}}, "mirrors.left"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_what_a_file_says_wrong_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "registration.json"
    path.write_text(json.dumps({**as_file(a_registration()).model_dump(mode="json"), **changes}), encoding="utf-8")
    with pytest.raises(CalibrationFileError, match=said):
        read_registration(path)


@pytest.mark.parametrize(
    "registration",
    [
        a_registration(),
        a_registration(used=np.arange(25) < 3, reasons=("few",)),
        a_registration(found=mapped(a_registration().matrix, PICTURES.positions), used=np.ones(25, dtype=bool)),
    ],
)
@pytest.mark.parametrize("light", [0.0, 50.0])
def test_a_picture_is_drawn_whatever_was_found(tmp_path: Path, registration: Registration, light: float) -> None:
    path = tmp_path / "registration.png"
    draw_registration(path, registration, np.full((190, 200), light), "A bench")
    image = iio.imread(path)
    assert min(image.shape[:2]) > 400
    # The region's outline, found dots and left-out ones are there in their colours.
    for colour in ("E69F00", "56B4E9", "D55E00"):
        near = np.abs(image[..., :3].astype(int) - list(bytes.fromhex(colour))).max(axis=2) < 12
        assert near.sum() > 50
