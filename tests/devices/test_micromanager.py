"""The Micro-Manager driver: settings, pixel types, bursts, and how cores are reached and left."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.errors import (
    DeviceStateError,
    FrameBufferOverflowError,
    FrameShapeError,
    MicroManagerCallError,
    TimingRefusedError,
)
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_settings import gain_settings
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.faults import StaleFrames
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


class StaleCore(Recorder):
    """Frames from before come into its buffer at a chosen call, as they do where a camera had not really stopped."""

    def __init__(self, core: SimulatedCore, at: str) -> None:
        super().__init__(core)
        self._at = at
        self.stale: list[NDArray[Any]] = []

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)

        def counted(*arguments: Any) -> Any:
            answer = function(*arguments)
            if name == "clear_circular_buffer":
                self.stale.clear()
            if name == self._at:
                self.stale.append(np.full((8, 8), 1000, np.uint16))
            return answer + len(self.stale) if name == "get_remaining_image_count" else answer

        return counted

    def pop_next_image(self) -> NDArray[Any]:
        return self.stale.pop(0) if self.stale else super().pop_next_image()


@pytest.mark.parametrize(("at", "surplus"), [("set_exposure", 0), ("start_sequence_acquisition", 1)])
def test_a_stale_frame_is_thrown_away_or_one_frame_is_left_over(at: str, surplus: int) -> None:
    bench = a_bench()
    core = StaleCore(a_core(bench), at)
    detector = MicroManagerDetector(core)
    core.stale.append(np.full((8, 8), 1000, np.uint16))
    detector.arm(3, 90)
    bench.display(np.array([10.0, 20.0, 30.0]), 100, 100)
    values = detector.read(3, timeout_s=5.0).bucket_values.tolist()
    assert detector.surplus_frames() == surplus
    assert (values == [10.0, 20.0, 30.0]) is (surplus == 0)


def test_a_stale_frame_shows_in_the_frame_numbers() -> None:
    bench = a_bench()
    core = a_core(bench)
    detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
    bench.inject(StaleFrames(projection=0, frames=1))
    detector.arm(3, 90)
    bench.display(np.array([10.0, 20.0, 30.0]), 100, 100)
    burst = detector.read(3, timeout_s=5.0)
    assert burst.frame_numbers is not None
    assert np.diff(burst.frame_numbers).tolist() != [1, 1]
    assert detector.surplus_frames() == 1


def test_frames_are_kept_only_if_asked_for_and_are_the_regions() -> None:
    bench = a_bench()
    frames = [np.arange(12, dtype=np.uint16).reshape(3, 4) + 100 * k for k in range(2)]
    light = np.ones(2)
    assert read(a_core(bench, width_px=4, height_px=3), bench, light).frames is None
    core = Recorder(a_core(bench, width_px=4, height_px=3), [each.ravel().view(np.int16) for each in frames])
    kept = read(core, bench, light, region=(1, 0, 3, 2), keep_frames=True).frames
    assert kept.dtype == np.uint16
    np.testing.assert_array_equal(kept, np.stack([each[:2, 1:] for each in frames]))


def test_kept_frames_of_a_long_burst_are_all_there_in_order() -> None:
    bench = a_bench()
    light = np.arange(3000.0)
    burst = read(a_core(bench, width_px=2, height_px=2), bench, light, keep_frames=True)
    np.testing.assert_array_equal(burst.frames.sum(axis=(1, 2), dtype=np.int64), light)


@pytest.mark.parametrize(("unit", "us"), [("us", 1.0), ("ms", 1e3), ("s", 1e6)])
def test_times_are_read_from_the_tag_and_in_the_unit_that_are_named(
    unit: Any, us: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = a_bench()
    core = a_core(bench)
    pop, clock = core.pop_next_tagged_image, iter(range(10))

    def with_a_clock() -> Any:
        tagged = pop()
        tagged.tags["Clock"] = str(0.5 * next(clock))
        return tagged

    monkeypatch.setattr(core, "pop_next_tagged_image", with_a_clock)
    burst = read(core, bench, np.ones(4), frame_metadata=True, time_tag="Clock", time_tag_unit=unit)
    np.testing.assert_allclose(burst.times_us, us * np.array([0.0, 0.5, 1.0, 1.5]))


class Rounding(SimulatedCore):
    """A camera that exposes for whole lines of 50 µs."""

    def set_exposure(self, *arguments: Any) -> None:
        super().set_exposure(round(arguments[-1] / 0.05) * 0.05 or 0.05)


def test_an_exposure_time_that_is_rounded_a_little_is_told_and_one_that_is_not_is_refused() -> None:
    core = Rounding(a_bench())
    detector = MicroManagerDetector(core)
    detector.arm(2, 9_970)
    assert detector.info.accepted_exposure_us == pytest.approx(9_950)
    detector.disarm()
    detector.arm(2, 102)
    assert detector.info.accepted_exposure_us == pytest.approx(100)
    detector.disarm()
    with pytest.raises(TimingRefusedError, match=r"expose for 110 µs and reads back 100 µs"):
        detector.arm(2, 110)
    assert not core.is_sequence_running()


def test_the_exposure_time_is_as_before_once_the_camera_is_left() -> None:
    core = a_core(a_bench())
    core.set_exposure(33.0)
    detector = MicroManagerDetector(core)
    detector.arm(1, 90)
    assert core.get_exposure() == 0.09
    detector.close()
    assert core.get_exposure() == 33.0


class Stubborn(SimulatedCore):
    """A camera that takes any gain and has its own."""

    def get_property(self, label: str, name: str) -> str:
        return "4" if name == "Gain" else super().get_property(label, name)


def test_a_property_that_reads_back_otherwise_is_refused() -> None:
    settings = MicroManagerSettings(properties_when_armed=(("SimulatedCamera", "Gain", "5"),))
    with pytest.raises(DeviceStateError, match="'Gain' of 'SimulatedCamera' was set to '5' and reads back '4'"):
        MicroManagerDetector(Stubborn(a_bench()), settings)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"binning": 0}, "binning is 0"),
        ({"buffer_mb": 0}, "buffer_mb is 0"),
        ({"full_scale": 0}, "full_scale is 0"),
        ({"time_tag_unit": "minutes"}, "unknown unit"),
        ({"readout_property": ("Camera", "Readout", "ns")}, "unknown unit"),
    ],
)
def test_settings_that_mean_nothing_are_refused(what: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MicroManagerSettings(**what)


def test_a_frame_that_was_announced_and_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    core = a_core(a_bench())
    detector = MicroManagerDetector(core)
    detector.arm(3, 90)
    monkeypatch.setattr(core, "get_remaining_image_count", lambda: 1)
    with pytest.raises(MicroManagerCallError, match="does another program read its frames"):
        detector.read(3, timeout_s=1.0)


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
        self._properties[name] = value
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
    monkeypatch.setattr(core, "get_device_property_names", lambda label: [] if pixel_type is None else ["PixelType"])
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


def test_the_settings_that_bear_on_the_gain_are_read_by_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its adapter calls it; what can only be read follows from the others."""
    core = a_core(a_bench())
    values = {
        "Multiply-Gain": "3",
        "Readout Rate": "100 MHz",
        "Exposure": "10",
        "GainReadback": "3",
        "TriggerMode": "External",
    }
    monkeypatch.setattr(core, "get_device_property_names", lambda label: list(values))
    monkeypatch.setattr(core, "is_property_read_only", lambda label, name: name == "GainReadback")
    monkeypatch.setattr(core, "get_property", lambda label, name: values.get(name, ""))
    monkeypatch.setattr(core, "has_property", lambda label, name: name in values)
    assert gain_settings(core, "SimulatedCamera") == (("Multiply-Gain", "3"), ("Readout Rate", "100 MHz"))


def test_a_detector_tells_its_gain_settings() -> None:
    with closing(MicroManagerDetector(a_core(a_bench()))) as detector:
        assert dict(detector.info.gain_settings) == {"Gain": "1", "PixelType": "GRAY16"}
