"""What every light source has to do: a shutter of Micro-Manager, and the light nobody can switch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devices.errors import DeviceStateError
from devices.light_source import NoLightSource
from devices.micromanager import close_core, connect_core
from devices.micromanager_shutter import MicroManagerShutter
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench

LABEL = "SimulatedShutter"


class JammedCore(SimulatedCore):
    """A shutter that stays as it is."""

    def set_shutter_open(self, *arguments: object) -> None:
        pass


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


def test_a_light_that_nobody_can_switch_never_claims_to_be_off() -> None:
    light = NoLightSource(power_mw=3.0)
    light.on()
    light.off()
    light.close()
    assert light.is_on()
    assert light.info.power_mw == 3.0
