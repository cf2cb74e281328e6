"""What every detector has to do, for the Micro-Manager driver on a core in this process and behind its port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from devices.detector import Detector
from devices.errors import DetectorTimeoutError, DeviceStateError
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import close_core, connect_core
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench, a_core

LIGHT = np.array([120.0, 40.0, 7.0, 0.0, 999.0])


@contextmanager
def directly(core: SimulatedCore) -> Iterator[Any]:
    yield core


@contextmanager
def through_the_port(core: SimulatedCore) -> Iterator[Any]:
    with MicroManagerServer(core) as server:
        remote = connect_core(server.port)
        yield remote
        close_core(remote)


@dataclass
class Watch:
    detector: Detector
    bench: OpticalBench


@pytest.fixture(params=[directly, through_the_port], ids=["direct", "zmq"])
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    wire: Callable[[SimulatedCore], Any] = request.param
    bench = a_bench()
    with wire(a_core(bench)) as core:
        detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
        yield Watch(detector, bench)
        detector.close()


def test_it_says_what_it_is(watch: Watch) -> None:
    info = watch.detector.info
    assert (info.name, info.width_px, info.height_px, info.bytes_per_px) == ("SimulatedCamera", 8, 8, 2)


def test_one_bucket_value_comes_per_exposure_in_order(watch: Watch) -> None:
    watch.detector.arm(5, 90)
    watch.bench.display(LIGHT, 100, 100)
    burst = watch.detector.read(5, timeout_s=5.0)
    assert burst.bucket_values.tolist() == LIGHT.tolist()
    assert burst.bucket_values.dtype == np.float64
    assert burst.saturated == 0
    assert watch.detector.surplus_frames() == 0


def test_frame_numbers_and_times_are_the_cameras(watch: Watch) -> None:
    watch.detector.arm(5, 90)
    watch.bench.spend(700)
    watch.bench.display(LIGHT, 250, 100)
    burst = watch.detector.read(5, timeout_s=5.0)
    assert burst.frame_numbers is not None
    assert burst.times_us is not None
    assert burst.frame_numbers.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(np.diff(burst.times_us), 250)


def test_a_burst_can_be_read_in_parts(watch: Watch) -> None:
    watch.detector.arm(5, 90)
    watch.bench.display(LIGHT, 100, 100)
    parts = [watch.detector.read(n, timeout_s=5.0).bucket_values for n in (2, 3)]
    assert np.concatenate(parts).tolist() == LIGHT.tolist()


def test_missing_frames_are_a_timeout_that_says_how_many_came(watch: Watch) -> None:
    watch.detector.arm(7, 90)
    watch.bench.display(LIGHT, 100, 100)
    with pytest.raises(DetectorTimeoutError, match=r"5 of 7 frames within 0\.05 s.*trigger") as caught:
        watch.detector.read(7, timeout_s=0.05)
    assert isinstance(caught.value, TimeoutError)


def test_surplus_frames_are_noticed(watch: Watch) -> None:
    watch.detector.arm(3, 90)
    watch.bench.display(LIGHT, 100, 100)
    assert watch.detector.read(3, timeout_s=5.0).bucket_values.tolist() == LIGHT[:3].tolist()
    assert watch.detector.surplus_frames() == 2


def test_frames_from_before_are_thrown_away(watch: Watch) -> None:
    watch.detector.arm(5, 90)
    watch.bench.display(LIGHT, 100, 100)
    watch.detector.disarm()
    watch.bench.display(LIGHT, 100, 100)
    watch.detector.arm(1, 90)
    watch.bench.display(np.array([77.0]), 100, 100)
    assert watch.detector.read(1, timeout_s=5.0).bucket_values.tolist() == [77.0]
    assert watch.detector.surplus_frames() == 0


def test_it_is_armed_once_and_read_while_armed(watch: Watch) -> None:
    with pytest.raises(DeviceStateError, match="not armed"):
        watch.detector.read(1, timeout_s=0.1)
    watch.detector.arm(1, 90)
    with pytest.raises(DeviceStateError, match="armed already"):
        watch.detector.arm(1, 90)
    watch.detector.disarm()
    watch.detector.disarm()
    with pytest.raises(DeviceStateError, match="not armed"):
        watch.detector.read(1, timeout_s=0.1)


@pytest.mark.parametrize(("n_exposures", "exposure_time_us"), [(0, 90), (5, 0)])
def test_nothing_to_expose_is_refused(watch: Watch, n_exposures: int, exposure_time_us: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        watch.detector.arm(n_exposures, exposure_time_us)


def test_closing_disarms_it_and_closing_twice_is_closing_once(watch: Watch) -> None:
    watch.detector.arm(5, 90)
    watch.detector.close()
    watch.detector.close()
    with pytest.raises(DeviceStateError, match="not armed"):
        watch.detector.read(1, timeout_s=0.1)
    with pytest.raises(DeviceStateError, match="closed"):
        watch.detector.arm(1, 90)
