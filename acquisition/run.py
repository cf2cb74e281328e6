"""A whole acquisition: plan, connect, play, store, reconstruct; and the same from where a run that ended stands."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bench_check import check_bench, shortened_plan
from acquisition.config import AcquisitionConfig, on_record
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Continuation, Controller, DoseLimitError, SurplusFramesError
from acquisition.dmd_region import dmd_region
from acquisition.events import Event, EventKind, Journal, read_events
from acquisition.evidence import Evidence, EvidenceCollector, detector_dark_level
from acquisition.integrity import prove_alignment, residual_risk
from acquisition.interrupts import Ending, orderly_interrupts
from acquisition.live import LiveImage, LivePipeline, warm_up
from acquisition.picture import draw_result
from acquisition.plan import lit_exposures_within
from acquisition.preflight import check_dose, check_light, check_output, check_room
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.resumption import Resumption, sample_digest
from acquisition.run_layout import RunState
from acquisition.run_rules import play_rules
from acquisition.run_store import FrameShape, RunStore
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.store_writer import StoreWriter
from devices.detector import DetectorInfo
from devices.errors import DetectorTimeoutError
from devices.projector import Timing
from models.metrics import psnr
from models.pictures import PictureRenderer

VERSIONS_ON_RECORD = ("hadascope", "numpy", "torch", "zarr", "pydantic", "ALP4lib", "pycromanager", "scikit-image")


@dataclass(frozen=True)
class RunResult:
    """What a finished run left behind.

    psnr: of the image against the simulated sample, dB with the sample's maximum as data range; None on a real stage.
    live_record: float64 [refreshes, 4] as in acquisition.run_store.LIVE_FIELDS; repeated: blocks played again.
    """

    run: Path
    picture: Path
    reconstruction: Reconstruction
    psnr: float | None
    live_record: NDArray[np.float64]
    warnings: tuple[str, ...]
    repeated: int


@dataclass(frozen=True)
class Observer:
    """Who watches a run: called with every accepted block and event, and with every live image (in its thread).

    confirm: asked before the first light on real devices, with the number of exposures to come; without it, or where
    it says False, there is no light and no run.
    """

    on_plan: Callable[[SensingPlan], None] | None = None
    on_block: Callable[[Readings], None] | None = None
    on_image: Callable[[LiveImage], None] | None = None
    on_event: Callable[[Event], None] | None = None
    confirm: Callable[[int], bool] | None = None


class NotConfirmedError(RuntimeError):
    """Nobody said yes to the first light on real devices."""


@dataclass(frozen=True)
class _Played:
    """What was read and seen until the last block."""

    evidence: Evidence
    live_record: NDArray[np.float64]
    warnings: tuple[str, ...]


def acquire(config: AcquisitionConfig, *, overwrite: bool = False, observer: Observer | None = None) -> RunResult:
    """Play an acquisition from its file to its image.

    Before any device is touched the plan is made, and output, dose and light are checked; before anything is written
    or overwritten the devices have accepted the timing and measured the dark level. Whatever ends the run, the light
    goes off, the run is marked with its true state, and the devices are freed; every committed block stays readable.
    Ctrl-C and requests to terminate end it as KeyboardInterrupt. Raises AcquisitionFileError, SampleImageError,
    GuardsTooDimError, OutputExistsError, NotARunError, RunInUseError, DiskFullError, NotConfirmedError, and what
    devices raise.
    """
    observer = Observer() if observer is None else observer
    sample = sample_on_stage(config)
    plan = plan_sensing(config, sample)
    check_dose(config, plan)
    check_light(plan)
    check_output(config, plan, overwrite=overwrite)
    with orderly_interrupts(), Ending() as ending:
        run = _RunInProgress(observer)
        ending.push(run.end)
        with connected_devices(config, sample) as devices:
            readout = check_bench(config, plan, devices)
            info = devices.detector.info
            plan = shortened_plan(config, sample, plan, info.buffer_frames, run.journal)
            check_dose(config, plan)
            check_light(plan)
            frames = _kept_frames(config, info)
            check_room(config, plan, 0 if frames is None else frames.n_bytes)
            if observer.on_plan is not None:
                observer.on_plan(plan)
            controller = Controller(devices, _renderer(config), play_rules(config), run.journal)
            run.controller = controller
            dark = controller.measure_dark_level(config.blocks.dark_exposures)
            _must_stay_within_dose(config, controller.accepted_timing, 0, plan.schedule.n_exposures)
            _confirm(config, plan.schedule.n_exposures, observer)
            dark_under_light = devices.light_source.is_on()
            facts = {
                **_facts_of(config),
                **_on_record(devices, controller),
                "readout": asdict(readout),
                "schedule": plan.schedule.digest,
                "buffer_frames": info.buffer_frames,
                "dark_under_light": dark_under_light,
                "bench_state": devices.bench_state(),
                "sample": None if sample is None else sample_digest(sample),
            }
            run.store = RunStore.create(
                config.output.run,
                plan.schedule,
                plan.mask,
                facts,
                dark=dark,
                image_prior=plan.image_prior,
                bench_fields=len(devices.bench_state()),
                frames=frames,
                overwrite=overwrite,
            )
            if overwrite:
                config.output.picture_path.unlink(missing_ok=True)
            run.begin(EventKind.STARTED, _summary(config, plan))
            dark_level = detector_dark_level(dark, dark_under_light)
            run.journal.add(EventKind.DARK_LEVEL, f"dark level {dark_level:.5g} detector units", level=dark_level)
            collector = EvidenceCollector(config.sensing.side**2, dark_level)
            with run.marked():
                played = _play(config, plan, devices, collector, run)
        return _conclude(config, plan, played, sample, run)


def resume(path: Path, asked: AcquisitionConfig | None = None, *, observer: Observer | None = None) -> RunResult:
    """Go on with a run that did not finish, from the block after the last committed one.

    asked: the acquisition file as it is now, if one is given; it must say what the run's own does. Where only the image
    is missing, no device is touched. Raises DifferentRunError where configuration, mask, schedule or device differ from
    the run's, NothingToResumeError where it has finished, RunInUseError, NotARunError, and what ``acquire`` raises.
    """
    observer = Observer() if observer is None else observer
    with orderly_interrupts(), Ending() as ending:
        run = _RunInProgress(observer)
        ending.push(run.end)
        run.store = RunStore.reopen(path)
        resumption = Resumption.of(path, asked)
        config, sample, plan, first = resumption.config, resumption.sample, resumption.plan, resumption.first_block
        left = sum(block.n_exposures for block in plan.schedule.blocks[first:])
        _must_stay_within_dose(config, resumption.accepted_timing, resumption.lit_exposures, left)
        if observer.on_plan is not None:
            observer.on_plan(plan)
        if not left:
            run.begin_again(resumption)
            evidence = resumption.collector(observer.on_block).snapshot()
            played = _Played(evidence, resumption.run.live_record, ())
            return _conclude(config, plan, played, sample, run)
        with connected_devices(config, sample) as devices:
            check_bench(config, plan, devices)
            resumption.check_devices(devices)
            run.controller = Controller(
                devices,
                _renderer(config),
                play_rules(config),
                run.journal,
                elapsed_us=0.0 if config.simulated else resumption.elapsed_us,
                lit_exposures=resumption.lit_exposures,
            )
            _confirm(config, left, observer)
            run.begin_again(resumption)
            collector = resumption.collector(observer.on_block)
            continuation = Continuation(
                first, lambda: devices.restore_bench(resumption.bench_state), resumption.check_timing
            )
            with run.marked():
                played = _play(config, plan, devices, collector, run, continuation)
        return _conclude(config, plan, played, sample, run)


class _RunInProgress:
    """What a run has to close, and to mark, whatever ends it: its store and journal, as soon as they are there."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.journal = Journal(observer.on_event)
        self.store: RunStore | None = None
        self.controller: Controller | None = None
        self.is_begun = False
        self._cause: str | None = None

    def begin(self, kind: EventKind, text: str, **facts: Any) -> None:
        """From now on there is something to mark and to tell of."""
        assert self.store is not None
        self.is_begun = True
        self.journal.open(self.store.path)
        self.journal.add(kind, text, **facts)

    def begin_again(self, resumption: Resumption) -> None:
        """The same for a run that is resumed."""
        assert self.store is not None
        first, n_blocks = resumption.first_block, len(resumption.plan.schedule.blocks)
        text = f"from block {first} of {n_blocks}, after it {resumption.ended}"
        self.begin(EventKind.RESUMED, text, first_block=first)
        self.store.annotate(
            state=RunState.RUNNING,
            cause=None,
            lit_exposures=resumption.lit_exposures,
            resumed=[*resumption.run.facts.get("resumed", []), _now()],
        )

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the run with how it ended, where it does not finish, while its devices are still held."""
        try:
            yield
        except BaseException as error:
            self._mark(error)
            raise

    def end(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Mark the run, where it began and did not finish, with what went wrong since; let go of store and journal."""
        with ExitStack() as ending:
            ending.callback(self.journal.close)
            if self.store is not None:
                ending.callback(self.store.close)
            if error is not None:
                self._mark(error)

    def _mark(self, error: BaseException) -> None:
        cause = "\n".join([f"{type(error).__name__}: {error}".rstrip(": "), *getattr(error, "__notes__", ())])
        if self.store is None or not self.is_begun or cause == self._cause:
            return
        self._cause = cause
        # What could not be put to rest is a failure, whoever asked for the end.
        stopped = isinstance(error, KeyboardInterrupt) and not hasattr(error, "__notes__")
        state, kind = (RunState.STOPPED, EventKind.STOPPED) if stopped else (RunState.FAILED, EventKind.FAILED)
        lit = {} if self.controller is None else {"lit_exposures": self.controller.lit_exposures}
        try:
            self.store.annotate(state=state, ended=_now(), cause=cause, **lit)
            self.journal.add(kind, cause)
        except OSError as unmarked:
            error.add_note(f"the run could not be marked as {state}: {unmarked}")
            self._cause = "\n".join([cause, error.__notes__[-1]])


def _play(
    config: AcquisitionConfig,
    plan: SensingPlan,
    devices: ConnectedDevices,
    collector: EvidenceCollector,
    run: _RunInProgress,
    continuation: Continuation | None = None,
) -> _Played:
    assert run.store is not None
    assert run.controller is not None
    observer, journal = run.observer, run.journal
    warm_up(config, plan.image_prior)
    with Ending() as ending:
        writer = StoreWriter(run.store, patience_s=_patience_s(config))
        ending.callback(writer.close)
        live = LivePipeline(collector, config, plan.image_prior, on_image=observer.on_image)
        ending.callback(live.close)

        def show(readings: Readings) -> None:
            live.notify()
            if observer.on_block is not None:
                observer.on_block(readings)

        run.controller.play(
            plan.schedule,
            lambda block, readings: prove_alignment(block, readings, plan.noise, collector.dark_level),
            (writer.put, collector.add, show),
            continuation,
        )
    evidence = collector.snapshot()
    warnings = list(_warnings(evidence, live.failure, devices.light_source.is_on()))
    for warning in warnings:
        journal.add(EventKind.WARNING, warning)
    return _Played(evidence, live.record, tuple(warnings))


def _conclude(
    config: AcquisitionConfig,
    plan: SensingPlan,
    played: _Played,
    sample: NDArray[np.float64] | None,
    run: _RunInProgress,
) -> RunResult:
    """The image, and all that can be said only at the end; the light is off and the devices are free."""
    assert run.store is not None
    store, evidence = run.store, played.evidence
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
    events = list(read_events(store.path))
    repeated = Counter(event.facts["cause"] for event in events if event.kind is EventKind.BLOCK_REPEATED)
    given_up = Counter(event.facts["cause"] for event in events if event.kind is EventKind.BLOCK_FAILED)
    store.annotate(
        state=RunState.FINISHED,
        repeated_blocks=dict(repeated),
        residual_risk_bound=_residual_risk_bound(config, plan, repeated + given_up),
        ended=_now(),
        warnings=warnings,
        reference_total=evidence.reference_total,
        dark_level=evidence.dark_level,
        lit_dark_level=evidence.lit_dark_level,
        forecast_mse=reconstruction.forecast_mse,
    )
    run.journal.add(
        EventKind.FINISHED, f"{evidence.n_blocks} blocks, {evidence.n_pairs} pairs, light off, devices free"
    )
    return RunResult(
        run=config.output.run,
        picture=config.output.picture_path,
        reconstruction=reconstruction,
        psnr=None if sample is None else psnr(sample, reconstruction.image, float(sample.max())),
        live_record=played.live_record,
        warnings=tuple(warnings),
        repeated=repeated.total(),
    )


def _warnings(evidence: Evidence, live_failure: Exception | None, light_stays_on: bool) -> Iterator[str]:
    if evidence.saturated:
        yield (
            f"{evidence.saturated} exposures saturated the detector and read too little: lower the light, or spread it "
            "over more pixels"
        )
    if light_stays_on:
        yield (
            "the light cannot be switched off: the detector's dark level was not measured but taken from its stated "
            "offset, and what dark pictures read beyond it counts as background"
        )
    if live_failure is not None:
        yield f"the live view ended early: {live_failure!r}"


def _kept_frames(config: AcquisitionConfig, info: DetectorInfo) -> FrameShape | None:
    """What is kept of every frame: the region that is summed."""
    detector = config.devices.detector
    if not detector.keep_frames:
        return None
    dtype = f"uint{8 * info.bytes_per_px}"
    if detector.region is None:
        return FrameShape(info.height_px, info.width_px, dtype)
    return FrameShape(detector.region.height, detector.region.width, dtype)


def _residual_risk_bound(config: AcquisitionConfig, plan: SensingPlan, failed: Counter[str]) -> float:
    """At most so many blocks of the run are to be expected to hold shifted readings that nothing could show.

    Triggers are taken to be lost, and doubled, as often as they may have been in blocks that failed, and once more:
    what was not seen in a run may happen once in as many exposures.
    """
    if config.devices.detector.time_tolerance_us is not None:
        return 0.0
    n_exposures = plan.schedule.n_exposures
    one_lost, one_doubled = failed[DetectorTimeoutError.__name__], failed[SurplusFramesError.__name__]
    either = failed.total() - one_lost - one_doubled
    lost, doubled = one_lost + either + 1, one_doubled + either + 1
    return residual_risk(plan.schedule, lost / n_exposures, doubled / n_exposures)


def _renderer(config: AcquisitionConfig) -> Callable[..., NDArray[np.uint8]]:
    return PictureRenderer(dmd_region(config)).render


def _must_stay_within_dose(config: AcquisitionConfig, accepted: Timing | None, lit: int, left: int) -> None:
    """Raise DoseLimitError where what is left to play would exceed the limit, at the timing that was accepted."""
    assert accepted is not None
    most = lit_exposures_within(config, accepted.illumination_time_us)
    if most is not None and lit + left > most:
        raise DoseLimitError(
            f"sample.dose_limit_mj allows {most} exposures of {accepted.illumination_time_us} µs; the sample has had "
            f"{lit} at most, and {left} are to come. There was no further light"
        )


def _confirm(config: AcquisitionConfig, n_exposures: int, observer: Observer) -> None:
    """Ask before the first light on real devices; nobody there to be asked is a no."""
    if config.simulated or (observer.confirm is not None and observer.confirm(n_exposures)):
        return
    raise NotConfirmedError(
        "the first light on real devices was not confirmed: nothing was lit, and everything is as it was"
    )


def _summary(config: AcquisitionConfig, plan: SensingPlan) -> str:
    sensing, schedule = config.sensing, plan.schedule
    return (
        f"{sensing.side} × {sensing.side} px, {schedule.n_pairs} pairs in {len(schedule.blocks)} blocks and "
        f"{len(schedule.banks)} banks on {'simulated' if config.simulated else 'real'} devices"
    )


def _facts_of(config: AcquisitionConfig) -> dict[str, Any]:
    return {
        "state": RunState.RUNNING,
        "simulated": config.simulated,
        "started": _now(),
        "config": on_record(config),
        "versions": {name: version(name) for name in VERSIONS_ON_RECORD} | {"python": platform.python_version()},
    }


def _on_record(devices: ConnectedDevices, controller: Controller) -> dict[str, Any]:
    """What the devices say of themselves, and the timing they accepted."""
    accepted = controller.accepted_timing
    return {
        "devices": devices.described(),
        "accepted_timing": None if accepted is None else asdict(accepted),
    }


def _patience_s(config: AcquisitionConfig) -> float | None:
    """How long the light path may wait for the disk: not at all on real light, for ever on simulated light."""
    return None if config.simulated and config.bench.pace < 1 else 0.0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
