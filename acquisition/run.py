"""A whole acquisition: plan, connect, play, store, reconstruct."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from acquisition.evidence import Evidence, EvidenceCollector, detector_dark_level
from acquisition.integrity import prove_alignment
from acquisition.live import LiveImage, LivePipeline, warm_up
from acquisition.picture import draw_result
from acquisition.preflight import check_light, check_output
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.run_store import RunState, RunStore
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


@dataclass(frozen=True)
class _Played:
    """What was read and seen until the last block."""

    evidence: Evidence
    live_record: NDArray[np.float64]
    warnings: tuple[str, ...]


def acquire(config: AcquisitionConfig, *, overwrite: bool = False, observer: Observer | None = None) -> RunResult:
    """Play an acquisition from its file to its image.

    Before any device is touched the plan is made, and output and light are checked; before anything is written or
    overwritten the devices have accepted the timing and measured the dark level. Whatever ends the run, the light goes
    off, the run is marked with its true state, and the devices are freed; every committed block stays readable. Raises
    AcquisitionFileError, SampleImageError, GuardsTooDimError, OutputExistsError, NotARunError, DiskFullError, and what
    devices raise.
    """
    observer = Observer() if observer is None else observer
    sample = sample_on_stage(config)
    plan = plan_sensing(config, sample)
    if observer.on_plan is not None:
        observer.on_plan(plan)
    check_light(plan)
    check_output(config, plan, overwrite=overwrite)
    with ExitStack() as ending:
        with connected_devices(config, sample) as devices:
            largest_bank = max(config.blocks.dark_exposures, *(bank.n_pictures for bank in plan.schedule.banks))
            check_projector(devices.projector.info, config.dmd_type, largest_bank)
            timing = Timing(config.timing.picture_time_us, config.timing.illumination_time_us)
            controller = Controller(devices, timing, PictureRenderer(dmd_region(config)).render)
            dark = controller.measure_dark_level(config.blocks.dark_exposures)
            if overwrite:
                config.output.picture_path.unlink(missing_ok=True)
            store = RunStore.create(
                config.output.run,
                plan.schedule,
                plan.mask,
                _facts_of(config),
                image_prior=plan.image_prior,
                overwrite=overwrite,
            )
            ending.callback(store.close)
            with _marked(store):
                played = _play(config, plan, devices, controller, dark, store, observer)
        with _marked(store):
            return _conclude(config, plan, played, sample, store)


def _play(
    config: AcquisitionConfig,
    plan: SensingPlan,
    devices: ConnectedDevices,
    controller: Controller,
    dark: NDArray[np.float64],
    store: RunStore,
    observer: Observer,
) -> _Played:
    dark_under_light = devices.light_source.is_on()
    store.write_dark(dark)
    store.annotate(dark_under_light=dark_under_light, **_on_record(devices, controller))
    dark_level = detector_dark_level(dark, dark_under_light)
    collector = EvidenceCollector(config.sensing.side**2, dark_level)
    warm_up(config, plan.image_prior)
    with ExitStack() as ending:
        writer = StoreWriter(store, patience_s=_patience_s(config))
        ending.callback(writer.close)
        live = LivePipeline(collector, config, plan.image_prior, on_image=observer.on_image)
        ending.callback(live.close)

        def show(readings: Readings) -> None:
            live.notify()
            if observer.on_block is not None:
                observer.on_block(readings)

        controller.play(
            plan.schedule,
            lambda readings: prove_alignment(readings, plan.noise, dark_level),
            (writer.put, collector.add, show),
        )
    evidence = collector.snapshot()
    return _Played(evidence, live.record, tuple(_warnings(evidence, live.failure, dark_under_light)))


def _conclude(
    config: AcquisitionConfig,
    plan: SensingPlan,
    played: _Played,
    sample: NDArray[np.float64] | None,
    store: RunStore,
) -> RunResult:
    """The image, and all that can be said only at the end; the light is off and the devices are free."""
    evidence = played.evidence
    reconstruction = reconstruct(evidence, config, plan.image_prior)
    store.write_statistics(evidence.statistics)
    store.write_image("wiener", reconstruction.wiener)
    store.write_image("image", reconstruction.image)
    store.write_live_record(played.live_record)
    if sample is not None:
        store.write_image("sample", sample)
    warnings = list(played.warnings)
    try:
        draw_result(config.output.picture_path, reconstruction, evidence, config, sample)
    except Exception as error:  # a picture that cannot be drawn does not make a measured run a failed one
        warnings.append(f"the picture could not be drawn: {error!r}; `hadascope reconstruct` draws it again")
    store.annotate(
        state=RunState.FINISHED,
        ended=_now(),
        warnings=warnings,
        reference_total=evidence.reference_total,
        dark_level=evidence.dark_level,
        lit_dark_level=evidence.lit_dark_level,
        forecast_mse=reconstruction.forecast_mse,
    )
    return RunResult(
        run=config.output.run,
        picture=config.output.picture_path,
        reconstruction=reconstruction,
        psnr=None if sample is None else psnr(sample, reconstruction.image, float(sample.max())),
        live_record=played.live_record,
        warnings=tuple(warnings),
    )


def _warnings(evidence: Evidence, live_failure: Exception | None, dark_under_light: bool) -> Iterator[str]:
    if evidence.saturated:
        yield (
            f"{evidence.saturated} exposures saturated the detector and read too little: lower the light, or spread it "
            "over more pixels"
        )
    if dark_under_light:
        yield (
            "the light cannot be switched off: the detector's dark level was not measured but taken from its stated "
            "offset, and what dark pictures read beyond it counts as background"
        )
    if live_failure is not None:
        yield f"the live view ended early: {live_failure!r}"


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


def _facts_of(config: AcquisitionConfig) -> dict[str, Any]:
    return {
        "state": RunState.RUNNING,
        "simulated": config.simulated,
        "started": _now(),
        "config": config.model_dump(mode="json"),
        "versions": {name: version(name) for name in VERSIONS_ON_RECORD} | {"python": platform.python_version()},
    }


def _on_record(devices: ConnectedDevices, controller: Controller) -> dict[str, Any]:
    """What the devices say of themselves, and the timing they accepted."""
    described = {
        "projector": asdict(devices.projector.info),
        "detector": asdict(devices.detector.info),
        "light_source": asdict(devices.light_source.info),
    }
    accepted = controller.accepted_timing
    return {"devices": described, "accepted_timing": None if accepted is None else asdict(accepted)}


def _patience_s(config: AcquisitionConfig) -> float | None:
    """How long the light path may wait for the disk: not at all on real light, for ever on simulated light."""
    return None if config.simulated and config.bench.pace < 1 else 0.0


@contextmanager
def _marked(store: RunStore) -> Iterator[None]:
    """Mark the run with how it ended where it does not finish; the error that ended it goes on."""
    try:
        yield
    except BaseException as error:
        state = RunState.STOPPED if isinstance(error, KeyboardInterrupt) else RunState.FAILED
        try:
            store.annotate(state=state, ended=_now(), cause=f"{type(error).__name__}: {error}".rstrip(": "))
        except OSError as unmarked:
            error.add_note(f"the run could not be marked as {state}: {unmarked}")
        raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
