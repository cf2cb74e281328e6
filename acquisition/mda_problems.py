"""What a series of images may ask for in the words of useq, and what is wrong with a sequence that asks for more.

How images are exposed and what light there is are decided by other sections of the acquisition file, so a sequence that
says something about that is refused, and so is what nobody here obeys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, Final

import numpy as np
import useq
from pydantic import BaseModel, ValidationError

from acquisition.mda import SeriesEvent, is_played, series_events
from acquisition.problems import InconsistentFileError, Problem

MOST_EVENTS: Final = 10_000
_PLANS: Final = {"t": "time_plan", "p": "stage_positions", "c": "channels", "z": "z_plan"}
_ALLOWED: Final = {
    "time_plan": "{interval, loops}, {duration, loops}, {interval, duration}, or a list of these",
    "z_plan": "{range, step}, {bottom, top, step}, {above, below, step}, {relative: […]} or {absolute: […]}, in µm",
    "stage_positions": "a list of {x, y, z, name}, in µm",
    "channels": "a list of presets, or of {config, group}",
    "axis_order": "the letters t, p, c and z in the order in which they are played, the last one fastest",
}
_FIXED_EXPOSURE: Final = "nothing: timing.illumination_time_us says how long every picture is displayed"


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
    step_um = getattr(mda.z_plan, "step", None)
    if step_um is not None and not step_um > 0:
        yield Problem("mda.z_plan.step", f"{step_um:g} µm", "more than 0 µm; for one plane, {relative: [0]}")
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
        if is_planned and not is_played(mda, axis):
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


def _n_combinations(mda: useq.MDASequence) -> int:
    """At most so many events, counted without making any."""
    times = 1 if mda.time_plan is None else mda.time_plan.num_timepoints()
    planes = 1 if mda.z_plan is None else mda.z_plan.num_positions()
    return int(times * planes * max(len(mda.stage_positions), 1) * max(len(mda.channels), 1))


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
