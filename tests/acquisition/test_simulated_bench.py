"""From the acquisition file to the bench: its lamp, its sensor, its camera's view, and waiting on its clock."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from acquisition.config import Bench
from acquisition.connect import connected_devices
from acquisition.connected_devices import ConnectedDevices
from acquisition.device_sections import CameraView
from sim_devices.sensor_images import View, mirrors_to_sensor
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config

SAMPLE = asymmetric_sample(8)
VIEW = {"scale": 0.5, "rotation_deg": 90.0, "x_px": 19.0, "y_px": -1.0, "blur_px": 0.7}
CAMERA = {"kind": "simulated", "width_px": 20, "height_px": 16, "bytes_per_px": 2, "offset_per_px": 40.0}
NOISY = {"shot_noise": True}


def test_the_lamp_and_the_dmd_of_the_file_are_those_of_the_bench() -> None:
    stated = {
        "source_noise": 0.02,
        "lamp_drift": 0.03,
        "lamp_drift_period_s": 4.0,
        "lamp_fading_per_s": 0.05,
        "dmd_contrast": 600.0,
    }
    with connected_devices(small_config(bench=stated), SAMPLE) as devices:
        settings = devices.stand_ins.bench.settings
    assert {name: getattr(settings, name) for name in stated} == stated


def test_by_default_the_lamp_is_steady_and_off_mirrors_are_dark() -> None:
    with connected_devices(small_config(), SAMPLE) as devices:
        settings = devices.stand_ins.bench.settings
    assert (settings.source_noise, settings.lamp_drift, settings.lamp_fading_per_s) == (0.0, 0.0, 0.0)
    assert settings.dmd_contrast is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"saturation": 0},
        {"source_noise": -0.1},
        {"lamp_drift": 1.5},
        {"lamp_drift_period_s": 0.0},
        {"lamp_fading_per_s": -1.0},
        {"dmd_contrast": 1.0},
    ],
)
def test_an_impossible_bench_is_refused_by_its_key(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Bench(**wrong)


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": 1.0, "blur_px": -1.0}, {"rotation_deg": 3.0}])
def test_an_impossible_view_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CameraView(**wrong)


@pytest.mark.parametrize(("saturation", "largest"), [(None, 2**16 - 1), (58_981, 58_981), (10**6, 2**16 - 1)])
def test_the_sensor_saturates_where_the_file_says_and_full_scale_stays(saturation: int | None, largest: int) -> None:
    config = small_config(
        devices={"detector": {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 2}},
        bench={"saturation": saturation},
    )
    with connected_devices(config, SAMPLE) as devices:
        bench, core = devices.stand_ins.bench, devices.stand_ins.core
        assert devices.detector.info.full_scale == 2**16 - 1
        core.set_auto_shutter(False)
        bench.set_light(True)
        core.start_sequence_acquisition(1, 0.0, True)
        bench.display(np.array([1e6]), 100, 90)
        assert int(core.pop_next_image().sum()) == largest


def prepared(devices: ConnectedDevices, frames: list[Any]) -> None:
    """Let every frame that is popped be noted."""
    core = devices.stand_ins.core
    pop = core.pop_next_image

    def noted() -> Any:
        frames.append(pop())
        return frames[-1]

    core.pop_next_image = noted


def test_a_run_whose_camera_images_the_mirrors_measures_the_same_coefficients() -> None:
    config = small_config(
        devices={"detector": {**CAMERA, "view": VIEW}}, noise={"gain": 1.0, "variance": 3200.0}, bench=NOISY
    )
    frames: list[Any] = []
    evidence, _ = rehearse(config, SAMPLE, prepare=lambda devices: prepared(devices, frames))
    dense = np.array([[(-1) ** (i & j).bit_count() for j in range(64)] for i in range(64)])
    expected = dense @ SAMPLE.ravel()
    deviation = (SAMPLE.sum() + 2 * 3200.0 + 2 * 320 / 12) ** 0.5
    statistics = evidence.statistics
    measured = statistics.count > 0
    pulls = (statistics.mean - expected)[measured] / deviation
    assert measured.sum() >= 63
    assert np.abs(pulls).max() < 5.0
    assert (pulls**2).mean() == pytest.approx(1.0, abs=5 * (2 / 63) ** 0.5)
    # Where the light falls: the region's corner mirrors (11, 5) and (26, 20), through the map.
    mean = np.mean(frames, axis=0) - 40.0
    to_sensor = mirrors_to_sensor(View(**VIEW))  # type: ignore[arg-type]
    corners = np.array([to_sensor @ [column, row, 1.0] for column, row in ((11, 5), (26, 20))])[:, :2]
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    box = np.s_[top - 3 : bottom + 4, left - 3 : right + 4]
    assert mean[box].sum() == pytest.approx(mean.sum(), rel=0.02)
    assert mean[box].sum() > 0.4 * SAMPLE.sum() / 2


def test_light_that_the_camera_does_not_see_is_in_no_reading_of_the_bench() -> None:
    half_beside = {"kind": "simulated", "width_px": 20, "height_px": 8, "bytes_per_px": 4, "view": VIEW}
    with connected_devices(small_config(devices={"detector": half_beside}), SAMPLE) as devices:
        bench = devices.stand_ins.bench
        seen = bench.sensor_images.all_on.sum(dtype=np.float64)
        assert bench.mirror_light.sum() == pytest.approx(seen, rel=1e-6)
    assert 0.2 * SAMPLE.sum() < seen < 0.8 * SAMPLE.sum()


def test_both_wires_give_the_same_images() -> None:
    taken: list[list[float]] = []
    for wire in ("direct", "zmq"):
        camera = {**CAMERA, "view": VIEW, "wire": wire}
        noise = {"gain": 1.0, "variance": 3200.0}
        _, blocks = rehearse(small_config(devices={"detector": camera}, noise=noise, bench=NOISY), SAMPLE)
        taken.append([value for each in blocks for part in (each.plus, each.minus, each.guards) for value in part.flat])
    assert taken[0] == taken[1]
    assert len(set(taken[0])) > 100


class TestWaiting:
    """Rests in the dark take bench time, and wall time at the bench's pace."""

    def test_it_moves_the_benchs_clock_by_whole_microseconds(self) -> None:
        with connected_devices(small_config(), SAMPLE) as devices:
            before_us = devices.clock_us()
            devices.wait(2.5)
            devices.wait(0.1234567)
            assert devices.clock_us() - before_us == 2_623_457.0

    @pytest.mark.parametrize("pace", [0.0, 0.5])
    def test_it_sleeps_at_the_benchs_pace(self, pace: float, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        with connected_devices(small_config(bench={"pace": pace}), SAMPLE) as devices:
            monkeypatch.setattr(time, "sleep", slept.append)
            devices.wait(3.0)
            monkeypatch.undo()
        assert sum(slept) == 3.0 * pace

    def test_the_lamp_drifts_meanwhile(self) -> None:
        with connected_devices(small_config(bench={"lamp_fading_per_s": 0.5}), SAMPLE) as devices:
            bench = devices.stand_ins.bench
            bench.set_light(True)
            for wait_s in (0.0, 2.0):
                devices.wait(wait_s)
                bench.display(np.array([1000.0]), 100, 90)
            first, second = (float(bench.expected(each)[0]) for each in bench.record)
        assert second == pytest.approx(first * np.exp(-0.5 * 2.0001))

    def test_a_negative_wait_is_refused(self) -> None:
        with connected_devices(small_config(), SAMPLE) as devices, pytest.raises(ValueError, match=r"-1.0 s"):
            devices.wait(-1.0)
