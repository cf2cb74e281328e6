"""The simulated core: frames, sequences, buffer, shutter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.frames import Sensor
from sim_devices.micromanager_core import SimulatedCore

SILENT = BenchSettings(gain=1.0, variance=0.0, shot_noise=False)


def a_bench(bench_settings: BenchSettings = SILENT, light_on: bool = True) -> OpticalBench:
    return OpticalBench(bench_settings, np.ones((8, 8)), light_on=light_on)


def a_core(bench: OpticalBench, **options: int) -> SimulatedCore:
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


def test_without_stopping_an_overflow_throws_earlier_frames_away() -> None:
    bench = a_bench()
    core = a_core(bench, width_px=1024, height_px=256, bytes_per_px=2, circular_buffer_mb=1)
    core.start_sequence_acquisition(5, 0.0, False)
    bench.display(np.arange(5.0), 100, 100)
    assert core.is_buffer_overflowed()
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
    with pytest.raises(RuntimeError, match="Circular buffer is empty"):
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


def test_properties_are_kept_as_text() -> None:
    core = a_core(a_bench())
    core.set_property("SimulatedCamera", "Gain", 4)
    assert core.get_property("SimulatedCamera", "Gain") == "4"
    assert core.has_property("SimulatedCamera", "Gain")
    assert not core.has_property("SimulatedShutter", "Gain")


@pytest.mark.parametrize(("bytes_per_px", "bit_depth"), [(3, 8), (2, 17), (1, 0)])
def test_impossible_sensors_are_refused(bytes_per_px: int, bit_depth: int) -> None:
    with pytest.raises(ValueError, match=r"not simulated|no sensor"):
        Sensor(2, 2, bytes_per_px, bit_depth)
