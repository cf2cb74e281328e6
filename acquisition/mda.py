"""The images of a series as plain data: useq's MDASequence, and every event of it.

The words are useq's (https://pymmcore-plus.github.io/useq-schema): t time points, p positions, c channels, z planes.
Every event is one compressed-sensing image. What a sequence may ask for says acquisition.mda_problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import useq

from devices.microscope import Pose

AXES: Final = ("t", "p", "c", "z")


@dataclass(frozen=True)
class SeriesEvent:
    """One image of a series.

    number: from 0, in the order in which they are acquired; index: (t, p, c, z), 0 where the sequence has no such axis;
    pose: where the microscope is moved to; place: number of the first position with the same x and y, at which the
    light of all its events adds up; min_start_s: how long after the first event of ``clock`` it begins at the
    earliest, None: at once; clock: number of the event whose beginning its time is counted from; interval_s: where it
    is the first one of a time point, how long that is after the one before, else None; name: of its folder; words: for
    people.
    """

    number: int
    index: tuple[int, int, int, int]
    pose: Pose
    place: int
    min_start_s: float | None
    clock: int
    interval_s: float | None
    name: str
    words: str


@dataclass(frozen=True)
class SeriesAxes:
    """How many time points, positions, channels and planes there are, at least one each, and what they are called.

    interval_s, z_um: from one to the next, None where there is one only or they differ.
    """

    n_times: int
    positions: tuple[str, ...]
    channels: tuple[str, ...]
    n_planes: int
    interval_s: float | None
    z_um: float | None


@lru_cache(maxsize=8)
def series_events(mda: useq.MDASequence, start: Pose | None = None) -> tuple[SeriesEvent, ...]:
    """The images of a sequence that was found to be possible, in the order in which they are acquired.

    start: where the microscope stood when the series began. Planes of a z plan that is relative count from there where
    their position says no z, and a position without x, y or z lies there where others have one; what no event says
    anything of is left as it is, None. Without it planes count from 0.
    """
    start = Pose() if start is None else start
    times, positions, channels, planes = _sizes(mda)
    sizes = (times, positions, channels, planes)
    found = list(mda.iter_events())
    named = _position_names(mda)
    poses = [_pose(mda, event, start) for event in found]
    for axis in ("x_um", "y_um", "z_um"):
        if any(getattr(pose, axis) is not None for pose in poses):
            poses = [
                replace(pose, **{axis: getattr(start, axis)}) if getattr(pose, axis) is None else pose for pose in poses
            ]
    places: dict[tuple[float | None, float | None], int] = {}
    events: list[SeriesEvent] = []
    clock, latest_s = 0, None
    for number, (event, pose) in enumerate(zip(found, poses, strict=True)):
        index = _index(event)
        if event.reset_event_timer:
            clock, latest_s = number, None
        start_s = event.min_start_time
        events.append(
            SeriesEvent(
                number=number,
                index=index,
                pose=pose,
                place=places.setdefault((pose.x_um, pose.y_um), index[1]),
                min_start_s=start_s,
                clock=clock,
                interval_s=None if start_s is None or latest_s in (None, start_s) else start_s - latest_s,
                name="_".join(f"{axis}{place:03d}" for axis, place in zip(AXES, index, strict=True)),
                words=_words(index, sizes, named, pose),
            )
        )
        latest_s = start_s
    return tuple(events)


def series_axes(mda: useq.MDASequence) -> SeriesAxes:
    """The axes of the images that a sequence fills."""
    n_times, _, _, n_planes = _sizes(mda)
    times = [] if mda.time_plan is None or not is_played(mda, "t") else list(mda.time_plan)
    planes = [] if mda.z_plan is None or not is_played(mda, "z") else list(mda.z_plan)
    groups = {channel.group for channel in mda.channels}
    names = [each.config if len(groups) == 1 else f"{each.group} {each.config}" for each in mda.channels]
    return SeriesAxes(
        n_times=n_times,
        positions=tuple(_position_names(mda)),
        channels=tuple(names) or ("light",),
        n_planes=n_planes,
        interval_s=_even_step(times),
        z_um=None if (step := _even_step(planes)) is None else abs(step),
    )


def is_played(mda: useq.MDASequence, axis: str) -> bool:
    """Whether the order in which a sequence is played has this axis."""
    return axis in [str(each) for each in mda.axis_order]


def described(pose: Pose) -> str:
    """A pose for people."""
    said = [
        f"{axis} = {value:g} µm"
        for axis, value in (("x", pose.x_um), ("y", pose.y_um), ("z", pose.z_um))
        if value is not None
    ]
    said += [] if pose.channel is None else [f"{pose.channel[0]} = {pose.channel[1]}"]
    return ", ".join(said) or "the microscope is left as it is"


def pose_from(facts: Mapping[str, Any]) -> Pose:
    """A pose from JSON-able facts, as ``dataclasses.asdict`` gives them."""
    channel = facts["channel"]
    return Pose(facts["x_um"], facts["y_um"], facts["z_um"], None if channel is None else (channel[0], channel[1]))


def _sizes(mda: useq.MDASequence) -> tuple[int, int, int, int]:
    sizes = {str(axis): size for axis, size in mda.sizes.items()}
    times, positions, channels, planes = (max(sizes.get(axis, 0), 1) for axis in AXES)
    return times, positions, channels, planes


def _position_names(mda: useq.MDASequence) -> list[str]:
    """What the positions are called: their numbers where they have no name."""
    return [position.name or str(number) for number, position in enumerate(mda.stage_positions)] or ["0"]


def _index(event: useq.MDAEvent) -> tuple[int, int, int, int]:
    index = {str(axis): place for axis, place in event.index.items()}
    t, p, c, z = (int(index.get(axis, 0)) for axis in AXES)
    return t, p, c, z


def _pose(mda: useq.MDASequence, event: useq.MDAEvent, start: Pose) -> Pose:
    channel = None if event.channel is None else (str(event.channel.group), str(event.channel.config))
    x_um, y_um, z_um = (None if value is None else float(value) for value in (event.x_pos, event.y_pos, event.z_pos))
    if z_um is not None and mda.z_plan is not None and mda.z_plan.is_relative:
        positions = list(mda.stage_positions)
        if not positions or positions[_index(event)[1]].z is None:
            z_um += start.z_um or 0.0
    return Pose(x_um, y_um, z_um, channel)


def _words(index: tuple[int, ...], sizes: tuple[int, ...], positions: Sequence[str], pose: Pose) -> str:
    t, p, _, z = index
    said = [f"t {t + 1}/{sizes[0]}"] if sizes[0] > 1 else []
    said += [pose.channel[1]] if pose.channel is not None else []
    said += [f"z {z + 1}/{sizes[3]}"] if sizes[3] > 1 else []
    said += [f"position {positions[p]}"] if sizes[1] > 1 else []
    return ", ".join(said) or "image"


def _even_step(values: Sequence[float]) -> float | None:
    """The step from one value to the next, where it is the same everywhere."""
    steps = np.diff(np.asarray(values, dtype=np.float64))
    if not len(steps) or not np.allclose(steps, steps[0], rtol=1e-6, atol=1e-9) or not steps[0]:
        return None
    return float(steps[0])
