"""The Micro-Manager driver: settings, pixel types, bursts, and how cores are reached and left."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.errors import DeviceNotFoundError, DeviceStateError, FrameBufferOverflowError, FrameShapeError
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import close_core, connect_core
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench, a_core


class Recorder:
    """A core that remembers what it was asked for, and can hand frames over as others do."""

    def __init__(self, core: SimulatedCore, frames: list[NDArray[Any]] | None = None) -> None:
        self._core = core
        self._frames = frames
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.__dict__["_core"], name)

        def recorded(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return function(*arguments)

        return recorded

    def pop_next_image(self) -> NDArray[Any]:
        return self._frames.pop(0) if self._frames else self._core.pop_next_image()


def read(core: Any, bench: OpticalBench, light: NDArray[np.float64], **settings: Any) -> Any:
    detector = MicroManagerDetector(core, MicroManagerSettings(**settings))
    detector.arm(len(light), 90)
    bench.display(light, 100, 100)
    burst = detector.read(len(light), timeout_s=5.0)
    detector.close()
    return burst


def test_the_offset_is_subtracted_from_every_pixel_of_the_region() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=4, height_px=4)
    light = np.array([160.0, 320.0])
    assert read(core, bench, light, offset_per_px=2.5).bucket_values.tolist() == [120.0, 280.0]
    part = read(core, bench, light, offset_per_px=2.5, region=(1, 2, 3, 2))
    assert part.bucket_values.tolist() == [6 * 10 - 15.0, 6 * 20 - 15.0]


def test_the_region_is_columns_and_rows_of_the_frame() -> None:
    bench = a_bench()
    frame = np.arange(12, dtype=np.uint16).reshape(3, 4)
    for shape in ((3, 4), (12,)):
        core = Recorder(a_core(bench, width_px=4, height_px=3), [frame.reshape(shape)])
        burst = read(core, bench, np.array([1.0]), region=(1, 0, 3, 2))
        assert burst.bucket_values.tolist() == [1.0 + 2 + 3 + 5 + 6 + 7]


@pytest.mark.parametrize(
    ("bytes_per_px", "signed"), [(1, np.int8), (2, np.int16), (4, np.int32)], ids=["8 bits", "16 bits", "32 bits"]
)
def test_signed_views_are_read_as_the_unsigned_pixels_they_are(bytes_per_px: int, signed: Any) -> None:
    bench = a_bench()
    bright = 256**bytes_per_px - 3
    frame = np.full((2, 2), bright, dtype=np.dtype(signed).str.replace("i", "u")).view(signed)
    core = Recorder(a_core(bench, width_px=2, height_px=2, bytes_per_px=bytes_per_px), [frame])
    assert read(core, bench, np.array([1.0])).bucket_values.tolist() == [4.0 * bright]


def test_exposures_with_a_pixel_at_full_scale_are_counted() -> None:
    bench = a_bench()
    light = np.array([4 * 4094.0, 4 * 4095.0, 4 * 4094.0 + 1, 10.0])
    core = a_core(bench, width_px=2, height_px=2, bit_depth=12)
    assert read(core, bench, light).saturated == 2
    assert read(core, bench, light, full_scale=4000).saturated == 3


def test_a_burst_longer_than_a_batch_is_read_whole() -> None:
    bench = a_bench()
    light = np.arange(5000.0)
    burst = read(a_core(bench, width_px=2, height_px=2), bench, light)
    np.testing.assert_array_equal(burst.bucket_values, light)
    assert burst.frame_numbers is None
    assert burst.times_us is None


def test_one_camera_sequence_is_armed_per_burst_after_flushing() -> None:
    bench = a_bench()
    core = Recorder(a_core(bench))
    detector = MicroManagerDetector(
        core,
        MicroManagerSettings(
            camera="SimulatedCamera",
            properties_when_armed=(("SimulatedCamera", "TriggerMode", "External"), ("SimulatedCamera", "Gain", "3")),
            properties_when_left=(("SimulatedCamera", "Gain", "1"),),
        ),
    )
    for _ in range(2):
        detector.arm(4, 90)
        bench.display(np.ones(4), 100, 100)
        detector.read(4, timeout_s=5.0)
        detector.disarm()
    gain_while_armed = core.get_property("SimulatedCamera", "Gain")
    detector.close()
    names = [call[0] for call in core.calls]
    assert names.count("start_sequence_acquisition") == 2
    assert names.index("clear_circular_buffer") < names.index("start_sequence_acquisition")
    assert ("set_exposure", 0.09) in core.calls
    assert core.calls[0] == ("set_camera_device", "SimulatedCamera")
    assert names.count("set_property") == 3
    assert (gain_while_armed, core.get_property("SimulatedCamera", "Gain")) == ("3", "1")


def does_not_stop() -> None:
    raise RuntimeError("the camera did not stop")


class ColourCore(SimulatedCore):
    """Four bytes a pixel, as a colour camera's."""

    def get_number_of_components(self) -> int:
        return 4


class Binned(SimulatedCore):
    """A camera whose frames shrink with its binning; a value it does not know is refused."""

    def set_property(self, label: str, name: str, value: Any) -> None:
        if name != "Binning":
            super().set_property(label, name, value)
            return
        if value not in ("1", "2"):
            raise RuntimeError(f'Cannot set property "Binning" to "{value}"')
        self.set_roi(0, 0, 8 // int(value), 8 // int(value))


def test_properties_for_arming_are_set_before_the_frame_is_looked_at() -> None:
    core = Binned(a_bench())
    armed, left = ((("SimulatedCamera", "Binning", each),) for each in ("2", "1"))
    settings = MicroManagerSettings(properties_when_armed=armed, properties_when_left=left)
    detector = MicroManagerDetector(core, settings)
    assert (detector.info.width_px, detector.info.height_px) == (4, 4)
    detector.close()
    assert core.get_image_width() == 8


@pytest.mark.parametrize(
    ("second", "region", "error"),
    [(("Binning", "3"), None, RuntimeError), (("Gain", "5"), (0, 0, 8, 8), FrameShapeError)],
    ids=["refused property", "region off the binned frame"],
)
def test_properties_are_undone_where_connecting_fails(second: tuple[str, str], region: Any, error: Any) -> None:
    core = Binned(a_bench())
    settings = MicroManagerSettings(
        region=region,
        properties_when_armed=(("SimulatedCamera", "Binning", "2"), ("SimulatedCamera", *second)),
        properties_when_left=(("SimulatedCamera", "Gain", "1"), ("SimulatedCamera", "Binning", "1")),
    )
    with pytest.raises(error, match=r"Binning|bucket region"):
        MicroManagerDetector(core, settings)
    assert (core.get_image_width(), core.get_property("SimulatedCamera", "Gain")) == (8, "1")


def test_what_cannot_be_undone_is_said_besides_the_cause() -> None:
    armed, left = ((("SimulatedCamera", "Binning", each),) for each in ("3", "5"))
    settings = MicroManagerSettings(properties_when_armed=armed, properties_when_left=left)
    with pytest.raises(RuntimeError, match='to "3"') as caught:
        MicroManagerDetector(Binned(a_bench()), settings)
    assert 'to "5"' in caught.value.__notes__[0]


def test_colour_frames_are_refused() -> None:
    with pytest.raises(FrameShapeError, match=r"4 bytes in 4 components; a grey pixel type"):
        MicroManagerDetector(ColourCore(a_bench(), bytes_per_px=4))


@pytest.mark.parametrize(
    ("pixel_type", "accepted"),
    [
        ("GRAY32", True),
        ("Mono32", True),
        ("uint32", True),
        ("32-bit unsigned", True),
        ("32bit", False),  # DemoCamera's floats
        ("float32", False),
        ("32-bit floating point", False),
        ("integer as float", False),
        (None, False),
    ],
)
def test_four_bytes_a_pixel_are_taken_only_where_they_are_stated_to_be_integers(
    pixel_type: str | None, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = a_core(a_bench(), bytes_per_px=4)
    monkeypatch.setattr(core, "has_property", lambda label, name: name == "PixelType" and pixel_type is not None)
    monkeypatch.setattr(core, "get_property", lambda label, name: pixel_type)
    if accepted:
        assert MicroManagerDetector(core).info.bytes_per_px == 4
    else:
        with pytest.raises(FrameShapeError, match="may be floating-point"):
            MicroManagerDetector(core)


def test_a_camera_that_did_not_stop_counts_as_armed_and_can_be_stopped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    core = a_core(a_bench())
    left = (("SimulatedCamera", "Gain", "7"),)
    detector = MicroManagerDetector(core, MicroManagerSettings(properties_when_left=left))
    detector.arm(3, 90)
    with monkeypatch.context() as broken:
        broken.setattr(core, "stop_sequence_acquisition", does_not_stop)
        for leave in (detector.disarm, detector.close):
            with pytest.raises(RuntimeError, match="did not stop"):
                leave()
    assert core.is_sequence_running()
    assert core.get_property("SimulatedCamera", "Gain") == "7"
    with pytest.raises(DeviceStateError, match="armed already"):
        detector.arm(3, 90)
    detector.close()
    assert not core.is_sequence_running()


def test_closing_a_camera_whose_server_has_gone_is_an_error_and_does_not_hang() -> None:
    with MicroManagerServer(a_core(a_bench())) as server:
        core = connect_core(server.port)
        detector = MicroManagerDetector(core)
        detector.arm(3, 90)
    for leave in (detector.close, lambda: close_core(core)):
        with pytest.raises(DeviceNotFoundError, match=f"port {server.port} has gone.*camera perhaps armed"):
            leave()
    with MicroManagerServer(a_core(a_bench()), server.port):  # started again: nothing of the old one is in the way
        again = connect_core(server.port)
        assert MicroManagerDetector(again).info.width_px == 8
        close_core(again)


def test_an_overflow_is_an_error_not_missing_data() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=1024, height_px=256, circular_buffer_mb=1)
    detector = MicroManagerDetector(core)
    detector.arm(5, 90)
    bench.display(np.ones(5), 100, 100)
    with pytest.raises(FrameBufferOverflowError, match="2 of 5 frames"):
        detector.read(5, timeout_s=5.0)


@pytest.mark.parametrize("region", [(0, 0, 9, 8), (1, 0, 8, 8), (0, 4, 8, 5), (-1, 0, 2, 2), (0, 0, 0, 3)])
def test_a_region_off_the_frame_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(FrameShapeError, match="8 × 8 px"):
        MicroManagerDetector(a_core(a_bench()), MicroManagerSettings(region=region))


def test_frames_that_change_size_are_an_error() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=4, height_px=4)
    detector = MicroManagerDetector(core)
    core.set_roi(0, 0, 2, 2)
    detector.arm(1, 90)
    bench.display(np.ones(1), 100, 100)
    with pytest.raises(FrameShapeError, match=r"hold 4 pixels.*expected 16"):
        detector.read(1, timeout_s=5.0)


def test_the_same_seed_reads_the_same_through_the_port_and_directly() -> None:
    light = np.random.default_rng(0).exponential(3000.0, 60)
    settings = BenchSettings(gain=2.0, variance=50.0, offset=6400.0, seed=21)

    def bench_and_core() -> tuple[OpticalBench, SimulatedCore]:
        bench = OpticalBench(settings, np.ones((2, 8)), light_on=True)
        return bench, a_core(bench)

    bench, core = bench_and_core()
    directly = read(core, bench, light, offset_per_px=100.0, frame_metadata=True)
    bench, core = bench_and_core()
    with MicroManagerServer(core) as server:
        remote = connect_core(server.port)
        through_the_port = read(remote, bench, light, offset_per_px=100.0, frame_metadata=True)
        close_core(remote)
    for name in ("bucket_values", "frame_numbers", "times_us"):
        assert getattr(through_the_port, name).tolist() == getattr(directly, name).tolist()


def test_where_nothing_listens_the_error_says_what_to_do_and_leaves_no_thread() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = set(threading.enumerate())
    with pytest.raises(DeviceNotFoundError, match=f"port {port}.*start Micro-Manager"):
        connect_core(port)
    assert set(threading.enumerate()) <= before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # pyjavaz's own thread
def test_a_listener_that_is_no_micro_manager_is_not_found() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(DeviceNotFoundError, match="did not answer as Micro-Manager does"):
            connect_core(mute.getsockname()[1], timeout_s=0.2)


def test_connecting_again_after_leaving_works() -> None:
    with MicroManagerServer(a_core(a_bench())) as server:
        before = set(threading.enumerate())
        for _ in range(3):
            core = connect_core(server.port)
            assert MicroManagerDetector(core).info.width_px == 8
            close_core(core)
        assert set(threading.enumerate()) <= before


def test_leaving_a_core_in_this_process_leaves_it_as_it_is() -> None:
    core = a_core(a_bench())
    close_core(core)
    assert core.get_image_width() == 8


def test_the_drivers_import_no_vendor_package_before_they_connect() -> None:
    program = (
        "import sys, devices.alp, devices.micromanager, devices.micromanager_shutter, sim_devices.alp_library;"
        "print({'ALP4', 'pycromanager', 'pyjavaz', 'torch', 'zmq'} & set(sys.modules))"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
