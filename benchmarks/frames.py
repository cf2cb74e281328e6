"""What reading small frames costs in the driver, on the real MMCore with its DemoCamera, beside popping them bare.

Needs mm-test-adapters (the extra ``test``). All frames stand in the buffer before a timing begins: neither waits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.row import Row
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import start_core, stop_core

FRAMES, SIDE_PX = 2000, 8
WANTED_US = 10.0
_REPEATS = 9
_CONFIGURATION = "Device,Camera,DemoCamera,DCam\nProperty,Core,Initialize,1\nProperty,Core,Camera,Camera\n"


def rows() -> list[Row]:
    """µs a frame in the driver's read, without and with frame numbers and times, against the limit and bare pops."""
    with _demo_core() as core:
        small = MicroManagerSettings(
            camera_roi=(0, 0, SIDE_PX, SIDE_PX), properties_when_armed=(("Camera", "PixelType", "16bit"),)
        )
        tagged = MicroManagerSettings(camera_roi=small.camera_roi, frame_metadata=True)
        bare_us, here_us = _bare_and_driver_us(core, small)
        bare_tagged_us, tagged_us = _bare_and_driver_us(core, tagged)
    what = f"reading {FRAMES} frames of {SIDE_PX}×{SIDE_PX} from MMCore"
    return [
        Row(what, f"{here_us:.2g} µs a frame", f"limit {WANTED_US:g} µs", here_us / WANTED_US, "at most 1"),
        Row(
            what, f"{here_us:.2g} µs a frame", f"bare pop_next_image {bare_us:.2g} µs", here_us / bare_us, "comparison"
        ),
        Row(
            f"{what}, with numbers and times",
            f"{tagged_us:.2g} µs a frame",
            f"limit {WANTED_US:g} µs",
            tagged_us / WANTED_US,
            "at most 1",
        ),
        Row(
            f"{what}, with numbers and times",
            f"{tagged_us:.2g} µs a frame",
            f"bare pop_next_tagged_image {bare_tagged_us:.2g} µs",
            tagged_us / bare_tagged_us,
            "comparison",
        ),
    ]


def _bare_and_driver_us(core: Any, settings: MicroManagerSettings) -> tuple[float, float]:
    """µs a frame of bare pops and of the driver, medians of interleaved timings."""
    detector = MicroManagerDetector(core, settings)
    pop = core.pop_next_tagged_image if settings.frame_metadata else core.pop_next_image
    bare: list[float] = []
    driver: list[float] = []
    for _ in range(1 + _REPEATS):
        with _full_buffer(core, detector):
            started = perf_counter()
            frames = [pop() for _ in range(FRAMES)]
            bare.append(perf_counter() - started)
            del frames
        with _full_buffer(core, detector):
            started = perf_counter()
            detector.read(FRAMES, timeout_s=10.0)
            driver.append(perf_counter() - started)
    detector.close()
    # The first of each warms up.
    return median(bare[1:]) / FRAMES * 1e6, median(driver[1:]) / FRAMES * 1e6


@contextmanager
def _full_buffer(core: Any, detector: MicroManagerDetector) -> Iterator[None]:
    detector.arm(FRAMES, 10)
    # The DemoCamera takes a millisecond for the shortest exposure, and next to nothing for none at all.
    core.stop_sequence_acquisition()
    core.set_exposure(0.0)
    core.start_sequence_acquisition(FRAMES, 0.0, True)
    while core.is_sequence_running():
        time.sleep(0.002)
    yield
    detector.disarm()


@contextmanager
def _demo_core() -> Iterator[Any]:
    from mm_test_adapters import device_adapter_path

    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "demo.cfg"
        config_file.write_text(_CONFIGURATION, encoding="utf-8")
        core = start_core(Path(device_adapter_path()), config_file, buffer_mb=4)
    try:
        yield core
    finally:
        stop_core(core)
