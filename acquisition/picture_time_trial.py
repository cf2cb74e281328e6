"""Tries a picture time on connected devices: does a short block between guards prove itself at this rate?

Half of the mirrors and the other half are shown in turn. The illumination time is held constant, so that what is found
is how soon after an exposure the camera takes the next one, or what the DMD itself refuses; only without a dark phase
between pictures (uninterrupted binary mode) does it follow the picture time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from acquisition.bank import GUARD_PICTURES
from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import REPAIRABLE, Controller, PlayRules
from acquisition.events import Journal
from acquisition.integrity import prove_guard_code
from acquisition.picture_time_search import PictureTimeSearch, Trial, most_trials, shortest_safe_picture_time
from acquisition.recipe_schedule import recipe_schedule
from acquisition.run_rules import play_rules
from acquisition.schedule import Schedule
from acquisition.timing_contract import most_block_exposures
from calibration.recipe import PictureSource, Recipe
from calibration.stability_recipe import HALF
from calibration.verdict import NotCalibratableError
from devices.errors import TimingRefusedError

_SECTION_PAIRS = 16
_SECTIONS = 6
_MARGIN_S = 0.5
# A lost trigger leaves a gap of a whole picture time: less than half of it tells.
_MOST_TOLERANCE = 0.4
# Guards that are read out of place may also look like no light at all.
_DOES_NOT_WORK = (*REPAIRABLE, NotCalibratableError)


def search_picture_time(
    config: AcquisitionConfig,
    devices: ConnectedDevices,
    pictures: PictureSource,
    controller: Controller,
    *,
    margin_s: float = _MARGIN_S,
) -> PictureTimeSearch:
    """The shortest safe picture time of connected devices, from the file's picture time down.

    pictures: of half the mirrors and the other half (calibration.level_pictures); controller: of what was played
    before, which goes on counting exposures under light; margin_s: by how much a block may be late. The light must have
    been confirmed. Raises NothingWorksError, and what ``Controller.play`` raises where it is not the rate that fails,
    DoseLimitError among it.
    """
    rules = play_rules(config)
    shortest_us = max(_shortest_us(config), devices.projector.info.min_picture_time_us)
    most = min(config.memory_pictures, most_block_exposures(config, devices.detector.info.buffer_frames))
    trial = picture_time_trial(devices, pictures, rules, trial_schedule(most), controller, margin_s)
    start_us = rules.timing.picture_time_us
    return shortest_safe_picture_time(trial, start_us, min(shortest_us, start_us))


def most_search_exposures(config: AcquisitionConfig) -> int:
    """How many exposures under light a search takes at most, but for many steps back."""
    start_us = config.timing.picture_time_us
    most = min(config.memory_pictures, most_block_exposures(config, None))
    return trial_schedule(most).n_exposures * most_trials(start_us, min(_shortest_us(config), start_us))


def _shortest_us(config: AcquisitionConfig) -> int:
    """What the chip and the file's illumination time allow."""
    shortest_us = config.dmd_type.min_picture_time_us
    if config.devices.projector.binary_mode == "normal":
        return max(shortest_us, config.timing.illumination_time_us)
    return shortest_us


def picture_time_trial(
    devices: ConnectedDevices,
    pictures: PictureSource,
    rules: PlayRules,
    schedule: Schedule,
    controller: Controller,
    margin_s: float = _MARGIN_S,
) -> Callable[[int], Trial]:
    """What plays a schedule at a picture time in µs, by a controller of its own, and says whether it works.

    rules: all but the picture time. Raises what they do not allow, and every error that another rate would not help.
    """

    def play(picture_time_us: int) -> Trial:
        trying = Controller(
            devices,
            pictures.render,
            _at(rules, picture_time_us, margin_s),
            Journal(),
            lit_exposures=controller.lit_exposures,
        )
        try:
            trying.play(schedule, prove_guard_code, ())
        except TimingRefusedError as error:
            return Trial(picture_time_us, _in_words(error), refused=True)
        except _DOES_NOT_WORK as error:
            return Trial(picture_time_us, _in_words(error))
        finally:
            controller.lit_exposures = trying.lit_exposures
        return Trial(picture_time_us)

    return play


def trial_schedule(most: int) -> Schedule:
    """About 200 exposures of two halves between guards, in one block; most: pictures that memory and block hold.

    Raises ScheduleLimitError where not even one section fits.
    """
    fitting = (most - GUARD_PICTURES) // (2 * _SECTION_PAIRS + GUARD_PICTURES)
    n_pairs = _SECTION_PAIRS * min(max(fitting, 1), _SECTIONS)
    recipe = Recipe(
        name="picture time",
        pairs=np.full(n_pairs, HALF, dtype=np.int64),
        plus_first=np.arange(n_pairs) % 2 == 0,
        passes=1,
        section_pairs=_SECTION_PAIRS,
        rests_s=np.zeros(1),
    )
    return recipe_schedule(recipe, most, most)


def _at(rules: PlayRules, picture_time_us: int, margin_s: float) -> PlayRules:
    """The same rules at another picture time; a block that fails is not played again."""
    timing = replace(rules.timing, picture_time_us=picture_time_us)
    exposure_us = rules.camera_exposure_us
    if rules.timing.illumination_time_us == rules.timing.picture_time_us:
        timing = replace(timing, illumination_time_us=picture_time_us)
        exposure_us += picture_time_us - rules.timing.picture_time_us
    tolerance_us = rules.time_tolerance_us
    return replace(
        rules,
        timing=timing,
        camera_exposure_us=exposure_us,
        time_tolerance_us=None if tolerance_us is None else min(tolerance_us, _MOST_TOLERANCE * picture_time_us),
        most_repeats=0,
        timeouts=replace(rules.timeouts, margin_s=margin_s),
    )


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
