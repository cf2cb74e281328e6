"""The devices of one run, connected, and the clock they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from devices.detector import Detector
from devices.light_source import LightSource
from devices.microscope import Microscope, NoMicroscope
from devices.projector import Projector


def _no_state() -> tuple[float, ...]:
    return ()


def _nothing_to_restore(state: tuple[float, ...]) -> None:
    if state:
        raise ValueError(f"real devices have no state to go on from, found {state}")


@dataclass(frozen=True)
class ConnectedDevices:
    """Projector, detector, light source, and the microscope they look through.

    clock_us: µs, the host's, or the bench's where that is simulated; bench_state: what a simulated bench's later
    readings depend on, empty on a real one; restore_bench: go on from such a state; wait: let so many seconds pass, of
    the bench's time where that is simulated; core: the Micro-Manager core, for listing its devices; stand_ins: what a
    simulated bench is made of, None on a real one.
    """

    projector: Projector
    detector: Detector
    light_source: LightSource
    clock_us: Callable[[], float]
    bench_state: Callable[[], tuple[float, ...]] = _no_state
    restore_bench: Callable[[tuple[float, ...]], None] = _nothing_to_restore
    wait: Callable[[float], None] = time.sleep
    core: Any = None
    stand_ins: Any = None
    microscope: Microscope = field(default_factory=NoMicroscope)

    def described(self) -> dict[str, dict[str, Any]]:
        """What the devices say of themselves, JSON-able."""
        return {
            "projector": asdict(self.projector.info),
            "detector": asdict(self.detector.info),
            "light_source": asdict(self.light_source.info),
        }
