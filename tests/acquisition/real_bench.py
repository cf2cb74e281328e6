"""Benches that are watched: real kinds of devices with stand-ins at the ends of their cables, and simulated ones.

Everything that switches light goes through the bench, whatever wire it comes by: so it is the bench that tells whether
there was any. The command line is called in this process, as its entry point calls it.
"""

from __future__ import annotations

import ctypes
import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition import cli, simulated_bench
from acquisition.acquisition_file import dump_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.simulated_bench import StandIns
from devices.dmd_types import DMD_TYPES
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.obis_peer import ObisPeer
from sim_devices.sample import place_on_mirrors
from sim_devices.sc10_peer import Sc10Peer
from tests.acquisition.rehearsal import asymmetric_sample, small_config

ALP_OK = 0
CAMERA_PX = 4
OFFSET_PER_PX = 100
SWITCHED_LIGHTS = ("micro-manager-shutter", "obis", "sc10")
SIMULATED_WIRES = ("shutter", "obis", "sc10")
# What changes a camera or takes frames with it.
CAMERA_CALLS = {
    "set_camera_device",
    "set_exposure",
    "set_roi",
    "set_property",
    "set_circular_buffer_memory_footprint",
    "clear_circular_buffer",
    "start_sequence_acquisition",
    "pop_next_image",
    "pop_next_tagged_image",
    "snap_image",
}


class WatchedBench(OpticalBench):
    """A bench that notes every order to switch the light: (on, whether pictures were being displayed)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.orders: list[tuple[bool, bool]] = []
        super().__init__(*arguments, **options)

    def set_light(self, on: bool) -> None:
        self.orders.append((on, self.is_displaying()))
        super().set_light(on)

    @property
    def was_lit(self) -> bool:
        """Whether light was ever asked for, or any exposure on record had light."""
        return any(on for on, _ in self.orders) or any(each.light_on for each in self.record)

    @property
    def lit_exposures(self) -> int:
        """Exposures on record that had light."""
        return sum(each.n_exposures for each in self.record if each.light_on)


class CallLog:
    """What was called of a core, by name, and whether there was light then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.calls}

    def lit(self, name: str) -> list[bool]:
        """Whether there was light at every call of this name."""
        return [lit for called, lit in self.calls if called == name]


def log_calls(monkeypatch: pytest.MonkeyPatch, logged: SimulatedCore, bench: OpticalBench) -> CallLog:
    """Log what is called of a core from now on. (The server knows cores by their class, so it stays the same.)"""
    log = CallLog()

    def look_up(core: SimulatedCore, name: str) -> Any:
        found = object.__getattribute__(core, name)
        if core is logged and callable(found) and not name.startswith("_"):
            log.calls.append((name, bench.light_on))
        return found

    monkeypatch.setattr(SimulatedCore, "__getattribute__", look_up)
    return log


@dataclass
class RealBench:
    """What stands at the ends of a laboratory's cables: an ALP board, a Micro-Manager, a laser, a shutter."""

    bench: WatchedBench
    library: SimulatedAlpLibrary
    core: SimulatedCore
    log: CallLog
    server: MicroManagerServer
    laser: ObisPeer
    shutter: Sc10Peer
    allocations: list[SimulatedAlpLibrary] = field(default_factory=list)

    def config(
        self,
        run: Path,
        light: str = "micro-manager-shutter",
        *,
        projector: dict[str, Any] | None = None,
        detector: dict[str, Any] | None = None,
        light_source: dict[str, Any] | None = None,
        **sections: dict[str, Any],
    ) -> AcquisitionConfig:
        """An acquisition on these devices: the 8 × 8 sample that lies on the bench, without noise."""
        lights: dict[str, dict[str, Any]] = {
            "micro-manager-shutter": {"label": "SimulatedShutter"},
            "obis": {"port": self.laser.url},
            "sc10": {"port": self.shutter.url},
            "none": {},
        }
        devices = {
            "projector": {"kind": "alp", **(projector or {})},
            "detector": {
                "kind": "micro-manager",
                "port": self.server.port,
                "offset_per_px": OFFSET_PER_PX,
                "readout_us": 0,
                **(detector or {}),
            },
            "light_source": {"kind": light, "power_mw": 2.0, **lights[light], **(light_source or {})},
        }
        document: dict[str, dict[str, Any]] = {
            "devices": devices,
            "sample": {"expected_total": float(asymmetric_sample(8).sum())},
            "output": {"run": str(run)},
        }
        for name, values in sections.items():
            document.setdefault(name, {}).update(values)
        return small_config(**document)

    def file(self, folder: Path, *arguments: Any, **options: Any) -> Path:
        """The same as a file in ``folder``, whose run is to be beside it."""
        path = folder / "bench.yaml"
        path.write_text(dump_acquisition(self.config(folder / "run.zarr", *arguments, **options)), encoding="utf-8")
        return path

    @property
    def was_touched(self) -> bool:
        """Whether anybody connected to anything."""
        return bool(self.allocations or self.log.calls or self.laser.commands or self.shutter.commands)

    def must_be_let_go_of(self) -> None:
        """Nothing is displayed, the light is off, the camera stopped, the board free and its memory empty."""
        must_be_let_go_of(self.bench, self.library, self.core)


def must_be_let_go_of(bench: OpticalBench, library: SimulatedAlpLibrary, core: SimulatedCore) -> None:
    """Nothing is displayed, the light is off, the camera stopped, the board free and its memory empty."""
    assert not bench.is_displaying()
    assert not bench.light_on
    assert not core.is_sequence_running()
    device, free = ctypes.c_ulong(0), ctypes.c_long(0)
    assert library.AlpDevAlloc(0, 0, ctypes.byref(device)) == ALP_OK, "the board is not free"
    assert library.AlpDevInquire(device, 2003, ctypes.byref(free)) == ALP_OK
    assert library.AlpDevFree(device) == ALP_OK
    assert free.value == library._memory_pictures


@contextmanager
def real_bench(
    monkeypatch: pytest.MonkeyPatch,
    *,
    chip: str = "xga",
    memory_pictures: int | None = None,
    mirror_light: NDArray[np.float64] | None = None,
    pace: float = 0.0,
    picture: bool = False,
    **camera: Any,
) -> Iterator[RealBench]:
    """A real bench whose ALP library is the one that ALP4lib finds.

    mirror_light: float64 [H, W] instead of the sample's; picture: whether runs draw theirs, which takes longer than
    all the rest; camera: options of the simulated core.
    """
    if not picture:
        monkeypatch.setattr("acquisition.run.draw_result", lambda *_: None)
    type_ = DMD_TYPES[chip]
    if mirror_light is None:
        mirror_light = place_on_mirrors(asymmetric_sample(8), type_.mirrors_height, type_.mirrors_width, 5, 11, 2)
    offset = float(OFFSET_PER_PX * CAMERA_PX**2)
    settings = BenchSettings(
        gain=1.0, variance=0.0, offset=offset, nominal_illumination_us=90, shot_noise=False, pace=pace
    )
    bench = WatchedBench(settings, mirror_light)
    memory = type_.memory_pictures if memory_pictures is None else memory_pictures
    library = SimulatedAlpLibrary(bench, type_.row_bytes, type_.alp_codes[0], memory, type_.min_picture_time_us)
    core = SimulatedCore(bench, **{"width_px": CAMERA_PX, "height_px": CAMERA_PX, "bytes_per_px": 4, **camera})
    with ExitStack() as stack:
        server = stack.enter_context(MicroManagerServer(core))
        laser, shutter = stack.enter_context(ObisPeer(bench)), stack.enter_context(Sc10Peer(bench))
        made = RealBench(bench, library, core, log_calls(monkeypatch, core, bench), server, laser, shutter)

        def open_alp(*_: object) -> Any:
            made.allocations.append(library)
            return alp4_on(library)

        monkeypatch.setattr("devices.alp_library.open_alp", open_alp)
        yield made


class SimulatedBenches:
    """Every simulated bench that is connected to, with its light watched.

    prepare: called with the stand-ins of each before anything else happens.
    """

    def __init__(self) -> None:
        self.all: list[StandIns] = []
        self.prepare: Callable[[StandIns], None] | None = None

    @property
    def latest(self) -> StandIns:
        """The stand-ins connected to last."""
        return self.all[-1]

    @property
    def bench(self) -> WatchedBench:
        """The bench connected to last."""
        bench = self.latest.bench
        assert isinstance(bench, WatchedBench)
        return bench

    def must_be_let_go_of(self) -> None:
        """The latest bench is at rest."""
        must_be_let_go_of(self.bench, self.latest.library, self.latest.core)


def simulated_benches(monkeypatch: pytest.MonkeyPatch) -> SimulatedBenches:
    """Watch all simulated benches of a test; no run draws its picture."""
    watched = SimulatedBenches()
    connect = simulated_bench.connect_simulated

    def connect_watched(config: AcquisitionConfig, sample: NDArray[np.float64], stack: ExitStack) -> ConnectedDevices:
        devices = connect(config, sample, stack)
        watched.all.append(devices.stand_ins)
        if watched.prepare is not None:
            watched.prepare(devices.stand_ins)
        return devices

    monkeypatch.setattr("acquisition.run.draw_result", lambda *_: None)
    monkeypatch.setattr(simulated_bench, "OpticalBench", WatchedBench)
    monkeypatch.setattr(simulated_bench, "connect_simulated", connect_watched)
    return watched


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code, and what it printed, blanks put together."""

    code: int
    out: str
    err: str


class CommandLine:
    """The command line as a script or a person calls it, in this process.

    A person is at a terminal and gives ``answer`` (None: ends the input) when asked; a script has no terminal.
    ``asked`` counts how often somebody was asked, and ``when_asked`` is called then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.person = False
        self.answer: str | None = None
        self.asked = 0
        self.when_asked: Callable[[], None] = lambda: None
        monkeypatch.setenv("COLUMNS", "1000")

    def __call__(self, *arguments: object) -> Done:
        self._monkeypatch.setattr(sys, "argv", ["hadascope", *(str(each) for each in arguments)])
        self._monkeypatch.setattr(sys, "stdin", _Keyboard(self))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = self._capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, " ".join(printed.out.split()), " ".join(printed.err.split()))


class _Keyboard(io.StringIO):
    """Standard input of a command."""

    def __init__(self, command_line: CommandLine) -> None:
        super().__init__()
        self._command_line = command_line

    def isatty(self) -> bool:
        return self._command_line.person

    def readline(self, *_: Any) -> str:  # type: ignore[override]
        self._command_line.asked += 1
        self._command_line.when_asked()
        answer = self._command_line.answer
        return "" if answer is None else f"{answer}\n"


def files_in(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, files with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
