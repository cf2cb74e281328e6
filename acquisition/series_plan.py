"""What a series would do: light at every place, time with its waiting, disk. Touches no device."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from acquisition.bench_check import shortened_plan
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.events import Journal
from acquisition.mda import SeriesEvent, series_events
from acquisition.plan import dose_mj, planned_frame_bytes, run_bytes
from acquisition.preflight import check_light, check_space, check_writable
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.run_time import predict_run_time
from acquisition.sensing_plan import SensingPlan, plan_sensing, run_rates
from acquisition.series_store import RECIPE, plane_bytes

# A time point that begins this much of the interval too late is worth a warning.
LATE_SHARE = 0.5
# Totals of a sample that is moved or blurred differ by rounding only; their plans are counted once.
_SAME_TOTAL_DIGITS = 9


@dataclass(frozen=True)
class PlannedEvent:
    """An event's figures: pairs, exposures, times in s, and the bytes its run takes at most.

    light_s: of its exposures; move_s: of the microscope on the way to it; duration_s: of its run.
    """

    event: SeriesEvent
    pairs: int
    exposures: int
    light_s: float
    move_s: float
    duration_s: float
    disk_bytes: int


@dataclass(frozen=True)
class SeriesPlan:
    """All events of a series before it happens; first, sample: plan and light of the first one."""

    events: tuple[PlannedEvent, ...]
    first: SensingPlan
    sample: NDArray[np.float64] | None
    disk_bytes: int

    @property
    def exposures_by_place(self) -> dict[int, int]:
        """Exposures that each place gets from all its events, by SeriesEvent.place."""
        exposures: dict[int, int] = defaultdict(int)
        for each in self.events:
            exposures[each.event.place] += each.exposures
        return dict(exposures)

    @property
    def exposures(self) -> int:
        """Exposures in all."""
        return sum(each.exposures for each in self.events)

    @property
    def light_s(self) -> float:
        """Seconds of light in all."""
        return sum(each.light_s for each in self.events)

    def timeline(self) -> Iterator[tuple[SeriesEvent, float, float]]:
        """Event, when it begins, and how late that is, s: the first one at 0, and all when the microscope is there."""
        now_s, begun_s = 0.0, dict[int, float]()
        for each in self.events:
            due_s = due_of(each.event, begun_s)
            now_s = max(now_s, due_s or 0.0) + (each.move_s if begun_s else 0.0)
            begun_s[each.event.number] = now_s
            yield each.event, now_s, now_s - (now_s if due_s is None else due_s)
            now_s += each.duration_s

    @property
    def total_s(self) -> float:
        """From the first event's beginning to the last one's end, with the waiting between them, s."""
        *_, (_, begin_s, _) = self.timeline()
        return begin_s + self.events[-1].duration_s

    @property
    def late_events(self) -> list[tuple[SeriesEvent, float]]:
        """The first event of every time point that begins too late to be left unsaid, and by how many s."""
        return [(event, late_s) for event, _, late_s in self.timeline() if is_too_late(event, late_s)]


class Plans:
    """Plans of images that differ in the light of their sample at most: each is made once, the latest are kept."""

    _MOST = 8

    def __init__(self, config: AcquisitionConfig, buffer_frames: int | None = None) -> None:
        """buffer_frames: of the connected detector, None where that is not known."""
        self._config, self._buffer_frames = config, buffer_frames
        self._plans: dict[float | None, SensingPlan] = {}

    def of(self, sample: NDArray[np.float64] | None) -> SensingPlan:
        """The plan for a sample float64 [n, n], None on a real stage. Raises what ``plan_sensing`` raises."""
        total = None if sample is None else float(sample.sum())  # all that a plan takes from a sample
        if total not in self._plans:
            while len(self._plans) >= self._MOST:
                del self._plans[next(iter(self._plans))]
            self._plans[total] = plan_sensing(self._config, sample, self._buffer_frames)
        return self._plans[total]


def plan_series(config: AcquisitionConfig, buffer_frames: int | None = None) -> SeriesPlan:
    """Plan every event of a series, as if the microscope stood at 0 now.

    buffer_frames: of the connected detector, None where that is not known. Raises AcquisitionFileError,
    SampleImageError, GuardsTooDimError where an event's light is too dim, and ValueError without a sequence.
    """
    if config.mda is None:
        raise ValueError("a series was asked for without a sequence; expected `mda` in the configuration")
    rates, frame_bytes = run_rates(config), planned_frame_bytes(config)
    plans: dict[float | None, _Figures] = {}
    totals: dict[object, float | None] = {}
    first: SensingPlan | None = None
    first_sample: NDArray[np.float64] | None = None
    planned = []
    for event in series_events(config.mda):
        key = event.pose if config.simulated else None
        if key not in totals:
            sample = sample_on_stage(config, event.pose)
            total = totals[key] = None if sample is None else float(f"{sample.sum():.{_SAME_TOTAL_DIGITS}g}")
            if total not in plans:
                plan = plan_sensing(config, sample, buffer_frames)
                check_light(plan)
                time = predict_run_time(plan.schedule, rates, config.blocks.dark_exposures)
                bytes_of_run = run_bytes(plan.schedule, frame_bytes, config.output.snapshots) + plane_bytes(config)
                schedule = plan.schedule
                plans[total] = _Figures(
                    schedule.n_pairs, schedule.n_exposures, time.light_s, time.total_s, bytes_of_run
                )
                if first is None:
                    first, first_sample = plan, sample
        of_run = plans[totals[key]]
        planned.append(
            PlannedEvent(
                event,
                of_run.pairs,
                of_run.exposures,
                of_run.light_s,
                _move_s(config, event),
                of_run.duration_s,
                of_run.disk_bytes,
            )
        )
    assert first is not None
    return SeriesPlan(tuple(planned), first, first_sample, sum(each.disk_bytes for each in planned))


def planned_on(
    config: AcquisitionConfig, planned: SeriesPlan, buffer_frames: int | None, journal: Journal
) -> SeriesPlan:
    """The series, planned anew where the detector's buffer shortens its blocks: their guards are light, too.

    Raises AcquisitionFileError where it cannot hold the shortest block, or the dose is beyond the limit then, and
    DiskFullError.
    """
    if shortened_plan(config, planned.sample, planned.first, buffer_frames, journal) is planned.first:
        return planned
    shortened = plan_series(config, buffer_frames)
    check_series_dose(config, shortened)
    check_space(config.output.run, shortened.disk_bytes)
    return shortened


def light_between_images(config: AcquisitionConfig) -> str | None:
    """What is to be said of the light between two images, None where it is off."""
    if config.devices.light_source.kind != "none":
        return None
    return (
        "the light is switched by hand: it stays on between the images, while the microscope moves and waits, and no "
        "dose counts that"
    )


def due_of(event: SeriesEvent, begun_s: dict[int, float]) -> float | None:
    """When an event begins at the earliest, s of the series' time; None: as soon as it can.

    begun_s: when events began, by their numbers.
    """
    if event.min_start_s is None or event.clock == event.number:
        return None
    return begun_s[event.clock] + event.min_start_s


def is_too_late(event: SeriesEvent, late_s: float) -> bool:
    """Whether a time point begins so late that it is worth a warning; with an interval of 0 s none is late."""
    return bool(event.interval_s) and late_s > LATE_SHARE * (event.interval_s or 0.0)


def check_series_dose(config: AcquisitionConfig, plan: SeriesPlan) -> None:
    """Raise AcquisitionFileError where the events at one place give the sample more than the limit."""
    limit = config.sample.dose_limit_mj
    most = max(plan.exposures_by_place.values())
    planned = dose_mj(config, most)
    if limit is None or planned is None or planned <= limit:
        return
    n_events = max(
        sum(each.event.place == place for each in plan.events)
        for place, exposures in plan.exposures_by_place.items()
        if exposures == most
    )
    problem = Problem(
        "sample.dose_limit_mj",
        f"{limit:g} mJ, and the {n_events} images at one place give the sample {planned:.4g} mJ",
        "a series within the limit: fewer images there, fewer pairs, less power or illumination time",
    )
    raise AcquisitionFileError("the acquisition file", [problem])


def check_series_output(
    config: AcquisitionConfig, plan: SeriesPlan, *, overwrite: bool, make_folders: bool = True
) -> None:
    """See that the series can be written. Raises what preflight.check_output raises."""
    check_writable(config.output.run, (), overwrite=overwrite, make_folders=make_folders, recipe=RECIPE)
    check_space(config.output.run, plan.disk_bytes)


class _Figures(NamedTuple):
    """What a plan comes to."""

    pairs: int
    exposures: int
    light_s: float
    duration_s: float
    disk_bytes: int


def _move_s(config: AcquisitionConfig, event: SeriesEvent) -> float:
    """How long the microscope is expected to move to an event's pose."""
    stage, pose = config.devices.stage, event.pose
    moves = [pose.channel is not None, pose.x_um is not None or pose.y_um is not None, pose.z_um is not None]
    return 1e-3 * (sum(moves) * stage.move_ms + stage.settle_ms)
