"""The simulated core: frames, sequences, buffer, shutter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.faults import DoubledTrigger, Fault, LateTrigger
from sim_devices.frames import Sensor
from sim_devices.micromanager_core import SimulatedCore

SILENT = BenchSettings(gain=1.0, variance=0.0, shot_noise=False)


def a_bench(bench_settings: BenchSettings = SILENT, light_on: bool = True) -> OpticalBench:
    return OpticalBench(bench_settings, np.ones((8, 8)), light_on=light_on)


def a_core(bench: OpticalBench, **options: Any) -> SimulatedCore:
    core = SimulatedCore(bench, **options)
    core.set_auto_shutter(False)
    return core


@settings(max_examples=60, deadline=None)
@given(
    readings=st.lists(st.floats(-50, 400), min_size=1, max_size=8),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    bytes_per_px=st.sampled_from([1, 2, 4]),
)
def test_pixels_add_up_to_the_rounded_reading_and_differ_by_at_most_one(
    readings: list[float], height: int, width: int, bytes_per_px: int
) -> None:
    sensor = Sensor(height, width, bytes_per_px, bit_depth=8)
    frames = sensor.frames(np.array(readings))
    assert frames.shape == (len(readings), height, width)
    assert frames.dtype.itemsize == bytes_per_px
    for frame, reading in zip(frames.tolist(), readings, strict=True):
        pixels = np.ravel(frame)
        assert pixels.sum() == min(max(round(reading), 0), 255 * height * width)
        assert pixels.max() - pixels.min() <= 1


def test_a_reading_beyond_full_scale_saturates_every_pixel() -> None:
    assert Sensor(2, 2, 2, 12).frames(np.array([1e9])).ravel().tolist() == [4095] * 4


@settings(max_examples=30, deadline=None)
@given(saturation=st.integers(1, 300), readings=st.lists(st.floats(-50, 3000), min_size=1, max_size=8))
def test_a_sensor_that_saturates_below_full_scale_reads_no_pixel_beyond(saturation: int, readings: list[float]) -> None:
    frames = Sensor(2, 3, 1, bit_depth=8, saturation=saturation).frames(np.array(readings)).astype(int)
    largest = min(saturation, 255)
    assert frames.max() <= largest
    expected = [min(max(round(each), 0), 6 * largest) for each in readings]
    assert frames.sum(axis=(1, 2)).tolist() == expected


def test_a_single_pixel_that_saturates_at_nine_tenths_still_names_all_of_its_bits() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=1, height_px=1, bytes_per_px=2, saturation=58_981)
    core.start_sequence_acquisition(4, 0.0, True)
    bench.display(np.array([58_980.0, 58_981.0, 58_982.0, 1e6]), 100, 100)
    assert [int(core.pop_next_image().sum()) for _ in range(4)] == [58_980, 58_981, 58_981, 58_981]
    assert core.get_image_bit_depth() == 16


def test_binned_pixels_saturate_there_too() -> None:
    frames = Sensor(2, 4, 2, 16, saturation=100).frames(np.array([8 * 20.0, 8 * 30.0]), binning=2)
    assert frames.tolist() == [[[80, 80]], [[100, 100]]]


def test_a_sensor_that_saturates_in_darkness_is_refused() -> None:
    with pytest.raises(ValueError, match="saturates at 0"):
        Sensor(1, 1, 2, 16, saturation=0)


def test_rounding_adds_a_twelfth_of_variance() -> None:
    readings = np.random.default_rng(0).uniform(100, 200, 40_000)
    errors = Sensor(1, 1, 2, 16).frames(readings).ravel() - readings
    assert errors.var() == pytest.approx(1 / 12, rel=0.03)


def test_a_sequence_takes_one_frame_per_exposure_and_stops_when_it_has_them() -> None:
    bench = a_bench()
    core = a_core(bench)
    core.start_sequence_acquisition(3, 0.0, True)
    bench.display(np.array([10.0, 20.0]), 100, 100)
    assert (core.get_remaining_image_count(), core.is_sequence_running()) == (2, True)
    bench.display(np.array([30.0, 40.0]), 100, 100)
    assert (core.get_remaining_image_count(), core.is_sequence_running()) == (3, False)
    assert [int(core.pop_next_image().sum()) for _ in range(3)] == [10, 20, 30]


def test_exposures_before_arming_and_after_stopping_are_lost() -> None:
    bench = a_bench()
    core = a_core(bench)
    bench.display(np.array([10.0]), 100, 100)
    core.start_sequence_acquisition("SimulatedCamera", 9, 0.0, True)
    bench.display(np.array([20.0]), 100, 100)
    core.stop_sequence_acquisition()
    bench.display(np.array([30.0]), 100, 100)
    assert core.get_remaining_image_count() == 1
    assert int(core.pop_next_image().sum()) == 20


def test_frames_are_two_dimensional_and_a_region_shows_a_part() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=4, height_px=3)
    core.set_roi(1, 1, 2, 2)
    core.start_sequence_acquisition(1, 0.0, True)
    bench.display(np.array([121.0]), 100, 100)
    assert core.pop_next_image().tolist() == [[10, 10], [10, 10]]
    assert (core.get_roi(), core.get_image_width(), core.get_image_height()) == ([1, 1, 2, 2], 2, 2)
    core.clear_roi()
    assert core.get_roi() == [0, 0, 4, 3]


def test_tags_count_frames_and_tell_bench_time() -> None:
    bench = a_bench()
    core = SimulatedCore(bench, arming_ms=20)
    bench.spend(5000)
    core.start_sequence_acquisition(3, 0.0, True)
    assert bench.time_us == 25_000
    bench.spend(1000)
    bench.display(np.array([1.0, 2.0, 3.0]), 100, 100)
    tags = [core.pop_next_tagged_image().tags for _ in range(3)]
    assert [each["ImageNumber"] for each in tags] == ["0", "1", "2"]
    assert [float(each["ElapsedTime-ms"]) for each in tags] == [1.0, 1.1, 1.2]
    assert (tags[0]["Camera"], tags[0]["PixelType"], tags[0]["Width"]) == ("SimulatedCamera", "GRAY16", "8")


def test_frames_of_a_long_burst_keep_their_order_numbers_and_times() -> None:
    bench = a_bench()
    core = a_core(bench)
    light = np.random.default_rng(2).integers(0, 9999, 5000).astype(np.float64)
    core.start_sequence_acquisition(5000, 0.0, True)
    bench.display(light[:3000], 100, 100)
    bench.display(light[3000:], 100, 100)
    images = [core.pop_next_tagged_image() for _ in range(5000)]
    assert [int(image.pix.sum()) for image in images] == light.tolist()
    assert [int(image.tags["ImageNumber"]) for image in images] == list(range(5000))
    np.testing.assert_allclose([float(image.tags["ElapsedTime-ms"]) for image in images], np.arange(5000) / 10)


def test_a_full_buffer_overflows_and_the_sequence_stops() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=1024, height_px=256, bytes_per_px=2, circular_buffer_mb=1)
    assert core.get_buffer_total_capacity() == 2
    core.start_sequence_acquisition(5, 0.0, True)
    bench.display(np.arange(5.0), 100, 100)
    assert core.is_buffer_overflowed()
    assert not core.is_sequence_running()
    assert [int(core.pop_next_image().sum()) for _ in range(core.get_remaining_image_count())] == [0, 1]
    core.clear_circular_buffer()
    assert not core.is_buffer_overflowed()


def test_without_stopping_an_overflow_throws_earlier_frames_away_and_says_nothing() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=1024, height_px=256, bytes_per_px=2, circular_buffer_mb=1)
    core.start_sequence_acquisition(5, 0.0, False)
    bench.display(np.arange(5.0), 100, 100)
    assert not core.is_buffer_overflowed()
    assert [int(core.pop_next_image().sum()) for _ in range(core.get_remaining_image_count())] == [4]


def test_auto_shutter_opens_the_light_for_a_sequence_as_micro_manager_does() -> None:
    bench = a_bench(light_on=False)
    core = SimulatedCore(bench)
    states = [bench.light_on]
    core.start_sequence_acquisition(2, 0.0, True)
    states.append(bench.light_on)
    core.stop_sequence_acquisition()
    assert [*states, bench.light_on] == [False, True, False]


def test_the_shutter_is_the_benchs_light() -> None:
    bench = a_bench(light_on=False)
    core = a_core(bench)
    states = []
    for arguments in (("SimulatedShutter", True), (False,), (True,)):
        core.set_shutter_open(*arguments)
        states.append((bench.light_on, core.get_shutter_open(), core.get_shutter_open("SimulatedShutter")))
    assert states == [(True, True, True), (False, False, False), (True, True, True)]


def test_refusals_are_worded_as_mmcores() -> None:
    core = a_core(a_bench())
    with pytest.raises(IndexError, match="Circular buffer is empty"):
        core.pop_next_image()
    with pytest.raises(RuntimeError, match=r'No device with label "Elsewhere"'):
        core.set_camera_device("Elsewhere")
    with pytest.raises(RuntimeError, match=r"TriggerMode.*Internal"):
        core.set_property("SimulatedCamera", "TriggerMode", "Internal")
    with pytest.raises(RuntimeError, match=r"PixelType.*GRAY8"):
        core.set_property("SimulatedCamera", "PixelType", "GRAY8")
    with pytest.raises(RuntimeError, match=r'no property "Speed"'):
        core.get_property("SimulatedCamera", "Speed")
    with pytest.raises(RuntimeError, match="external trigger"):
        core.snap_image()
    core.start_sequence_acquisition(1, 0.0, True)
    with pytest.raises(RuntimeError, match="while sequence acquisition is running"):
        core.start_sequence_acquisition(1, 0.0, True)
    with pytest.raises(RuntimeError, match="while sequence acquisition is running"):
        core.clear_roi()
    with pytest.raises(RuntimeError, match=r"Binning.*busy"):
        core.set_property("SimulatedCamera", "Binning", "2")


def test_properties_are_kept_as_text() -> None:
    core = a_core(a_bench())
    core.set_property("SimulatedCamera", "Gain", 4)
    assert core.get_property("SimulatedCamera", "Gain") == "4"
    assert core.has_property("SimulatedCamera", "Gain")
    assert not core.has_property("SimulatedShutter", "Gain")


@settings(max_examples=60, deadline=None)
@given(
    reading=st.floats(0, 255 * 56),
    height=st.integers(4, 8),
    width=st.integers(4, 7),
    binning=st.sampled_from([1, 2, 4]),
)
def test_binned_pixels_are_sums_of_pixels_clipped_at_full_scale(
    reading: float, height: int, width: int, binning: int
) -> None:
    sensor = Sensor(height, width, 1, 8)
    (pixels,), (binned,) = sensor.frames(np.array([reading])), sensor.frames(np.array([reading]), binning)
    whole = pixels[: height // binning * binning, : width // binning * binning].astype(np.int64)
    assert binned.dtype == np.uint8
    np.testing.assert_array_equal(binned, np.minimum(block_reduce(whole, binning, np.sum), 255))


class TestBinningAndRegion:
    def frame(self, core: SimulatedCore, bench: OpticalBench, light: float = 6400.0) -> list[list[int]]:
        core.start_sequence_acquisition(1, 0.0, True)
        bench.display(np.array([light]), 100, 100)
        pixels: list[list[int]] = core.pop_next_image().tolist()
        assert (len(pixels[0]), len(pixels)) == (core.get_image_width(), core.get_image_height())
        return pixels

    def test_frames_shrink_and_keep_their_light(self) -> None:
        bench = a_bench()
        core = a_core(bench)
        for binning, pixel in (("1", 100), ("2", 400), ("4", 1600)):
            core.set_property("SimulatedCamera", "Binning", binning)
            size = 8 // int(binning)
            assert self.frame(core, bench) == [[pixel] * size] * size
        assert core.get_property("SimulatedCamera", "Binning") == "4"

    def test_binned_light_clips(self) -> None:
        bench = a_bench()
        core = a_core(bench, bit_depth=9)
        core.set_property("SimulatedCamera", "Binning", 4)
        assert self.frame(core, bench) == [[511, 511], [511, 511]]

    def test_a_region_is_given_in_binned_pixels(self) -> None:
        bench = a_bench()
        core = a_core(bench)
        core.set_property("SimulatedCamera", "Binning", "2")
        core.set_roi(1, 2, 3, 2)
        assert self.frame(core, bench) == [[400, 400, 400]] * 2
        with pytest.raises(RuntimeError, match="does not lie on the sensor"):
            core.set_roi(0, 0, 5, 4)
        core.clear_roi()
        assert core.get_roi() == [0, 0, 4, 4]

    def test_binning_keeps_the_part_of_the_sensor_as_far_as_it_can(self) -> None:
        core = a_core(a_bench())
        core.set_roi(2, 4, 5, 4)
        regions = []
        for binning in ("2", "2", "4", "1"):
            core.set_property("SimulatedCamera", "Binning", binning)
            regions.append(core.get_roi())
        assert regions == [[1, 2, 2, 2], [1, 2, 2, 2], [0, 1, 1, 1], [0, 4, 4, 4]]

    def test_only_binnings_that_leave_a_pixel_are_offered(self) -> None:
        core = a_core(a_bench(), width_px=3, height_px=2)
        assert core.get_allowed_property_values("SimulatedCamera", "Binning") == ("1", "2")
        with pytest.raises(RuntimeError, match=r"Binning.*Invalid property value"):
            core.set_property("SimulatedCamera", "Binning", "4")

    def test_frames_of_another_size_throw_away_those_in_the_buffer(self) -> None:
        bench = a_bench()
        core = a_core(bench)
        changes: list[Callable[[], None]] = [
            lambda: core.set_roi(0, 0, 4, 4),
            lambda: core.set_property("SimulatedCamera", "Binning", "2"),
        ]
        for change in changes:
            core.start_sequence_acquisition(1, 0.0, True)
            bench.display(np.array([64.0]), 100, 100)
            assert core.get_remaining_image_count() == 1
            change()
            assert core.get_remaining_image_count() == 0

    def test_the_buffer_is_laid_out_when_a_sequence_starts_or_its_size_is_set(self) -> None:
        core = a_core(a_bench(), width_px=1024, height_px=512, bytes_per_px=2, circular_buffer_mb=4)
        capacities = [core.get_buffer_total_capacity()]
        core.set_roi(0, 0, 512, 512)
        capacities.append(core.get_buffer_total_capacity())
        core.start_sequence_acquisition(1, 0.0, True)
        capacities.append(core.get_buffer_total_capacity())
        core.stop_sequence_acquisition()
        core.set_property("SimulatedCamera", "Binning", "2")
        core.set_circular_buffer_memory_footprint(2)
        capacities.append(core.get_buffer_total_capacity())
        assert capacities == [4, 4, 8, 16]

    def test_a_buffer_that_holds_no_frame_starts_no_sequence(self) -> None:
        bench = a_bench(light_on=False)
        core = SimulatedCore(bench, width_px=1024, height_px=1024, bytes_per_px=2, circular_buffer_mb=1)
        with pytest.raises(RuntimeError, match="memory requirements"):
            core.start_sequence_acquisition(1, 0.0, True)
        assert not bench.light_on


class TestDeadTime:
    """Exposure and readout fill the time between two triggers, or the second one is missed."""

    def exposures(self, readout_us: float | None, exposure_ms: float, picture_us: float, *faults: Fault) -> list[int]:
        bench = a_bench()
        core = a_core(bench, readout_us=readout_us)
        core.set_exposure(exposure_ms)
        bench.inject(*faults)
        core.start_sequence_acquisition(99, 0.0, True)
        bench.display(np.ones(6), picture_us, 50)
        taken: list[int] = core.taken.tolist()
        return taken

    @pytest.mark.parametrize(
        ("readout_us", "exposure_ms", "picture_us", "taken"),
        [
            (None, 10.0, 100.0, [0, 1, 2, 3, 4, 5]),
            (40.0, 0.06, 100.0, [0, 1, 2, 3, 4, 5]),
            (40.1, 0.06, 100.0, [0, 2, 4]),
            (0.0, 0.1001, 100.0, [0, 2, 4]),
            (150.0, 0.06, 100.0, [0, 3]),
            (0.1, 0.033, 33.1, [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_triggers_that_come_too_early_are_missed(
        self, readout_us: float | None, exposure_ms: float, picture_us: float, taken: list[int]
    ) -> None:
        assert self.exposures(readout_us, exposure_ms, picture_us) == taken

    def test_a_late_trigger_makes_the_camera_miss_the_next(self) -> None:
        assert self.exposures(20.0, 0.05, 100.0, LateTrigger(0, 2, 40.0)) == [0, 1, 2, 4, 5]

    def test_a_doubled_trigger_is_missed_by_a_camera_that_still_reads_out(self) -> None:
        assert self.exposures(20.0, 0.05, 100.0, DoubledTrigger(0, 2)) == [0, 1, 2, 3, 4, 5]

    def test_what_is_missed_is_not_numbered_and_the_sequence_goes_on_for_it(self) -> None:
        bench = a_bench()
        core = a_core(bench, readout_us=100.0)
        core.set_exposure(0.05)
        core.start_sequence_acquisition(3, 0.0, True)
        for light in (np.arange(1.0, 4.0), np.arange(4.0, 7.0)):
            bench.display(light, 100, 100)
        images = [core.pop_next_tagged_image() for _ in range(3)]
        assert [int(image.pix.sum()) for image in images] == [1, 3, 5]
        assert [image.tags["ImageNumber"] for image in images] == ["0", "1", "2"]
        assert not core.is_sequence_running()

    def test_a_new_sequence_finds_the_camera_ready(self) -> None:
        bench = a_bench()
        core = a_core(bench, readout_us=1e6)
        for _ in range(2):
            core.start_sequence_acquisition(5, 0.0, True)
            bench.display(np.ones(3), 100, 100)
            core.stop_sequence_acquisition()
        assert core.taken.tolist() == [0, 3]


def test_a_devices_listing_has_all_that_can_be_known() -> None:
    core = a_core(a_bench(), readout_us=123.0, shutter_mode="Rolling", bit_depth=12)
    devices = {
        label: (core.get_device_library(label), core.get_device_name(label), core.get_device_type(label))
        for label in core.get_loaded_devices()
    }
    assert devices == {
        "SimulatedCamera": ("HadascopeSimulation", "TriggeredCamera", 2),
        "SimulatedShutter": ("HadascopeSimulation", "Shutter", 3),
        "SimulatedXYStage": ("HadascopeSimulation", "XYStage", 6),
        "SimulatedFocus": ("HadascopeSimulation", "Stage", 5),
        "Core": ("", "Core", 10),
    }
    listing = {
        name: (
            core.get_property("SimulatedCamera", name),
            core.is_property_read_only("SimulatedCamera", name),
            core.get_allowed_property_values("SimulatedCamera", name),
        )
        for name in core.get_device_property_names("SimulatedCamera")
    }
    assert listing == {
        "TriggerMode": ("External", False, ("External",)),
        "Binning": ("1", False, ("1", "2", "4")),
        "Gain": ("1", False, ()),
        "PixelType": ("GRAY16", False, ("GRAY16",)),
        "ShutterMode": ("Rolling", False, ("Global", "Rolling")),
        "ReadoutTime-ms": ("0.123", True, ()),
    }
    with pytest.raises(RuntimeError, match=r"ReadoutTime-ms.*read-only"):
        core.set_property("SimulatedCamera", "ReadoutTime-ms", "0")
    core.set_property("SimulatedCamera", "ShutterMode", "Global")
    assert core.get_property("SimulatedCamera", "ShutterMode") == "Global"
    for ask in (core.get_device_library, core.get_device_name, core.get_device_type):
        with pytest.raises(RuntimeError, match='No device with label "Elsewhere"'):
            ask("Elsewhere")


def test_a_camera_that_tells_no_readout_has_no_such_property() -> None:
    core = a_core(a_bench())
    assert not core.has_property("SimulatedCamera", "ReadoutTime-ms")
    with pytest.raises(RuntimeError, match='no property "ReadoutTime-ms"'):
        core.is_property_read_only("SimulatedCamera", "ReadoutTime-ms")


def test_the_exposure_reads_back_as_it_was_set() -> None:
    core = a_core(a_bench())
    for exposure_ms in (0.044, 0.1, 1 / 3, 25):
        core.set_exposure(exposure_ms)
        assert core.get_exposure() == pytest.approx(exposure_ms, rel=1e-12)


def test_the_record_counts_what_was_thrown_away_as_taken_not_as_delivered() -> None:
    bench = a_bench()
    core = a_core(bench)
    core.start_sequence_acquisition(3, 0.0, True)
    bench.display(np.ones(3), 100, 100)
    core.pop_next_image()
    core.clear_circular_buffer()
    core.start_sequence_acquisition(2, 0.0, True)
    bench.display(np.ones(2), 100, 100)
    core.pop_next_tagged_image()
    assert (core.taken.tolist(), core.delivered.tolist()) == ([0, 1, 2, 3, 4], [0, 3])
    assert core.taken.dtype == core.delivered.dtype == np.int64


@pytest.mark.parametrize(("bytes_per_px", "bit_depth"), [(3, 8), (2, 17), (1, 0)])
def test_impossible_sensors_are_refused(bytes_per_px: int, bit_depth: int) -> None:
    with pytest.raises(ValueError, match=r"not simulated|no sensor"):
        Sensor(2, 2, bytes_per_px, bit_depth)
