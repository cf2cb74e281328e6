"""The simulated stage of an acquisition file: where it stands is what the bench's mirrors and the plan see."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.rehearsal import rehearsal_of
from acquisition.simulated_bench import channel_groups
from devices.errors import MicroManagerCallError, PoseMissedError, PoseRefusedError
from devices.microscope import Pose
from sim_devices.sample import fluorescent_cells
from tests.acquisition.bench_record import no_thread_left
from tests.acquisition.rehearsal import asymmetric_sample, small_config

FITC = ("Channel", "FITC")
MDA = {"channels": ["DAPI", {"group": "Filters", "config": "open"}, "FITC"]}
AWAY = Pose(3.0, -1.5, 2.0, FITC)


def series_config(**changes: Any) -> AcquisitionConfig:
    return small_config(**{"mda": MDA, **changes})


def on_the_mirrors(devices: ConnectedDevices, config: AcquisitionConfig) -> NDArray[np.float64]:
    """The light of every pixel on the bench's mirrors now, added up mirror by mirror."""
    region, n = config.dmd_region, config.sensing.side
    light, k = devices.stand_ins.bench.mirror_light, region.mirrors_per_px
    box = light[region.top : region.top + n * k, region.left : region.left + n * k]
    assert box.sum() == pytest.approx(light.sum())
    return np.asarray(box.reshape(n, k, n, k).sum(axis=(1, 3)))


def connected(config: AcquisitionConfig, stack: ExitStack) -> ConnectedDevices:
    return stack.enter_context(connected_devices(config, sample_on_stage(config)))


def test_where_the_stage_stands_at_first_it_is_the_sample_as_ever() -> None:
    config = series_config()
    cells = fluorescent_cells(8, seed=0)
    expected = cells * (50.0 / cells.mean())
    for pose in (None, Pose(), Pose(0.0, 0.0, 0.0)):
        light = sample_on_stage(config, pose)
        assert light is not None
        assert light.tolist() == expected.tolist()


@pytest.mark.parametrize("wire", ["direct", "zmq"])
def test_the_mirrors_see_what_lies_at_the_pose_the_core_stands_at(wire: str) -> None:
    config = series_config(devices={"detector": {"kind": "simulated", "wire": wire}})
    with no_thread_left(), ExitStack() as stack:
        devices = connected(config, stack)
        for pose in (AWAY, Pose(0.0, 0.0, 2.0, ("Channel", "DAPI")), Pose(0.0, 0.0, 0.0, FITC)):
            assert devices.microscope.move_to(pose) == pose
            expected = sample_on_stage(config, pose)
            assert expected is not None
            np.testing.assert_allclose(on_the_mirrors(devices, config), expected, atol=1e-9)


def test_the_file_says_how_far_a_pixel_and_where_the_focus_is() -> None:
    config = series_config(
        dmd_region={"um_per_mirror": 0.25}, bench={"focus_um": 40.0, "blur_px_per_um": 0.0}
    )  # two mirrors a pixel: half a micrometre
    still, moved = (sample_on_stage(config, Pose(x_um=x_um, z_um=z_um)) for x_um, z_um in ((0.0, 40.0), (1.0, 99.0)))
    assert still is not None
    assert moved is not None
    assert (moved == np.roll(still, -2, axis=1)).all()
    with ExitStack() as stack:
        assert connected(config, stack).microscope.move_to(Pose()) == Pose(0.0, 0.0, 40.0)


def test_without_a_known_size_a_pixel_is_a_micrometre_wide() -> None:
    still, moved = (sample_on_stage(series_config(), Pose(y_um=y_um)) for y_um in (0.0, 3.0))
    assert still is not None
    assert moved is not None
    assert (moved == np.roll(still, -3, axis=0)).all()


def test_a_sample_of_ones_own_moves_too_and_lies_otherwise_in_a_channel(tmp_path: Path) -> None:
    image = asymmetric_sample(8).astype(np.uint16)
    imageio.imwrite(tmp_path / "mine.png", image)
    config = series_config(sample={"image": str(tmp_path / "mine.png")})
    still, moved, other = (sample_on_stage(config, pose) for pose in (None, Pose(x_um=1.0), Pose(channel=FITC)))
    assert still is not None
    assert moved is not None
    assert other is not None
    np.testing.assert_allclose(still, image * (50.0 / image.mean()))
    assert (moved == np.roll(still, -1, axis=1)).all()
    ways = [np.rot90(each, k) for each in (still, still.T) for k in range(4)]
    laid = [k for k, way in enumerate(ways) if np.allclose(other / other.sum(), way / way.sum())]
    assert len(laid) == 1
    assert laid != [0]


def test_channels_differ_in_their_total_light_and_poses_of_one_do_not() -> None:
    def total(pose: Pose) -> float:
        light = sample_on_stage(series_config(), pose)
        assert light is not None
        return float(light.sum())

    channels = [("Channel", name) for name in ("DAPI", "FITC")]
    dapi, fitc = (total(Pose(channel=channel)) for channel in channels)
    assert dapi != pytest.approx(fitc, rel=0.01)
    for x_um, z_um in ((1.3, 2.0), (7.7, -1.0)):
        moved = [total(Pose(x_um, 0.0, z_um, channel)) for channel in channels]
        assert moved == pytest.approx([dapi, fitc])


def test_the_simulated_core_has_the_channels_that_the_series_asks_for() -> None:
    assert channel_groups(series_config()) == {"Channel": ("DAPI", "FITC"), "Filters": ("open",)}
    assert channel_groups(small_config()) == {}
    with ExitStack() as stack:
        microscope = connected(series_config(), stack).microscope
        assert microscope.info.channels == (("Channel", ("DAPI", "FITC")), ("Filters", ("open",)))
        with pytest.raises(PoseRefusedError, match="Cy5"):
            microscope.check(Pose(channel=("Channel", "Cy5")))


def test_a_sample_that_was_handed_over_is_the_one_that_moves() -> None:
    config, sample = series_config(), asymmetric_sample(8)
    with connected_devices(config, sample) as devices:
        devices.microscope.move_to(Pose(x_um=2.0))
        np.testing.assert_allclose(on_the_mirrors(devices, config), np.roll(sample, -2, axis=1), atol=1e-9)


def test_nothing_moves_while_pictures_are_displayed() -> None:
    config = series_config(bench={"pace": 1.0})
    with ExitStack() as stack:
        devices = connected(config, stack)
        bench = devices.stand_ins.bench
        bench.display(np.ones(1000), 1000, 900)
        with pytest.raises(MicroManagerCallError, match="between projections only"):
            devices.microscope.move_to(AWAY)
        bench.halt()
        assert devices.microscope.move_to(Pose()) == Pose(0.0, 0.0, 0.0)


def test_moving_and_settling_take_the_benchs_time_and_not_ours() -> None:
    config = series_config(devices={"stage": {"move_ms": 200.0, "settle_ms": 5_000.0}})
    with ExitStack() as stack:
        devices = connected(config, stack)
        devices.microscope.move_to(AWAY)
        assert devices.clock_us() == 3 * 200e3 + 5e6


def test_the_tolerances_of_the_file_are_the_drivers() -> None:
    config = series_config(devices={"stage": {"xy_tolerance_um": 4.0, "z_tolerance_um": 0.1}})
    with ExitStack() as stack:
        devices = connected(config, stack)
        devices.stand_ins.core.moving.off_by_um = (3.0, 0.0, 0.2)
        assert devices.microscope.move_to(Pose(x_um=1.0)).x_um == 4.0
        with pytest.raises(PoseMissedError, match=r"tolerance of 0\.1 µm"):
            devices.microscope.move_to(Pose(z_um=1.0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"xy_tolerance_um": 0.0},
        {"z_tolerance_um": -1.0},
        {"move_timeout_s": 0.0},
        {"settle_ms": -1.0},
        {"move_ms": -1.0},
        {"speed": 3.0},
    ],
)
def test_an_impossible_stage_is_refused_by_its_key(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"devices\.stage\.{next(iter(wrong))}"):
        series_config(devices={"stage": wrong})


def test_a_rehearsal_keeps_the_stage() -> None:
    real = {
        "projector": {"kind": "alp", "dmd": "xga"},
        "detector": {"kind": "micro-manager"},
        "light_source": {"kind": "none"},
        "stage": {"xy_tolerance_um": 3.0, "settle_ms": 12.0},
    }
    config = series_config(devices=real)
    assert rehearsal_of(config).devices.stage == config.devices.stage
    assert config.devices.stage.settle_ms == 12.0


LAB = {
    "projector": {"kind": "alp", "dmd": "xga"},
    "detector": {"kind": "micro-manager"},
    "light_source": {"kind": "none"},
}
AROUND, ABSOLUTE = {"range": 4, "step": 2}, {"bottom": 5000, "top": 5006, "step": 2}


@pytest.mark.parametrize(
    ("mda", "focus_um"),
    [
        ({"stage_positions": [{"x": 1, "y": 2, "z": 3200}, {"x": 5, "y": 2, "z": 3210}], "z_plan": AROUND}, 3200),
        ({"stage_positions": [{"x": 1, "y": 2, "z": 3200}, {"x": 5, "y": 2, "z": 3210}]}, 3200),
        ({"stage_positions": [{"x": 1, "y": 2, "z": -50}], "z_plan": {"above": 6, "below": 0, "step": 2}}, -47),
        ({"z_plan": ABSOLUTE}, 5003),
        # The first one stays where the focus stands, so that it is sharp wherever that is.
        ({"stage_positions": [{"x": 1, "y": 2}, {"x": 5, "y": 2, "z": 3210}], "z_plan": AROUND}, 3210),
        ({"stage_positions": [{"x": 1, "y": 2}, {"x": 5, "y": 2, "z": 3210}]}, 3210),
        ({"z_plan": AROUND}, 0),
        ({"channels": ["DAPI"]}, 0),
        ({}, 0),
    ],
)
def test_a_rehearsal_is_sharp_in_the_middle_of_the_first_positions_planes(mda: dict[str, Any], focus_um: float) -> None:
    series = {"mda": mda} if mda else {}
    for devices in (LAB, {}):
        rehearsal = rehearsal_of(small_config(devices=devices, **series))
        in_focus, there, away = (sample_on_stage(rehearsal, Pose(z_um=z)) for z in (None, focus_um, focus_um + 9.0))
        assert in_focus is not None
        assert there is not None
        assert away is not None
        assert there.tolist() == in_focus.tolist()
        assert away.std() < 0.5 * there.std()
        with connected_devices(rehearsal, in_focus) as connected_there:
            assert connected_there.microscope.move_to(Pose()).z_um == focus_um
        # An image of a series is acquired as a run without one.
        assert rehearsal.replace(mda=None).bench.focus_um == focus_um


def test_a_stated_focus_is_where_a_rehearsal_has_it() -> None:
    mda = {"stage_positions": [{"x": 1, "y": 2, "z": 3200}]}
    for focus_um in (0.0, 3199.0):
        rehearsal = rehearsal_of(small_config(mda=mda, devices=LAB, bench={"focus_um": focus_um}))
        with connected_devices(rehearsal, np.ones((8, 8))) as devices:
            assert devices.microscope.move_to(Pose()).z_um == focus_um


def test_a_moved_bench_with_a_view_sees_what_one_connected_there_sees() -> None:
    view = {"scale": 0.5, "rotation_deg": 90.0, "x_px": 19.0, "y_px": -1.0, "blur_px": 0.7}
    camera = {"kind": "simulated", "width_px": 20, "height_px": 16, "view": view}
    config = series_config(devices={"detector": camera})
    with ExitStack() as stack:
        moved = connected(config, stack)
        moved.microscope.move_to(AWAY)
        there = stack.enter_context(connected_devices(config, sample_on_stage(config, AWAY)))
        one, other = moved.stand_ins.bench, there.stand_ins.bench
        assert one.mirror_light.tolist() == other.mirror_light.tolist()
        assert one.sensor_images.all_on.tolist() == other.sensor_images.all_on.tolist()
