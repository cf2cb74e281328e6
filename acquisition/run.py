"""A whole acquisition: plan, connect, play, store, reconstruct."""

from __future__ import annotations

import errno
import platform
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.connect import ConnectedDevices, connected_devices, sample_on_stage
from acquisition.controller import Controller, check_projector
from acquisition.evidence import EvidenceCollector
from acquisition.integrity import prove_alignment
from acquisition.live import LiveImage, LivePipeline, warm_up
from acquisition.picture import draw_result
from acquisition.plan import run_bytes
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.run_store import DiskFullError, OutputExistsError, RunState, RunStore
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.store_writer import StoreWriter
from devices.projector import Timing
from models.metrics import psnr
from models.pictures import PictureRenderer, Region

VERSIONS_ON_RECORD = ("hadascope", "numpy", "torch", "zarr", "pydantic", "ALP4lib", "pycromanager", "scikit-image")


@dataclass(frozen=True)
class RunResult:
    """What a finished run left behind.

    psnr: of the image against the simulated sample, dB with the sample's maximum as data range; None on a real stage.
    live_record: float64 [refreshes, 4] as in acquisition.run_store.LIVE_FIELDS.
    """

    run: Path
    picture: Path
    reconstruction: Reconstruction
    psnr: float | None
    live_record: NDArray[np.float64]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Observer:
    """Who watches a run: called with every accepted block, and with every live image (in the pipeline's thread)."""

    on_plan: Callable[[SensingPlan], None] | None = None
    on_block: Callable[[Readings], None] | None = None
    on_image: Callable[[LiveImage], None] | None = None


def acquire(config: AcquisitionConfig, *, overwrite: bool = False, observer: Observer | None = None) -> RunResult:
    """Play an acquisition from its file to its image.

    Before any device is touched: the plan is made, the output is checked. Whatever ends the run, the light goes off,
    the devices are freed, and the run is marked with its true state; every committed block stays readable. Raises
    AcquisitionFileError, SampleImageError, OutputExistsError, DiskFullError, and what devices raise.
    """
    observer = Observer() if observer is None else observer
    sample = sample_on_stage(config)
    plan = plan_sensing(config, sample)
    if observer.on_plan is not None:
        observer.on_plan(plan)
    _check_output(config, plan, overwrite=overwrite)
    store = RunStore.create(config.output.run, plan.schedule, plan.mask, _facts_of(config), overwrite=overwrite)
    with ExitStack() as ending:
        ending.callback(store.close)
        try:
            result = _play(config, plan, sample, store, observer)
        except BaseException as error:
            state = RunState.STOPPED if isinstance(error, KeyboardInterrupt) else RunState.FAILED
            _mark(store, error, state)
            raise
        store.annotate(state=RunState.FINISHED, ended=_now())
    return result


def _play(
    config: AcquisitionConfig,
    plan: SensingPlan,
    sample: NDArray[np.float64] | None,
    store: RunStore,
    observer: Observer,
) -> RunResult:
    schedule = plan.schedule
    timing = Timing(config.timing.picture_time_us, config.timing.illumination_time_us)
    with connected_devices(config, sample) as devices:
        chip = config.dmd_type
        check_projector(devices.projector.info, chip, max(bank.n_pictures for bank in schedule.banks))
        controller = Controller(devices, timing, PictureRenderer(dmd_region(config)).render)
        dark = controller.measure_dark_level(config.blocks.dark_exposures)
        store.write_dark(dark)
        store.annotate(**_devices_on_record(devices), dark_under_light=devices.light_source.is_on())
        dark_level = float(dark.mean())
        collector = EvidenceCollector(config.sensing.side**2, dark_level)
        with ExitStack() as ending:
            writer = StoreWriter(store, patience_s=_patience_s(config))
            ending.callback(writer.close)
            warm_up(config)
            live = LivePipeline(collector, config, on_image=observer.on_image)
            ending.callback(live.close)

            def show(readings: Readings) -> None:
                live.notify()
                if observer.on_block is not None:
                    observer.on_block(readings)

            controller.play(
                schedule,
                lambda readings: prove_alignment(readings, plan.noise, dark_level),
                (writer.put, collector.add, show),
            )
    return _conclude(config, collector, live, sample, store)


def _conclude(
    config: AcquisitionConfig,
    collector: EvidenceCollector,
    live: LivePipeline,
    sample: NDArray[np.float64] | None,
    store: RunStore,
) -> RunResult:
    evidence = collector.snapshot()
    reconstruction = reconstruct(evidence, config)
    warnings = () if live.failure is None else (f"the live view ended early: {live.failure!r}",)
    store.write_statistics(evidence.statistics)
    store.write_image("wiener", reconstruction.wiener)
    store.write_image("image", reconstruction.image)
    store.write_live_record(live.record)
    if sample is not None:
        store.write_image("sample", sample)
    store.annotate(
        warnings=list(warnings),
        reference_total=evidence.reference_total,
        dark_level=evidence.dark_level,
        lit_dark_level=evidence.lit_dark_level,
        forecast_mse=reconstruction.forecast_mse,
    )
    picture = config.output.picture_path
    draw_result(picture, reconstruction, evidence, config, sample)
    true_psnr = None if sample is None else psnr(sample, reconstruction.image, float(sample.max()))
    return RunResult(config.output.run, picture, reconstruction, true_psnr, live.record, warnings)


def dmd_region(config: AcquisitionConfig) -> Region:
    """Where the acquisition's pixels lie on the mirrors of its chip."""
    chip, region = config.dmd_type, config.dmd_region
    return Region(
        side=config.sensing.side,
        mirrors_height=chip.mirrors_height,
        mirrors_width=chip.mirrors_width,
        row_bytes=chip.row_bytes,
        top=region.top,
        left=region.left,
        mirrors_per_px=region.mirrors_per_px,
        flip_vertical=region.flip_vertical,
        flip_horizontal=region.flip_horizontal,
        rotation_deg=region.rotation_deg,
    )


def _check_output(config: AcquisitionConfig, plan: SensingPlan, *, overwrite: bool) -> None:
    run, picture = config.output.run, config.output.picture_path
    if picture.exists() and not overwrite:
        raise OutputExistsError(
            errno.EEXIST,
            "the picture exists and is never overwritten unasked: choose another one, or add --overwrite",
            str(picture),
        )
    needed = run_bytes(plan)
    there = run.absolute().parent
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskFullError(
            errno.ENOSPC,
            f"the run takes up to {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free: make room, or write elsewhere",
            str(run),
        )


def _facts_of(config: AcquisitionConfig) -> dict[str, Any]:
    return {
        "state": RunState.RUNNING,
        "simulated": config.simulated,
        "started": _now(),
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in VERSIONS_ON_RECORD} | {"python": platform.python_version()},
    }


def _devices_on_record(devices: ConnectedDevices) -> dict[str, Any]:
    return {
        "devices": {
            "projector": asdict(devices.projector.info),
            "detector": asdict(devices.detector.info),
            "light_source": asdict(devices.light_source.info),
        }
    }


def _patience_s(config: AcquisitionConfig) -> float | None:
    """How long the light path may wait for the disk: not at all on real light, for ever on simulated light."""
    return None if config.simulated and config.bench.pace < 1 else 0.0


def _mark(store: RunStore, error: BaseException, state: RunState) -> None:
    """Mark the run with how it ended; where even that cannot be written, the error that ended it matters more."""
    try:
        store.annotate(state=state, ended=_now(), cause=f"{type(error).__name__}: {error}")
    except OSError as mark_error:
        error.add_note(f"the run could not be marked as {state}: {mark_error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
