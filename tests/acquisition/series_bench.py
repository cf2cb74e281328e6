"""Small series on the simulated bench, and what their tests look at."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from acquisition import simulated_bench
from acquisition.acquisition_file import validate_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.observer import Observer, Place
from acquisition.readings import Readings
from devices.micromanager_microscope import MicroManagerMicroscope
from devices.microscope import Pose
from tests.acquisition.rehearsal import small_config


def series_config(folder: Path, mda: dict[str, Any], **changes: dict[str, Any]) -> AcquisitionConfig:
    """A series of 8 × 8 pixels into ``folder``, with what makes a reading depend on all that was before it."""
    sections: dict[str, dict[str, Any]] = {
        "sensing": {"alpha": 0.5, "repeats": 4, "draw": "systematic"},
        "blocks": {"guard_interval": 8, "first_bank_pictures": 60, "longest_block_s": 0.01},
        "devices": {
            "projector": {"kind": "simulated", "dmd": "xga", "memory_pictures": 160, "upload_mb_per_s": 20.0},
            "detector": {
                "kind": "simulated",
                "width_px": 2,
                "height_px": 2,
                "bytes_per_px": 2,
                "arming_ms": 2.0,
                "offset_per_px": 10.0,
            },
            "light_source": {"kind": "simulated", "power_mw": 1.0},
        },
        "noise": {"gain": 2.0, "variance": 50.0},
        "bench": {"shot_noise": True, "seed": 7, "bleaching_per_s": 1.0, "photoelectrons_per_px": 400.0},
        "reconstruction": {"estimator": "pair-ratio", "tv_weight": 0.5},
        "output": {"run": str(folder / "series.zarr"), "snapshots": 0},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    document = small_config(**sections).model_dump(mode="json")
    return validate_acquisition({**document, "mda": mda}, "the test's series")


@dataclass
class Moves:
    """Every move that was asked for: the pose, whether there was light, and the bench's time in s afterwards."""

    poses: list[Pose] = field(default_factory=list)
    lit: list[bool] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    @property
    def asked(self) -> list[Pose]:
        """Those that went somewhere."""
        return [pose for pose in self.poses if pose != Pose()]


def watch_moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    """Watch the microscopes of all simulated benches of a test; no run draws its picture."""
    moves = Moves()
    connect = simulated_bench.connect_simulated
    move_to = MicroManagerMicroscope.move_to

    def connect_watched(config: AcquisitionConfig, sample: NDArray[np.float64], stack: ExitStack) -> ConnectedDevices:
        devices = connect(config, sample, stack)
        bench = devices.stand_ins.bench

        def move_watched(microscope: MicroManagerMicroscope, pose: Pose) -> Pose:
            moves.poses.append(pose)
            moves.lit.append(bench.light_on)
            reached = move_to(microscope, pose)
            moves.times_s.append(bench.time_us * 1e-6)
            return reached

        monkeypatch.setattr(MicroManagerMicroscope, "move_to", move_watched)
        return devices

    monkeypatch.setattr(simulated_bench, "connect_simulated", connect_watched)
    monkeypatch.setattr("acquisition.run.draw_result", lambda *_: None)
    return moves


class StopAt:
    """Ctrl-C at an event of a series: before it, or when a block of it has been accepted."""

    def __init__(self, event: int, block: int | None = None) -> None:
        self._event, self._block = event, block
        self._now = -1

    @property
    def observer(self) -> Observer:
        return Observer(on_place=self.on_place, on_block=self.on_block)

    def on_place(self, place: Place) -> None:
        self._now = place.number
        if self._block is None and self._now == self._event:
            raise KeyboardInterrupt

    def on_block(self, readings: Readings) -> None:
        if self._now == self._event and readings.block_number == self._block:
            raise KeyboardInterrupt


def all_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a series but those that tell when live images were made, by its place."""
    found = {}
    for metadata in sorted(path.rglob("zarr.json")):
        node = zarr.open(metadata.parent, mode="r")
        name = metadata.parent.relative_to(path).as_posix()
        if isinstance(node, zarr.Array) and not name.endswith("/live"):
            found[name] = np.asarray(node[:])
    return found


def must_be_the_same(path: Path, whole: dict[str, NDArray[Any]]) -> None:
    """Every number in a series is that of another one, bit for bit."""
    found = all_arrays(path)
    assert set(found) == set(whole)
    for name, values in whole.items():
        assert found[name].tobytes() == values.tobytes(), name
