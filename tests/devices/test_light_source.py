"""What every light source has to do, and what only a shutter of Micro-Manager or a light nobody can switch does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from devices.coherent_obis import CoherentObis
from devices.errors import DeviceNotFoundError, DeviceStateError
from devices.light_source import LightSource, NoLightSource
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_shutter import MicroManagerShutter
from devices.thorlabs_sc10 import ThorlabsSc10
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.obis_peer import ObisPeer
from sim_devices.sc10_peer import Sc10Peer
from sim_devices.serial_peer import SerialPeer, pseudo_terminal
from tests.devices.benches import a_bench
from tests.devices.serial_ports import posix_only

LABEL = "SimulatedShutter"


@contextmanager
def served(peer: SerialPeer) -> Iterator[str]:
    """The peer's port, while it listens."""
    with peer:
        yield peer.url


class JammedCore(SimulatedCore):
    """A shutter that stays as it is while it is jammed."""

    jammed = True

    def set_shutter_open(self, *arguments: object) -> None:
        if not self.jammed:
            super().set_shutter_open(*arguments)


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench(light_on=True)


def connected(way: str, bench: OpticalBench, until_the_end: ExitStack) -> LightSource:
    """A light source on the bench, which is lit until this connects; ``way`` says which one, and how it is reached."""
    kind, _, wire = way.partition(" over ")
    if kind == "shutter":
        core = SimulatedCore(bench)
        if wire == "memory":
            return MicroManagerShutter(core, LABEL, 2.5)
        server = until_the_end.enter_context(MicroManagerServer(core))
        remote = connect_core(server.port)
        until_the_end.callback(close_core, remote)
        return MicroManagerShutter(remote, LABEL, 2.5)
    peer = ObisPeer(bench, asked_for_light=True) if kind == "OBIS" else Sc10Peer(bench, enabled=True)
    assert bench.light_on
    port = until_the_end.enter_context(pseudo_terminal(peer) if wire == "terminal" else served(peer))
    return CoherentObis(port, power_mw=2.5) if kind == "OBIS" else ThorlabsSc10(port, power_mw=2.5)


@pytest.fixture(
    params=[
        "shutter over memory",
        "shutter over zmq",
        "OBIS over socket",
        "SC10 over socket",
        pytest.param("OBIS over terminal", marks=posix_only),
        pytest.param("SC10 over terminal", marks=posix_only),
    ]
)
def light(request: pytest.FixtureRequest, bench: OpticalBench) -> Iterator[LightSource]:
    with ExitStack() as until_the_end:
        source = connected(request.param, bench, until_the_end)
        until_the_end.callback(source.close)
        yield source


def test_it_says_what_it_is(light: LightSource) -> None:
    assert light.info.name
    assert light.info.power_mw == 2.5
    assert {type(light.info.serial), type(light.info.firmware)} == {str}


def test_it_is_dark_on_connection_and_switches_the_light(light: LightSource, bench: OpticalBench) -> None:
    states = [(light.is_on(), bench.light_on)]
    for switch in (light.on, light.on, light.off, light.off, light.on):
        switch()
        states.append((light.is_on(), bench.light_on))
    assert states == [(on, on) for on in (False, True, True, False, False, True)]


def test_its_status_tells_light_from_darkness_in_plain_words(light: LightSource) -> None:
    dark = light.status()
    light.on()
    lit = light.status()
    assert dark["state"] in ("off", "closed")
    assert lit["state"] in ("on", "open")
    assert dark.keys() == lit.keys()
    assert {type(value) for value in lit.values()} <= {float, str}


def test_closing_turns_the_light_off_and_closing_twice_is_closing_once(light: LightSource, bench: OpticalBench) -> None:
    light.on()
    light.close()
    light.close()
    assert not bench.light_on
    with pytest.raises(DeviceStateError, match="was closed"):
        light.on()
    light.off()  # turning it off is always possible
    assert not bench.light_on


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
    assert light.status() == {"state": "switched by hand"}
