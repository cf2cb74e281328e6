"""``hadascope align``: a test picture under light for some seconds, and then darkness, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition.acquisition_file import dump_acquisition
from acquisition.alignment import show_alignment_picture
from acquisition.config import AcquisitionConfig
from acquisition.device_sections import Devices
from devices.errors import AlpCallError, LightSourceFaultError
from tests.acquisition.real_bench import (
    CAMERA_CALLS,
    SIMULATED_WIRES,
    SWITCHED_LIGHTS,
    CommandLine,
    RealBench,
    SimulatedBenches,
    files_in,
    real_bench,
)
from tests.acquisition.rehearsal import small_config
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

HEIGHT, WIDTH = 768, 1024
TOP, LEFT, MIRRORS_PER_PX, SIDE = 5, 11, 2, 8
SLOW = 10.0


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealBench]:
    """A bench where every mirror sends other light, so that the light of a picture says which mirrors were on."""
    mirror_light = np.random.default_rng(8).integers(1, 10_000, (HEIGHT, WIDTH)).astype(np.float64)
    with real_bench(monkeypatch, mirror_light=mirror_light) as bench:
        yield bench


def simulated(folder: Path, wire: str = "shutter", **sections: dict[str, object]) -> AcquisitionConfig:
    config = small_config(output={"run": str(folder / "run.zarr")}, **sections)
    devices = config.devices.model_dump(mode="json")
    devices["light_source"]["wire"] = wire
    return config.replace(devices=Devices.model_validate(devices))


def mirrors_on(name: str, index: int = 1) -> NDArray[np.bool_]:
    """Which mirrors of the XGA chip a picture turns on, in plain NumPy."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    down, across, last = rows - TOP, columns - LEFT, SIDE * MIRRORS_PER_PX - 1
    inside = (down >= 0) & (down <= last) & (across >= 0) & (across <= last)
    if name == "full":
        return np.ones((HEIGHT, WIDTH), dtype=bool)
    if name == "dark":
        return np.zeros((HEIGHT, WIDTH), dtype=bool)
    if name == "grid":
        middle = (abs(rows - HEIGHT // 2) <= 1) | (abs(columns - WIDTH // 2) <= 1)
        return np.asarray((rows % 64 == 0) | (columns % 64 == 0) | middle)
    if name == "region":
        return np.asarray(inside & ((down == 0) | (down == last) | (across == 0) | (across == last)))
    pattern = (hadamard(SIDE**2)[index] > 0).reshape(SIDE, SIDE)
    mirrors = np.zeros((HEIGHT, WIDTH), dtype=bool)
    extent = SIDE * MIRRORS_PER_PX
    mirrors[TOP : TOP + extent, LEFT : LEFT + extent] = pattern.repeat(MIRRORS_PER_PX, 0).repeat(MIRRORS_PER_PX, 1)
    return mirrors


@pytest.mark.parametrize("name", ["full", "dark", "grid", "region", "coefficient"])
def test_a_picture_is_displayed_as_its_name_says_and_ends_dark(tmp_path: Path, lab: RealBench, name: str) -> None:
    show_alignment_picture(lab.config(tmp_path / "run.zarr"), name, 0.4, index=37)
    (shown,) = lab.bench.record
    expected = lab.bench.mirror_light[mirrors_on(name, 37)].sum()
    assert shown.light.tolist() == [expected] * 4 + [0.0]
    assert shown.light_on
    assert (shown.picture_time_us, shown.illumination_time_us) == (100_000, 99_000)
    lab.must_be_let_go_of()


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_every_light_goes_on_once_the_picture_is_ready_and_off_again(
    tmp_path: Path, lab: RealBench, light: str
) -> None:
    before = files_in(tmp_path)
    show_alignment_picture(lab.config(tmp_path / "run.zarr", light), "grid", 0.2)
    orders = [on for on, _ in lab.bench.orders]
    assert orders.count(True) == 1
    assert orders[-1] is False
    assert lab.bench.lit_exposures == 3
    lab.must_be_let_go_of()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("wire", SIMULATED_WIRES)
def test_it_is_rehearsed_on_simulated_devices_without_asking(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine, wire: str
) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(dump_acquisition(simulated(tmp_path, wire)), encoding="utf-8")
    done = hadascope("align", file, "--picture", "coefficient", "--index", 5, "--seconds", 0.3)
    assert (done.code, done.err) == (0, "")
    assert done.out == "shown: coefficient picture for 0.3 s; the light is off"
    assert hadascope.asked == 0
    (shown,) = benches.bench.record
    expected = benches.bench.mirror_light[mirrors_on("coefficient", 5)].sum()
    assert shown.light.tolist() == [expected] * 3 + [0.0]
    benches.must_be_let_go_of()


@pytest.mark.parametrize("light", ["obis", "sc10", "none"])
def test_the_camera_is_left_to_others(tmp_path: Path, lab: RealBench, light: str) -> None:
    config = lab.config(tmp_path / "run.zarr", light)
    lab.server.stop()
    show_alignment_picture(config, "full", 0.1)
    assert not lab.log.calls
    assert lab.bench.record


def test_a_shutter_of_micro_manager_is_moved_and_its_camera_is_not(tmp_path: Path, lab: RealBench) -> None:
    lab.core.start_continuous_sequence_acquisition(0.0)  # somebody looks at the live view
    lab.log.calls.clear()
    show_alignment_picture(lab.config(tmp_path / "run.zarr"), "full", 0.1)
    assert "set_shutter_open" in lab.log.names
    assert not lab.log.names & CAMERA_CALLS
    assert lab.core.is_sequence_running()
    assert lab.core.get_auto_shutter()
    assert not lab.bench.light_on


def test_a_real_laser_is_set_to_the_low_power_before_it_is_turned_on(tmp_path: Path, lab: RealBench) -> None:
    config = lab.config(tmp_path / "run.zarr", "obis", light_source={"laser_power_mw": 80})
    show_alignment_picture(config, "full", 0.1, laser_power_mw=2.5)
    commands = lab.laser.commands
    setting = commands.index("SOURce:POWer:LEVel:IMMediate:AMPLitude 0.002500")
    assert setting < commands.index("SOURce:AM:STATe ON")
    assert not any("0.080000" in command for command in commands[: commands.index("SOURce:AM:STATe ON")])


def test_a_simulated_laser_is_set_to_the_low_power(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine
) -> None:
    file = tmp_path / "bench.yaml"
    file.write_text(dump_acquisition(simulated(tmp_path, "obis")), encoding="utf-8")
    assert hadascope("align", file, "--seconds", 0.1).code == 0
    assert benches.latest.light is not None
    commands = benches.latest.light.commands
    setting = commands.index("SOURce:POWer:LEVel:IMMediate:AMPLitude 0.001000")
    assert setting < commands.index("SOURce:AM:STATe ON")


def test_a_power_that_the_laser_does_not_give_lights_nothing(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    done = hadascope("align", lab.file(tmp_path, "obis"), "--power-mw", 0.1, "--yes")
    assert done.code != 0
    assert "1 to 110 mW, not 0.1 mW" in done.err
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()


def test_ctrl_c_turns_the_light_off_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hadascope: CommandLine
) -> None:
    def press_ctrl_c(_: float) -> None:
        raise KeyboardInterrupt

    with real_bench(monkeypatch, pace=SLOW) as lab:
        file = lab.file(tmp_path)
        monkeypatch.setattr("acquisition.alignment.time.sleep", press_ctrl_c)
        done = hadascope("align", file, "--seconds", 600, "--yes")
        assert done.code == 130
        assert "the light is off" not in done.out
        first_off = lab.bench.orders.index((True, False)) + 1
        assert lab.bench.orders[first_off] == (False, True)  # while the picture was displayed still
        lab.must_be_let_go_of()


def test_light_that_does_not_come_leaves_nothing_behind(tmp_path: Path, lab: RealBench) -> None:
    config = lab.config(tmp_path / "run.zarr", "sc10")
    lab.shutter.fault("interlock")
    with pytest.raises(LightSourceFaultError, match="interlock"):
        show_alignment_picture(config, "full", 0.1)
    assert not lab.bench.record
    lab.must_be_let_go_of()


def test_a_board_that_does_not_start_is_left_in_darkness(tmp_path: Path, lab: RealBench) -> None:
    lab.library.inject("AlpProjStart", 1, 1011)
    with pytest.raises(AlpCallError):
        show_alignment_picture(lab.config(tmp_path / "run.zarr"), "full", 0.1)
    assert not lab.bench.light_on
    lab.must_be_let_go_of()


def test_mirrors_without_a_dark_phase_are_shown_all_of_the_time(tmp_path: Path, lab: RealBench) -> None:
    timing = {"picture_time_us": 100, "illumination_time_us": 100}
    config = lab.config(tmp_path / "run.zarr", projector={"binary_mode": "uninterrupted"}, timing=timing)
    show_alignment_picture(config, "full", 0.2)
    (shown,) = lab.bench.record
    assert (shown.picture_time_us, shown.illumination_time_us) == (100_000, 100_000)


def test_a_long_look_takes_little_memory(tmp_path: Path, lab: RealBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes are 6000 pictures, 590 MB were they made all at once."""
    made: list[int] = []
    repeat = np.repeat

    def watch_repeat(*given: Any, **options: Any) -> NDArray[Any]:
        new = repeat(*given, **options)
        made.append(new.nbytes)
        return new

    monkeypatch.setattr(np, "repeat", watch_repeat)
    show_alignment_picture(lab.config(tmp_path / "run.zarr"), "region", 20.0)
    (shown,) = lab.bench.record
    assert shown.n_exposures == 201
    assert max(made) <= 64 * HEIGHT * WIDTH // 8
    assert (shown.light[:-1] == lab.bench.mirror_light[mirrors_on("region")].sum()).all()
    assert shown.light[-1] == 0.0


@pytest.mark.parametrize("seconds", [0, -1, 600.5, float("nan")])
def test_seconds_out_of_range_are_refused_before_any_device(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, seconds: float
) -> None:
    done = hadascope("align", lab.file(tmp_path), "--seconds", seconds, "--yes")
    assert done.code == 2
    assert "allowed: more than 0, up to 600 s" in done.err
    assert not lab.was_touched


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--picture", "gird"), "allowed: full, dark, grid, region, coefficient"),
        (("--picture", "coefficient", "--index", 64), "allowed: 0 to 63"),
        (("--picture", "coefficient", "--index", -1), "allowed: 0 to 63"),
    ],
)
def test_a_picture_that_is_none_is_refused_before_any_device(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, options: tuple[object, ...], said: str
) -> None:
    done = hadascope("align", lab.file(tmp_path), *options, "--yes")
    assert done.code == 2
    assert said in done.err
    assert not lab.was_touched


def test_real_light_is_asked_for_and_a_no_leaves_all_dark(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    hadascope.person, hadascope.answer = True, "n"
    done = hadascope("align", lab.file(tmp_path), "--seconds", 0.1)
    assert (done.code, hadascope.asked) == (1, 1)
    assert not lab.was_touched
    hadascope.answer = "y"
    assert hadascope("align", lab.file(tmp_path), "--seconds", 0.1).code == 0
    assert lab.bench.lit_exposures == 2


def test_a_script_that_nobody_watches_needs_a_yes(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    hadascope.answer = "y"  # something stands in the pipe
    done = hadascope("align", lab.file(tmp_path), "--seconds", 0.1)
    assert (done.code, hadascope.asked) == (2, 0)
    assert "--yes" in done.err
    assert not lab.was_touched
