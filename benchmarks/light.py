"""A whole run on the bench's clock, n = 256, S = 50 on an XGA chip: how much of the time the light is on the sample.

43 690 pictures of memory, 44 µs a picture, 300 MB/s upload, 20 ms to arm the detector. The clock is the bench's; what
is measured in processor time is the controller's own part: rendering, bookkeeping, guards, storing. What the stand-ins
take and what it takes to pop frames is left out.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from acquisition.acquisition_file import example_dry_run, load_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.dmd_region import dmd_region
from acquisition.events import Journal
from acquisition.evidence import EvidenceCollector
from acquisition.integrity import prove_alignment
from acquisition.plan import summarize
from acquisition.run_rules import play_rules
from acquisition.run_store import RunStore
from acquisition.sensing_plan import plan_sensing
from acquisition.store_writer import StoreWriter
from benchmarks.row import Row
from models.pictures import PictureRenderer

_THREAD_COUNTS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
MASKS = ("uniform", "low-sequency", "water-filling")


def rows() -> list[Row]:
    """Light share, predicted time, and the controller's processor time, for three masks at two α."""
    # One thread for linear algebra: the stand-ins' idle ones would count as the controller's.
    with mock.patch.dict(os.environ, dict.fromkeys(_THREAD_COUNTS, "1")):
        pool = multiprocessing.get_context("spawn").Pool(1)
    with pool:
        runs = [(alpha, mask) for alpha in (0.25, 0.125) for mask in MASKS]
        return [row for made in pool.starmap(_played, runs) for row in made]


def xga_run(alpha: float, mask: str, run: Path) -> AcquisitionConfig:
    """The run that is played: no noise is drawn, because only the clock matters."""
    document = load_acquisition(example_dry_run()).model_dump(mode="json")
    document["sensing"].update(side=256, repeats=50, alpha=alpha, mask={"kind": mask})
    document["timing"].update(picture_time_us=44, illumination_time_us=40)
    document["dmd_region"].update(top=0, left=128, mirrors_per_px=3)
    document["blocks"].update(longest_block_s=1.0)
    document["bench"].update(pace=0.0, shot_noise=False)
    document["devices"]["detector"].update(width_px=32, height_px=32)
    document["output"].update(run=str(run), picture=None)
    return AcquisitionConfig.model_validate(document)


class _StandInTime:
    """Processor time spent in stand-ins and in popping frames, s, over all threads."""

    def __init__(self) -> None:
        self._spent_s: dict[int, float] = defaultdict(float)  # by thread, because threads would lose each other's sums

    @property
    def spent_s(self) -> float:
        """All of it so far."""
        return sum(self._spent_s.values())

    def outside(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its processor time counted."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self._spent_s[threading.get_ident()] += time.thread_time() - started

        return timed

    def leave_out(self, devices: ConnectedDevices) -> None:
        """Count everything that stands at the other end of a cable, and popping frames."""
        library, detector = devices.stand_ins.library, devices.detector
        for name in [name for name in dir(library) if name.startswith("Alp")]:
            setattr(library, name, self.outside(getattr(library, name)))
        for name in ("read", "arm", "disarm", "surplus_frames"):
            setattr(detector, name, self.outside(getattr(detector, name)))


def _played(alpha: float, mask: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        config = xga_run(alpha, mask, Path(folder) / "run.zarr")
        sample = sample_on_stage(config)
        plan = plan_sensing(config, sample)
        predicted = summarize(config, plan, sample).time
        devices = ending.enter_context(connected_devices(config, sample))
        stand_ins = _StandInTime()
        stand_ins.leave_out(devices)
        renderer = PictureRenderer(dmd_region(config))
        started_s = time.process_time()
        controller = Controller(devices, renderer.render, play_rules(config), Journal())
        dark = controller.measure_dark_level(config.blocks.dark_exposures)
        collector = EvidenceCollector(config.sensing.side**2, float(dark.mean()))
        store = RunStore.create(config.output.run, plan.schedule, {}, {}, dark=dark, bench_fields=4)
        ending.callback(store.close)
        writer = StoreWriter(store, patience_s=None)
        controller.play(
            plan.schedule,
            lambda block, readings: prove_alignment(block, readings, plan.noise, collector.dark_level),
            (writer.put, collector.add),
        )
        writer.close()
        own_s = time.process_time() - started_s - stand_ins.spent_s
        total_s = devices.clock_us() * 1e-6
        lit = [each for each in devices.stand_ins.bench.record if each.light_on]
    light_s = float(np.sum([each.n_exposures * each.picture_time_us for each in lit])) * 1e-6
    share = light_s / total_s
    bound = predicted.largest_light_share
    what = f"XGA, n = 256, S = 50, α = {alpha}, {mask}"
    most = Row(f"{what}: light on the sample", f"{share:.3f}", f"bound {bound:.3f}", share / bound, "at least 0.95")
    if bound == 1.0:
        most = Row(f"{what}: light on the sample", f"{share:.3f}", "all the time", share, "at least 0.9")
    return [
        most,
        Row(
            f"{what}: predicted time",
            f"{predicted.total_s:.2f} s",
            f"{total_s:.2f} s",
            predicted.total_s / total_s,
            "0.95 to 1.05",
        ),
        Row(
            f"{what}: controller's own processor time",
            f"{own_s:.2f} s",
            f"{total_s:.1f} s run",
            own_s / total_s,
            "under 0.2",
        ),
    ]
