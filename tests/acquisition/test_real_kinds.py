"""The real kinds of devices, from the acquisition file to the image, with stand-ins only at the ends of the cables.

The ALP library under ALP4lib is simulated, and so is the Micro-Manager behind the port; all between is what a lab runs.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from acquisition.config import AcquisitionConfig
from acquisition.run import acquire
from acquisition.run_store import StoredRun
from devices.dmd_types import DMD_TYPES
from devices.errors import DeviceNotFoundError, LibraryMissingError
from models.hadamard import inverse_image
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.sample import place_on_mirrors
from tests.acquisition.rehearsal import asymmetric_sample, small_config


def real_config(run: Path, port: int, library_dir: Path | None = None) -> AcquisitionConfig:
    return small_config(
        devices={
            "projector": {
                "kind": "alp",
                "dmd": "xga",
                "library_dir": None if library_dir is None else str(library_dir),
            },
            "detector": {"kind": "micro-manager", "port": port, "offset_per_px": 100, "frame_metadata": True},
            "light_source": {"kind": "micro-manager-shutter", "label": "SimulatedShutter", "power_mw": 2.0},
        },
        dmd_region={"rotation_deg": 270, "flip_horizontal": True},
        output={"run": str(run)},
    )


@pytest.fixture
def bench() -> OpticalBench:
    """The 8 × 8 sample where ``real_config`` looks for it, and a camera offset of 100 on each of its 16 pixels."""
    light = place_on_mirrors(asymmetric_sample(8), 768, 1024, 5, 11, 2, False, True, 270)
    settings = BenchSettings(gain=1.0, variance=0.0, offset=1600.0, nominal_illumination_us=90, shot_noise=False)
    return OpticalBench(settings, light)


@pytest.fixture
def server(bench: OpticalBench) -> Iterator[MicroManagerServer]:
    with MicroManagerServer(SimulatedCore(bench, 4, 4, 4)) as running:
        yield running


def test_a_whole_acquisition_on_real_kinds_gives_the_sample(
    tmp_path: Path, bench: OpticalBench, server: MicroManagerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = DMD_TYPES["xga"]
    library = SimulatedAlpLibrary(
        bench, chip.row_bytes, chip.alp_codes[0], chip.memory_pictures, chip.min_picture_time_us
    )
    monkeypatch.setattr("devices.alp.open_alp", lambda *_: alp4_on(library))
    result = acquire(real_config(tmp_path / "run.zarr", server.port))
    assert np.allclose(inverse_image(result.reconstruction.estimate.coefficients), asymmetric_sample(8), rtol=1e-12)
    assert result.psnr is None
    facts = StoredRun(tmp_path / "run.zarr").facts
    assert facts["simulated"] is False
    assert facts["dark_level"] == 0.0
    assert facts["devices"]["light_source"] == {"name": "SimulatedShutter", "power_mw": 2.0}
    assert not bench.light_on


def test_a_missing_library_is_said_and_the_core_is_let_go_of(tmp_path: Path, server: MicroManagerServer) -> None:
    threads = threading.active_count()
    with pytest.raises(LibraryMissingError, match="not_here"):
        acquire(real_config(tmp_path / "run.zarr", server.port, tmp_path / "not_here"))
    assert not (tmp_path / "run.zarr").exists()
    assert threading.active_count() <= threads


def test_a_micro_manager_that_is_not_running_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeviceNotFoundError, match=str(port)):
        acquire(real_config(tmp_path / "run.zarr", port))
    assert not (tmp_path / "run.zarr").exists()
