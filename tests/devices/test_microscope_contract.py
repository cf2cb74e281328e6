"""What every microscope has to do, for the Micro-Manager driver on the simulated core, behind its port, and on MMCore.

The demo stage of the real MMCore moves in steps of 15 nm, so that positions are compared with a tolerance there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from devices.errors import DeviceSilentError, DeviceStateError, PoseMissedError, PoseRefusedError
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_microscope import MicroManagerMicroscope
from devices.microscope import Microscope, MicroscopeInfo, NoMicroscope, Pose
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.moving_parts import FOCUS, XY_STAGE, MovingParts
from tests.devices.benches import a_bench
from tests.devices.demo_microscope import demo_microscope

GROUPS = {"Channel": ("DAPI", "FITC"), "Light": ("Auto", "Open")}
STEP_UM = 0.02


def a_core() -> SimulatedCore:
    """Presets that do to auto shutter and shutter what those of the demo microscope do."""
    bench = a_bench(light_on=False)
    core = SimulatedCore(bench, moving=MovingParts(bench, GROUPS))
    core.set_auto_shutter(False)
    effects: dict[tuple[str, str], Callable[[], None]] = {
        ("Light", "Auto"): lambda: core.set_auto_shutter(True),
        ("Light", "Open"): lambda: core.set_shutter_open(True),
    }
    set_preset = core.set_config

    def set_config(group: str, preset: str) -> None:
        set_preset(group, preset)
        effects.get((group, preset), lambda: None)()

    core.set_config = set_config  # type: ignore[method-assign]
    return core


@contextmanager
def directly() -> Iterator[Any]:
    yield a_core()


@contextmanager
def through_the_port() -> Iterator[Any]:
    with MicroManagerServer(a_core()) as server:
        remote = connect_core(server.port)
        yield remote
        close_core(remote)


Wire = Callable[[], AbstractContextManager[Any]]
WIRES: dict[str, Wire] = {"direct": directly, "zmq": through_the_port, "real": demo_microscope}


@pytest.fixture(params=list(WIRES.values()), ids=list(WIRES))
def core(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param() as connected:
        yield connected


@pytest.fixture
def microscope(core: Any) -> Microscope:
    return MicroManagerMicroscope(core)


def assert_stands(found: Pose, wanted: Pose) -> None:
    assert found.x_um == pytest.approx(wanted.x_um, abs=STEP_UM)
    assert found.y_um == pytest.approx(wanted.y_um, abs=STEP_UM)
    assert found.z_um == pytest.approx(wanted.z_um, abs=STEP_UM)
    assert found.channel == wanted.channel


def test_it_says_what_it_can_move(microscope: Microscope) -> None:
    info = microscope.info
    assert (info.xy_stage, info.focus) in ((XY_STAGE, FOCUS), ("XY", "Z"))
    assert dict(info.channels) == GROUPS


def test_it_goes_where_it_is_sent_and_reads_back_from_there(core: Any, microscope: Microscope) -> None:
    wanted = Pose(120.5, -30.25, 7.5, ("Channel", "FITC"))
    assert_stands(microscope.move_to(wanted), wanted)
    assert core.get_x_position() == pytest.approx(120.5, abs=STEP_UM)
    assert core.get_y_position() == pytest.approx(-30.25, abs=STEP_UM)
    assert core.get_position() == pytest.approx(7.5, abs=STEP_UM)
    assert core.get_current_config("Channel") == "FITC"
    assert not core.system_busy()


def test_what_a_pose_leaves_out_stays_as_it_is_and_is_read_all_the_same(core: Any, microscope: Microscope) -> None:
    first = microscope.move_to(Pose(10.0, 20.0, 3.0, ("Channel", "FITC")))
    assert_stands(microscope.move_to(Pose()), replace(first, channel=None))
    assert_stands(microscope.move_to(Pose(y_um=5.0)), Pose(first.x_um, 5.0, first.z_um))
    assert_stands(microscope.move_to(Pose(x_um=-4.0)), Pose(-4.0, 5.0, first.z_um))
    assert_stands(microscope.move_to(Pose(z_um=-2.0)), Pose(-4.0, 5.0, -2.0))
    found = microscope.move_to(Pose(channel=("Channel", "DAPI")))
    assert_stands(found, Pose(-4.0, 5.0, -2.0, ("Channel", "DAPI")))
    assert core.get_current_config("Channel") == "DAPI"


@pytest.mark.parametrize(
    ("pose", "said"),
    [
        (Pose(channel=("Chanel", "FITC")), "'Chanel'.*'Channel', 'Light'"),
        (Pose(channel=("Channel", "Cy5")), "'Cy5'.*'Channel'.*'DAPI', 'FITC'"),
        (Pose(x_um=float("nan")), "x = nan"),
        (Pose(z_um=float("inf")), "z = inf"),
    ],
)
def test_a_pose_that_it_cannot_be_asked_for_is_refused_and_nothing_moves(
    core: Any, microscope: Microscope, pose: Pose, said: str
) -> None:
    before = microscope.move_to(Pose(1.0, 2.0, 3.0, ("Channel", "FITC")))
    impossible = replace(pose, y_um=50.0)
    for ask in (microscope.check, microscope.move_to):
        with pytest.raises(PoseRefusedError, match=said) as caught:
            ask(impossible)
        assert isinstance(caught.value, ValueError)
    assert microscope.move_to(Pose()) == replace(before, channel=None)
    assert core.get_current_config("Channel") == "FITC"


def test_checking_a_pose_moves_nothing(microscope: Microscope) -> None:
    before = microscope.move_to(Pose())
    microscope.check(Pose(100.0, 200.0, 50.0, ("Channel", "FITC")))
    assert microscope.move_to(Pose()) == before


def test_a_microscope_without_stage_or_focus_says_which_it_lacks(core: Any) -> None:
    core.set_xy_stage_device("")
    core.set_focus_device("")
    microscope = MicroManagerMicroscope(core)
    assert (microscope.info.xy_stage, microscope.info.focus) == (None, None)
    for pose, said in ((Pose(x_um=1.0), "no XY stage"), (Pose(y_um=1.0), "no XY stage"), (Pose(z_um=1.0), "no focus")):
        with pytest.raises(PoseRefusedError, match=said):
            microscope.check(pose)
    channel = ("Channel", "DAPI")
    assert microscope.move_to(Pose(channel=channel)) == Pose(channel=channel)


def test_a_preset_that_turns_auto_shutter_on_leaves_it_as_it_was(core: Any) -> None:
    microscope = MicroManagerMicroscope(core)
    for was in (False, True):
        core.set_auto_shutter(was)
        assert microscope.move_to(Pose(channel=("Light", "Auto"))).channel == ("Light", "Auto")
        assert bool(core.get_auto_shutter()) is was


def test_a_shutter_that_a_preset_opens_is_closed_and_the_preset_refused(core: Any, microscope: Microscope) -> None:
    with pytest.raises(DeviceStateError, match=r"'Open'.*opened .*Shutter.*closed again.*out of the preset"):
        microscope.move_to(Pose(channel=("Light", "Open")))
    assert not core.get_shutter_open()


def test_a_shutter_that_was_open_before_is_nobodys_business(core: Any, microscope: Microscope) -> None:
    core.set_shutter_open(True)
    microscope.move_to(Pose(channel=("Light", "Open")))
    assert core.get_shutter_open()


def test_a_stage_that_stays_busy_is_given_up_after_its_time_and_named() -> None:
    simulated = a_core()
    simulated.moving.stuck.add(XY_STAGE)
    with MicroManagerServer(simulated) as server:
        remote = connect_core(server.port)
        for core in (simulated, remote):
            microscope = MicroManagerMicroscope(core, move_timeout_s=0.05)
            with pytest.raises(DeviceSilentError, match=rf"{XY_STAGE}.* stayed busy for 0\.05 s.*move_timeout_s"):
                microscope.move_to(Pose(1.0, 2.0))
        close_core(remote)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (XY_STAGE, rf"'{XY_STAGE}' was sent to x = 1 µm, y = 2 µm, and"),
        (FOCUS, rf"'{FOCUS}' was sent to z = 3 µm, and"),
    ],
)
def test_a_device_that_stays_busy_is_named_with_its_own_axes_only(label: str, said: str) -> None:
    core = a_core()
    for name in ("set_xy_position", "set_position"):
        move = getattr(core, name)

        def and_stick(*arguments: Any, move: Callable[..., None] = move, moved: str = name) -> None:
            move(*arguments)
            if (moved == "set_xy_position") is (label == XY_STAGE):
                core.moving.stuck.add(label)

        setattr(core, name, and_stick)
    with pytest.raises(DeviceSilentError, match=said):
        MicroManagerMicroscope(core, move_timeout_s=0.05).move_to(Pose(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("off_by_um", "pose", "said"),
    [
        ((1.5, 0.0, 0.0), Pose(3.0, 4.0), "x = 3 µm.*reads back 4.5 µm.*tolerance of 1 µm.*xy_tolerance_um"),
        ((0.0, -1.5, 0.0), Pose(3.0, 4.0), "y = 4 µm.*reads back 2.5 µm"),
        ((0.0, 0.0, 0.6), Pose(z_um=4.0), "z = 4 µm.*reads back 4.6 µm.*tolerance of 0.5 µm.*z_tolerance_um"),
        ((0.0, 0.0, float("nan")), Pose(z_um=4.0), "z = 4 µm.*reads back nan"),
    ],
)
def test_a_stage_that_goes_elsewhere_is_found_out(off_by_um: tuple[float, float, float], pose: Pose, said: str) -> None:
    core = a_core()
    core.moving.off_by_um = off_by_um
    with pytest.raises(PoseMissedError, match=said) as caught:
        MicroManagerMicroscope(core).move_to(pose)
    assert isinstance(caught.value, RuntimeError)


def test_what_lies_within_the_tolerance_is_returned_as_it_reads() -> None:
    core = a_core()
    core.moving.off_by_um = (0.9, -0.9, 0.4)
    found = MicroManagerMicroscope(core).move_to(Pose(3.0, 4.0, 5.0))
    assert (found.x_um, found.y_um, found.z_um) == pytest.approx((3.9, 3.1, 5.4))


def test_a_preset_that_reads_back_as_another_one_is_found_out() -> None:
    core = a_core()
    core.get_current_config = lambda group: "DAPI"  # type: ignore[method-assign]
    with pytest.raises(PoseMissedError, match=r"'Channel' was set to 'FITC' and reads back 'DAPI'.*channel_read_back"):
        MicroManagerMicroscope(core).move_to(Pose(channel=("Channel", "FITC")))


def test_a_preset_that_may_read_back_as_another_one_is_returned_as_it_reads() -> None:
    """Where two presets say the same, or a device writes numbers differently, the name says nothing."""
    core = a_core()
    core.get_current_config = lambda group: ""  # type: ignore[method-assign]
    found = MicroManagerMicroscope(core, channel_read_back=False).move_to(Pose(channel=("Channel", "FITC")))
    assert found.channel == ("Channel", "")


def noted(method: Callable[..., Any], told: list[str]) -> Callable[..., Any]:
    @wraps(method)
    def tell(*arguments: Any) -> Any:
        told.append(method.__name__)
        return method(*arguments)

    return tell


def test_channel_stage_and_focus_move_in_this_order_each_when_the_one_before_has_arrived() -> None:
    told: list[str] = []
    core = a_core()
    for name in ("set_config", "set_xy_position", "set_position", "system_busy"):
        setattr(core, name, noted(getattr(core, name), told))
    MicroManagerMicroscope(core).move_to(Pose(1.0, 2.0, 3.0, ("Channel", "FITC")))
    assert told == ["set_config", "system_busy", "set_xy_position", "system_busy", "set_position", "system_busy"]


def test_positions_are_read_when_nothing_is_busy_any_more() -> None:
    """A stage that is slow reads where it was until it has arrived."""
    bench = a_bench(pace=1.0)
    core = SimulatedCore(bench, moving=MovingParts(bench, GROUPS, move_ms=30.0))
    core.set_xy_position(50.0, 0.0)
    assert (core.system_busy(), core.get_x_position()) == (True, 0.0)
    wanted = Pose(5.0, 6.0, 7.0, ("Channel", "FITC"))
    assert MicroManagerMicroscope(core).move_to(wanted) == wanted


def test_it_settles_before_it_reads() -> None:
    waited: list[float] = []
    core = a_core()
    core.moving.off_by_um = (5.0, 0.0, 0.0)

    def come_to_rest(duration_s: float) -> None:
        waited.append(duration_s)
        core.moving.off_by_um = (0.0, 0.0, 0.0)

    microscope = MicroManagerMicroscope(core, settle_s=0.2, wait=come_to_rest)
    assert microscope.move_to(Pose(1.0, 2.0)) == Pose(1.0, 2.0, 0.0)
    assert waited == [0.2]


def test_a_call_that_takes_long_because_a_stage_moves_is_waited_for() -> None:
    simulated = a_core()
    with MicroManagerServer(simulated) as server:
        remote = connect_core(server.port, call_timeout_s=0.3)
        move = simulated.set_xy_position

        def slowly(*arguments: Any) -> None:
            time.sleep(0.6)
            move(*arguments)

        simulated.set_xy_position = slowly  # type: ignore[method-assign]
        microscope = MicroManagerMicroscope(remote, move_timeout_s=20.0)
        assert microscope.move_to(Pose(1.0, 2.0)) == Pose(1.0, 2.0, 0.0)
        with pytest.raises(DeviceSilentError):
            remote.set_xy_position(3.0, 4.0)
        with pytest.raises(DeviceSilentError):
            close_core(remote)


def test_a_preset_that_fails_in_the_middle_leaves_no_light_on() -> None:
    core = a_core()

    def fail(group: str, preset: str) -> None:
        core.set_shutter_open(True)
        core.set_auto_shutter(True)
        raise RuntimeError("the filter wheel does not answer")

    core.set_config = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="filter wheel") as caught:
        MicroManagerMicroscope(core).move_to(Pose(channel=("Channel", "FITC")))
    assert (core.get_shutter_open(), core.get_auto_shutter()) == (False, False)
    assert any("closed again" in note for note in caught.value.__notes__)


def test_a_microscope_that_nobody_can_move_takes_only_what_changes_nothing() -> None:
    microscope = NoMicroscope()
    assert microscope.info == MicroscopeInfo(None, None, ())
    assert microscope.move_to(Pose()) == Pose()
    with pytest.raises(PoseRefusedError, match="cannot be moved"):
        microscope.move_to(Pose(z_um=0.0))
