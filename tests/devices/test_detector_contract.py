"""What every detector has to do, for the Micro-Manager driver.

On the simulated core, in this process and behind its port, light values come in order, one per exposure. The real
MMCore with its DemoCamera, which no trigger starts (see tests/devices/demo_camera.py), keeps the same promises about
arming, reading, time-outs and closing; that a reading belongs to its exposure it cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
from tests.devices.demo_camera import CAMERA, demo_core

LIGHT = np.array([120.0, 40.0, 7.0, 0.0, 999.0])


@contextmanager
def through_the_real_core(core: SimulatedCore) -> Iterator[Any]:
    with demo_core() as real:
        real.set_roi(0, 0, 8, 8)
        real.set_property(CAMERA, "PixelType", "16bit")
        yield real


@contextmanager
def directly(core: SimulatedCore) -> Iterator[Any]:
    yield core


@contextmanager
def through_the_port(core: SimulatedCore) -> Iterator[Any]:
    with MicroManagerServer(core) as server:
        remote = connect_core(server.port)
        yield remote
        close_core(remote)


Wire = Callable[[SimulatedCore], AbstractContextManager[Any]]
SIMULATED = {"direct": directly, "zmq": through_the_port}
ALL = {**SIMULATED, "real": through_the_real_core}


@dataclass
class Watch:
    detector: Detector
    bench: OpticalBench


@contextmanager
def a_watch(wire: Wire) -> Iterator[Watch]:
    bench = a_bench()
    with wire(a_core(bench)) as core:
        detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
        yield Watch(detector, bench)
        detector.close()


@pytest.fixture(params=list(SIMULATED.values()), ids=list(SIMULATED))
def watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    with a_watch(request.param) as triggered:
        yield triggered


@pytest.fixture(params=list(ALL.values()), ids=list(ALL))
def any_watch(request: pytest.FixtureRequest) -> Iterator[Watch]:
    with a_watch(request.param) as triggered_or_free:
        yield triggered_or_free


def test_it_says_what_it_is(any_watch: Watch) -> None:
    info = any_watch.detector.info
    assert info.name in ("SimulatedCamera", CAMERA)
    assert (info.width_px, info.height_px, info.bytes_per_px) == (8, 8, 2)
    assert (info.bit_depth, info.full_scale, info.binning, info.roi) == (16, 65535, 1, (0, 0, 8, 8))
    assert info.buffer_frames is not None
    assert info.buffer_frames >= 16 * 2**20 // 128
    assert info.version is not None
    assert info.version.startswith("MMCore version")
    assert (info.readout_us, info.accepted_exposure_us) == (None, None)


def test_it_tells_the_exposure_time_that_it_accepted(any_watch: Watch) -> None:
    any_watch.detector.arm(5, 90)
    assert any_watch.detector.info.accepted_exposure_us == pytest.approx(90)


def test_as_many_values_come_as_were_asked_for_numbered_from_0(any_watch: Watch) -> None:
    for _ in range(2):
        any_watch.detector.arm(5, 1000)
        any_watch.bench.display(LIGHT, 1100, 1000)
        burst = any_watch.detector.read(5, timeout_s=10.0)
        any_watch.detector.disarm()
        assert burst.bucket_values.shape == (5,)
        assert burst.bucket_values.dtype == np.float64
        assert burst.frame_numbers is not None
        assert burst.times_us is not None
        assert burst.frame_numbers.tolist() == [0, 1, 2, 3, 4]
        assert burst.times_us.dtype == np.float64
        assert (np.diff(burst.times_us) > 0).all()


def test_an_exposure_that_does_not_end_in_time_is_a_timeout(any_watch: Watch) -> None:
    any_watch.detector.arm(7, 400_000)
    with pytest.raises(DetectorTimeoutError, match=r"0 of 7 frames within 0\.02 s") as caught:
        any_watch.detector.read(7, timeout_s=0.02)
    assert isinstance(caught.value, TimeoutError)


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


def test_it_is_armed_once_and_read_while_armed(any_watch: Watch) -> None:
    with pytest.raises(DeviceStateError, match="not armed"):
        any_watch.detector.read(1, timeout_s=0.1)
    any_watch.detector.arm(1, 90)
    with pytest.raises(DeviceStateError, match="armed already"):
        any_watch.detector.arm(1, 90)
    any_watch.detector.disarm()
    any_watch.detector.disarm()
    with pytest.raises(DeviceStateError, match="not armed"):
        any_watch.detector.read(1, timeout_s=0.1)


@pytest.mark.parametrize(("n_exposures", "exposure_time_us"), [(0, 90), (5, 0)])
def test_nothing_to_expose_is_refused(any_watch: Watch, n_exposures: int, exposure_time_us: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        any_watch.detector.arm(n_exposures, exposure_time_us)


def test_closing_disarms_it_and_closing_twice_is_closing_once(any_watch: Watch) -> None:
    any_watch.detector.arm(5, 90)
    any_watch.detector.close()
    any_watch.detector.close()
    with pytest.raises(DeviceStateError, match="not armed"):
        any_watch.detector.read(1, timeout_s=0.1)
    with pytest.raises(DeviceStateError, match="closed"):
        any_watch.detector.arm(1, 90)
