"""What every light source has to do: a shutter of Micro-Manager, and the light nobody can switch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devices.errors import DeviceNotFoundError, DeviceStateError
from devices.light_source import NoLightSource
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_shutter import MicroManagerShutter
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench

LABEL = "SimulatedShutter"


class JammedCore(SimulatedCore):
    """A shutter that stays as it is while it is jammed."""

    jammed = True

    def set_shutter_open(self, *arguments: object) -> None:
        if not self.jammed:
            super().set_shutter_open(*arguments)


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench(light_on=True)


@pytest.fixture(params=["direct", "zmq"])
def shutter(request: pytest.FixtureRequest, bench: OpticalBench) -> Iterator[MicroManagerShutter]:
    core = SimulatedCore(bench)
    if request.param == "direct":
        yield MicroManagerShutter(core, LABEL, 2.5)
    else:
        with MicroManagerServer(core) as server:
            remote = connect_core(server.port)
            yield MicroManagerShutter(remote, LABEL, 2.5)
            close_core(remote)


def test_it_says_what_it_is(shutter: MicroManagerShutter) -> None:
    assert (shutter.info.name, shutter.info.power_mw) == (LABEL, 2.5)


def test_it_is_dark_on_connection_and_switches_the_light(shutter: MicroManagerShutter, bench: OpticalBench) -> None:
    states = [(shutter.is_on(), bench.light_on)]
    for switch in (shutter.on, shutter.on, shutter.off, shutter.off, shutter.on):
        switch()
        states.append((shutter.is_on(), bench.light_on))
    assert states == [(on, on) for on in (False, True, True, False, False, True)]


def test_closing_turns_the_light_off_and_closing_twice_is_closing_once(
    shutter: MicroManagerShutter, bench: OpticalBench
) -> None:
    shutter.on()
    shutter.close()
    shutter.close()
    assert not bench.light_on
    with pytest.raises(DeviceStateError, match="was closed"):
        shutter.on()
    shutter.off()  # turning it off is always possible


def test_camera_sequences_no_longer_switch_the_light(bench: OpticalBench) -> None:
    core = SimulatedCore(bench)
    MicroManagerShutter(core, LABEL)
    core.start_sequence_acquisition(1, 0.0, True)
    assert not bench.light_on


def test_a_shutter_that_does_not_move_is_an_error(bench: OpticalBench) -> None:
    with pytest.raises(DeviceStateError, match="asked to be closed and says it is open"):
        MicroManagerShutter(JammedCore(bench), LABEL)
    dark = a_bench(light_on=False)
    jammed = MicroManagerShutter(JammedCore(dark), LABEL)
    with pytest.raises(DeviceStateError, match="asked to be open and says it is closed"):
        jammed.on()


@pytest.mark.parametrize("auto_shutter", [True, False])
def test_auto_shutter_is_as_it_was_once_the_shutter_is_closed(bench: OpticalBench, auto_shutter: bool) -> None:
    core = SimulatedCore(bench)
    core.set_auto_shutter(auto_shutter)
    shutter = MicroManagerShutter(core, LABEL)
    shutter.on()
    seen = [core.get_auto_shutter()]
    shutter.close()
    seen.append(core.get_auto_shutter())
    core.set_auto_shutter(not auto_shutter)  # somebody else's choice, which closing twice does not touch
    shutter.close()
    assert [*seen, core.get_auto_shutter()] == [False, auto_shutter, not auto_shutter]


def test_auto_shutter_is_as_it_was_where_connecting_fails(bench: OpticalBench) -> None:
    core = JammedCore(bench)
    with pytest.raises(DeviceStateError, match="asked to be closed"):
        MicroManagerShutter(core, LABEL)
    assert core.get_auto_shutter()


def test_auto_shutter_stays_off_while_the_shutter_does_not_close(bench: OpticalBench) -> None:
    core = JammedCore(bench)
    core.jammed = False
    shutter = MicroManagerShutter(core, LABEL)
    shutter.on()
    core.jammed = True
    with pytest.raises(DeviceStateError, match="asked to be closed and says it is open"):
        shutter.close()
    assert not core.get_auto_shutter()
    core.jammed = False
    shutter.close()
    assert (bench.light_on, core.get_auto_shutter()) == (False, True)


def test_closing_a_shutter_whose_server_has_gone_is_an_error_and_does_not_hang(bench: OpticalBench) -> None:
    with MicroManagerServer(SimulatedCore(bench)) as server:
        remote = connect_core(server.port)
        shutter = MicroManagerShutter(remote, LABEL)
    with pytest.raises(DeviceNotFoundError, match=f"port {server.port} has gone.*shutter perhaps open"):
        shutter.close()
    with pytest.raises(DeviceNotFoundError):
        close_core(remote)


def test_a_light_that_nobody_can_switch_never_claims_to_be_off() -> None:
    light = NoLightSource(power_mw=3.0)
    light.on()
    light.off()
    light.close()
    assert light.is_on()
    assert light.info.power_mw == 3.0
