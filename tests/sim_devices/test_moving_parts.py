"""The simulated core's stage, focus and presets; the bench on which the sample moves; pictures loaded before it did."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.micromanager_core import close_core, connect_core
from sim_devices.alp_library import alp4_on
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.moving_parts import FOCUS, XY_STAGE, MovingParts, Standing
from sim_devices.sensor_images import SensorImages, View
from tests.devices.benches import HEIGHT, SILENT, WIDTH, a_bench, a_library, light_of, some_pictures

GROUPS = {"Channel": ("DAPI", "FITC"), "Objective": ("10x",)}


def a_core(bench: OpticalBench | None = None, **options: Any) -> SimulatedCore:
    bench = a_bench() if bench is None else bench
    return SimulatedCore(bench, moving=MovingParts(bench, GROUPS, **options))


def other_light(seed: int = 9) -> NDArray[np.float64]:
    return 1000 * np.random.default_rng(seed).random((HEIGHT, WIDTH))


def test_everything_stands_at_the_origin_and_in_focus_at_first() -> None:
    core = a_core(focus_um=7.5)
    assert (core.get_x_position(), core.get_y_position(), core.get_position()) == (0.0, 0.0, 7.5)
    assert [core.get_current_config(group) for group in core.get_available_config_groups()] == ["", ""]


def test_calls_name_the_device_or_mean_the_chosen_one() -> None:
    core = a_core()
    core.set_xy_position(XY_STAGE, 1.0, 2.0)
    core.set_position(FOCUS, 3.0)
    assert (core.get_x_position(XY_STAGE), core.get_y_position(XY_STAGE), core.get_position(FOCUS)) == (1.0, 2.0, 3.0)
    core.set_xy_position(4.0, 5.0)
    core.set_position(6.0)
    assert (core.get_x_position(), core.get_y_position(), core.get_position()) == (4.0, 5.0, 6.0)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda core: core.set_config("Channel", "Cy5"), ValueError, 'Preset "Cy5" of configuration group "Channel"'),
        (lambda core: core.set_config("Nothing", "Cy5"), ValueError, 'group "Nothing" does not exist'),
        (lambda core: core.wait_for_config("Channel", "Cy5"), ValueError, 'its preset "Cy5" does not exist'),
        (lambda core: core.set_xy_stage_device(FOCUS), ValueError, f'XYStage to invalid value "{FOCUS}"'),
        (lambda core: core.set_focus_device("x"), ValueError, 'Focus to invalid value "x"'),
        (lambda core: core.set_position(XY_STAGE, 1.0), RuntimeError, f'"{XY_STAGE}" is of the wrong type'),
        (lambda core: core.get_x_position(FOCUS), RuntimeError, f'"{FOCUS}" is of the wrong type'),
        (lambda core: core.device_busy("x"), RuntimeError, 'No device with label "x"'),
    ],
)
def test_what_is_not_there_is_refused_in_mmcores_words(call: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        call(a_core())


def test_without_a_chosen_stage_or_focus_nothing_moves() -> None:
    core = a_core()
    core.set_xy_stage_device("")
    core.set_focus_device("")
    calls: list[Callable[[], Any]] = [
        lambda: core.set_xy_position(1.0, 1.0),
        core.get_y_position,
        lambda: core.set_position(1.0),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match='No device with label ""'):
            call()
    assert core.moving.standing == Standing()


def test_an_unknown_group_has_no_presets_and_no_current_one() -> None:
    core = a_core()
    assert (core.get_available_configs("Nothing"), core.get_current_config("Nothing")) == ((), "")


def test_a_move_takes_its_time_of_the_benchs_clock() -> None:
    bench = a_bench()
    core = a_core(bench, move_ms=40.0)
    core.set_xy_position(1.0, 2.0)
    assert bench.time_us == 40_000
    core.set_position(1.0)
    core.set_config("Channel", "FITC")
    assert bench.time_us == 120_000
    assert not core.system_busy()


def test_at_the_benchs_pace_a_device_is_busy_and_reads_where_it_was_until_it_has_arrived() -> None:
    core = a_core(a_bench(pace=1.0), move_ms=30.0)
    core.set_xy_position(1.0, 2.0)
    assert (core.device_busy(XY_STAGE), core.device_busy(FOCUS), core.system_busy()) == (True, False, True)
    assert (core.get_x_position(), core.get_y_position()) == (0.0, 0.0)
    core.wait_for_device(XY_STAGE)
    assert (core.get_x_position(), core.get_y_position(), core.system_busy()) == (1.0, 2.0, False)
    core.set_config("Channel", "FITC")
    assert core.system_busy()
    core.wait_for_config("Channel", "FITC")
    core.set_position(3.0)
    core.wait_for_system()
    assert (core.system_busy(), core.get_position()) == (False, 3.0)


def test_whoever_shows_the_specimen_is_told_where_everything_will_stand_and_only_when_that_changes() -> None:
    told: list[Standing] = []
    core = a_core(on_move=told.append)
    core.set_xy_position(1.0, 2.0)
    core.set_xy_position(1.0, 2.0)
    core.set_position(3.0)
    core.set_config("Channel", "FITC")
    core.set_config("Channel", "FITC")
    assert told == [
        Standing(1.0, 2.0),
        Standing(1.0, 2.0, 3.0),
        Standing(1.0, 2.0, 3.0, ("Channel", "FITC")),
    ]


def test_a_move_that_is_refused_has_not_happened() -> None:
    bench = a_bench()

    def refuse(standing: Standing) -> None:
        raise RuntimeError(f"not {standing}")

    core = a_core(bench, move_ms=40.0, on_move=refuse)
    calls: list[Callable[[], None]] = [
        lambda: core.set_xy_position(1.0, 2.0),
        lambda: core.set_position(3.0),
        lambda: core.set_config("Channel", "FITC"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="not Standing"):
            call()
    assert (core.moving.standing, core.get_current_config("Channel"), bench.time_us) == (Standing(), "", 0.0)


def test_all_of_it_works_through_the_port() -> None:
    core = a_core()
    with MicroManagerServer(core) as server:
        remote = connect_core(server.port)
        assert (remote.get_xy_stage_device(), remote.get_focus_device()) == (XY_STAGE, FOCUS)
        assert remote.get_available_config_groups() == ["Channel", "Objective"]
        assert remote.get_available_configs("Channel") == ["DAPI", "FITC"]
        remote.set_xy_position(0.1, -1e-7)
        remote.set_xy_position(XY_STAGE, 0.1, -1e-7)
        remote.set_position(1 / 3)
        remote.set_position(FOCUS, 1 / 3)
        remote.set_config("Channel", "FITC")
        remote.wait_for_config("Channel", "FITC")
        assert core.moving.standing == Standing(0.1, -1e-7, 1 / 3, ("Channel", "FITC"))
        assert (remote.get_x_position(), remote.get_y_position(), remote.get_position()) == (0.1, -1e-7, 1 / 3)
        assert remote.get_x_position(XY_STAGE) == 0.1
        assert (remote.get_y_position(XY_STAGE), remote.get_position(FOCUS)) == (-1e-7, 1 / 3)
        assert remote.get_current_config("Channel") == "FITC"
        assert (remote.device_busy(FOCUS), remote.system_busy()) == (False, False)
        remote.set_focus_device("")
        remote.set_xy_stage_device("")
        assert (core.get_focus_device(), core.get_xy_stage_device()) == ("", "")
        close_core(remote)


class TestTheBenchWhoseSampleMoves:
    def test_pictures_decoded_afterwards_send_the_new_light(self) -> None:
        bench, pictures = a_bench(), some_pictures(5)
        bench.decode(pictures)
        bench.relight(other_light())
        np.testing.assert_allclose(bench.mirror_light, other_light(), atol=1e-9)
        assert bench.decode(pictures).tolist() == light_of(bench, pictures).tolist()
        assert bench.light_of_all == pytest.approx(other_light().sum())
        assert bench.n_relit == 1

    def test_it_reads_the_same_as_one_that_was_made_there(self) -> None:
        moved, made = a_bench(), OpticalBench(SILENT, other_light(), light_on=True)
        moved.relight(other_light())
        assert moved.decode(some_pictures(9)).tolist() == made.decode(some_pictures(9)).tolist()

    def test_it_does_not_move_while_pictures_are_displayed(self) -> None:
        bench = a_bench(pace=1.0)
        before = bench.mirror_light
        bench.display(np.ones(10), 1000, 900)
        with pytest.raises(RuntimeError, match="between projections only"):
            bench.relight(other_light())
        bench.halt()
        assert (bench.mirror_light == before).all()
        bench.relight(other_light())

    def test_other_mirrors_are_refused(self) -> None:
        with pytest.raises(ValueError, match="expected"):
            a_bench().relight(np.ones((3, 3)))

    def test_its_clock_its_exposures_and_its_bleaching_go_on(self) -> None:
        bench = a_bench()
        bench.display(np.ones(10), 1000, 900)
        state = bench.state
        bench.relight(other_light())
        assert bench.state == state
        assert state.lit_us == 9000


class TestPicturesInTheBoardsMemory:
    def project(self, library: Any, pictures: NDArray[np.uint8]) -> Any:
        alp = alp4_on(library)
        library.AlpDevAlloc(ctypes.c_long(0), ctypes.c_long(0), ctypes.byref(alp.ALP_ID))
        sequence = alp.SeqAlloc(len(pictures), 1)
        alp.SeqControl(2110, 2, sequence)
        alp.SeqPut(pictures, sequence)
        alp.SetTiming(sequence, 80, 100)
        return alp, sequence

    def test_loaded_after_a_move_they_send_the_new_light(self) -> None:
        bench, pictures = a_bench(), some_pictures(6)
        library = a_library(bench)
        bench.relight(other_light())
        alp, sequence = self.project(library, pictures)
        alp.Run(sequence, loop=False)
        assert bench.record[0].light.tolist() == light_of(bench, pictures).tolist()

    def test_loaded_before_a_move_they_are_never_displayed_with_the_old_light(self) -> None:
        bench = a_bench()
        alp, sequence = self.project(a_library(bench), some_pictures(6))
        bench.relight(other_light())
        with pytest.raises(RuntimeError, match=r"before the sample moved.*load them again"):
            alp.Run(sequence, loop=False)
        assert bench.record == ()


class TestACameraThatImagesTheMirrors:
    VIEW = View(0.8, 20.0, 4.0, 1.0, blur_px=0.6)
    SENSOR = 9, 22

    def test_relit_it_images_what_one_made_there_images(self) -> None:
        lit = np.ones((HEIGHT, WIDTH), dtype=bool)
        dark_in_part = other_light() * (other_light() > 300)
        relit = SensorImages(self.VIEW, other_light(4), *self.SENSOR, lit).relit(dark_in_part)
        made = SensorImages(self.VIEW, dark_in_part, *self.SENSOR)
        np.testing.assert_allclose(relit.all_on, made.all_on, rtol=1e-6)
        np.testing.assert_allclose(relit.arriving, made.arriving, rtol=1e-9)
        for one, other in zip(relit.of(some_pictures(3)), made.of(some_pictures(3)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)

    def test_light_on_mirrors_that_could_not_be_lit_is_refused(self) -> None:
        lit = np.zeros((HEIGHT, WIDTH), dtype=bool)
        lit[1:3, 2:9] = True
        images = SensorImages(self.VIEW, other_light() * lit, *self.SENSOR, lit)
        lit[0, 0] = True
        with pytest.raises(ValueError, match="1 of them beside"):
            images.relit(other_light() * lit)

    def test_a_bench_with_images_is_relit_with_images(self) -> None:
        images = SensorImages(self.VIEW, other_light(), *self.SENSOR)
        bench = OpticalBench(SILENT, images.arriving, sensor_images=images)
        with pytest.raises(ValueError, match="images"):
            bench.relight(images.arriving)
        other = images.relit(other_light(4))
        bench.relight(other.arriving, other)
        assert bench.sensor_images is other
