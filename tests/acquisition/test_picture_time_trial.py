"""On the simulated bench the search finds what its camera and its DMD take, and counts all light it gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller, DoseLimitError
from acquisition.dmd_region import dmd_region
from acquisition.events import Journal
from acquisition.picture_time_search import (
    NothingWorksError,
    PictureTimeSearch,
    readout_from,
    shortest_safe_picture_time,
)
from acquisition.picture_time_trial import picture_time_trial, search_picture_time, trial_schedule
from acquisition.run_rules import play_rules
from acquisition.schedule import ScheduleLimitError
from calibration.level_pictures import LevelPictures
from devices.errors import DeviceStateError
from tests.acquisition.rehearsal import asymmetric_sample, small_config

EXPOSURE_US = 90


def a_bench(**changes: dict[str, Any]) -> AcquisitionConfig:
    detector = {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 4, **changes.pop("detector", {})}
    devices = {
        "projector": {"kind": "simulated", "dmd": "xga", **changes.pop("projector", {})},
        "detector": detector,
        "light_source": {"kind": "simulated"},
    }
    timing = {"picture_time_us": 400, "illumination_time_us": EXPOSURE_US, **changes.pop("timing", {})}
    return small_config(devices=devices, timing=timing, blocks={"longest_block_s": 0.2}, **changes)


def searched(config: AcquisitionConfig) -> tuple[PictureTimeSearch, Controller, ConnectedDevices]:
    with connected_devices(config, asymmetric_sample(8)) as devices:
        controller, pictures = parts(config, devices)
        return search_picture_time(config, devices, pictures, controller, margin_s=0.05), controller, devices


def parts(config: AcquisitionConfig, devices: ConnectedDevices) -> tuple[Controller, LevelPictures]:
    pictures = LevelPictures(dmd_region(config), 2, 0)
    return Controller(devices, pictures.render, play_rules(config), Journal()), pictures


@pytest.mark.parametrize("readout_us", [35.0, 140.0])
def test_a_cameras_readout_is_found(readout_us: float) -> None:
    search, _, _ = searched(a_bench(detector={"readout_us": readout_us}))
    limit = EXPOSURE_US + readout_us
    assert limit <= search.shortest_working_us <= 1.02 * limit + 1
    assert search.safe_us >= 1.04 * limit
    assert search.limited_by is not None
    assert search.limited_by.startswith("DetectorTimeoutError")
    readout = readout_from(search, EXPOSURE_US, "SimulatedCamera", "2026-01-31")
    assert readout is not None
    assert readout_us <= readout.readout_us <= readout_us + 0.02 * limit + 1


def test_without_readout_the_dmds_dark_phase_is_what_limits() -> None:
    """The board refuses less than illumination and a dark phase of 2 µs: that is no readout of the camera."""
    search, _, _ = searched(a_bench())
    assert search.shortest_working_us == EXPOSURE_US + 2
    assert search.limited_by is not None
    assert search.limited_by.startswith("TimingRefusedError")
    assert readout_from(search, EXPOSURE_US, "SimulatedCamera", "2026-01-31") is None


def test_nothing_is_tried_below_the_chips_shortest_picture_time() -> None:
    search, _, _ = searched(a_bench(timing={"picture_time_us": 100, "illumination_time_us": 20}))
    assert search.safe_us == 44
    assert min(each.picture_time_us for each in search.trials) == 44


def test_without_a_dark_phase_the_illumination_follows_the_picture_time() -> None:
    timing = {"picture_time_us": 100, "illumination_time_us": 100}
    search, _, devices = searched(a_bench(timing=timing, projector={"binary_mode": "uninterrupted"}))
    assert search.safe_us == 44
    shown = [each for each in devices.stand_ins.bench.record if each.light_on]
    assert all(each.illumination_time_us == each.picture_time_us for each in shown)


def test_the_illumination_time_is_held_and_the_light_is_off_afterwards() -> None:
    _, _, devices = searched(a_bench(detector={"readout_us": 60.0}))
    bench = devices.stand_ins.bench
    assert {each.illumination_time_us for each in bench.record} == {EXPOSURE_US}
    assert not bench.light_on


def test_every_exposure_under_light_is_counted() -> None:
    search, controller, devices = searched(a_bench(detector={"readout_us": 60.0}))
    played = sum(not each.refused for each in search.trials)
    assert controller.lit_exposures == played * trial_schedule(1000).n_exposures
    assert controller.lit_exposures == sum(each.n_exposures for each in devices.stand_ins.bench.record if each.light_on)


def test_the_dose_limit_ends_a_search() -> None:
    """Some 200 exposures of 90 µs at 1 mW are 0.018 mJ."""
    with pytest.raises(DoseLimitError):
        searched(a_bench(sample={"dose_limit_mj": 0.1}))


def test_a_camera_that_exposes_for_too_long_is_told_from_the_first_trial_on() -> None:
    """90 µs and 30 µs of readout fit into 120 µs; 30 µs more of exposure do not."""
    config = a_bench(timing={"picture_time_us": 120}, detector={"readout_us": 30.0})
    with connected_devices(config, asymmetric_sample(8)) as devices:
        controller, pictures = parts(config, devices)
        rules = replace(play_rules(config), camera_exposure_us=EXPOSURE_US + 30)
        trial = picture_time_trial(devices, pictures, rules, trial_schedule(1000), controller, 0.05)
        assert trial(150).works
        assert not trial(149).works
        with pytest.raises(NothingWorksError, match="120 µs"):
            shortest_safe_picture_time(trial, 120, 44)


def test_what_no_other_rate_would_help_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    config = a_bench()
    with connected_devices(config, asymmetric_sample(8)) as devices:
        controller, pictures = parts(config, devices)

        def broken(*_: Any) -> None:
            raise DeviceStateError("the projector was closed")

        monkeypatch.setattr(devices.projector, "start", broken)
        with pytest.raises(DeviceStateError, match="closed"):
            search_picture_time(config, devices, pictures, controller)
        assert not devices.stand_ins.bench.light_on


def test_a_small_memory_gets_a_shorter_block() -> None:
    assert trial_schedule(64).n_exposures <= 64
    assert trial_schedule(5000).n_exposures == 6 * 37 + 5
    with pytest.raises(ScheduleLimitError):
        trial_schedule(41)
