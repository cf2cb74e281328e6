"""The driver and the start of a core, on the real MMCore with its DemoCamera (see tests/devices/demo_camera.py)."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from devices.detector import Burst
from devices.errors import (
    DevicePropertyError,
    DeviceStateError,
    FrameBufferOverflowError,
    FrameShapeError,
    InterfaceMismatchError,
    LibraryMissingError,
    MicroManagerCallError,
    TimingRefusedError,
)
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import start_core, stop_core
from tests.devices.demo_camera import CAMERA, CONFIGURATION, SIDE_PX, adapters, demo_core

EXPOSURE_US = 1000
SAME_IMAGE_AGAIN = (CAMERA, "FastImage", "1")


@pytest.fixture
def core() -> Iterator[Any]:
    with demo_core() as running:
        yield running


def burst(core: Any, n: int = 3, **settings: Any) -> Burst:
    detector = MicroManagerDetector(core, MicroManagerSettings(**settings))
    detector.arm(n, EXPOSURE_US)
    read = detector.read(n, timeout_s=10.0)
    detector.close()
    return read


def snapped(core: Any) -> NDArray[Any]:
    """What the camera shows again and again once it makes no new images."""
    core.snap_image()
    image: NDArray[Any] = core.get_image()
    core.set_property(*SAME_IMAGE_AGAIN)
    return image


@pytest.mark.parametrize("region", [None, (5, 6, 30, 20), (511, 0, 1, 512)])
def test_bucket_values_are_the_sums_of_the_image_that_the_core_shows_otherwise(core: Any, region: Any) -> None:
    image = snapped(core)
    x, y, width, height = region or (0, 0, SIDE_PX, SIDE_PX)
    expected = int(image[y : y + height, x : x + width].astype(np.int64).sum())
    assert expected > 0
    read = burst(core, region=region, offset_per_px=0.25)
    assert read.bucket_values.tolist() == [expected - 0.25 * width * height] * 3
    assert read.frames is None


@pytest.mark.parametrize(("pixel_type", "dtype"), [("8bit", np.uint8), ("16bit", np.uint16)])
def test_kept_frames_are_the_regions_pixels(core: Any, pixel_type: str, dtype: Any) -> None:
    core.set_property(CAMERA, "PixelType", pixel_type)
    image = snapped(core)
    assert image.dtype == dtype
    read = burst(core, region=(5, 6, 30, 20), keep_frames=True)
    assert read.frames is not None
    assert read.frames.dtype == dtype
    np.testing.assert_array_equal(read.frames, np.broadcast_to(image[6:26, 5:35], (3, 20, 30)))


def test_kept_frames_that_differ_add_up_to_their_bucket_values(core: Any) -> None:
    read = burst(
        core, 40, camera_roi=(0, 0, 16, 8), properties_when_armed=((CAMERA, "Mode", "Noise"),), keep_frames=True
    )
    assert read.frames is not None
    assert read.frames.shape == (40, 8, 16)
    sums = [float(sum(map(int, frame.ravel()))) for frame in read.frames]
    assert read.bucket_values.tolist() == sums
    assert len(set(sums)) > 1


def test_binning_and_region_of_interest_are_set_read_back_and_put_back(core: Any) -> None:
    core.set_exposure(12.0)
    detector = MicroManagerDetector(core, MicroManagerSettings(binning=2, camera_roi=(16, 8, 64, 32)))
    info = detector.info
    assert (info.binning, info.roi, info.width_px, info.height_px) == (2, (16, 8, 64, 32), 64, 32)
    detector.arm(2, EXPOSURE_US)
    assert core.get_exposure() == 1.0
    assert detector.read(2, timeout_s=10.0).bucket_values.shape == (2,)
    detector.close()
    assert core.get_property(CAMERA, "Binning") == "1"
    assert core.get_roi() == [0, 0, SIDE_PX, SIDE_PX]
    assert core.get_exposure() == 12.0


def test_the_buffer_is_as_large_as_asked_and_tells_how_many_frames_it_holds(core: Any) -> None:
    detector = MicroManagerDetector(core, MicroManagerSettings(buffer_mb=3, camera_roi=(0, 0, 64, 64)))
    assert core.get_circular_buffer_memory_footprint() == 3
    assert detector.info.buffer_frames == 3 * 2**20 // 64**2


def test_without_a_buffer_size_the_cores_own_stays_and_is_told(core: Any) -> None:
    assert MicroManagerDetector(core).info.buffer_frames == 16 * 2**20 // SIDE_PX**2


def test_the_camera_says_what_it_is(core: Any) -> None:
    core.set_property(CAMERA, "ReadoutTime", "0.25")
    settings = MicroManagerSettings(
        camera=CAMERA,
        readout_property=(CAMERA, "ReadoutTime", "ms"),
        properties_when_armed=((CAMERA, "PixelType", "16bit"), (CAMERA, "BitDepth", "12")),
    )
    info = MicroManagerDetector(core, settings).info
    assert (info.name, info.bytes_per_px, info.bit_depth, info.full_scale) == (CAMERA, 2, 12, 4095)
    assert info.readout_us == pytest.approx(250.0)
    assert info.version == core.get_version_info()


def test_frame_numbers_and_times_are_the_cameras(core: Any) -> None:
    core.set_property(CAMERA, "FastImage", "1")
    detector = MicroManagerDetector(core, MicroManagerSettings(camera_roi=(0, 0, 8, 8), frame_metadata=True))
    for _ in range(2):
        detector.arm(30, EXPOSURE_US)
        while core.is_sequence_running():
            time.sleep(0.002)
        read = detector.read(30, timeout_s=10.0)
        detector.disarm()
        assert read.frame_numbers is not None
        assert read.times_us is not None
        assert read.frame_numbers.tolist() == list(range(30))
        assert (np.diff(read.times_us) >= EXPOSURE_US).all()
        assert 30 * EXPOSURE_US <= read.times_us[-1] < 30e6


def test_numbers_and_times_agree_with_all_tags_of_pycromanager(core: Any) -> None:
    detector = MicroManagerDetector(core, MicroManagerSettings(camera_roi=(0, 0, 8, 8), frame_metadata=True))
    detector.arm(2, EXPOSURE_US)
    detector.read(2, timeout_s=10.0)
    while not core.get_remaining_image_count():
        time.sleep(0.002)
    tags = core.pop_next_tagged_image().tags
    assert tags["ImageNumber"] == "2"
    assert {"ElapsedTime-ms", "Width", "PixelType"} <= set(tags)


def test_a_tag_that_the_camera_does_not_write_gives_no_times(core: Any) -> None:
    read = burst(core, camera_roi=(0, 0, 8, 8), frame_metadata=True, time_tag="FrameTime")
    assert read.times_us is None
    assert read.frame_numbers is not None


def test_an_overflow_is_an_error(core: Any) -> None:
    detector = MicroManagerDetector(core, MicroManagerSettings(buffer_mb=1))
    assert detector.info.buffer_frames == 4
    detector.arm(20, EXPOSURE_US)
    while not core.is_buffer_overflowed():
        time.sleep(0.002)
    with pytest.raises(FrameBufferOverflowError, match="holds 4 frames, overflowed after 4 of 20 frames"):
        detector.read(20, timeout_s=10.0)


def test_frames_beyond_the_burst_are_surplus(core: Any) -> None:
    detector = MicroManagerDetector(core, MicroManagerSettings(camera_roi=(0, 0, 8, 8)))
    detector.arm(3, EXPOSURE_US)
    detector.read(3, timeout_s=10.0)
    while core.is_sequence_running():
        time.sleep(0.002)
    assert detector.surplus_frames() > 0


def test_frames_that_stand_in_the_buffer_already_are_thrown_away(core: Any) -> None:
    core.set_roi(0, 0, 8, 8)
    core.start_sequence_acquisition(5, 0.0, True)
    while core.is_sequence_running():
        time.sleep(0.002)
    assert core.get_remaining_image_count() == 5
    image = snapped(core)
    read = burst(core, 4, frame_metadata=True)
    assert read.frame_numbers is not None
    assert read.frame_numbers.tolist() == [0, 1, 2, 3]
    assert read.bucket_values.tolist() == [float(image.sum())] * 4


def test_saturated_exposures_are_counted(core: Any) -> None:
    dots = ((CAMERA, "SaturatePixels", "1"),)
    read = burst(core, 6, camera_roi=(0, 0, 64, 64), properties_when_armed=dots, keep_frames=True)
    assert read.frames is not None
    assert read.saturated == sum(bool((frame == 255).any()) for frame in read.frames) > 0
    dark = burst(core, 6, properties_when_armed=((CAMERA, "SaturatePixels", "0"),), full_scale=255)
    assert dark.saturated == 0


def test_properties_are_set_while_armed_and_when_left(core: Any) -> None:
    armed, left = ((CAMERA, "Gain", "5"), (CAMERA, "Offset", "7")), ((CAMERA, "Gain", "-2"),)
    settings = MicroManagerSettings(properties_when_armed=armed, properties_when_left=left)
    detector = MicroManagerDetector(core, settings)
    assert (core.get_property(CAMERA, "Gain"), core.get_property(CAMERA, "Offset")) == ("5", "7")
    detector.close()
    assert (core.get_property(CAMERA, "Gain"), core.get_property(CAMERA, "Offset")) == ("-2", "7")


def test_a_number_that_is_printed_otherwise_reads_back_as_it_was_set(core: Any) -> None:
    MicroManagerDetector(core, MicroManagerSettings(properties_when_armed=((CAMERA, "ReadoutTime", "1.5"),))).close()
    assert core.get_property(CAMERA, "ReadoutTime") == "1.5000"


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"properties_when_armed": ((CAMERA, "Gian", "5"),)}, DevicePropertyError, "no property 'Gian'; it has .*Gain"),
        ({"properties_when_armed": (("Kamera", "Gain", "5"),)}, DevicePropertyError, "'Kamera'.*devices are Camera"),
        ({"properties_when_armed": ((CAMERA, "Gain", "99"),)}, DevicePropertyError, "does not take '99'"),
        ({"properties_when_armed": ((CAMERA, "Gain", "1.7"),)}, DeviceStateError, "set to '1.7' and reads back '1'"),
        ({"camera": "Kamera"}, DevicePropertyError, "no camera 'Kamera'; its devices are Camera"),
        ({"binning": 3}, DevicePropertyError, "'3' for its property 'Binning' .it takes 1, 2, 4, 8."),
        ({"readout_property": (CAMERA, "PixelType", "ms")}, DevicePropertyError, "'8bit', which is no readout time"),
        ({"readout_property": (CAMERA, "Readout", "ms")}, DevicePropertyError, "no property 'Readout'"),
        ({"properties_when_armed": ((CAMERA, "PixelType", "32bit"),)}, FrameShapeError, "floating-point"),
        ({"properties_when_armed": ((CAMERA, "PixelType", "32bitRGB"),)}, FrameShapeError, "4 components"),
        ({"region": (500, 0, 13, 1)}, FrameShapeError, "does not lie on camera"),
    ],
)
def test_what_the_camera_does_not_take_is_said(core: Any, settings: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        MicroManagerDetector(core, MicroManagerSettings(**settings))


@pytest.mark.parametrize(("asked_us", "accepted_us"), [(90, 90.0), (1234, 1230.0), (12_340, 12_340.0), (8, 10.0)])
def test_the_exposure_time_is_read_back(core: Any, asked_us: int, accepted_us: float) -> None:
    detector = MicroManagerDetector(core, MicroManagerSettings(camera_roi=(0, 0, 8, 8)))
    detector.arm(1, asked_us)
    assert detector.info.accepted_exposure_us == pytest.approx(accepted_us)


@pytest.mark.parametrize("asked_us", [1, 5, 14, 20_000_000])
def test_an_exposure_time_that_reads_back_otherwise_is_refused(core: Any, asked_us: int) -> None:
    core.set_property(CAMERA, "MaximumExposureMs", "10000")
    detector = MicroManagerDetector(core)
    with pytest.raises(TimingRefusedError, match=f"asked to expose for {asked_us} µs and reads back"):
        detector.arm(1, asked_us)
    assert not core.is_sequence_running()
    detector.arm(1, EXPOSURE_US)


def test_a_camera_in_use_is_not_taken_away(core: Any) -> None:
    core.start_continuous_sequence_acquisition(0.0)
    with pytest.raises(DeviceStateError, match="taking a sequence: end the live view"):
        MicroManagerDetector(core)
    assert core.is_sequence_running()
    core.stop_sequence_acquisition()
    MicroManagerDetector(core)


def test_a_core_without_a_camera_says_so() -> None:
    core = start_core(adapters())
    try:
        with pytest.raises(DeviceStateError, match=r"no current camera; name one of its devices \(Core\)"):
            MicroManagerDetector(core)
    finally:
        stop_core(core)


def test_a_second_core_in_the_process_is_refused(core: Any) -> None:
    with pytest.raises(DeviceStateError, match="has a Micro-Manager core already"):
        start_core(adapters())
    assert MicroManagerDetector(core).info.name == CAMERA


def test_pycromanager_finds_the_core_that_was_started(core: Any) -> None:
    from pycromanager import Core

    assert Core() is core


def test_a_core_that_was_stopped_makes_room_for_another_and_stopping_twice_is_stopping_once() -> None:
    with demo_core() as first:
        stop_core(first)
        with demo_core() as second:
            stop_core(first)
            assert MicroManagerDetector(second).info.name == CAMERA


def test_a_hundred_cores_one_after_the_other_leave_nothing_over() -> None:
    def start_read_and_stop() -> None:
        with demo_core(buffer_mb=1) as core:
            burst(core, 1, camera_roi=(0, 0, 8, 8), frame_metadata=True)

    process = psutil.Process()

    def left_over() -> tuple[int, int, int]:
        files = process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
        return len(gc.get_objects()), files, threading.active_count()

    for _ in range(3):
        start_read_and_stop()
    gc.collect()
    objects, files, threads = left_over()
    memory = process.memory_info().rss
    for _ in range(100):
        start_read_and_stop()
    gc.collect()
    assert left_over()[1:] == (files, threads)
    assert left_over()[0] - objects < 100
    assert process.memory_info().rss - memory < 16 * 2**20


def test_a_core_is_stopped_while_its_camera_takes_a_sequence() -> None:
    with demo_core() as core:
        MicroManagerDetector(core).arm(1000, EXPOSURE_US)
        assert core.is_sequence_running()
        stop_core(core)
        assert CAMERA not in core.get_loaded_devices()


def test_a_relative_configuration_is_looked_for_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.cfg").write_text(CONFIGURATION, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    core = start_core(adapters(), Path("demo.cfg"))
    try:
        assert CAMERA in core.get_loaded_devices()
    finally:
        stop_core(core)


def started(app_path: Path | None, configuration: str, tmp_path: Path) -> None:
    config_file = tmp_path / "some.cfg"
    config_file.write_text(configuration, encoding="utf-8")
    stop_core(start_core(app_path, config_file))


@pytest.mark.parametrize(
    ("configuration", "error", "words"),
    [
        ("Device,Camera,Andor,Andor\n", LibraryMissingError, r"adapters that are not in .*: Andor \(there are DemoCam"),
        ("Device,Camera,DemoCamera,NoCam\n", MicroManagerCallError, "could not load .*some.cfg.*NoCam"),
        ("Property,Camera,Binning,7\n", MicroManagerCallError, "some.cfg.*Camera"),
    ],
)
def test_a_configuration_that_does_not_load_says_why_and_leaves_no_core(
    configuration: str, error: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        started(adapters(), configuration, tmp_path)
    started(adapters(), CONFIGURATION, tmp_path)


def test_a_wrong_path_is_an_error_that_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError, match=r"no folder .*nowhere; app_path"):
        started(tmp_path / "nowhere", CONFIGURATION, tmp_path)
    with pytest.raises(LibraryMissingError, match="holds no device adapter"):
        started(tmp_path, CONFIGURATION, tmp_path)
    with pytest.raises(LibraryMissingError, match=r"no Micro-Manager configuration .*missing\.cfg"):
        start_core(adapters(), tmp_path / "missing.cfg")


def test_where_no_path_is_given_the_installers_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mmpycorex

    monkeypatch.setattr(mmpycorex, "find_existing_mm_install", lambda: str(adapters()))
    started(None, CONFIGURATION, tmp_path)

    def not_found() -> str:
        raise FileNotFoundError("not in the usual place")

    monkeypatch.setattr(mmpycorex, "find_existing_mm_install", not_found)
    with pytest.raises(LibraryMissingError, match=r"not in the usual place.*app_path"):
        started(None, CONFIGURATION, tmp_path)


def test_adapters_of_another_device_interface_are_an_error_that_says_so(tmp_path: Path) -> None:
    """The function that tells an adapter's interface number is found by its machine code: put 75 in eax, return."""
    returns_75, returns_70 = b"\xb8\x4b\x00\x00\x00\xc3", b"\xb8\x46\x00\x00\x00\xc3"
    folder = tmp_path / "of another year"
    shutil.copytree(adapters(), folder)
    library = next(folder.glob("*mmgr_dal_DemoCamera*"))
    code = library.read_bytes()
    if code.count(returns_75) != 1:
        pytest.skip("the adapter's interface number is not found in this processor's code")
    library.write_bytes(code.replace(returns_75, returns_70))
    with pytest.raises(InterfaceMismatchError, match=r"another device interface than pymmcore .*requires 75.*has 70"):
        started(folder, CONFIGURATION, tmp_path)


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 MB"):
        start_core(adapters(), buffer_mb=0)
