"""Reads what a recipe brought in, exposure by exposure, from the store it was written to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import Block, guard_bright
from acquisition.readings import Readings
from acquisition.recipe_schedule import recipe_schedule
from acquisition.run_layout import NotARunError, RunState
from acquisition.schedule import Schedule
from acquisition.stored_run import StoredRun
from calibration.exposures import Exposures
from calibration.recipe import Recipe


class UnfinishedCalibrationError(ValueError):
    """The readings of a calibration that did not finish."""


def stored_exposures(run: StoredRun) -> Exposures:
    """All exposures of a finished calibration, in order. Raises UnfinishedCalibrationError, CorruptBlockError."""
    schedule = stored_schedule(run)
    timing = run.facts["accepted_timing"]
    picture_time_us, lit_s = timing["picture_time_us"], timing["illumination_time_us"] * 1e-6
    pairs, signs, values, times, lit = [], [], [], [], []
    saturated = 0
    for readings in run.blocks():
        block = schedule.blocks[readings.block_number]
        pair, sign, value = filed(block, readings)
        place = np.arange(block.n_exposures)
        pairs.append(pair)
        signs.append(sign)
        values.append(value)
        times.append(readings.start_us + picture_time_us * place)
        lit.append((readings.lit_exposures - block.n_exposures + place) * lit_s)
        saturated += readings.saturated
    under_light = run.facts["dark_under_light"]
    return Exposures(
        pair=np.concatenate(pairs),
        sign=np.concatenate(signs),
        value=np.concatenate(values),
        time_us=np.concatenate(times).astype(np.float64),
        lit_s=np.concatenate(lit),
        dark_before=np.empty(0) if under_light else run.dark,
        dark_after=run.dark_after,
        saturated=saturated,
    )


def stored_frames(run: StoredRun) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8], NDArray[Any]]]:
    """Number of the pair int64 [n], sign int8 [n] and frame [n, h, w] of the exposures of every block."""
    schedule = stored_schedule(run)
    for readings in run.blocks():
        assert readings.frames is not None
        pair, sign, _ = filed(schedule.blocks[readings.block_number], readings)
        yield pair, sign, readings.frames


def stored_schedule(run: StoredRun) -> Schedule:
    """What a finished calibration displayed. Raises UnfinishedCalibrationError."""
    if run.state is not RunState.FINISHED:
        raise UnfinishedCalibrationError(
            f"{run.path} holds a calibration that is {run.state}: calibrate again, whole"
            + (f" ({run.facts['cause']})" if run.facts.get("cause") else "")
        )
    facts = run.facts
    rests_s = run.described("rests_s")
    recipe = Recipe(
        name=facts["recipe"],
        pairs=run.described("pairs"),
        plus_first=run.described("plus_first"),
        passes=len(rests_s),
        section_pairs=facts["section_pairs"],
        rests_s=rests_s,
    )
    schedule = recipe_schedule(recipe, facts["memory_pictures"], facts["block_exposures"])
    if schedule.digest != facts["schedule"]:
        raise NotARunError(f"{run.path} does not give the schedule it was played with: use the version that wrote it")
    return schedule


def calibration_title(run: StoredRun) -> str:
    """With what and when, for a plot."""
    where = "simulated devices" if run.facts["simulated"] else run.facts["identity"]["camera"]
    return f"{where}, {run.facts['ended']}"


def filed(block: Block, readings: Readings) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.float64]]:
    """Pair int64, sign int8 and value float64 of every exposure of a block [n], in the order of display."""
    pair = np.zeros(block.n_exposures, dtype=np.int64)
    sign = np.empty(block.n_exposures, dtype=np.int8)
    value = np.empty(block.n_exposures)
    guards = block.guard_exposures
    sign[guards] = np.where(guard_bright(guards.shape[1]), 1, -1)
    value[guards] = readings.guards
    first = block.pair_exposures
    pair[first] = pair[first + 1] = readings.index
    sign[first] = np.where(block.plus_first, 1, -1)
    sign[first + 1] = -sign[first]
    value[first] = np.where(block.plus_first, readings.plus, readings.minus)
    value[first + 1] = np.where(block.plus_first, readings.minus, readings.plus)
    return pair, sign, value
