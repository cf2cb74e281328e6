"""How steady the light is: fading, source noise, contrast, and what else pairs of two halves of the mirrors show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.allan import Allan, allan_deviation
from calibration.contrast import on_off_contrast
from calibration.exposures import Exposures
from calibration.fading import Fading, fit_fading
from calibration.measured import Measured
from calibration.pair_readings import PairReadings, pair_readings
from calibration.source_noise import SourceNoise, fit_source_noise
from calibration.verdict import ConstantReadingsError, NoSignalError, SaturatedThroughoutError
from models.noise import NoiseModel

# Reconstruction divides by the smoothed pair sums, and forecasts and guards take the total light as one number: beyond
# this change the early and the late coefficients of a run are not of the same image any more.
MOST_CHANGE = 0.05
# Below this the complement of a picture is no complement: 2 % of the light of mirrors that are off adds to every
# exposure, and so to its shot noise. DMDs reach several hundred.
LEAST_CONTRAST = 50.0
# Noise inside pairs goes straight into the coefficients. Where it is more than shot and read noise, more light does not
# help.
MOST_INSIDE_OVER_SHOT = 1.0
# The dark level is taken as one number for all of a run; pair sums are wrong by twice what it moves.
MOST_OFFSET_DRIFT = 0.01
# A linear detector reads as much from all mirrors as from two halves of them. Cameras are linear to 1 %.
MOST_NON_LINEAR = 0.02
# Between bright and dark guards there must be more than this many standard errors.
_LEAST_SIGNAL = 5.0
# Readings this many times a normal deviation off are no noise: a cosmic ray, a glitch of the lamp's supply.
_OUTLYING = 8.0
_NEIGHBOURS = 65
_MEDIAN_OF_NORMAL = 0.67449


@dataclass(frozen=True)
class Stability:
    """What a stability recipe's readings say, light in detector units.

    picture_time_us: from one exposure to the next; pairs, outliers: taken, and left out because they are far off;
    light_s: under light; duration_s: from the first pair to the last; total: T at the start; background: B; dark_level:
    reading without light. Where the light could not be switched off, background and contrast are None: nothing tells B
    from the detector's own level, so dark_level is what dark pictures read, and source is fitted as if B were 0.
    offset_drift: the dark level after less that before, None where it was not measured twice. usable, reasons, notes:
    the verdict, why not, and what else should be known.
    """

    picture_time_us: float
    pairs: int
    outliers: int
    light_s: float
    duration_s: float
    total: float
    background: float | None
    dark_level: float
    fading: Fading
    source: SourceNoise
    allan: Allan
    contrast: Measured | None
    offset_drift: Measured | None
    usable: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def first_minus_second_share(self) -> float:
        """First minus second exposure of a pair, as a share of T."""
        return self.source.first_minus_second.value / self.total


def fit_stability(
    exposures: Exposures,
    picture_time_us: float,
    noise: NoiseModel | None = None,
    noise_covariance: NDArray[np.float64] | None = None,
) -> Stability:
    """Fit a stability recipe's readings.

    noise: a and b, where they are known; noise_covariance: of them, float64 [2, 2]. Raises ConstantReadingsError,
    SaturatedThroughoutError, NoSignalError, calibration.pair_readings.IncompletePairsError.
    """
    if len(exposures.value) == 0 or np.ptp(exposures.value) == 0:
        raise ConstantReadingsError(
            f"all {len(exposures.value)} readings are the same; expected bright and dark pictures to differ: open the "
            "shutter, take the cap off the detector, and check that it delivers new frames"
        )
    every = pair_readings(exposures, picture_time_us)
    _check_light(every, exposures)
    lit_dark = float(every.dark.mean())
    dark_level = float(exposures.dark.mean()) if len(exposures.dark) else lit_dark
    background = max(lit_dark - dark_level, 0.0)
    outlying = _outlying(every)
    pairs = every.without(outlying)
    started_s, lit_before_s = float(pairs.time_s[0]), float(pairs.lit_s[0])
    time_s, lit_s = pairs.time_s - started_s, pairs.lit_s - lit_before_s
    light = pairs.sums - 2 * lit_dark
    fading = fit_fading(light, time_s, lit_s, float(np.std(np.diff(pairs.sums)) / np.sqrt(2)))
    fitted = fading.at(time_s, lit_s)
    source = fit_source_noise(pairs, fitted, lit_dark - background, background, noise, noise_covariance)
    mean_total = source.light - 2 * background
    allan = allan_deviation(
        light / (fading.total * fitted),
        time_s,
        source.pair_variance / mean_total**2,
        None if source.shot_variance is None else source.shot_variance / mean_total**2,
    )
    measured = Stability(
        picture_time_us=picture_time_us,
        pairs=len(every.sums),
        outliers=int(outlying.sum()),
        light_s=float(exposures.lit_s.max() - exposures.lit_s.min()),
        duration_s=float(time_s[-1]),
        total=fading.total,
        background=background if len(exposures.dark) else None,
        dark_level=dark_level,
        fading=fading,
        source=source,
        allan=allan,
        contrast=on_off_contrast(every.bright, every.dark, exposures.dark) if len(exposures.dark) else None,
        offset_drift=_offset_drift(exposures),
        usable=True,
        reasons=(),
        notes=(),
    )
    reasons = tuple(_reasons(measured, every, exposures.saturated))
    notes = tuple(_notes(measured))
    return replace(measured, usable=not reasons, reasons=reasons, notes=notes)


def _check_light(pairs: PairReadings, exposures: Exposures) -> None:
    lit = np.concatenate([pairs.bright, pairs.plus, pairs.minus])
    n_lit = int((exposures.sign > 0).sum() + (exposures.pair[exposures.sign < 0] > 0).sum())
    if np.ptp(lit) == 0 or exposures.saturated >= n_lit:
        raise SaturatedThroughoutError(
            f"pictures of half of the mirrors and of all of them read the same, {lit[0]:.6g} detector units at full "
            "scale; expected half the light of one: lower the light, or the illumination time"
        )
    signal = float(pairs.bright.mean() - pairs.dark.mean())
    error = float(np.hypot(*(each.std(ddof=1) / np.sqrt(len(each)) for each in (pairs.bright, pairs.dark))))
    if signal <= _LEAST_SIGNAL * error:
        raise NoSignalError(
            f"pictures with all mirrors on read {signal:.4g} ± {error:.2g} detector units more than dark ones; "
            f"expected more than {_LEAST_SIGNAL:g} times the error: open the shutter, raise the light, or check the "
            "light path"
        )


def _outlying(pairs: PairReadings) -> NDArray[np.bool_]:
    """Bool [n]: pairs whose sum or difference is far off what their neighbours read."""
    plus_first = pairs.order > 0
    wrong = _far_off(pairs.sums)
    for same_order in (plus_first, ~plus_first):
        wrong[same_order] |= _far_off(pairs.differences[same_order])
    return wrong


def _far_off(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    from scipy.ndimage import median_filter

    off = np.abs(values - median_filter(values, _NEIGHBOURS, mode="nearest"))
    deviation = float(np.median(off)) / _MEDIAN_OF_NORMAL
    return np.asarray(off > _OUTLYING * deviation) if deviation > 0 else np.zeros(len(values), dtype=bool)


def _offset_drift(exposures: Exposures) -> Measured | None:
    before, after = exposures.dark_before, exposures.dark_after
    if len(before) < 2 or len(after) < 2:
        return None
    error = np.hypot(*(each.std(ddof=1) / np.sqrt(len(each)) for each in (before, after)))
    return Measured.around(float(after.mean() - before.mean()), float(error), min(len(before), len(after)) - 1)


def _reasons(found: Stability, pairs: PairReadings, saturated: int) -> Iterator[str]:
    source, contrast = found.source, found.contrast
    lit_dark = float(pairs.dark.mean())
    whole, halves = float(pairs.bright.mean()) - lit_dark, float(pairs.sums.mean()) - 2 * lit_dark
    if abs(whole - halves) > MOST_NON_LINEAR * halves:
        yield (
            f"all mirrors together read {whole:.5g} detector units of light and their two halves {halves:.5g} in sum: "
            "the detector saturates, or is not linear; lower the light or the illumination time"
        )
    if saturated:
        yield (
            f"{saturated} exposures had a pixel at full scale, which cuts off what the light does: lower the light or "
            "the illumination time"
        )
    if abs(found.fading.change.value) > MOST_CHANGE:
        yield (
            f"the light changed by {found.fading.change.value:+.1%} over {found.duration_s:.3g} s, allowed "
            f"{MOST_CHANGE:.0%}: let the lamp warm up, lower the dose if the sample bleaches, or keep runs shorter"
        )
    shot = source.pair_variance - source.inside_variance if source.shot_variance is None else source.shot_variance
    certain = source.inside.low is not None and source.inside.low > 0
    if certain and source.inside_variance > MOST_INSIDE_OVER_SHOT * shot:
        beside = "" if found.background is not None else " (or light that no mirror decides on adds its shot noise)"
        yield (
            f"the light's own noise of {_deviation(source.inside.value):.3%} from exposure to exposure is more than "
            f"shot and read noise{beside}: more light does not help; look at the lamp's supply, at fibres and at "
            "vibration"
        )
    if contrast is not None and contrast.high is not None and contrast.value < LEAST_CONTRAST:
        yield (
            f"mirrors that are on send {contrast.value:.3g} times the light of those that are off, expected "
            f"{LEAST_CONTRAST:g} or more: shield stray light, or align the DMD's illumination"
        )
    if found.offset_drift is not None and found.offset_drift.excludes_zero:
        share = found.offset_drift.value / found.total
        if abs(share) > MOST_OFFSET_DRIFT:
            yield (
                f"the dark level moved by {found.offset_drift.value:+.4g} detector units, {share:+.2%} of the light, "
                f"allowed {MOST_OFFSET_DRIFT:.0%}: let the camera settle, and stabilise its temperature"
            )


def _notes(found: Stability) -> Iterator[str]:
    fading, source, contrast = found.fading, found.source, found.contrast
    if fading.bleaching is None or fading.drift is None:
        yield (
            "the light had no rests, so bleaching and lamp drift cannot be told apart: they fade the light by "
            f"{fading.decline.value:.3g} per second together"
        )
    elif fading.decline.excludes_zero and not (fading.bleaching.excludes_zero or fading.drift.excludes_zero):
        yield (
            f"the light fades by {fading.decline.value:.3g} per second, and what of it is bleaching and what is lamp "
            f"drift could not be separated (correlation {fading.correlation:.2f}): measure longer, or with more rest"
        )
    if source.shot_variance is None:
        yield (
            "gain and variance of the detector were not given, and source noise inside pairs is told from shot noise "
            "only by how noise grows from half the mirrors to all of them: take its upper limit, or calibrate noise"
        )
    if source.between.excludes_zero and source.between.value > 0:
        more = source.shot_variance is not None and source.between.value * source.light**2 > source.shot_variance
        yield (
            f"the light's noise from pair to pair, {_deviation(source.between.value):.3%}, "
            f"{'is more than shot and read noise, and ' if more else ''}holds slow wandering of the lamp too, all that "
            "a steady decline does not explain; it is common to both exposures of a pair, and the pair-ratio estimate "
            "takes it out"
        )
    spike = source.first_minus_second
    if spike.excludes_zero:
        yield (
            f"the first exposure of a pair reads {spike.value:+.4g} detector units more than the second one, "
            f"{found.first_minus_second_share:+.3%} of the light. In a fixed order this would be a spike of as many "
            "detector units at pixel 0; the order of every pair is drawn instead"
        )
    if contrast is None:
        yield (
            "the light could not be switched off: contrast, background B and offset drift are not known. B counts as 0 "
            "here, so the shot noise of light that no mirror decides on would count as source noise"
        )
    elif contrast.high is None:
        yield f"dark pictures read like no light: the on/off contrast is at least {contrast.value:.3g}"
    else:
        yield "the contrast counts light that no mirror decides on as leaked by mirrors that are off"
    if found.outliers:
        yield f"{found.outliers} of {found.pairs} pairs were left out: they read far off their neighbours"


def _deviation(variance: float) -> float:
    return float(max(variance, 0.0) ** 0.5)
