"""What a series of images may ask for, and its images as plain data: useq's MDASequence, and every event of it.

The words are useq's (https://pymmcore-plus.github.io/useq-schema): t time points, p positions, c channels, z planes.
Every event is one compressed-sensing image. How it is exposed and what light there is are decided by other sections of
the acquisition file, so a sequence that says something about that is refused, and so is what nobody here obeys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import numpy as np
import useq
from pydantic import BaseModel, ValidationError

from acquisition.problems import InconsistentFileError, Problem
from devices.microscope import Pose

MOST_EVENTS: Final = 10_000
AXES: Final = ("t", "p", "c", "z")
_PLANS: Final = {"t": "time_plan", "p": "stage_positions", "c": "channels", "z": "z_plan"}
_ALLOWED: Final = {
    "time_plan": "{interval, loops}, {duration, loops}, {interval, duration}, or a list of these",
    "z_plan": "{range, step}, {bottom, top, step}, {above, below, step}, {relative: […]} or {absolute: […]}, in µm",
    "stage_positions": "a list of {x, y, z, name}, in µm",
    "channels": "a list of presets, or of {config, group}",
    "axis_order": "the letters t, p, c and z in the order in which they are played, the last one fastest",
}
_FIXED_EXPOSURE: Final = "nothing: timing.illumination_time_us says how long every picture is displayed"


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


def parsed_mda(stated: Any, parse: Callable[[Any], Any]) -> useq.MDASequence | None:
    """A sequence as it stands in a file, parsed by useq and found to be possible here.

    stated: a mapping as YAML gives it, a sequence that was parsed before, or None. Raises InconsistentFileError with
    every problem's key.
    """
    try:
        parsed: useq.MDASequence | None = parse(deepcopy(stated))
    except ValidationError as error:
        raise InconsistentFileError(useq_problems(stated, error)) from error
    except (TypeError, AttributeError, ArithmeticError) as error:  # of values that useq does not expect
        raise InconsistentFileError([Problem("mda", f"{_shown(stated)} ({error})", "a sequence of useq")]) from error
    if parsed is None:
        return None
    problems = [*unknown_keys(stated, parsed), *mda_problems(parsed)]
    if problems:
        raise InconsistentFileError(problems)
    return parsed


def mda_problems(mda: useq.MDASequence) -> list[Problem]:
    """What of a sequence cannot be obeyed here."""
    problems = [*_refused(mda), *_left_out(mda)]
    if problems:
        return problems
    try:
        expected = _n_combinations(mda)
        if expected > MOST_EVENTS:
            return [Problem("mda", f"{expected} events", f"at most {MOST_EVENTS}")]
        events = series_events(mda)
    except (ArithmeticError, ValueError) as error:
        return [Problem("mda", f"plans that give no events ({error})", "numbers of steps that can be counted")]
    if not events:
        return [Problem("mda", "no event at all", f"at least one of {', '.join(_PLANS.values())}, and a step in each")]
    return list(_impossible_events(events))


def unknown_keys(document: Any, parsed: Any, path: str = "mda") -> Iterator[Problem]:
    """The keys of a document that useq would silently leave out; parsed: what useq made of it."""
    if isinstance(document, Mapping) and isinstance(parsed, BaseModel):
        fields = list(type(parsed).model_fields)
        for key, value in document.items():
            if key not in fields:
                yield Problem(f"{path}.{key}", "an unknown key", ", ".join(fields))
            elif path != "mda" or key != "metadata":
                yield from unknown_keys(value, getattr(parsed, key), f"{path}.{key}")
    elif isinstance(document, Sequence) and not isinstance(document, str):
        parts = getattr(parsed, "phases", parsed)
        if isinstance(parts, Sequence):
            for number, (value, part) in enumerate(zip(document, parts, strict=False)):
                yield from unknown_keys(value, part, f"{path}.{number}")


def useq_problems(document: Any, error: ValidationError) -> list[Problem]:
    """What useq finds wrong, once for every key of the document."""
    problems: dict[str, Problem] = {}
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        location = detail["loc"]
        path, found = _place_in(document, location)
        top = str(location[0]) if location else ""
        if isinstance(cause, ValidationError):
            message = "; ".join(each["msg"] for each in cause.errors(include_url=False))
        else:
            message = detail["msg"].removeprefix("Value error, ")
        if top in ("time_plan", "z_plan"):  # useq tries one form after the other, and tells what is wrong with each
            path, found, message = f"mda.{top}", document[top], _ALLOWED[top]
        elif top in _ALLOWED:
            message = f"{_ALLOWED[top]} ({message})"
        problems.setdefault(path, Problem(path, _shown(found), message[:1].lower() + message[1:]))
    return list(problems.values())


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
    times = [] if mda.time_plan is None or not _is_played(mda, "t") else list(mda.time_plan)
    planes = [] if mda.z_plan is None or not _is_played(mda, "z") else list(mda.z_plan)
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


def pose_from(facts: Mapping[str, Any]) -> Pose:
    """A pose from JSON-able facts, as ``dataclasses.asdict`` gives them."""
    channel = facts["channel"]
    return Pose(facts["x_um"], facts["y_um"], facts["z_um"], None if channel is None else (channel[0], channel[1]))


def _refused(mda: useq.MDASequence) -> Iterator[Problem]:
    """What says more than this microscope is told by a sequence."""
    if mda.grid_plan is not None:
        yield Problem("mda.grid_plan", _shown(mda.grid_plan), "stage_positions, each tile one of them")
    if mda.autofocus_plan is not None:
        yield Problem("mda.autofocus_plan", _shown(mda.autofocus_plan), "nothing: there is no autofocus between images")
    if mda.setup is not None:
        yield Problem("mda.setup", _shown(mda.setup), "nothing: devices are set up by the section devices")
    if mda.keep_shutter_open_across:
        found = _shown(list(mda.keep_shutter_open_across))
        yield Problem("mda.keep_shutter_open_across", found, "nothing: the light is off between images")
    if not isinstance(mda.stage_positions, tuple):
        yield Problem("mda.stage_positions", _shown(mda.stage_positions), _ALLOWED["stage_positions"])
        return
    for number, position in enumerate(mda.stage_positions):
        key = f"mda.stage_positions.{number}"
        if position.sequence is not None:
            yield Problem(f"{key}.sequence", _shown(position.sequence), "the same plans at every position")
        if position.properties:
            yield Problem(f"{key}.properties", _shown(position.properties), "presets, by channels")
    for number, channel in enumerate(mda.channels):
        key = f"mda.channels.{number}"
        if channel.exposure is not None:
            yield Problem(f"{key}.exposure", f"{channel.exposure} ms", _FIXED_EXPOSURE)
        if channel.camera is not None:
            yield Problem(f"{key}.camera", channel.camera, "nothing: devices.detector says which one")
        if not np.isfinite(channel.z_offset):
            yield Problem(f"{key}.z_offset", str(channel.z_offset), "a finite number of µm")
        elif channel.z_offset and mda.z_plan is None:
            found = f"{channel.z_offset} µm beside no z_plan, which useq takes no notice of"
            yield Problem(f"{key}.z_offset", found, "a z_plan, such as {relative: [0]}")


def _left_out(mda: useq.MDASequence) -> Iterator[Problem]:
    """Plans that useq passes over in silence, and what stands there twice."""
    planned = {
        "t": mda.time_plan is not None,
        "p": bool(mda.stage_positions),
        "c": bool(mda.channels),
        "z": mda.z_plan is not None,
    }
    for axis, is_planned in planned.items():
        if is_planned and not _is_played(mda, axis):
            found = f"'{''.join(mda.axis_order)}' beside a {_PLANS[axis]}, which would not be played"
            yield Problem("mda.axis_order", found, f"an order with {axis} in it")
    seen: set[tuple[str, str]] = set()
    for number, channel in enumerate(mda.channels):
        if (channel.group, channel.config) in seen:
            found = f"the preset {channel.config} of {channel.group} twice"
            yield Problem(f"mda.channels.{number}", found, "every preset once")
        seen.add((channel.group, channel.config))


def _impossible_events(events: Sequence[SeriesEvent]) -> Iterator[Problem]:
    for event in events:
        for axis in ("x_um", "y_um", "z_um"):
            value = getattr(event.pose, axis)
            if value is not None and not np.isfinite(value):
                yield Problem("mda", f"{axis[0]} = {value} in the event {event.words}", "finite numbers of µm")
                return
    for earlier, later in pairwise(events):
        if earlier.clock != later.clock or earlier.min_start_s is None or later.min_start_s is None:
            continue
        if later.min_start_s < earlier.min_start_s:
            found = f"{later.words} at {later.min_start_s:g} s, after {earlier.words} at {earlier.min_start_s:g} s"
            yield Problem("mda.time_plan", found, "times that do not go back")
            return


def _is_played(mda: useq.MDASequence, axis: str) -> bool:
    return axis in [str(each) for each in mda.axis_order]


def _n_combinations(mda: useq.MDASequence) -> int:
    """At most so many events, counted without making any."""
    times = 1 if mda.time_plan is None else mda.time_plan.num_timepoints()
    planes = 1 if mda.z_plan is None else mda.z_plan.num_positions()
    return int(times * planes * max(len(mda.stage_positions), 1) * max(len(mda.channels), 1))


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


def _place_in(document: Any, location: Sequence[int | str]) -> tuple[str, Any]:
    """The key as it stands in the document, without what pydantic adds for unions, and what stands there."""
    keys = ["mda"]
    value = document
    for key in location:
        below = _below(value, key)
        if below is not None:
            keys.append(str(key))
            value = below
    return ".".join(keys), value


def _below(value: Any, key: int | str) -> Any:
    """What stands under a key, None where there is no such key."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
