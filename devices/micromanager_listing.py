"""What a Micro-Manager core has loaded: devices, and their properties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from devices.errors import MicroManagerCallError
from devices.micromanager_settings import ask


@dataclass(frozen=True)
class DeviceProperty:
    """A property's value, whether it can only be read, and the values it takes where it names them."""

    name: str
    value: str
    is_read_only: bool
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        allowed = f" (of {', '.join(self.allowed)})" if self.allowed and not self.is_read_only else ""
        return f"{self.value}{' (read only)' if self.is_read_only else ''}{allowed}"


@dataclass(frozen=True)
class LoadedDevice:
    """A device: its label, the adapter library it comes from, its name there, and its properties."""

    label: str
    library: str
    name: str
    properties: tuple[DeviceProperty, ...]

    def facts(self) -> dict[str, str]:
        """All of it in words."""
        return {"adapter": f"{self.library}, {self.name}", **{each.name: str(each) for each in self.properties}}


def list_devices(core: Any) -> Iterator[LoadedDevice]:
    """Every device of a core, Micro-Manager's own "Core" included. Raises MicroManagerCallError."""
    for label in ask(core, "get_loaded_devices"):
        properties = tuple(_property(core, label, name) for name in ask(core, "get_device_property_names", label))
        yield LoadedDevice(
            label, str(ask(core, "get_device_library", label)), str(ask(core, "get_device_name", label)), properties
        )


def _property(core: Any, label: str, name: str) -> DeviceProperty:
    try:
        value = str(ask(core, "get_property", label, name))
    except MicroManagerCallError as error:
        value = f"unreadable: {error}"
    return DeviceProperty(
        name,
        value,
        bool(ask(core, "is_property_read_only", label, name)),
        tuple(map(str, ask(core, "get_allowed_property_values", label, name))),
    )
