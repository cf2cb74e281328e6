"""What is connected, and what it says of itself.

Nothing is lit, and a camera is left as it was; a light is switched off, and a laser's mode set to constant power.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from acquisition.config import AcquisitionConfig
from acquisition.connect import (
    alp_section,
    connected_core,
    connected_detector,
    connected_devices,
    connected_light_source,
    connected_projector,
    sample_on_stage,
)
from acquisition.device_sections import AlpProjector
from acquisition.interrupts import Ending
from devices.light_source import LightSource
from devices.micromanager_core import DEFAULT_PORT
from devices.projector import Projector

_NOTHING_SET: Final[dict[str, Any]] = {
    "when_armed": (),
    "when_left": (),
    "camera_roi": None,
    "binning": None,
    "buffer_mb": None,
    "region": None,
}


@dataclass(frozen=True)
class FoundDevice:
    """A device or a way to one: what it is, and what it says; ``failure`` where it could not be reached."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def devices_of(config: AcquisitionConfig) -> Generator[FoundDevice, None, None]:
    """The devices that an acquisition file names, each tried by itself, and everything its Micro-Manager has."""
    if config.simulated:
        with connected_devices(config, sample_on_stage(config)) as devices:
            yield _projector(devices.projector)
            yield from _of_micromanager(devices.core)
            yield FoundDevice("detector", asdict(devices.detector.info))
            yield _light(devices.light_source)
        return
    yield _tried("projector", lambda stack: _projector(connected_projector(alp_section(config), stack)))
    config = _as_it_is_found(config)
    with Ending() as stack:
        try:
            core = connected_core(config, stack)
        except (OSError, RuntimeError, ValueError) as error:
            yield FoundDevice("Micro-Manager", failure=str(error))
            core = None
        else:
            yield from _of_micromanager(core)
            yield _tried(
                "detector", lambda stack: FoundDevice("detector", asdict(connected_detector(config, core, stack).info))
            )
        yield _tried("light source", lambda stack: _light(connected_light_source(config, core, stack)))


def devices_found(alp_version: str = "4.3", port: int = DEFAULT_PORT) -> Generator[FoundDevice, None, None]:
    """What answers on this computer without any file: an ALP board, a running Micro-Manager, serial ports."""
    yield _alp_board(alp_version)
    yield from _running_micromanager(port)
    from serial.tools.list_ports import comports

    for each in comports():
        yield FoundDevice(f"serial port {each.device}", {"description": each.description, "hardware": each.hwid})


def _as_it_is_found(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same devices, with nothing that would be set on the camera, as its own values are what is asked for."""
    detector = config.devices.detector.model_copy(update=_NOTHING_SET)
    return config.replace(devices=config.devices.model_copy(update={"detector": detector}))


def _alp_board(version: str) -> FoundDevice:
    section = AlpProjector(kind="alp", version=version)
    return _tried("projector", lambda stack: _projector(connected_projector(section, stack)))


def _tried(name: str, connect: Callable[[ExitStack], FoundDevice]) -> FoundDevice:
    """A device as it is found, and let go of again; or why it is not."""
    try:
        with Ending() as stack:
            return connect(stack)
    except (OSError, RuntimeError, ValueError) as error:
        return FoundDevice(name, failure=str(error))


def _projector(projector: Projector) -> FoundDevice:
    return FoundDevice("projector", {**asdict(projector.info), **projector.status()})


def _light(light: LightSource) -> FoundDevice:
    return FoundDevice("light source", {**asdict(light.info), **light.status()})


def _running_micromanager(port: int) -> Iterator[FoundDevice]:
    from devices.micromanager_core import close_core, connect_core

    try:
        core = connect_core(port)
    except (OSError, RuntimeError) as error:
        yield FoundDevice("Micro-Manager", failure=str(error))
        return
    with Ending() as stack:
        stack.callback(close_core, core)
        yield from _of_micromanager(core)


def _of_micromanager(core: Any) -> Iterator[FoundDevice]:
    """Every device that a Micro-Manager core has loaded, with its properties."""
    from devices.micromanager_listing import list_devices

    for device in list_devices(core):
        yield FoundDevice(f"Micro-Manager: {device.label}", device.facts())
