"""Calibrates a and b on the bench: plays the photon-transfer recipe, fits it, and writes what acquisitions read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.dmd_region import dmd_region
from acquisition.figures import interval
from acquisition.observer import Observer
from acquisition.play_recipe import play_recipe
from acquisition.stored_recipe import calibration_title, stored_exposures
from acquisition.stored_run import StoredRun
from calibration.bootstrap import Interval
from calibration.calibration_file import write_calibration
from calibration.estimate import Estimate
from calibration.identity import CameraIdentity
from calibration.level_pictures import LevelPictures
from calibration.noise_file import NoiseCalibration
from calibration.photon_transfer import PhotonTransfer, fit_photon_transfer, photon_transfer_recipe

LEVELS = 16
EXPOSURES_PER_LEVEL = 2000


@dataclass(frozen=True)
class NoiseResult:
    """A calibration that was made: what was fitted, what the file says, and where it is."""

    transfer: PhotonTransfer
    calibration: NoiseCalibration
    output: CalibrationOutput
    title: str = "Noise calibration"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why acquisitions may not rely on it."""
        return self.calibration.reasons

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know."""
        return self.calibration.notes

    def rows(self) -> Iterator[tuple[str, str]]:
        """What was measured."""
        made, transfer = self.calibration, self.transfer
        used = [level for level in transfer.levels if level.used and level.share > 0]
        yield "gain a", f"{interval(made.gain)} detector units per photo-electron"
        yield "variance b", f"{interval(made.variance_estimate)} detector units²"
        yield "source noise √q", _root(made.source_noise)
        yield "offset", f"{interval(made.offset)} detector units"
        yield "all mirrors on", f"{transfer.total:.5g} detector units of light"
        yield "dark pictures", f"{transfer.background:.3g} detector units of light"
        if made.linear_up_to is not None:
            yield "linear up to", f"{made.linear_up_to:.5g} detector units above the offset"
        yield "levels", f"{len(used)} of {len(transfer.levels) - 1} used"
        for level in transfer.levels:
            if not level.used:
                yield "", f"{100 * level.share:.3g} % of the mirrors left out: {level.excluded}"
        yield "fit", f"χ² {transfer.chi_squared:.1f} for {transfer.chi_freedom} degrees of freedom"
        yield "drift", f"{100 * float(np.ptp(transfer.drift)):.2g} % during the calibration, removed"
        yield (
            "exposures",
            f"{made.exposures:,}, lit for {made.light_s:.1f} s in all; {transfer.outliers} outliers left out",
        )


def calibrate_noise(
    config: AcquisitionConfig,
    output: CalibrationOutput,
    *,
    levels: int = LEVELS,
    exposures_per_level: int = EXPOSURES_PER_LEVEL,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> NoiseResult:
    """Project ``levels`` steps of light, fit the noise model, and write calibration, raw readings and plot.

    exposures_per_level: at least so many of each. Raises what ``play_recipe`` and ``noise_from`` raise,
    OutputExistsError, LevelCountError.
    """
    seed = config.sensing.seed
    recipe = photon_transfer_recipe(levels, exposures_per_level, seed)
    pictures = LevelPictures(dmd_region(config), levels, seed)
    output.check("noise", simulated=config.simulated, overwrite=overwrite)
    play_recipe(config, recipe, pictures, output, {"levels": levels}, overwrite=overwrite, observer=observer)
    return noise_from(output)


def noise_from(output: CalibrationOutput) -> NoiseResult:
    """Fit the noise model to raw readings that are there, and write calibration and plot.

    Where nothing can be fitted (calibration.verdict.NotCalibratableError) no file is written. Raises NotARunError,
    UnfinishedCalibrationError, CorruptBlockError, OSError.
    """
    from calibration.photon_transfer_plot import draw_photon_transfer

    run = StoredRun(output.raw)
    run.must_hold("noise")
    exposures = stored_exposures(run)
    transfer = fit_photon_transfer(
        exposures, run.facts["levels"], full_scale=_full_scale(run.facts), floor=-offset_of_region(run.facts)
    )
    calibration = _calibration(run, transfer)
    write_calibration(output.file, calibration)
    draw_photon_transfer(output.picture, transfer, calibration_title(run))
    return NoiseResult(transfer, calibration, output)


def offset_of_region(facts: dict[str, Any]) -> float:
    """The stated offset of all pixels that are summed, detector units."""
    return float(facts["identity"]["offset_per_px"] * _pixels(facts))


def _pixels(facts: dict[str, Any]) -> int:
    region, detector = facts["identity"]["region"], facts["devices"]["detector"]
    width, height = (detector["width_px"], detector["height_px"]) if region is None else region[2:]
    return int(width * height)


def _full_scale(facts: dict[str, Any]) -> float | None:
    """The largest bucket value above the stated offset: with every pixel at full scale."""
    full_scale = facts["devices"]["detector"]["full_scale"]
    return None if full_scale is None else full_scale * _pixels(facts) - offset_of_region(facts)


def _calibration(run: StoredRun, transfer: PhotonTransfer) -> NoiseCalibration:
    facts = run.facts
    stated = offset_of_region(facts)
    first, second, third = transfer.covariance.tolist()
    illumination_s = facts["accepted_timing"]["illumination_time_us"] * 1e-6
    return NoiseCalibration(
        hadascope=version("hadascope"),
        measured=facts["ended"],
        raw=run.path.name,
        usable=transfer.usable,
        reasons=transfer.reasons,
        notes=transfer.notes,
        identity=CameraIdentity.model_validate(facts["identity"]),
        gain=_estimate(transfer.gain, transfer.gain_interval),
        variance=transfer.variance,
        variance_estimate=_estimate(transfer.variance_unclipped, transfer.variance_interval),
        source_noise=_estimate(transfer.source_noise_unclipped, transfer.source_noise_interval),
        offset=_estimate(transfer.offset, transfer.offset_interval, stated),
        covariance=(tuple(first), tuple(second), tuple(third)),
        linear_up_to=transfer.linear_up_to,
        exposures=transfer.exposures,
        light_s=facts["lit_exposures"] * illumination_s,
    )


def _estimate(value: float, interval: Interval, offset: float = 0.0) -> Estimate:
    return Estimate(
        value=value + offset,
        low=None if interval.one_sided else interval.low + offset,
        high=interval.high + offset,
    )


def _root(q: Estimate) -> str:
    """The relative fluctuation of the light, %."""
    if q.high is not None and q.high <= 0:
        return f"none: q is {q.value:.2g}, below 0 beyond its error"
    value, low, high = (None if each is None else max(each, 0.0) ** 0.5 for each in (q.value, q.low, q.high))
    assert value is not None
    return f"{interval(Estimate(value=value, low=low, high=high), 100.0)}, % of the light"
