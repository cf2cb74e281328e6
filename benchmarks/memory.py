"""Peak memory of a whole dry run, n = 256, S = 50, α = 0.25 on an XGA chip: about 1.6 million exposures."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from acquisition.acquisition_file import example_dry_run, load_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.schedule import Schedule
from benchmarks.row import Row

WANTED_BYTES = 1.5e9


def rows() -> list[Row]:
    """Peak resident memory of the run in a process of its own, against 1.5 GB.

    The simulated DMD keeps the light of every picture instead of its bits, so nothing is to be left out of the figure.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            peak_bytes, took_s, exposures = pool.apply(_run, (Path(folder) / "run.zarr",))
    what = f"dry run n = 256, S = 50, α = 0.25 ({exposures:,} exposures, {took_s:.0f} s): peak memory"
    return [Row(what, f"{peak_bytes / 1e9:.2f} GB", "limit 1.5 GB", peak_bytes / WANTED_BYTES, "at most 1")]


def large_dry_run(run: Path) -> AcquisitionConfig:
    """The example at n = 256 and S = 50 with a uniform mask, as fast as the computer can."""
    config = load_acquisition(example_dry_run())
    document = config.model_dump(mode="json")
    document["sensing"].update(side=256, repeats=50, alpha=0.25, mask={"kind": "uniform"})
    document["dmd_region"].update(top=0, left=128, mirrors_per_px=3)
    document["blocks"].update(longest_block_s=1.0)
    document["bench"].update(pace=0.0)
    document["output"].update(run=str(run), picture=None)
    return AcquisitionConfig.model_validate(document)


def _run(run: Path) -> tuple[int, float, int]:
    from acquisition.observer import Observer
    from acquisition.run import acquire

    exposures = 0
    started = perf_counter()

    def count(schedule: Schedule) -> None:
        nonlocal exposures
        exposures = schedule.n_exposures

    acquire(large_dry_run(run), observer=Observer(on_schedule=count))
    return _peak_bytes(), perf_counter() - started, exposures


def _peak_bytes() -> int:
    """Peak resident memory of this process in bytes."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
