"""What a Micro-Manager core has loaded: as the real MMCore tells it, the stand-in, and the stand-in's server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from devices.errors import MicroManagerCallError
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_listing import DeviceProperty, LoadedDevice, list_devices
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench, a_core
from tests.devices.demo_camera import CAMERA, demo_core


@pytest.fixture(params=["direct", "port"])
def simulated(request: pytest.FixtureRequest) -> Iterator[Any]:
    core = a_core(a_bench(), readout_us=30.0)
    if request.param == "direct":
        yield core
        return
    with MicroManagerServer(core) as server:
        seen = connect_core(server.port)
        yield seen
        close_core(seen)


@pytest.fixture
def real() -> Iterator[Any]:
    with demo_core() as core:
        yield core


def by_label(core: Any) -> dict[str, LoadedDevice]:
    return {device.label: device for device in list_devices(core)}


def by_name(device: LoadedDevice) -> dict[str, DeviceProperty]:
    return {each.name: each for each in device.properties}


def test_devices_are_listed_with_the_adapter_they_come_from(simulated: Any) -> None:
    devices = by_label(simulated)
    assert list(devices) == ["SimulatedCamera", "SimulatedShutter", "SimulatedXYStage", "SimulatedFocus", "Core"]
    camera = devices["SimulatedCamera"]
    assert (camera.library, camera.name) == ("HadascopeSimulation", "TriggeredCamera")
    assert devices["SimulatedShutter"].properties == ()
    assert devices["Core"].facts() == {"adapter": ", Core"}


def test_properties_are_listed_with_what_they_take(simulated: Any) -> None:
    camera = by_label(simulated)["SimulatedCamera"]
    properties = by_name(camera)
    assert properties["ShutterMode"] == DeviceProperty("ShutterMode", "Global", False, ("Global", "Rolling"))
    assert properties["ReadoutTime-ms"] == DeviceProperty("ReadoutTime-ms", "0.03", True, ())
    assert properties["Gain"] == DeviceProperty("Gain", "1", False, ())
    assert camera.facts() == {
        "adapter": "HadascopeSimulation, TriggeredCamera",
        "TriggerMode": "External (of External)",
        "Binning": "1 (of 1, 2, 4)",
        "Gain": "1",
        "PixelType": "GRAY16 (of GRAY16)",
        "ShutterMode": "Global (of Global, Rolling)",
        "ReadoutTime-ms": "0.03 (read only)",
    }


def test_the_real_core_is_listed_as_it_answers_itself(real: Any) -> None:
    devices = by_label(real)
    assert set(devices) == {CAMERA, "Core"}
    assert (devices[CAMERA].library, devices[CAMERA].name) == ("DemoCamera", "DCam")
    for label, device in devices.items():
        assert [each.name for each in device.properties] == list(real.get_device_property_names(label))
        for each in device.properties:
            assert each.is_read_only == real.is_property_read_only(label, each.name)
            assert each.allowed == tuple(real.get_allowed_property_values(label, each.name))
    properties = by_name(devices[CAMERA])
    assert properties["Binning"].allowed == ("1", "2", "4", "8")
    assert str(properties["PixelType"]).startswith("8bit (of ")
    assert float(properties["Exposure"].value) == 10.0


def test_listing_changes_nothing(real: Any) -> None:
    def state() -> dict[tuple[str, str], str]:
        return {
            (label, name): real.get_property(label, name)
            for label in real.get_loaded_devices()
            for name in real.get_device_property_names(label)
        }

    real.set_property(CAMERA, "Gain", "3")
    before = state()
    list(list_devices(real))
    assert state() == before
    assert not real.is_sequence_running()


def test_a_property_that_cannot_be_read_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    core = a_core(a_bench())
    get = core.get_property

    def fail_at_gain(label: str, name: str) -> str:
        if name == "Gain":
            raise RuntimeError("device timed out")
        return get(label, name)

    monkeypatch.setattr(core, "get_property", fail_at_gain)
    properties = by_name(by_label(core)["SimulatedCamera"])
    assert properties["Gain"].value.startswith("unreadable: ")
    assert "device timed out" in properties["Gain"].value
    assert properties["Binning"].value == "1"


def test_a_core_that_answers_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    core = a_core(a_bench())

    def fail() -> list[str]:
        raise RuntimeError("no core")

    monkeypatch.setattr(core, "get_loaded_devices", fail)
    with pytest.raises(MicroManagerCallError, match=r"get_loaded_devices\(\): no core"):
        list(list_devices(core))
