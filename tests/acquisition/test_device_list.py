"""``hadascope devices``: what is connected and what it says of itself; nothing is lit, and nothing is left changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmpycorex import is_pymmcore_active

from acquisition.acquisition_file import dump_acquisition
from acquisition.device_list import FoundDevice, devices_found, devices_of
from acquisition.device_sections import Devices
from devices.alp_library import open_alp
from sim_devices.micromanager_core import SimulatedCore
from tests.acquisition.real_bench import (
    SIMULATED_WIRES,
    SWITCHED_LIGHTS,
    CommandLine,
    RealBench,
    SimulatedBenches,
    files_in,
)
from tests.acquisition.rehearsal import small_config
from tests.devices.demo_camera import CAMERA, CONFIGURATION, adapters
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

TAKES_FRAMES = {"start_sequence_acquisition", "snap_image", "pop_next_image"}


def by_name(found: Iterator[FoundDevice]) -> dict[str, FoundDevice]:
    return {device.name: device for device in found}


def state(core: SimulatedCore) -> dict[str, Any]:
    """Everything of a core that somebody else may have set."""
    return {
        **{
            name: core.get_property("SimulatedCamera", name)
            for name in core.get_device_property_names("SimulatedCamera")
        },
        "roi": core.get_roi(),
        "exposure": core.get_exposure(),
        "camera": core.get_camera_device(),
        "shutter": core.get_shutter_device(),
        "auto shutter": core.get_auto_shutter(),
        "buffer": core.get_circular_buffer_memory_footprint(),
    }


@pytest.mark.parametrize("wire", SIMULATED_WIRES)
@pytest.mark.parametrize("camera_wire", ["direct", "zmq"])
def test_simulated_devices_are_listed(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine, wire: str, camera_wire: str
) -> None:
    config = small_config(output={"run": str(tmp_path / "run.zarr")})
    devices = config.devices.model_dump(mode="json")
    devices["light_source"]["wire"], devices["detector"]["wire"] = wire, camera_wire
    file = tmp_path / "bench.yaml"
    file.write_text(dump_acquisition(config.replace(devices=Devices.model_validate(devices))), encoding="utf-8")
    before = files_in(tmp_path)
    done = hadascope("devices", file)
    assert (done.code, done.err) == (0, "")
    for said in ("ALP XGA", "SimulatedCamera", "SimulatedShutter", "TriggerMode", "External", "12345"):
        assert said in done.out
    assert {"shutter": "closed", "obis": "OBIS 488-100 LS", "sc10": "THORLABS SC10"}[wire] in done.out
    assert "not there" not in done.out
    assert not benches.bench.was_lit
    assert not benches.bench.record
    benches.must_be_let_go_of()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_real_devices_of_a_file_are_listed_with_what_they_say(tmp_path: Path, lab: RealBench, light: str) -> None:
    found = by_name(devices_of(lab.config(tmp_path / "run.zarr", light)))
    assert not [device.failure for device in found.values() if device.failure]
    assert found["projector"].facts["serial"] == "12345"
    assert found["projector"].facts["mirrors_width"] == 1024
    assert found["projector"].facts["pcb_c"] == 33
    assert found["detector"].facts["name"] == "SimulatedCamera"
    assert found["Micro-Manager: SimulatedCamera"].facts["Binning"] == "1 (of 1, 2, 4)"
    state_of_light = {"micro-manager-shutter": "closed", "obis": "off", "sc10": "closed"}[light]
    assert found["light source"].facts["state"] == state_of_light
    if light == "obis":
        assert found["light source"].facts["serial"] == "VS12345"
        assert found["light source"].facts["temperature_c"] == 27.5


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_listing_lights_nothing_displays_nothing_and_takes_no_frame(tmp_path: Path, lab: RealBench, light: str) -> None:
    assert list(devices_of(lab.config(tmp_path / "run.zarr", light)))
    assert not lab.bench.was_lit
    assert not lab.bench.record
    assert not lab.log.names & TAKES_FRAMES
    lab.must_be_let_go_of()


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_listing_leaves_the_camera_as_it_was(tmp_path: Path, lab: RealBench, light: str) -> None:
    told = {
        "binning": 2,
        "camera_roi": {"x": 0, "y": 0, "width": 1, "height": 2},
        "buffer_mb": 32,
        "when_armed": [{"device": "SimulatedCamera", "name": "Gain", "value": "7"}],
    }
    lab.core.set_property("SimulatedCamera", "Gain", "3")
    lab.core.set_roi(1, 1, 2, 3)
    before = state(lab.core)
    found = by_name(devices_of(lab.config(tmp_path / "run.zarr", light, detector=told)))
    assert found["Micro-Manager: SimulatedCamera"].facts["Gain"] == "3"
    assert state(lab.core) == before


def test_a_device_that_is_missing_does_not_hide_the_others(
    tmp_path: Path, lab: RealBench, monkeypatch: pytest.MonkeyPatch, hadascope: CommandLine
) -> None:
    monkeypatch.setattr("devices.alp_library.open_alp", open_alp)
    file = lab.file(tmp_path, "obis", projector={"library_dir": str(tmp_path / "not_here")})
    lab.laser.stop()
    done = hadascope("devices", file)
    assert done.code == 0
    assert str(tmp_path / "not_here") in done.out
    assert "projector: not there: " in done.out
    assert "light source: not there: " in done.out
    assert "TriggerMode" in done.out


def test_properties_are_listed_where_the_file_names_one_that_there_is_not(tmp_path: Path, lab: RealBench) -> None:
    """Who lists devices looks for the names that go into the file."""
    wrong = {"when_armed": [{"device": "SimulatedCamera", "name": "Trigger", "value": "External"}]}
    found = by_name(devices_of(lab.config(tmp_path / "run.zarr", detector=wrong)))
    assert found["Micro-Manager: SimulatedCamera"].facts["TriggerMode"] == "External (of External)"


def test_the_real_micro_manager_in_this_process_is_listed(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    configuration = tmp_path / "demo.cfg"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    core = {"app_path": str(adapters()), "config_file": str(configuration)}
    done = hadascope("devices", lab.file(tmp_path, "obis", detector=core))
    assert (done.code, done.err) == (0, "")
    assert f"Micro-Manager: {CAMERA}" in done.out
    assert "DemoCamera, DCam" in done.out
    assert "8bit (of " in done.out
    assert "not there" not in done.out
    assert not lab.bench.was_lit
    assert not is_pymmcore_active()
    lab.must_be_let_go_of()


def nothing_plugged_in(monkeypatch: pytest.MonkeyPatch, *ports: Any) -> None:
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: list(ports))


def test_without_a_file_it_says_what_it_looked_for(monkeypatch: pytest.MonkeyPatch, hadascope: CommandLine) -> None:
    nothing_plugged_in(monkeypatch)
    done = hadascope("devices")
    assert (done.code, done.err) == (0, "")
    assert "projector: not there: the ALP 4.3 library could not be loaded from" in done.out
    assert "Micro-Manager: not there: nothing listens on port 4827" in done.out


def test_without_a_file_it_finds_what_answers(monkeypatch: pytest.MonkeyPatch, lab: RealBench) -> None:
    port = SimpleNamespace(device="COM3", description="USB serial", hwid="USB VID:PID=1234:5678")
    nothing_plugged_in(monkeypatch, port)
    before = state(lab.core)
    found = by_name(devices_found(port=lab.server.port))
    assert found["projector"].facts["name"] == "ALP XGA"
    assert found["Micro-Manager: SimulatedShutter"].facts["adapter"] == "HadascopeSimulation, Shutter"
    assert found["serial port COM3"].facts["hardware"] == "USB VID:PID=1234:5678"
    assert state(lab.core) == before
    assert not lab.bench.was_lit
    assert not lab.laser.commands  # nobody knows what is at the end of a serial line
    lab.must_be_let_go_of()
