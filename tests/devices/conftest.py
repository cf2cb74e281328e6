"""Fixtures of the serial devices' tests, for all of them."""

from tests.devices.serial_ports import _no_pause_after_closing, interfere

__all__ = ["_no_pause_after_closing", "interfere"]
