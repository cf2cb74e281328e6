"""What moves on a simulated microscope: an XY stage, a focus device, and what the presets of config groups move."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sim_devices.bench import OpticalBench

XY_STAGE: Final = "SimulatedXYStage"
FOCUS: Final = "SimulatedFocus"


@dataclass(frozen=True)
class Standing:
    """Where everything stands: µm, and the config group and preset that were set last, None before any was."""

    x_um: float = 0.0
    y_um: float = 0.0
    z_um: float = 0.0
    channel: tuple[str, str] | None = None


class MovingParts:
    """Stage at (0, 0), focus at ``focus_um``, no preset set.

    A move declares ``move_ms`` to the bench's clock, and keeps its device busy for so long by the wall clock at the
    bench's pace; until then the device reads where it was. What the mirrors see changes as soon as a device is told to
    move: ``on_move`` is called first with where everything will stand, unless nothing changes, and may refuse.

    groups: presets of every config group. Two attributes are for tests: ``off_by_um``, by how much the x, y and z that
    are read differ from those that were asked for (the mirrors see what is asked for), and ``stuck``, labels of devices
    that stay busy for ever.
    """

    def __init__(
        self,
        bench: OpticalBench,
        groups: Mapping[str, Sequence[str]] | None = None,
        move_ms: float = 0.0,
        focus_um: float = 0.0,
        on_move: Callable[[Standing], None] | None = None,
    ) -> None:
        self.groups = {group: tuple(presets) for group, presets in (groups or {}).items()}
        self.current = dict.fromkeys(self.groups, "")
        self.off_by_um = (0.0, 0.0, 0.0)
        self.stuck: set[str] = set()
        self.standing = Standing(z_um=focus_um)
        self._bench = bench
        self._move_ms = move_ms
        self._on_move = on_move
        self._before: dict[str, Standing] = {}
        self._busy_until_s: dict[str, float] = {}

    def set_xy(self, x_um: float, y_um: float) -> None:
        """Move the stage."""
        self._move(replace(self.standing, x_um=x_um, y_um=y_um), XY_STAGE)

    def set_z(self, z_um: float) -> None:
        """Move the focus."""
        self._move(replace(self.standing, z_um=z_um), FOCUS)

    def set_preset(self, group: str, preset: str) -> None:
        """Set a config group. Raises ValueError with MMCore's words where there is no such preset."""
        if preset not in self.groups.get(group, ()):
            raise ValueError(f'Preset "{preset}" of configuration group "{group}" does not exist')
        self._move(replace(self.standing, channel=(group, preset)), group)
        self.current[group] = preset

    def read_um(self) -> tuple[float, float, float]:
        """x, y, z as the devices read now."""
        xy = self._before[XY_STAGE] if self._is_on_its_way(XY_STAGE) else self.standing
        z = self._before[FOCUS] if self._is_on_its_way(FOCUS) else self.standing
        return xy.x_um + self.off_by_um[0], xy.y_um + self.off_by_um[1], z.z_um + self.off_by_um[2]

    def is_busy(self, label: str | None = None) -> bool:
        """Whether a device, or what a config group moves, is busy; None: whether anything is."""
        if label is None:
            return bool(self.stuck) or any(map(self.is_busy, self._busy_until_s))
        return label in self.stuck or self._is_on_its_way(label)

    def _is_on_its_way(self, label: str) -> bool:
        return time.monotonic() < self._busy_until_s.get(label, 0.0)

    def _move(self, there: Standing, label: str) -> None:
        with self._bench.lock:
            if self._on_move is not None and there != self.standing:
                self._on_move(there)
            self._before[label], self.standing = self.standing, there
            self._bench.spend(round(self._move_ms * 1e3))
            self._busy_until_s[label] = time.monotonic() + self._bench.settings.pace * self._move_ms / 1e3
