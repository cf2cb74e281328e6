"""A series of images: every event of a sequence is one acquisition, played on devices that stay connected.

Between two images the light is off: the series waits until the next event is due, and the microscope moves and is read
back. The time of a series counts from the beginning of its first event; while a series is broken off it stands still,
so that the intervals of what is left are kept when it goes on.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

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
from acquisition.observer import Observer, Place
from acquisition.preflight import must_stay_within_dose
from acquisition.resumption import (
    EVENT_PICTURE,
    NothingToResumeError,
    Resumption,
    must_be_the_same_devices,
    must_be_the_same_file,
)
from acquisition.run import RunResult, begin_on, conclude, go_on_with, make_ready
from acquisition.run_facts import devices_on_record, facts_of_file
from acquisition.run_in_progress import RunInProgress, now
from acquisition.run_layout import RunState
from acquisition.run_rules import play_rules
from acquisition.run_store import RunStore
from acquisition.series_plan import (
    Plans,
    SeriesPlan,
    check_series_dose,
    check_series_output,
    due_of,
    is_too_late,
    plan_series,
)
from acquisition.series_store import SeriesStore
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, event_path
from devices.microscope import Pose
from devices.projector import Timing
from models.pictures import PictureRenderer

# Waiting is cut into pieces, so that requests to end are heard on any system.
_LONGEST_WAIT_S: Final = 0.25
_FROM_THE_START: Final = -1


@dataclass(frozen=True)
class SeriesResult:
    """What a finished series left behind.

    n_events: all of them; n_played: of these now, not before; psnr: of the images acquired now against the simulated
    sample, dB, None on a real stage; repeated: blocks played again.
    """

    series: Path
    n_events: int
    n_played: int
    psnr: tuple[float, ...] | None
    warnings: tuple[str, ...]
    repeated: int


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
                played = _Series(config, events, devices, series, start)
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
        if not left:
            _begin_again(series, stored, len(events))
            with series.marked():
                for event in unwritten:
                    _write_planes(series.store, event, runs[event.number].path)
            return _Series(config, events, None, series, stored.start_pose).finished()
        planned = plan_series(config)
        exposures = {each.event.number: each.exposures for each in planned.events}
        accepted = Timing(**stored.facts["accepted_timing"])
        before = _Before.of(stored, events, runs)
        to_come: dict[int, int] = {}
        for event in left:
            so_far = runs[event.number].n_exposures if event.number in runs else 0
            to_come[event.place] = to_come.get(event.place, 0) + max(exposures[event.number] - so_far, 0)
        _must_all_stay_within_dose(config, accepted, before.lit_by_place, to_come)
        make_ready(config, planned.first)
        with connected_devices(config, sample_on_stage(config)) as devices:
            check_bench(config, planned.first.schedule, devices)
            must_be_the_same_devices(stored.facts["devices"], devices)
            for event in left:
                devices.microscope.check(event.pose)
            observer.confirm_light(config.simulated, sum(to_come.values()))
            _begin_again(series, stored, len(events) - len(left))
            with series.marked():
                for event in unwritten:
                    _write_planes(series.store, event, runs[event.number].path)
                played = _Series(config, events, devices, series, stored.start_pose, before)
                for event in left:
                    if event.number in runs:
                        played.go_on(event)
                    else:
                        played.begin(event)
        return played.finished()


def event_config(config: AcquisitionConfig, event: SeriesEvent) -> AcquisitionConfig:
    """The acquisition of one event of a series: its run in a folder of its own, its picture inside that."""
    run = event_path(config.output.run, event)
    output = config.output.model_copy(update={"run": run, "picture": run / EVENT_PICTURE})
    return config.replace(mda=None, output=output)


def described(pose: Pose) -> str:
    """A pose for people."""
    said = [
        f"{axis} = {value:g} µm"
        for axis, value in (("x", pose.x_um), ("y", pose.y_um), ("z", pose.z_um))
        if value is not None
    ]
    said += [] if pose.channel is None else [f"{pose.channel[0]} = {pose.channel[1]}"]
    return ", ".join(said) or "the microscope is left as it is"


@dataclass(frozen=True)
class _Before:
    """What a series that goes on has behind it.

    begun_s: when events began, by number; elapsed_s: the series' time so far; zero_us: of a simulated bench's clock,
    when the first event began, None where none did; lit: exposures under light, by event; lit_by_place: the same by
    place, those of events whose runs were deleted since included; bench_state: before the first event; warnings: so
    far.
    """

    begun_s: dict[int, float]
    elapsed_s: float
    zero_us: float | None
    lit: dict[int, int]
    lit_by_place: dict[int, int]
    bench_state: tuple[float, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, stored: StoredSeries, events: tuple[SeriesEvent, ...], runs: dict[int, StoredRun]) -> _Before:
        begun_s = {number: float(run.facts["event"]["begun_s"]) for number, run in runs.items()}
        latest = max(begun_s, key=lambda number: begun_s[number], default=None)
        lit = {number: _lit(run) for number, run in runs.items()}
        lit_by_place = {int(place): int(had) for place, had in stored.facts["lit_by_place"].items()}
        for place in {event.place for event in events}:
            had = sum(lit.get(event.number, 0) for event in events if event.place == place)
            lit_by_place[place] = max(had, lit_by_place.get(place, 0))
        return cls(
            begun_s=begun_s,
            elapsed_s=0.0 if latest is None else begun_s[latest] + _duration_s(runs[latest]),
            zero_us=stored.facts["zero_us"],
            lit=lit,
            lit_by_place=lit_by_place,
            bench_state=tuple(stored.facts["bench_state"]),
            warnings=tuple(stored.facts["warnings"]),
        )


class _Series:
    """A series that is being played."""

    def __init__(
        self,
        config: AcquisitionConfig,
        events: tuple[SeriesEvent, ...],
        devices: ConnectedDevices | None,
        series: RunInProgress[SeriesStore],
        start: Pose,
        before: _Before | None = None,
    ) -> None:
        """devices: None where nothing is left to play; start: where the microscope stood when the series began."""
        self._config, self._events, self._series, self._start = config, events, series, start
        self._connected = devices
        # The light of all events was confirmed before the first one.
        self._observer = replace(series.observer, confirm=lambda _: True)
        self._plans = Plans(config)
        self._results: list[RunResult] = []
        self._warnings = [] if before is None else list(before.warnings)
        self._begun_s = {} if before is None else dict(before.begun_s)
        self._lit = {} if before is None else dict(before.lit)
        self._lit_by_place = dict.fromkeys((event.place for event in events), 0)
        self._lit_by_place.update({} if before is None else before.lit_by_place)
        self._first_state = None if before is None else before.bench_state
        # Number of the event after which a simulated bench's clock and sample are; None: somewhere else.
        self._bench_is_after: int | None = _FROM_THE_START if before is None else None
        self._zero_us: float | None = None
        if before is not None and devices is not None:
            elapsed_us = before.elapsed_s * 1e6
            self._zero_us = before.zero_us if config.simulated else devices.clock_us() - elapsed_us

    @property
    def _devices(self) -> ConnectedDevices:
        assert self._connected is not None
        return self._connected

    @property
    def _store(self) -> SeriesStore:
        assert self._series.store is not None
        return self._series.store

    def begin(self, event: SeriesEvent) -> None:
        """Wait until an event is due, move there, and acquire its image."""
        self._announce(event)
        self._bring_bench_to(event)
        self._wait_until_due(event)
        reached = self._move_to(event.pose)
        begun_s = self._time_s()
        due_s = due_of(event, self._begun_s)
        late_s = 0.0 if due_s is None else begun_s - due_s
        self._begun_s[event.number] = begun_s
        self._tell(event, reached, late_s)
        config = event_config(self._config, event)
        sample = sample_on_stage(config, reached)
        facts = {
            "number": event.number,
            "index": list(event.index),
            "words": event.words,
            "pose": asdict(event.pose),
            "read_back": asdict(reached),
            "begun_s": begun_s,
            "late_s": late_s,
        }
        with Ending() as ending:
            run = self._run_of(event, ending)
            try:
                lit_before = self._lit_by_others(event)
                played = begin_on(
                    self._devices,
                    config,
                    sample,
                    self._plans.of(sample),
                    run,
                    facts={"event": facts},
                    lit_before=lit_before,
                )
            finally:
                self._count_light(event, run)
            self._bench_is_after = event.number
            self._conclude(event, conclude(played, run), run)

    def go_on(self, event: SeriesEvent) -> None:
        """Move to where an event began that did not finish, and play what is left of it."""
        self._announce(event)
        self._move_to(event.pose)
        path = event_path(self._store.path, event)
        with Ending() as ending:
            run = self._run_of(event, ending)
            run.store = RunStore.reopen(path)
            resumption = Resumption.of(path)
            try:
                lit_before = self._lit_by_others(event)
                played = go_on_with(lambda: nullcontext(self._devices), resumption, run, lit_before=lit_before)
            finally:
                self._count_light(event, run)
            # Where every block was there nothing was played.
            self._bench_is_after = None if run.controller is None else event.number
            self._conclude(event, conclude(played, run), run)

    def finished(self) -> SeriesResult:
        """Mark the series as finished; what it left."""
        self._series.finish(f"{len(self._events)} images, light off, devices free")
        psnr = tuple(result.psnr for result in self._results if result.psnr is not None)
        return SeriesResult(
            series=self._store.path,
            n_events=len(self._events),
            n_played=len(self._results),
            psnr=psnr if self._config.simulated else None,
            warnings=tuple(self._warnings),
            repeated=sum(result.repeated for result in self._results),
        )

    def _run_of(self, event: SeriesEvent, ending: Ending) -> RunInProgress[RunStore]:
        run = RunInProgress[RunStore](self._observer, f"it was image {event.number + 1} of {len(self._events)}")
        ending.push(run.end)
        return run

    def _conclude(self, event: SeriesEvent, result: RunResult, run: RunInProgress[RunStore]) -> None:
        """Write the planes of an event that has finished, and say so with its run, so that none is forgotten."""
        assert run.store is not None
        self._store.write_event(event, result.reconstruction.image, result.reconstruction.uncertainty)
        run.store.annotate(plane_written=True)
        self._results.append(result)
        self._warn(*(f"{event.words}: {warning}" for warning in result.warnings), told=True)
        lit_by_place = {str(place): lit for place, lit in self._lit_by_place.items()}
        self._store.annotate(lit_by_place=lit_by_place, warnings=self._warnings)

    def _announce(self, event: SeriesEvent) -> None:
        if self._series.observer.on_place is not None:
            self._series.observer.on_place(Place(event.number, len(self._events), event.words))

    def _tell(self, event: SeriesEvent, reached: Pose, late_s: float) -> None:
        text = f"{event.number + 1} of {len(self._events)}: {event.words}; {described(reached)}"
        self._series.journal.add(EventKind.IMAGE, text, number=event.number, name=event.name, late_s=late_s)
        if is_too_late(event, late_s):
            self._warn(
                f"{event.words} begins {late_s:.1f} s late: the images before it took longer than the interval of "
                f"{event.interval_s:g} s"
            )

    def _warn(self, *warnings: str, told: bool = False) -> None:
        """told: the journal of the event knows already."""
        for warning in warnings:
            self._warnings.append(warning)
            if not told:
                self._series.journal.add(EventKind.WARNING, warning)

    def _time_s(self) -> float:
        """The series' time; it begins when it is first asked for, at the first event."""
        clock_us = self._devices.clock_us()
        if self._zero_us is None:
            self._zero_us = clock_us
            self._store.annotate(zero_us=clock_us if self._config.simulated else None)
        return (clock_us - self._zero_us) * 1e-6

    def _wait_until_due(self, event: SeriesEvent) -> None:
        due_s = due_of(event, self._begun_s)
        if due_s is None:
            return
        while (left_s := due_s - self._time_s()) >= 1e-6:
            self._devices.wait(min(left_s, _LONGEST_WAIT_S))

    def _move_to(self, pose: Pose) -> Pose:
        self._devices.light_source.off()
        return self._devices.microscope.move_to(pose)

    def _bring_bench_to(self, event: SeriesEvent) -> None:
        """Have a simulated bench, and the microscope, as they were when the event before this one had ended."""
        after = event.number - 1
        if self._bench_is_after == after:
            return
        self._move_to(self._start if after == _FROM_THE_START else self._events[after].pose)
        if not self._config.simulated:
            self._bench_is_after = after
            return
        state = self._first_state
        if after != _FROM_THE_START:
            *_, last = StoredRun(event_path(self._store.path, self._events[after])).blocks()
            state = last.bench_state
        assert state is not None
        self._devices.restore_bench(state)
        self._bench_is_after = after

    def _count_light(self, event: SeriesEvent, run: RunInProgress[RunStore]) -> None:
        if run.controller is not None:
            had, self._lit[event.number] = self._lit.get(event.number, 0), run.controller.lit_exposures
            self._lit_by_place[event.place] += self._lit[event.number] - had

    def _lit_by_others(self, event: SeriesEvent) -> int:
        """Exposures that the event's place has had from others."""
        return self._lit_by_place[event.place] - self._lit.get(event.number, 0)


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


def _lit(run: StoredRun) -> int:
    facts: dict[str, Any] = run.facts
    return max(run.lit_exposures, int(facts.get("lit_exposures", 0)))


def _duration_s(run: StoredRun) -> float:
    """From a run's beginning to its last reading, s."""
    *_, end_us = [0.0, *(float(readings.time_us.max()) for readings in run.intact_blocks())]
    return end_us * 1e-6
