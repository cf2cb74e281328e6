"""A stability calibration is the same after its file, and its picture is drawn whatever was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from calibration.calibration_file import write_calibration
from calibration.identity import CameraIdentity
from calibration.stability import Stability, fit_stability
from calibration.stability_file import PictureTimes, StabilityCalibration, stability_calibration
from calibration.stability_plot import draw_stability
from models.noise import NoiseModel
from tests.calibration.light_simulator import Light

CAMERA = CameraIdentity(
    simulated=True,
    camera="SimulatedCamera",
    exposure_us=900.0,
    region=None,
    roi=(0, 0, 4, 4),
    binning=1,
    bytes_per_px=2,
    offset_per_px=0.0,
    settings={},
)
TIMES = PictureTimes(safe_us=143, shortest_working_us=136, longest_failing_us=134, limited_by="late", trials=20)


def filed(stability: Stability, times: PictureTimes | None = None) -> StabilityCalibration:
    return stability_calibration(
        stability, CAMERA, hadascope="0.1.0", measured="2026-01-31", raw="light.zarr", picture_time=times
    )


@pytest.fixture(scope="module")
def unsteady() -> Stability:
    light = Light(bleaching=2e-3, drift=1e-3, source=0.01, contrast=300.0, first=20.0, sections=30)
    return fit_stability(light.exposures(0), 1000.0, NoiseModel(1.0, 50.0))


@pytest.fixture(scope="module")
def least_known() -> Stability:
    """No rests, no a and b, and a light that stays on."""
    exposures = replace(Light(rests=0, sections=30).exposures(0), dark_before=np.empty(0), dark_after=np.empty(0))
    return fit_stability(exposures, 1000.0)


def test_a_file_gives_back_what_was_written(unsteady: Stability, least_known: Stability, tmp_path: Path) -> None:
    for calibration in (filed(unsteady, TIMES), filed(least_known)):
        write_calibration(tmp_path / "light.json", calibration)
        assert StabilityCalibration.model_validate_json((tmp_path / "light.json").read_bytes()) == calibration


def test_a_file_says_what_was_found(unsteady: Stability) -> None:
    calibration = filed(unsteady)
    assert calibration.kind == "stability"
    assert calibration.usable is unsteady.usable
    assert calibration.reasons == unsteady.reasons
    assert calibration.inside.value == unsteady.source.inside.value
    assert calibration.first_minus_second.value == pytest.approx(20 / 20_000, rel=0.5)
    assert calibration.shot_variance == pytest.approx((20_000 + 100) / 20_000**2, rel=0.05)
    assert calibration.pair_variance > (20_000 + 100) / 20_000**2


def test_what_was_not_measured_stays_empty(least_known: Stability) -> None:
    calibration = filed(least_known)
    unknown = (calibration.bleaching, calibration.lamp_drift, calibration.contrast, calibration.offset_drift)
    assert unknown == (None, None, None, None)
    assert calibration.shot_variance is None
    assert calibration.background is None


def test_a_picture_is_drawn_of_whatever_was_found(unsteady: Stability, least_known: Stability, tmp_path: Path) -> None:
    pictures = []
    for number, stability in enumerate((unsteady, least_known)):
        draw_stability(tmp_path / f"{number}.png", stability, "simulated devices, 2026-01-31")
        pictures.append(imread(tmp_path / f"{number}.png"))
    for picture in pictures:
        assert picture.shape[0] > 400
        assert picture.shape[1] > 1200
        assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100
    assert (pictures[0] != pictures[1]).any()
