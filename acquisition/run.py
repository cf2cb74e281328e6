"""A whole acquisition: plan, connect, play, store, reconstruct; and the same from where a run that ended stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bench_check import check_bench, shortened_plan
from acquisition.calibration_identity import calibration_on_record, check_noise_calibration
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Continuation, Controller, PlayRules, SurplusFramesError
from acquisition.dmd_region import dmd_region
from acquisition.events import EventKind, read_events
from acquisition.evidence import Evidence, EvidenceCollector, detector_dark_level
from acquisition.integrity import prove_alignment, residual_risk
from acquisition.interrupts import Ending, orderly_interrupts
from acquisition.live import LiveImage, LivePipeline, warm_up
from acquisition.observer import Observer
from acquisition.picture import draw_result
from acquisition.preflight import check_dose, check_light, check_output, check_room, must_stay_within_dose
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.resumption import Resumption, sample_digest
from acquisition.run_facts import devices_on_record, facts_of_file, kept_frames
from acquisition.run_in_progress import RunInProgress, now
from acquisition.run_layout import RunState
from acquisition.run_rules import patience_s, play_rules
from acquisition.run_store import RunStore
from acquisition.self_check import check_run
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.snapshots import write_snapshots
from acquisition.split_half import measured_at_the_end
from acquisition.store_writer import StoreWriter
from acquisition.stored_run import StoredRun
from devices.errors import DetectorTimeoutError
from models.learning.model_file import TrainedModel
from models.metrics import psnr
from models.pictures import PictureRenderer

# As much as a lamp differs from one day to the next is no reason to warn.
_BEYOND_CALIBRATED = 1.05


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

    @property
    def last_image(self) -> LiveImage:
        """The run's image as the last one of its live images."""
        time_s, n_pairs = self.live_record[-1, :2].tolist() if len(self.live_record) else (0.0, 0)
        return LiveImage(self.reconstruction, time_s, int(n_pairs), age_s=0.0)


@dataclass(frozen=True)
class Played:
    """A run that was played to its last block: what, on what, and what was read and seen.

    sample: light of every pixel float64 [n, n] where the stage is simulated.
    """

    config: AcquisitionConfig
    sample: NDArray[np.float64] | None
    plan: SensingPlan
    evidence: Evidence
    live_record: NDArray[np.float64]
    warnings: tuple[str, ...]


def acquire(config: AcquisitionConfig, *, overwrite: bool = False, observer: Observer | None = None) -> RunResult:
    """Play an acquisition of one image from its file to its image.

    Before any device is touched the plan is made, output, dose and light are checked, and a network has made an image;
    before anything is written or overwritten the devices have accepted the timing and measured the dark level. Whatever
    ends the run, the light goes off, the run is marked with its true state, and the devices are freed; every committed
    block stays readable.
    Ctrl-C and requests to terminate end it as KeyboardInterrupt. Raises AcquisitionFileError, SampleImageError,
    GuardsTooDimError, OutputExistsError, NotARunError, RunInUseError, DiskFullError, CalibrationMismatchError,
    NotConfirmedError, ModelFileError, and what devices raise.
    """
    if config.mda is not None:
        problem = Problem("mda", "a series of images", "acquisition.series.acquire_series, or a file without it")
        raise AcquisitionFileError("the acquisition file", [problem])
    observer = Observer() if observer is None else observer
    sample = sample_on_stage(config)
    plan = plan_sensing(config, sample)
    check_dose(config, plan)
    check_light(plan)
    check_output(config, plan, overwrite=overwrite)
    make_ready(config, plan)
    with orderly_interrupts(), Ending() as ending:
        run = RunInProgress[RunStore](observer, _remedy(config.output.run))
        ending.push(run.end)
        with connected_devices(config, sample) as devices:
            plan = shortened_plan(config, sample, plan, devices.detector.info.buffer_frames, run.journal)
            played = begin_on(devices, config, sample, plan, run, overwrite=overwrite)
        return conclude(played, run)


def resume(path: Path, asked: AcquisitionConfig | None = None, *, observer: Observer | None = None) -> RunResult:
    """Go on with a run that did not finish, from the block after the last committed one.

    asked: the acquisition file as it is now, if one is given; it must say what the run's own does. Where only the image
    is missing, no device is touched. Raises DifferentRunError where configuration, mask, schedule or device differ from
    the run's, NothingToResumeError where it has finished, PartOfSeriesError, RunInUseError, NotARunError, and what
    ``acquire`` raises.
    """
    observer = Observer() if observer is None else observer
    with orderly_interrupts(), Ending() as ending:
        run = RunInProgress[RunStore](observer, _remedy(path))
        ending.push(run.end)
        run.store = RunStore.reopen(path)
        resumption = Resumption.of(path, asked)
        resumption.must_stand_alone()
        played = go_on_with(lambda: connected_devices(resumption.config, resumption.sample), resumption, run)
        return conclude(played, run)


def make_ready(config: AcquisitionConfig, plan: SensingPlan) -> None:
    """While nothing is lit, connected or overwritten: it takes seconds, and a network may turn out not to work."""
    warm_up(config, plan.image_prior, _network(plan))


def begin_on(
    devices: ConnectedDevices,
    config: AcquisitionConfig,
    sample: NDArray[np.float64] | None,
    plan: SensingPlan,
    run: RunInProgress[RunStore],
    *,
    overwrite: bool = False,
    facts: dict[str, Any] | None = None,
    lit_before: int = 0,
) -> Played:
    """Play a run from its beginning to its last block, on devices that are connected.

    sample: light of every pixel float64 [n, n] that the plan was made for; plan: made for the detector's buffer (see
    acquisition.bench_check.shortened_plan); facts: JSON-able, kept with the run beside its own; lit_before: exposures
    that the same place has had in other runs, which count for the dose. The light is off afterwards, and the run is
    marked where it does not get there. Raises what ``acquire`` raises.
    """
    observer = run.observer
    readout = check_bench(config, plan.schedule, devices)
    info = devices.detector.info
    check_noise_calibration(config, info)
    check_dose(config, plan)
    check_light(plan)
    frames = kept_frames(config, info)
    check_room(config.output.run, plan.schedule, 0 if frames is None else frames.n_bytes, config.output.snapshots)
    if observer.on_schedule is not None:
        observer.on_schedule(plan.schedule)
    began_us = devices.clock_us()
    controller = Controller(devices, _renderer(config), _rules(config, lit_before), run.journal)
    run.controller = controller
    dark = controller.measure_dark_level(config.blocks.dark_exposures)
    must_stay_within_dose(config, controller.accepted_timing, lit_before, plan.schedule.n_exposures)
    observer.confirm_light(config.simulated, plan.schedule.n_exposures)
    dark_under_light = devices.light_source.is_on()
    all_facts = {
        **facts_of_file(config),
        "recipe": "hadamard",
        "noise_calibration": calibration_on_record(config),
        **devices_on_record(devices, controller),
        "models": plan.models.on_record(),
        "readout": asdict(readout),
        "schedule": plan.schedule.digest,
        "buffer_frames": info.buffer_frames,
        "dark_under_light": dark_under_light,
        "began_us": began_us,
        "bench_state": devices.bench_state(),
        "sample": None if sample is None else sample_digest(sample),
        **(facts or {}),
    }
    run.store = RunStore.create(
        config.output.run,
        plan.schedule,
        _described(plan),
        all_facts,
        dark=dark,
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
        return _play(config, sample, plan, devices, collector, run)


def go_on_with(
    connected: Callable[[], AbstractContextManager[ConnectedDevices]],
    resumption: Resumption,
    run: RunInProgress[RunStore],
    *,
    lit_before: int = 0,
) -> Played:
    """Play what is left of a run whose store was reopened, to its last block.

    connected: gives the devices; not called where every block is there. lit_before: see ``begin_on``. Raises what
    ``resume`` raises.
    """
    config, sample, plan, first = resumption.config, resumption.sample, resumption.plan, resumption.first_block
    observer = run.observer
    left = sum(block.n_exposures for block in plan.schedule.blocks[first:])
    must_stay_within_dose(config, resumption.accepted_timing, lit_before + resumption.lit_exposures, left)
    if observer.on_schedule is not None:
        observer.on_schedule(plan.schedule)
    if not left:
        _begin_again(run, resumption)
        evidence = resumption.collector(observer.on_block).snapshot()
        return Played(config, sample, plan, evidence, resumption.run.live_record, ())
    make_ready(config, plan)
    with connected() as devices:
        check_bench(config, plan.schedule, devices)
        resumption.check_devices(devices)
        run.controller = Controller(
            devices,
            _renderer(config),
            _rules(config, lit_before),
            run.journal,
            elapsed_us=resumption.elapsed_us_on(devices.clock_us()),
            lit_exposures=resumption.lit_exposures,
        )
        observer.confirm_light(config.simulated, left)
        _begin_again(run, resumption)
        collector = resumption.collector(observer.on_block)
        continuation = Continuation(
            first, lambda: devices.restore_bench(resumption.bench_state), resumption.check_timing
        )
        with run.marked():
            return _play(config, sample, plan, devices, collector, run, continuation)


def conclude(played: Played, run: RunInProgress[RunStore]) -> RunResult:
    """The image, and all that can be said only at the end; the light is off."""
    config, plan, sample = played.config, played.plan, played.sample
    assert run.store is not None
    store, evidence = run.store, played.evidence
    reconstruction = reconstruct(evidence, config, plan.image_prior, _network(plan))
    store.write_statistics(evidence.statistics)
    store.write_image("wiener", reconstruction.wiener, config.px_um)
    store.write_image("image", reconstruction.image, config.px_um)
    if reconstruction.uncertainty is not None:
        store.write_image("uncertainty", reconstruction.uncertainty, config.px_um)
    store.write_live_record(played.live_record)
    if sample is not None:
        store.write_image("sample", sample, config.px_um)
    stored = StoredRun(store.path)
    write_snapshots(stored, config, plan.image_prior, _network(plan))
    check, disagreements = check_run(stored)
    beyond_training = plan.models.warnings(config, float(reconstruction.image.max()), evidence.background)
    seen_now = [*disagreements, *beyond_training]
    for warning in seen_now:
        run.journal.add(EventKind.WARNING, warning)
    warnings = [*played.warnings, *seen_now]
    try:
        draw_result(config.output.picture_path, reconstruction, evidence, config, sample)
    except Exception as error:  # a picture that cannot be drawn does not make a measured run a failed one
        warnings.append(f"the picture could not be drawn: {error!r}; `hadascope reconstruct` draws it again")
    events = list(read_events(store.path))
    repeated = Counter(event.facts["cause"] for event in events if event.kind is EventKind.BLOCK_REPEATED)
    given_up = Counter(event.facts["cause"] for event in events if event.kind is EventKind.BLOCK_FAILED)
    run.finish(
        f"{evidence.n_blocks} blocks, {evidence.n_pairs} pairs, light off",
        repeated_blocks=dict(repeated),
        residual_risk_bound=_residual_risk_bound(config, plan, repeated + given_up),
        warnings=warnings,
        reference_total=evidence.reference_total,
        dark_level=evidence.dark_level,
        lit_dark_level=evidence.lit_dark_level,
        forecast_mse=reconstruction.forecast_mse,
        predicted_mse=reconstruction.predicted_mse,
        **measured_at_the_end(stored, config, evidence, reconstruction),
        self_check=check,
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


def _remedy(path: Path) -> str:
    return f"the run can be resumed: hadascope resume {path}"


def _network(plan: SensingPlan) -> TrainedModel | None:
    return None if plan.models.network is None else plan.models.network.model


def _rules(config: AcquisitionConfig, lit_before: int) -> PlayRules:
    """How a run is played at a place that has had so many exposures in others."""
    rules = play_rules(config)

    def within(illumination_time_us: float) -> int | None:
        most = rules.lit_exposures_within(illumination_time_us)
        return None if most is None else most - lit_before

    return replace(rules, lit_exposures_within=within) if lit_before else rules


def _begin_again(run: RunInProgress[RunStore], resumption: Resumption) -> None:
    """Tell of a run that is resumed, and mark it as running."""
    assert run.store is not None
    first, n_blocks = resumption.first_block, len(resumption.plan.schedule.blocks)
    text = f"from block {first} of {n_blocks}, after it {resumption.ended}"
    dark_level = detector_dark_level(resumption.run.dark, resumption.run.facts["dark_under_light"])
    run.begin(EventKind.RESUMED, text, first_block=first, level=dark_level)
    run.store.annotate(
        state=RunState.RUNNING,
        cause=None,
        lit_exposures=resumption.lit_exposures,
        resumed=[*resumption.run.facts.get("resumed", []), now()],
    )


def _play(
    config: AcquisitionConfig,
    sample: NDArray[np.float64] | None,
    plan: SensingPlan,
    devices: ConnectedDevices,
    collector: EvidenceCollector,
    run: RunInProgress[RunStore],
    continuation: Continuation | None = None,
) -> Played:
    assert run.store is not None
    assert run.controller is not None
    observer, journal = run.observer, run.journal
    with Ending() as ending:
        writer = StoreWriter(run.store, patience_s=patience_s(config))
        ending.callback(writer.close)
        live = LivePipeline(collector, config, plan.image_prior, _network(plan), on_image=observer.on_image)
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
    linear_up_to = (run.store.facts["noise_calibration"] or {}).get("linear_up_to")
    warnings = list(_warnings(evidence, linear_up_to, live.failure, devices.light_source.is_on()))
    for warning in warnings:
        journal.add(EventKind.WARNING, warning)
    return Played(config, sample, plan, evidence, live.record, tuple(warnings))


def _warnings(
    evidence: Evidence, linear_up_to: float | None, live_failure: Exception | None, light_stays_on: bool
) -> Iterator[str]:
    if evidence.saturated:
        yield (
            f"{evidence.saturated} exposures saturated the detector and read too little: lower the light, or spread it "
            "over more pixels"
        )
    brightest = evidence.reference_total + evidence.background
    if linear_up_to is not None and brightest > _BEYOND_CALIBRATED * linear_up_to:
        yield (
            f"bright pictures send {brightest:.5g} detector units of light, and the calibration found the detector "
            f"linear up to {linear_up_to:.5g}: beyond, it was not measured or reads wrong. Lower the light, or "
            "calibrate with as much of it"
        )
    if light_stays_on:
        yield (
            "the light cannot be switched off: the detector's dark level was not measured but taken from its stated "
            "offset, and what dark pictures read beyond it counts as background"
        )
    if live_failure is not None:
        yield f"the live view ended early: {live_failure!r}"


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


def _summary(config: AcquisitionConfig, plan: SensingPlan) -> str:
    sensing, schedule = config.sensing, plan.schedule
    return (
        f"{sensing.side} × {sensing.side} px, {schedule.n_pairs} pairs in {len(schedule.blocks)} blocks and "
        f"{len(schedule.banks)} banks on {'simulated' if config.simulated else 'real'} devices"
    )


def _described(plan: SensingPlan) -> dict[str, NDArray[Any]]:
    """What M was drawn from; and the prior, where it came from images or a model, so that they are not needed again."""
    prior = plan.image_prior
    prior_arrays = {} if prior is None else {"prior_mean": prior.mean, "prior_variance": prior.variance}
    return {"mask": plan.mask, **prior_arrays}
