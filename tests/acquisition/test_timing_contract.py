"""DMD and camera keep one cycle, and what cannot be is refused where it is asked for, before any light."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acquisition.bench_check import check_bench
from acquisition.config import AcquisitionConfig, Timing
from acquisition.connect import connected_devices
from acquisition.device_sections import MicroManagerDetector
from acquisition.problems import AcquisitionFileError
from acquisition.sensing_plan import plan_sensing
from acquisition.timing_contract import (
    FRAMES_PER_S_OVER_A_PORT,
    TAGGED_FRAMES_PER_S_OVER_A_PORT,
    ImpossibleTimingError,
    Readout,
    camera_exposure_us,
    cycle_problems,
    find_readout,
    most_block_exposures,
    reading_us,
)
from calibration.calibration_file import CalibrationFileError
from devices.detector import Detector
from tests.acquisition.rehearsal import asymmetric_sample, small_config

PROPERTY = {"device": "Camera", "name": "ReadoutTime", "unit": "ms"}
REAL = {"projector": {"kind": "alp"}, "light_source": {"kind": "none"}}


def a_camera(**keys: Any) -> MicroManagerDetector:
    return MicroManagerDetector.model_validate({"kind": "micro-manager", **keys})


def a_bench(
    timing: dict[str, Any] | None = None, blocks: dict[str, Any] | None = None, **detector: Any
) -> AcquisitionConfig:
    """A simulated acquisition whose detector has these keys."""
    simulated = {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 4, **detector}
    return small_config(devices={"detector": simulated}, timing=timing or {}, blocks=blocks or {})


def a_lab(
    timing: dict[str, Any] | None = None, blocks: dict[str, Any] | None = None, **detector: Any
) -> AcquisitionConfig:
    """An acquisition on real devices whose detector has these keys."""
    devices = {**REAL, "detector": {"kind": "micro-manager", **detector}}
    return small_config(devices=devices, timing=timing or {}, blocks=blocks or {})


def measured(path: Path, readout_us: float) -> Path:
    document = {"version": 1, "camera": "Camera", "readout_us": readout_us, "measured": "2026-01-31"}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_the_cameras_property_comes_before_the_file_and_the_file_before_a_calibration(tmp_path: Path) -> None:
    path = measured(tmp_path / "readout.json", 30.0)
    everything = a_camera(readout_property=PROPERTY, readout_us=20.0, readout_calibration=path)
    assert find_readout(everything, 10.0) == Readout(10.0, "camera property Camera.ReadoutTime")
    assert find_readout(everything) == Readout(20.0, "the acquisition file")
    without = a_camera(readout_property=PROPERTY, readout_calibration=path)
    assert find_readout(without) == Readout(30.0, f"{path}, measured 2026-01-31")
    assert find_readout(without, 10.0).readout_us == 10.0
    assert find_readout(a_camera()) == Readout(0.0, "not stated, taken as 0")


def test_a_readout_of_no_time_that_is_stated_is_not_passed_over(tmp_path: Path) -> None:
    path = measured(tmp_path / "readout.json", 30.0)
    assert find_readout(a_camera(readout_us=0.0, readout_calibration=path)).source == "the acquisition file"
    assert find_readout(a_camera(readout_property=PROPERTY, readout_us=20.0), 0.0).readout_us == 0.0


def test_what_a_camera_says_unasked_does_not_count() -> None:
    assert find_readout(a_camera(readout_us=20.0), 10.0) == Readout(20.0, "the acquisition file")


def test_a_calibration_that_cannot_be_read_is_refused_where_the_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError):
        find_readout(a_camera(readout_calibration=tmp_path / "missing.json"))
    with pytest.raises(AcquisitionFileError, match=r"devices\.detector\.readout_calibration"):
        a_bench(readout_calibration=str(tmp_path / "missing.json"))


def test_the_camera_exposes_from_the_pulse_to_the_pictures_end() -> None:
    timing = Timing(picture_time_us=500, illumination_time_us=300, sync_delay_us=70)
    assert camera_exposure_us(timing) == 370


@pytest.mark.parametrize(
    ("timing", "readout_us", "fits"),
    [
        ({"illumination_time_us": 90}, 10.0, True),
        ({"illumination_time_us": 90}, 10.1, False),
        ({"illumination_time_us": 90, "sync_delay_us": 10}, 0.0, True),
        ({"illumination_time_us": 90, "sync_delay_us": 11}, 0.0, False),
        ({"illumination_time_us": 80, "sync_delay_us": 8}, 12.0, True),
        ({"illumination_time_us": 80, "sync_delay_us": 8}, 12.5, False),
    ],
)
def test_exposure_and_readout_fit_into_the_picture_time_or_are_refused(
    timing: dict[str, Any], readout_us: float, fits: bool
) -> None:
    cycle = Timing.model_validate({"picture_time_us": 100, **timing})
    problems = list(cycle_problems(cycle, Readout(readout_us, "the acquisition file")))
    assert (problems == []) == fits
    if fits:
        a_bench(timing, readout_us=readout_us)
    else:
        (problem,) = problems
        assert problem.path == "timing.picture_time_us"
        with pytest.raises(AcquisitionFileError, match=r"timing\.picture_time_us.*at least 101 µs"):
            a_bench(timing, readout_us=readout_us)


class CameraThatTells:
    """A connected camera whose property says how long its readout takes."""

    def __init__(self, detector: Detector, readout_us: float) -> None:
        self.info = replace(detector.info, readout_us=readout_us)
        self._detector = detector

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)


def test_a_readout_that_only_the_connected_camera_tells_is_held_against_the_cycle() -> None:
    config = a_bench()
    document = config.model_dump(mode="json")
    document["devices"]["detector"]["readout_property"] = PROPERTY
    asked = AcquisitionConfig.model_validate(document)
    sample = asymmetric_sample(8)
    plan = plan_sensing(config, sample)
    with connected_devices(config, sample) as devices:
        fitting, slow = (replace(devices, detector=CameraThatTells(devices.detector, each)) for each in (10.0, 11.0))
        assert check_bench(asked, plan.schedule, fitting) == Readout(10.0, "camera property Camera.ReadoutTime")
        with pytest.raises(ImpossibleTimingError, match=r"101 µs a frame.*camera property"):
            check_bench(asked, plan.schedule, slow)


@pytest.mark.parametrize(("sync_delay_us", "accepted"), [(0, False), (19, False), (20, True), (30, True)])
def test_a_rolling_shutter_needs_all_rows_exposing_before_the_picture_appears(
    sync_delay_us: int, accepted: bool
) -> None:
    timing = {"illumination_time_us": 60, "sync_delay_us": sync_delay_us}
    if accepted:
        a_bench(timing, shutter="rolling", rolling_us=19.5)
    else:
        with pytest.raises(AcquisitionFileError, match=r"timing\.sync_delay_us.*at least 20 µs"):
            a_bench(timing, shutter="rolling", rolling_us=19.5)


def test_a_rolling_shutter_whose_rows_begin_together_is_none() -> None:
    with pytest.raises(AcquisitionFileError, match=r"devices\.detector\.rolling_us"):
        a_bench(shutter="rolling")


def test_uninterrupted_pictures_last_as_long_as_they_are_displayed() -> None:
    projector = {"kind": "simulated", "dmd": "xga", "binary_mode": "uninterrupted"}
    with pytest.raises(AcquisitionFileError, match=r"timing\.illumination_time_us.*no dark phase"):
        small_config(devices={"projector": projector})
    small_config(devices={"projector": projector}, timing={"illumination_time_us": 100})


def test_every_way_to_the_core_reads_as_fast_as_it_can() -> None:
    assert reading_us(a_camera()) == pytest.approx(1e6 / FRAMES_PER_S_OVER_A_PORT)
    for tagged in ({"frame_metadata": True}, {"time_tolerance_us": 10.0}):
        assert reading_us(a_camera(**tagged)) == pytest.approx(1e6 / TAGGED_FRAMES_PER_S_OVER_A_PORT)
    assert reading_us(a_camera(app_path="mm", config_file="camera.cfg")) == 0.0
    assert reading_us(a_camera(read_frames_per_s=4000.0)) == pytest.approx(250.0)
    assert reading_us(a_bench().devices.detector) == 0.0
    assert reading_us(a_bench(read_frames_per_s=500.0).devices.detector) == pytest.approx(2000.0)


def test_a_calibration_of_another_camera_is_refused_once_the_camera_is_known(tmp_path: Path) -> None:
    path = measured(tmp_path / "readout.json", 30.0)
    camera = a_camera(readout_calibration=path)
    assert find_readout(camera, None, "Camera").readout_us == 30.0
    with pytest.raises(CalibrationFileError, match="was measured with camera 'Camera', and 'Other' is connected"):
        find_readout(camera, None, "Other")


@pytest.mark.parametrize(("tolerance_us", "accepted"), [(49.0, True), (50.0, False), (500.0, False)])
def test_a_tolerance_that_could_not_tell_a_lost_trigger_is_refused(tolerance_us: float, accepted: bool) -> None:
    if accepted:
        a_bench(time_tolerance_us=tolerance_us)
    else:
        with pytest.raises(AcquisitionFileError, match=r"devices\.detector\.time_tolerance_us.*less than half"):
            a_bench(time_tolerance_us=tolerance_us)


def most_waiting(n_exposures: int, picture_time_us: float, frame_us: float, late_us: float) -> float:
    """Frames in the buffer at most while a block comes in, reading beginning late_us after its first one."""
    most = 0.0
    for exposure in range(n_exposures):
        now_us = (exposure + 1) * picture_time_us
        read = min(max((now_us - late_us) / frame_us, 0.0), exposure + 1.0)
        most = max(most, exposure + 1 - read)
    return most


def test_a_block_is_as_long_as_its_time_allows_where_frames_are_read_as_fast_as_they_come() -> None:
    in_process = a_lab(blocks={"longest_block_s": 0.5}, app_path="mm", config_file="camera.cfg")
    assert most_block_exposures(in_process, None) == 5000
    assert most_block_exposures(in_process, 2000) == 5000


@given(
    frames_per_s=st.floats(500.0, 20_000.0),
    buffer_frames=st.integers(20, 20_000),
    picture_time_us=st.integers(90, 2000),
)
@settings(max_examples=60, deadline=None)
def test_the_buffer_holds_what_waits_in_it_while_a_block_comes_in(
    frames_per_s: float, buffer_frames: int, picture_time_us: int
) -> None:
    timing = {"picture_time_us": picture_time_us, "illumination_time_us": 80}
    lab = a_lab(timing, {"longest_block_s": 2.0}, read_frames_per_s=frames_per_s)
    by_time = most_block_exposures(lab, None)
    assert by_time == 2_000_000 // picture_time_us
    most = most_block_exposures(lab, buffer_frames)
    assert 0 <= most <= by_time
    frame_us = 1e6 / frames_per_s
    assert most_waiting(most, picture_time_us, frame_us, 100_000.0) <= 0.9 * buffer_frames + 1
    if most < by_time:
        # Not much shorter than it has to be: what comes before reading begins, and some frames kept spare.
        longer = most + 100_000 // picture_time_us + 20
        assert most_waiting(longer, picture_time_us, frame_us, 100_000.0) > 0.9 * buffer_frames - 17


def test_on_a_simulated_bench_all_frames_of_a_block_may_wait() -> None:
    bench = a_bench(blocks={"longest_block_s": 0.5})
    assert most_block_exposures(bench, None) == 5000
    assert most_block_exposures(bench, 1000) == 884
