"""A series that is being played: one event after the other, on devices that stay connected, dark between them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.events import EventKind
from acquisition.interrupts import Ending
from acquisition.mda import SeriesEvent, described
from acquisition.observer import Place
from acquisition.resumption import EVENT_PICTURE, Resumption
from acquisition.run import RunResult, begin_on, conclude, go_on_with
from acquisition.run_in_progress import RunInProgress
from acquisition.run_store import RunStore
from acquisition.series_plan import Plans, due_of, is_too_late
from acquisition.series_so_far import SeriesSoFar
from acquisition.series_store import SeriesStore
from acquisition.stored_run import StoredRun
from acquisition.stored_series import event_path
from devices.microscope import Pose

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


def event_config(config: AcquisitionConfig, event: SeriesEvent) -> AcquisitionConfig:
    """The acquisition of one event of a series: its run in a folder of its own, its picture inside that."""
    run = event_path(config.output.run, event)
    output = config.output.model_copy(update={"run": run, "picture": run / EVENT_PICTURE})
    return config.replace(mda=None, output=output)


class SeriesInProgress:
    """Plays the events of a series; what it has behind it, and what became of it."""

    def __init__(
        self,
        config: AcquisitionConfig,
        events: tuple[SeriesEvent, ...],
        devices: ConnectedDevices | None,
        series: RunInProgress[SeriesStore],
        start: Pose,
        before: SeriesSoFar | None = None,
    ) -> None:
        """devices: None where nothing is left to play; start: where the microscope stood when the series began."""
        self._config, self._events, self._series, self._start = config, events, series, start
        self._connected = devices
        # The light of all events was confirmed before the first one.
        self._observer = replace(series.observer, confirm=lambda _: True)
        self._plans = Plans(config, None if devices is None else devices.detector.info.buffer_frames)
        self._results: list[RunResult] = []
        self._warnings = [] if before is None else list(before.warnings)
        self._begun_s = {} if before is None else dict(before.begun_s)
        self._lit = {} if before is None else dict(before.lit)
        self._lit_by_place = dict.fromkeys((event.place for event in events), 0)
        self._lit_by_place.update({} if before is None else before.lit_by_place)
        self._note_light()
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

    def return_to_start(self) -> None:
        """Move what no event moves, and somebody may have moved since, to where it stood when the series began."""
        axes = ("x_um", "y_um", "z_um")
        unnamed = [axis for axis in axes if all(getattr(event.pose, axis) is None for event in self._events)]
        self._move_to(Pose(**{axis: getattr(self._start, axis) for axis in unnamed}))

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

    def warn(self, *warnings: str, told: bool = False) -> None:
        """Say what somebody should know, and put it on record; told: the journal of the event knows already."""
        for warning in warnings:
            self._warnings.append(warning)
            if not told:
                self._series.journal.add(EventKind.WARNING, warning)
        self._series.facts_so_far.update(warnings=list(self._warnings))

    def finished(self) -> SeriesResult:
        """Mark the series as finished; what it left."""
        self._series.finish(f"{len(self._events)} images, light off, devices free", **self._series.facts_so_far)
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
        if run.observer.on_image is not None:
            run.observer.on_image(result.last_image)
        run.store.annotate(plane_written=True)
        self._results.append(result)
        self.warn(*(f"{event.words}: {warning}" for warning in result.warnings), told=True)
        self._store.annotate(**self._series.facts_so_far)

    def _announce(self, event: SeriesEvent) -> None:
        if self._series.observer.on_place is not None:
            self._series.observer.on_place(Place(event.number, len(self._events), event.words))

    def _tell(self, event: SeriesEvent, reached: Pose, late_s: float) -> None:
        text = f"{event.number + 1} of {len(self._events)}: {event.words}; {described(reached)}"
        self._series.journal.add(EventKind.IMAGE, text, number=event.number, name=event.name, late_s=late_s)
        if is_too_late(event, late_s):
            self.warn(
                f"{event.words} begins {late_s:.1f} s late: the images before it took longer than the interval of "
                f"{event.interval_s:g} s"
            )

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
        """Also of an event that fails: its run may be deleted before the series goes on."""
        if run.controller is not None:
            had, self._lit[event.number] = self._lit.get(event.number, 0), run.controller.lit_exposures
            self._lit_by_place[event.place] += self._lit[event.number] - had
            self._note_light()

    def _note_light(self) -> None:
        lit_by_place = {str(place): lit for place, lit in self._lit_by_place.items()}
        self._series.facts_so_far.update(lit_by_place=lit_by_place)

    def _lit_by_others(self, event: SeriesEvent) -> int:
        """Exposures that the event's place has had from others."""
        return self._lit_by_place[event.place] - self._lit.get(event.number, 0)
