"""A series of images: every event of a sequence is one acquisition, played on devices that stay connected.

Between two images the light is off: the series waits until the next event is due, and the microscope moves and is read
back. The time of a series counts from the beginning of its first event; while a series is broken off it stands still,
so that the intervals of what is left are kept when it goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquisition.bench_check import check_bench
from acquisition.calibration_identity import check_noise_calibration
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.dmd_region import dmd_region
from acquisition.events import EventKind
from acquisition.interrupts import Ending, orderly_interrupts
from acquisition.mda import SeriesEvent, series_events
from acquisition.observer import Observer
from acquisition.preflight import must_stay_within_dose
from acquisition.resumption import (
    NothingToResumeError,
    must_be_the_same_devices,
    must_be_the_same_file,
)
from acquisition.run import make_ready
from acquisition.run_facts import devices_on_record, facts_of_file
from acquisition.run_in_progress import RunInProgress, now
from acquisition.run_layout import RunState
from acquisition.run_rules import play_rules
from acquisition.run_store import RunStore
from acquisition.series_in_progress import SeriesInProgress, SeriesResult
from acquisition.series_plan import (
    SeriesPlan,
    check_series_dose,
    check_series_output,
    light_between_images,
    plan_series,
    planned_on,
)
from acquisition.series_so_far import SeriesSoFar
from acquisition.series_store import SeriesStore
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries
from devices.microscope import Pose
from devices.projector import Timing
from models.pictures import PictureRenderer


def acquire_series(
    config: AcquisitionConfig, *, overwrite: bool = False, observer: Observer | None = None
) -> SeriesResult:
    """Play all events of a configuration's sequence, from the file to one image each.

    Before any device is touched every event is planned, and output, dose (of all events at one place) and light are
    checked; before anything is written or overwritten the devices have accepted the timing under dark pictures, the
    microscope has been asked for every pose, and the light of all events has been confirmed once. An event that fails
    ends the series in the order in which a run ends: light off, event and series marked, devices freed. Everything so
    far is kept, and ``resume_series`` goes on. Raises what acquisition.run.acquire raises, PoseRefusedError,
    PoseMissedError, and what moving the microscope raises.
    """
    observer = Observer() if observer is None else observer
    planned = plan_series(config)
    check_series_dose(config, planned)
    check_series_output(config, planned, overwrite=overwrite)
    make_ready(config, planned.first)
    with orderly_interrupts(), Ending() as ending:
        series = RunInProgress[SeriesStore](observer, _remedy(config.output.run))
        ending.push(series.end)
        with connected_devices(config, sample_on_stage(config)) as devices:
            start = devices.microscope.move_to(Pose())
            assert config.mda is not None
            events = series_events(config.mda, start)
            planned = planned_on(config, planned, devices.detector.info.buffer_frames, series.journal)
            controller = _tried(config, planned, events, devices, series)
            _must_all_stay_within_dose(config, controller.accepted_timing, {}, planned.exposures_by_place)
            observer.confirm_light(config.simulated, planned.exposures)
            facts = {
                **facts_of_file(config),
                **devices_on_record(devices, controller),
                "microscope": asdict(devices.microscope.info),
                "start_pose": asdict(start),
                "bench_state": devices.bench_state(),
                "zero_us": None,
                "lit_by_place": {},
                "warnings": [],
            }
            series.store = SeriesStore.create(config.output.run, config, facts, overwrite=overwrite)
            where = "simulated" if config.simulated else "real"
            series.begin(EventKind.STARTED, f"{len(events)} images on {where} devices")
            with series.marked():
                played = SeriesInProgress(config, events, devices, series, start)
                if (light := light_between_images(config)) is not None:
                    played.warn(light)
                for event in events:
                    played.begin(event)
        return played.finished()


def resume_series(
    path: Path, asked: AcquisitionConfig | None = None, *, observer: Observer | None = None
) -> SeriesResult:
    """Go on with a series that did not finish, event by event.

    What has finished is skipped, an event that began goes on block by block, and those that are missing are acquired. A
    plane that was not written yet is written from its event's image; where nothing else is missing, no device is
    touched. asked: see acquisition.run.resume. Raises what that and ``acquire_series`` raise.
    """
    observer = Observer() if observer is None else observer
    with orderly_interrupts(), Ending() as ending:
        series = RunInProgress[SeriesStore](observer, _remedy(path))
        ending.push(series.end)
        series.store = SeriesStore.reopen(path)
        stored = StoredSeries(path)
        config = stored.config
        if asked is not None:
            must_be_the_same_file(config, asked)
        events = stored.planned_events
        runs = {event.number: run for event in events if (run := stored.run_of(event)) is not None}
        left = [event for event in events if not _has_finished(runs.get(event.number))]
        unwritten = [each for each in events if each not in left and not runs[each.number].facts.get("plane_written")]
        if not left and not unwritten and stored.marked_state is RunState.FINISHED:
            raise NothingToResumeError(f"{path} has finished: there is nothing to resume")
        before = SeriesSoFar.of(stored, events, runs)
        if not left:
            _begin_again(series, stored, len(events))
            with series.marked():
                for event in unwritten:
                    _write_planes(series.store, event, runs[event.number].path)
            return SeriesInProgress(config, events, None, series, stored.start_pose, before).finished()
        planned = plan_series(config)
        accepted = Timing(**stored.facts["accepted_timing"])
        _must_all_stay_within_dose(config, accepted, before.lit_by_place, _to_come(planned, left, runs))
        make_ready(config, planned.first)
        with connected_devices(config, sample_on_stage(config)) as devices:
            check_bench(config, planned.first.schedule, devices)
            must_be_the_same_devices(stored.facts["devices"], devices)
            for event in left:
                devices.microscope.check(event.pose)
            planned = planned_on(config, planned, devices.detector.info.buffer_frames, series.journal)
            to_come = _to_come(planned, left, runs)
            _must_all_stay_within_dose(config, accepted, before.lit_by_place, to_come)
            observer.confirm_light(config.simulated, sum(to_come.values()))
            _begin_again(series, stored, len(events) - len(left))
            with series.marked():
                for event in unwritten:
                    _write_planes(series.store, event, runs[event.number].path)
                played = SeriesInProgress(config, events, devices, series, stored.start_pose, before)
                played.return_to_start()
                for event in left:
                    if event.number in runs:
                        played.go_on(event)
                    else:
                        played.begin(event)
        return played.finished()


def _remedy(path: Path) -> str:
    return f"the series can be resumed: hadascope resume {path}"


def _tried(
    config: AcquisitionConfig,
    planned: SeriesPlan,
    events: tuple[SeriesEvent, ...],
    devices: ConnectedDevices,
    series: RunInProgress[SeriesStore],
) -> Controller:
    """Ask the devices for all that the series needs of them; the controller of the trial, under dark pictures."""
    check_bench(config, planned.first.schedule, devices)
    check_noise_calibration(config, devices.detector.info)
    for event in events:
        devices.microscope.check(event.pose)
    controller = Controller(devices, PictureRenderer(dmd_region(config)).render, play_rules(config), series.journal)
    controller.measure_dark_level(config.blocks.dark_exposures)
    return controller


def _must_all_stay_within_dose(
    config: AcquisitionConfig, accepted: Timing | None, lit: dict[int, int], left: dict[int, int]
) -> None:
    """Raise DoseLimitError where what is left to play exceeds the limit at any place."""
    for place, exposures in left.items():
        must_stay_within_dose(config, accepted, lit.get(place, 0), exposures)


def _to_come(planned: SeriesPlan, left: Sequence[SeriesEvent], runs: Mapping[int, StoredRun]) -> dict[int, int]:
    """Exposures that every place is to get from the events that are left, by SeriesEvent.place."""
    exposures = {each.event.number: each.exposures for each in planned.events}
    to_come: dict[int, int] = defaultdict(int)
    for event in left:
        so_far = runs[event.number].n_exposures if event.number in runs else 0
        to_come[event.place] += max(exposures[event.number] - so_far, 0)
    return dict(to_come)


def _begin_again(series: RunInProgress[SeriesStore], stored: StoredSeries, n_finished: int) -> None:
    assert series.store is not None
    ended = "was interrupted" if stored.marked_state is RunState.RUNNING else f"was {stored.marked_state}"
    series.begin(EventKind.RESUMED, f"{n_finished} of {len(stored.planned_events)} images are there; it {ended}")
    resumed = [*stored.facts.get("resumed", []), now()]
    series.store.annotate(state=RunState.RUNNING, cause=None, resumed=resumed)


def _has_finished(run: StoredRun | None) -> bool:
    return run is not None and run.marked_state is RunState.FINISHED


def _write_planes(store: SeriesStore, event: SeriesEvent, path: Path) -> None:
    """Write the planes of an event that finished before they were written."""
    run = StoredRun(path)
    uncertainty: NDArray[np.float64] | None = run.image("uncertainty") if run.has_image("uncertainty") else None
    store.write_event(event, run.image("image"), uncertainty)
    written = RunStore.reopen(path)
    try:
        written.annotate(plane_written=True)
    finally:
        written.close()
