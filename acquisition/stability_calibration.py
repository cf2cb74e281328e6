"""Calibrates how steady the light is on the bench, and how fast pictures can follow each other there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller, DoseLimitError
from acquisition.dmd_region import dmd_region
from acquisition.figures import interval
from acquisition.observer import Observer
from acquisition.picture_time_search import NothingWorksError, PictureTimeSearch, Trial, readout_from
from acquisition.picture_time_trial import most_search_exposures, search_picture_time
from acquisition.play_recipe import play_recipe
from acquisition.stored_recipe import calibration_title, stored_exposures
from acquisition.stored_run import StoredRun
from acquisition.timing_contract import camera_exposure_us
from calibration.calibration_file import write_calibration
from calibration.estimate import Estimate
from calibration.identity import CameraIdentity
from calibration.level_pictures import LevelPictures
from calibration.noise_file import NoiseCalibration
from calibration.stability import Stability, fit_stability
from calibration.stability_file import PictureTimes, StabilityCalibration, stability_calibration
from calibration.stability_recipe import LEVELS, stability_recipe
from models.noise import NoiseModel

SECONDS = 20.0


@dataclass(frozen=True)
class StabilityResult:
    """A calibration that was made: what was fitted, what the file says, and where it is.

    readout_us: of the camera, where the search for the shortest picture time came upon it.
    """

    stability: Stability
    calibration: StabilityCalibration
    output: CalibrationOutput
    readout_us: float | None
    title: str = "Stability calibration"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the light is not steady enough."""
        return self.calibration.reasons

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know."""
        return self.calibration.notes

    def rows(self) -> Iterator[tuple[str, str]]:
        """What was measured."""
        made = self.calibration
        yield "total light T", f"{made.total:.5g} detector units, at the start"
        if made.background is None:
            yield "background B", "unknown: the light could not be switched off"
        else:
            yield "background B", f"{made.background:.3g} detector units beside T, in every exposure, dark pictures too"
        yield (
            "change",
            f"{_percent(made.change)} over {made.duration_s:.0f} s, {made.light_s:.0f} s of them under light",
        )
        for what, rate, of in (
            ("bleaching", made.bleaching, "under light"),
            ("lamp drift", made.lamp_drift, "of time"),
        ):
            if rate is not None:
                yield what, f"{_percent(rate)} of the light lost per second {of}"
        if made.bleaching is None or made.lamp_drift is None:
            yield "decline", f"{_percent(made.decline)} lost per second: bleaching and lamp drift were not told apart"
        yield "source noise inside pairs", f"{_root_percent(made.inside)} of the light, from exposure to exposure"
        yield "source noise between pairs", f"{_root_percent(made.between)} of the light, beyond that"
        if made.shot_variance is not None:
            yield "shot and read noise", f"{100 * made.shot_variance**0.5:.3g} % of the light, of a pair"
        yield "first minus second", f"{_percent(made.first_minus_second)} of the total light"
        if made.contrast is not None:
            ends = f"{made.contrast.value:.4g}" if made.contrast.high is not None else f"above {made.contrast.low:.4g}"
            yield "on/off contrast", f"{ends}, light that does not come from the mirrors counted as leaking"
        if made.offset_drift is not None:
            yield "dark level drift", f"{interval(made.offset_drift)} detector units"
        times = made.picture_time
        if times is not None:
            below = "" if times.longest_failing_us is None else f", {times.longest_failing_us} µs fails"
            yield "shortest safe picture time", f"{times.safe_us} µs ({times.shortest_working_us} µs just works{below})"
        if self.readout_us is not None:
            yield "camera readout", f"{self.readout_us:g} µs, in {self.output.readout.name}"
        yield "pairs", f"{made.pairs:,}, {made.outliers} outliers left out"


def calibrate_stability(
    config: AcquisitionConfig,
    output: CalibrationOutput,
    *,
    seconds: float = SECONDS,
    search: bool = True,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> StabilityResult:
    """Show two halves of the mirrors in turn for so many seconds of light, and write how steady it was.

    search: look for the shortest safe picture time, too; where it cannot be found the readings hold all the same, and a
    note says why. Raises what ``play_recipe`` and ``stability_from`` raise, ValueError where the time is too short.
    """
    timing = config.timing
    recipe = stability_recipe(seconds, timing.picture_time_us, config.sensing.seed)
    pictures = LevelPictures(dmd_region(config), LEVELS, config.sensing.seed)
    output.check("stability", simulated=config.simulated, overwrite=overwrite)

    def searched(devices: ConnectedDevices, controller: Controller) -> dict[str, Any]:
        try:
            found = search_picture_time(config, devices, pictures, controller)
        except (NothingWorksError, DoseLimitError) as error:
            return {"picture_time_search_failed": str(error)}
        return {"picture_time_search": asdict(found), "camera_exposure_us": camera_exposure_us(timing)}

    play_recipe(
        config,
        recipe,
        pictures,
        output,
        {},
        overwrite=overwrite,
        observer=observer,
        afterwards=searched if search else None,
        further_exposures=most_search_exposures(config) if search else 0,
    )
    return stability_from(output)


def stability_from(output: CalibrationOutput) -> StabilityResult:
    """Fit the stability to raw readings that are there, and write calibration, plot, and the readout time if known.

    Raises calibration.verdict.NotCalibratableError, NotARunError, UnfinishedCalibrationError, CorruptBlockError, and
    OSError.
    """
    from calibration.stability_plot import draw_stability

    run = StoredRun(output.raw)
    run.must_hold("stability")
    facts = run.facts
    noise, covariance = _noise(facts)
    picture_time_us = facts["accepted_timing"]["picture_time_us"]
    stability = fit_stability(stored_exposures(run), picture_time_us, noise, covariance)
    if "picture_time_search_failed" in facts:
        failed = f"no shortest safe picture time: {facts['picture_time_search_failed']}"
        stability = replace(stability, notes=(*stability.notes, failed))
    identity = CameraIdentity.model_validate(facts["identity"])
    found = _search(facts)
    calibration = stability_calibration(
        stability,
        identity,
        hadascope=version("hadascope"),
        measured=facts["ended"],
        raw=run.path.name,
        picture_time=None if found is None else _picture_times(found),
    )
    readout = (
        None if found is None else readout_from(found, facts["camera_exposure_us"], identity.camera, facts["ended"])
    )
    write_calibration(output.file, calibration)
    output.readout.unlink(missing_ok=True)
    if readout is not None:
        write_calibration(output.readout, readout)
    draw_stability(output.picture, stability, calibration_title(run))
    return StabilityResult(stability, calibration, output, None if readout is None else readout.readout_us)


def _noise(facts: dict[str, Any]) -> tuple[NoiseModel, NDArray[np.float64] | None]:
    """The file's a and b, and their covariance where they are from a calibration."""
    stated = facts["config"]["noise"]
    noise = NoiseModel(stated["gain"], stated["variance"])
    if facts["noise_calibration"] is None:
        return noise, None
    calibration = NoiseCalibration.model_validate(facts["noise_calibration"])
    return noise, np.array(calibration.covariance)[:2, :2]


def _search(facts: dict[str, Any]) -> PictureTimeSearch | None:
    found = facts.get("picture_time_search")
    if found is None:
        return None
    return PictureTimeSearch(found["safe_us"], tuple(Trial(**each) for each in found["trials"]))


def _picture_times(found: PictureTimeSearch) -> PictureTimes:
    return PictureTimes(
        safe_us=found.safe_us,
        shortest_working_us=found.shortest_working_us,
        longest_failing_us=found.longest_failing_us,
        limited_by=found.limited_by,
        trials=len(found.trials),
    )


def _percent(found: Estimate) -> str:
    return f"{interval(found, 100.0)} %"


def _root_percent(variance: Estimate) -> str:
    """A relative variance as a deviation."""
    value, low, high = (
        None if each is None else max(each, 0.0) ** 0.5 for each in (variance.value, variance.low, variance.high)
    )
    assert value is not None
    return _percent(Estimate(value=value, low=low, high=high))
