"""A camera with a view: which noise its pixels can show, and the one that a registration is rehearsed with."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from acquisition.config import AcquisitionConfig
from acquisition.device_sections import SimulatedDetector
from acquisition.problems import AcquisitionFileError
from acquisition.rehearsal import imaging_rehearsal_of, rehearsal_of
from sim_devices.sensor_images import View, mirrors_to_sensor
from tests.acquisition.rehearsal import small_config

VIEW = {"scale": 0.5, "rotation_deg": 90.0, "x_px": 19.0, "y_px": -1.0, "blur_px": 0.7}
REAL = {
    "projector": {"kind": "alp", "dmd": "xga"},
    "detector": {
        "kind": "micro-manager",
        "offset_per_px": 100.0,
        "full_scale": 4095,
        "buffer_mb": 1,
        "binning": 2,
        "region": {"width": 3, "height": 3},
    },
    "light_source": {"kind": "none"},
}


def seen_by(bench: dict[str, Any] | None = None, **noise: float) -> AcquisitionConfig:
    """A bench whose camera of 200 × 100 px has a view."""
    camera = {"kind": "simulated", "width_px": 200, "height_px": 100, "view": VIEW}
    return small_config(
        devices={"detector": camera},
        noise={"gain": 1.0, "variance": 5000.0, **noise},
        bench={"shot_noise": True, **(bench or {})},
    )


@pytest.mark.parametrize(
    ("bench", "noise", "said"),
    [
        (
            {},
            {"variance": 400.0},
            r"^noise\.variance: found 400 over 200 × 100 px, 0\.02 each; allowed: at least 5000 w",
        ),
        ({}, {"variance": 4999.0}, r"^noise\.variance: found 4999 over"),
        ({"variance": 400.0}, {"variance": 1e6}, r"^bench\.variance: found 400 over .* or bench\.shot_noise: false"),
    ],
)
def test_noise_that_pixels_would_round_away_is_a_problem_in_the_file(
    bench: dict[str, Any], noise: dict[str, float], said: str
) -> None:
    with pytest.raises(AcquisitionFileError) as caught:
        seen_by(bench, **noise)
    (problem,) = caught.value.problems
    assert re.search(said, str(problem))


def test_noise_that_pixels_can_show_or_that_is_not_drawn_is_none() -> None:
    assert seen_by().noise.variance == 5000.0
    assert seen_by({"variance": 5000.0}, variance=400.0).noise.variance == 400.0
    assert not seen_by({"shot_noise": False}, variance=400.0).bench.shot_noise
    # Without a view the scatter of a reading is not shared out: every pixel gets all of it.
    even = {"kind": "simulated", "width_px": 200, "height_px": 100}
    assert small_config(devices={"detector": even}, bench={"shot_noise": True}).noise.variance == 0.0


@pytest.mark.parametrize(
    ("side", "region"),
    [
        (8, {"mirrors_per_px": 2, "top": 700, "left": 900}),
        (64, {"mirrors_per_px": 2, "top": 300, "left": 10}),
        (64, {"mirrors_per_px": 12, "top": 0, "left": 200}),
    ],
)
def test_a_registration_is_rehearsed_with_a_camera_that_sees_all_of_the_region(
    side: int, region: dict[str, int]
) -> None:
    config = small_config(sensing={"side": side}, dmd_region=region, devices=REAL)
    camera = imaging_rehearsal_of(config).devices.detector
    assert isinstance(camera, SimulatedDetector)
    assert camera.view is not None
    assert (camera.width_px, camera.height_px) == (256, 256)
    extent = side * region["mirrors_per_px"]
    ends = np.array([[x, y, 1] for x in (-0.5, extent - 0.5) for y in (-0.5, extent - 0.5)])
    ends += [region["left"], region["top"], 0]
    seen = (ends @ mirrors_to_sensor(View(**camera.view.model_dump())).T)[:, :2]
    assert np.allclose(seen.mean(axis=0), 127.5)
    assert seen.min() > 20
    assert seen.max() < 235
    assert np.ptp(seen, axis=0).min() > 60
    assert camera.view.rotation_deg != 0
    assert camera.view.blur_px > 0


@pytest.mark.parametrize("gain", [0.01, 2.0, 500.0])
def test_the_rehearsals_pixels_are_clear_of_zero_and_scatter_and_have_light(gain: float) -> None:
    config = small_config(devices=REAL, dmd_region={"mirrors_per_px": 16}, noise={"gain": gain, "variance": 1.0})
    rehearsed = imaging_rehearsal_of(config)
    camera, n_px = rehearsed.devices.detector, 256 * 256
    assert isinstance(camera, SimulatedDetector)
    assert camera.view is not None
    assert rehearsed.bench_gain == rehearsed.noise.gain == gain
    assert rehearsed.bench.variance == rehearsed.noise.variance >= 1.0 * n_px
    assert camera.offset_per_px == 100.0
    deviation = (rehearsed.noise.variance / n_px) ** 0.5
    # The mean light of a pixel, 64 image pixels on the sensor's part that sees them.
    light = rehearsed.bench.photoelectrons_per_px * gain / (16 * camera.view.scale) ** 2
    assert light > 10 * (deviation**2 + gain * light) ** 0.5 or light / gain >= 100 - 1e-6
    assert 50 * light < 2 ** (8 * camera.bytes_per_px)
    assert rehearsed.simulated


def test_a_rehearsed_camera_keeps_nothing_of_another_frame_and_its_noise_is_not_cut_off() -> None:
    camera = imaging_rehearsal_of(small_config(devices=REAL)).devices.detector
    assert (camera.region, camera.binning, camera.full_scale, camera.buffer_mb) == (None, None, None, None)
    low = {**REAL, "detector": {"kind": "micro-manager"}}
    assert imaging_rehearsal_of(small_config(devices=low)).devices.detector.offset_per_px >= 20.0


def test_a_camera_that_has_a_view_is_rehearsed_as_it_is() -> None:
    config = seen_by()
    assert imaging_rehearsal_of(config) == rehearsal_of(config) == config
