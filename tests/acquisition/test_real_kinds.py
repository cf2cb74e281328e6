"""The real kinds of devices, from the acquisition file to the image, with stand-ins only at the ends of the cables.

The ALP library under ALP4lib is simulated, and so are the Micro-Manager behind the port and the devices behind the
serial lines (socket:// addresses, which pyserial opens as it opens COM3); all between is what a lab runs. The real
MMCore takes part with its DemoCamera, as far as a camera that nothing triggers can.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmpycorex import is_pymmcore_active
from skimage.io import imread

from acquisition.config import AcquisitionConfig
from acquisition.controller import SurplusFramesError
from acquisition.events import EventKind, read_events
from acquisition.observer import NotConfirmedError, Observer
from acquisition.run import RunResult, acquire
from acquisition.stored_run import StoredRun
from devices.alp_library import open_alp
from devices.errors import DeviceNotFoundError, DeviceSilentError, LibraryMissingError
from models.hadamard import inverse_image
from sim_devices.sample import place_on_mirrors
from tests.acquisition.real_bench import SWITCHED_LIGHTS, RealBench, real_bench
from tests.acquisition.rehearsal import asymmetric_sample
from tests.devices.demo_camera import CONFIGURATION, adapters
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

TURNED = {"rotation_deg": 270, "flip_horizontal": True}


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealBench]:
    """The 8 × 8 sample, turned, and a camera offset of 100 on each of its 16 pixels."""
    light = place_on_mirrors(asymmetric_sample(8), 768, 1024, 5, 11, 2, False, True, 270)
    with real_bench(monkeypatch, mirror_light=light, picture=True) as bench:
        yield bench


def acquired(config: AcquisitionConfig, **observer: Any) -> RunResult:
    """The run, its first light being agreed to."""
    return acquire(config, observer=Observer(confirm=lambda _: True, **observer))


@pytest.mark.parametrize("light", [*SWITCHED_LIGHTS, "none"])
def test_a_whole_acquisition_on_real_kinds_gives_the_sample(tmp_path: Path, lab: RealBench, light: str) -> None:
    if light == "none":
        lab.bench.set_light(True)
    config = lab.config(
        tmp_path / "run.zarr", light, detector={"frame_metadata": True, "time_tolerance_us": 5.0}, dmd_region=TURNED
    )
    result = acquired(config)
    assert np.allclose(inverse_image(result.reconstruction.estimate.coefficients), asymmetric_sample(8), rtol=1e-12)
    assert result.psnr is None
    assert imread(tmp_path / "run.png").std() > 10
    facts = StoredRun(tmp_path / "run.zarr").facts
    assert facts["simulated"] is False
    assert facts["dark_level"] == 0.0
    if light == "none":
        lab.bench.set_light(False)
    lab.must_be_let_go_of()


WHAT_LIGHTS_SAY = {
    "micro-manager-shutter": {"name": "SimulatedShutter", "power_mw": 2.0, "serial": "", "firmware": ""},
    "obis": {"name": "OBIS 488-100 LS", "power_mw": 15.0, "serial": "VS12345", "firmware": "V2.0.1"},
    "sc10": {"name": "THORLABS SC10", "power_mw": 2.0, "serial": "", "firmware": "1.07"},
}


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_what_devices_say_of_themselves_is_on_the_record(tmp_path: Path, lab: RealBench, light: str) -> None:
    told = {"laser_power_mw": 15.0} if light == "obis" else {}
    acquired(lab.config(tmp_path / "run.zarr", light, light_source=told, dmd_region=TURNED))
    run = StoredRun(tmp_path / "run.zarr")
    devices = run.facts["devices"]
    assert devices["light_source"] == WHAT_LIGHTS_SAY[light]
    assert (devices["projector"]["name"], devices["projector"]["serial"]) == ("ALP XGA", "12345")
    assert devices["detector"]["name"] == "SimulatedCamera"
    assert run.facts["accepted_timing"] == {
        "picture_time_us": 100,
        "illumination_time_us": 90,
        "sync_delay_us": 0,
        "sync_pulse_us": 90,
    }
    telemetry = [event.facts for event in read_events(run.path) if event.kind is EventKind.TELEMETRY]
    assert telemetry
    assert telemetry[0]["projector"] == {"ddc_fpga_c": 41.5, "apps_fpga_c": 38.25, "pcb_c": 33}
    lit = {"micro-manager-shutter": ("state", "open"), "obis": ("power_mw", 15.0), "sc10": ("interlock", "closed")}
    name, value = lit[light]
    assert telemetry[0]["light_source"][name] == value
    log = (run.path / "log.txt").read_text(encoding="utf-8")
    assert "pcb_c 33" in log
    assert f"{name} {value}" in log


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_light_only_while_exposing_is_off_while_the_camera_is_armed(tmp_path: Path, lab: RealBench, light: str) -> None:
    config = lab.config(
        tmp_path / "run.zarr",
        light,
        light_source={"only_while_exposing": True},
        projector={"memory_pictures": 128},
        blocks={"guard_interval": 4, "first_bank_pictures": 40, "longest_block_s": 0.004},
        dmd_region=TURNED,
    )
    acquired(config)
    dark, *blocks = lab.bench.record
    assert len(blocks) == len(StoredRun(tmp_path / "run.zarr").committed) > 3
    assert not dark.light_on
    assert all(block.light_on for block in blocks)
    assert lab.log.lit("start_sequence_acquisition") == [False] * (1 + len(blocks))
    switched = [on for on, _ in lab.bench.orders]
    assert switched.count(True) == len(blocks)
    after_on = [later for on, later in pairwise(switched) if on]
    assert after_on == [False] * len(blocks)
    lab.must_be_let_go_of()


def test_a_laser_is_told_on_and_off_once_a_block(tmp_path: Path, lab: RealBench) -> None:
    on, off = "SOURce:AM:STATe ON", "SOURce:AM:STATe OFF"
    several = {"guard_interval": 4, "longest_block_s": 0.004}
    told = {"only_while_exposing": True}
    acquired(lab.config(tmp_path / "run.zarr", "obis", light_source=told, blocks=several, dmd_region=TURNED))
    commands = [command for command in lab.laser.commands if command in (on, off)]
    n_blocks = StoredRun(tmp_path / "run.zarr").n_blocks
    assert n_blocks > 3
    assert commands.count(on) == n_blocks
    assert [after for before, after in pairwise(commands) if before == on] == [off] * n_blocks
    assert commands[-1] == off


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_light_that_may_stay_on_is_switched_once(tmp_path: Path, lab: RealBench, light: str) -> None:
    several = {"guard_interval": 4, "longest_block_s": 0.004}
    acquired(lab.config(tmp_path / "run.zarr", light, blocks=several, dmd_region=TURNED))
    assert [on for on, _ in lab.bench.orders].count(True) == 1
    assert not lab.log.lit("start_sequence_acquisition")[0]
    assert not lab.log.lit("start_sequence_acquisition")[1]
    assert all(lab.log.lit("start_sequence_acquisition")[2:])


def test_without_somebody_who_agrees_there_is_no_light_and_no_run(tmp_path: Path, lab: RealBench) -> None:
    with pytest.raises(NotConfirmedError):
        acquire(lab.config(tmp_path / "run.zarr", dmd_region=TURNED))
    assert not lab.bench.was_lit
    assert not list(tmp_path.iterdir())
    lab.must_be_let_go_of()


def test_a_missing_library_is_said_and_the_core_is_let_go_of(
    tmp_path: Path, lab: RealBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.alp_library.open_alp", open_alp)
    threads = threading.active_count()
    with pytest.raises(LibraryMissingError, match="not_here"):
        acquired(lab.config(tmp_path / "run.zarr", projector={"library_dir": str(tmp_path / "not_here")}))
    assert not (tmp_path / "run.zarr").exists()
    assert threading.active_count() <= threads
    assert lab.core.get_auto_shutter()


def test_a_micro_manager_that_is_not_running_is_said_and_nothing_is_written(tmp_path: Path, lab: RealBench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DeviceNotFoundError, match=str(port)):
        acquired(lab.config(tmp_path / "run.zarr", detector={"port": port}))
    assert not (tmp_path / "run.zarr").exists()
    lab.must_be_let_go_of()


@pytest.mark.parametrize("light", ["obis", "sc10"])
def test_a_light_that_is_silent_from_the_start_leaves_all_dark_and_nothing_written(
    tmp_path: Path, lab: RealBench, light: str
) -> None:
    (lab.laser if light == "obis" else lab.shutter).silent_after(0)
    with pytest.raises(DeviceSilentError):
        acquired(lab.config(tmp_path / "run.zarr", light))
    assert not (tmp_path / "run.zarr").exists()
    assert not lab.bench.record
    lab.must_be_let_go_of()


def test_a_camera_that_runs_freely_never_gets_light(tmp_path: Path, lab: RealBench) -> None:
    """The real MMCore: its DemoCamera sends frames whatever is displayed, which shows before the first light.

    It cannot show that one frame belongs to one exposure: that takes a camera that is triggered.
    """
    configuration = tmp_path / "demo.cfg"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    core = {"app_path": str(adapters()), "config_file": str(configuration), "buffer_mb": 16}
    core["when_armed"] = [{"device": "Camera", "name": "FastImage", "value": "1"}]
    with pytest.raises(SurplusFramesError, match="triggered by the DMD only"):
        acquired(lab.config(tmp_path / "run.zarr", "obis", detector=core))
    assert not lab.bench.was_lit
    assert not (tmp_path / "run.zarr").exists()
    assert not is_pymmcore_active()
    lab.must_be_let_go_of()
