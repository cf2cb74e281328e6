"""One run, one seed: the readings are the same whether the core is handed over directly or behind its ZMQ server."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.bank import Block
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices
from acquisition.controller import Controller
from acquisition.dmd_region import dmd_region
from acquisition.events import Journal
from acquisition.readings import Readings
from acquisition.run_rules import play_rules
from acquisition.sensing_plan import plan_sensing
from models.pictures import PictureRenderer
from sim_devices.micromanager_server import MicroManagerServer
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config

SAMPLE = asymmetric_sample(8)


def a_config(wire: str, *, frame_metadata: bool = False, seed: int = 7) -> AcquisitionConfig:
    detector = {"kind": "simulated", "wire": wire, "width_px": 2, "height_px": 2, "bytes_per_px": 2}
    return small_config(
        sensing={"side": 8, "alpha": 0.5, "repeats": 2},
        blocks={"guard_interval": 8, "longest_block_s": 0.004, "dark_exposures": 8},
        devices={"detector": {**detector, "frame_metadata": frame_metadata}},
        noise={"gain": 2.0, "variance": 50.0},
        bench={"shot_noise": True, "seed": seed, "bleaching_per_s": 2.0, "background_photoelectrons": 30.0},
    )


def everything_read(config: AcquisitionConfig) -> list[NDArray[np.float64]]:
    """Every number of every block, and the dark level."""
    evidence, taken = rehearse(config, SAMPLE)
    assert len(taken) > 1
    return [np.array([evidence.dark_level]), *(np.ravel(number) for block in taken for number in astuple(block))]


@dataclass(frozen=True)
class Stopped:
    """A server that has stopped: where it listened, and how many objects clients still held shadows of."""

    port: int
    n_objects: int


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[Stopped]:
    """The servers that were started and have stopped, in this order."""
    found: list[Stopped] = []
    stop = MicroManagerServer.stop

    def watched(self: MicroManagerServer) -> None:
        found.append(Stopped(self.port, self.n_objects))
        stop(self)

    monkeypatch.setattr(MicroManagerServer, "stop", watched)
    return found


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


@pytest.mark.parametrize("frame_metadata", [False, True])
def test_both_wires_give_the_same_readings_bit_for_bit(stopped: list[Stopped], frame_metadata: bool) -> None:
    direct = everything_read(a_config("direct", frame_metadata=frame_metadata))
    assert stopped == []
    through_zmq = everything_read(a_config("zmq", frame_metadata=frame_metadata))
    assert len(stopped) == 1
    assert len(direct) == len(through_zmq)
    assert all((one == other).all() for one, other in zip(direct, through_zmq, strict=True))


def test_reading_frame_numbers_and_times_changes_no_reading() -> None:
    without, with_them = (everything_read(a_config("direct", frame_metadata=each)) for each in (False, True))
    assert all((one == other).all() for one, other in zip(without, with_them, strict=True))


def test_another_seed_gives_other_readings() -> None:
    _, taken = rehearse(a_config("direct"), SAMPLE)
    _, others = rehearse(a_config("direct", seed=8), SAMPLE)
    for block, other in zip(taken, others, strict=True):
        assert (block.index == other.index).all()
        assert (block.plus != other.plus).mean() > 0.5
        assert (block.guards != other.guards).mean() > 0.5


class BrokenOffError(Exception):
    """What a test breaks a run off with."""


@pytest.mark.parametrize("how", ["finished", "broken off"])
def test_nothing_is_left_of_a_run_through_the_server(stopped: list[Stopped], how: str) -> None:
    config = a_config("zmq", frame_metadata=True)
    if how == "finished":
        rehearse(config, SAMPLE)
    else:
        with pytest.raises(BrokenOffError):
            break_off_under_light(config)
    (server,) = stopped
    assert server.n_objects == 0
    with pytest.raises(OSError):  # refused; some systems take longer to say so than the time-out
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()


def break_off_under_light(config: AcquisitionConfig) -> None:
    def break_off(block: Block, readings: Readings) -> None:
        raise BrokenOffError

    with connected_devices(config, SAMPLE) as devices:
        controller = Controller(devices, PictureRenderer(dmd_region(config)).render, play_rules(config), Journal())
        controller.play(plan_sensing(config, SAMPLE).schedule, break_off, ())
