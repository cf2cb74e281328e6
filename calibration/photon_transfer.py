"""Gain a, variance b and source noise q of a detector in place, by photon transfer, the DMD making the levels.

A reading of a picture that sends the light m has the mean o + m and the variance b + a·m + q·m² (Janesick 2007; q is
the variance of the light's own relative, white fluctuation). The recipe shows many levels of light many times in
random order; their means and variances, cleared of drift, give the curve. What is saturated or not linear is found
from the same readings and left out, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.bootstrap import Interval, Studentized, above_zero, resampled_moments, two_sided
from calibration.cleaned_levels import LEAST_LEVELS, CleanedLevels, clean_levels, distinct_levels, least_variance
from calibration.drift import faster_than_smooth
from calibration.exposures import Exposures
from calibration.level_pictures import check_levels
from calibration.level_readings import LEAST_EXPOSURES, LevelReadings
from calibration.recipe import Recipe
from calibration.unfit_readings import refuse_unfit_readings
from calibration.variance_curve import VarianceCurve, fit_variance_curve
from calibration.verdict import TooFewLevelsError

SECTION_SHOWS = 2
"""How often every pair is shown between two guards: blocks in random order, so that drift cannot pass for light."""
PASS_SECTIONS = 10
LEAST_ASKED = 6
"""Levels of a recipe: three parameters, and as many levels again to see whether they describe the detector."""
GAIN_HALF_WIDTH = 0.5
"""A gain known to ±50 % or worse weighs no measurement better than a guess does."""
MOST_OUTLIERS = 0.02
"""Share of outlying exposures above which they are no accidents, but part of the noise that is to be measured."""
MISFIT = 5.0
"""χ² per degree of freedom above which variances do not follow the curve, whatever a and b come out as."""
COARSE = 0.5
"""Squared steps of readings below which the variance of a dim level is rounding's as much as its own."""
SURPRISING = 1e-3
"""Probability below which what noise alone would do is worth a note."""

_CURVE_SAMPLES = 200


@dataclass(frozen=True)
class LightLevel:
    """One picture's readings. Light and variance in detector units, above the offset, and units².

    pair, sign: its number (calibration.recipe); share: of the region's mirrors that are on; exposures: without
    outliers; light: mean; variance: with ``freedom`` degrees of freedom, drift removed; deviation: of the light from
    what linearity demands, as a share of it, None where that is not tested; excluded: why it was not used, "" where it
    was.
    """

    pair: int
    sign: int
    share: float
    exposures: int
    light: float
    light_error: float
    variance: float
    variance_error: float
    freedom: float
    deviation: float | None
    deviation_error: float | None
    excluded: str

    @property
    def used(self) -> bool:
        """Whether the curve was fitted to it."""
        return self.excluded == ""


@dataclass(frozen=True)
class PhotonTransfer:
    """What was measured; intervals hold the truth with 95 % confidence.

    gain: a, detector units per photo-electron; variance: b, units², not below 0, and variance_unclipped as it came out;
    source_noise: q, variance of the light's relative fluctuation from exposure to exposure, not below 0, and
    source_noise_unclipped; offset: dark level with the light off, units above the stated offset (0 where it was not
    measured); covariance: float64 [3, 3] of unclipped (a, b, q), from the bootstrap.

    levels: by share of mirrors; total: light of all of the region (T + B); background: light of dark pictures (B);
    linear_up_to: the brightest level that the detector reads linearly, units above the offset; dark_variance: of
    readings with the light off, with dark_freedom degrees of freedom, None without any. drift: relative light at
    drift_time_s, both float64 [samples]. outliers: exposures left out. chi_squared, chi_freedom, fit_probability: of
    levels around the curve. usable: whether acquisitions may rely on it; reasons: why not; notes: what else a person
    should know.
    """

    gain: float
    gain_interval: Interval
    variance: float
    variance_unclipped: float
    variance_interval: Interval
    source_noise: float
    source_noise_unclipped: float
    source_noise_interval: Interval
    offset: float
    offset_interval: Interval
    covariance: NDArray[np.float64]
    levels: tuple[LightLevel, ...]
    total: float
    background: float
    linear_up_to: float
    dark_variance: float | None
    dark_freedom: int
    drift_time_s: NDArray[np.float64]
    drift: NDArray[np.float64]
    exposures: int
    outliers: int
    chi_squared: float
    chi_freedom: int
    fit_probability: float
    usable: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def parameters(self) -> NDArray[np.float64]:
        """Unclipped (a, b, q), float64 [3]."""
        return np.array([self.gain, self.variance_unclipped, self.source_noise_unclipped])


def photon_transfer_recipe(levels: int = 16, exposures_per_level: int = 1000, seed: int = 0) -> Recipe:
    """Every pair of calibration.level_pictures equally often, in random order, at least exposures_per_level times.

    Between two guards every pair stands twice; ten such sections make a pass. Raises LevelCountError,
    TooFewLevelsError.
    """
    check_levels(levels)
    _refuse_too_few(levels)
    if exposures_per_level < LEAST_EXPOSURES:
        raise ValueError(f"found {exposures_per_level} exposures a level; expected {LEAST_EXPOSURES} or more")
    rng = np.random.default_rng(seed)
    section = np.repeat(np.arange(1, levels // 2 + 1), SECTION_SHOWS)
    sections = min(PASS_SECTIONS, -(-exposures_per_level // SECTION_SHOWS))
    pairs = rng.permuted(np.tile(section, (sections, 1)), axis=1).ravel()
    passes = -(-exposures_per_level // (SECTION_SHOWS * sections))
    return Recipe(
        name="noise",
        pairs=pairs,
        plus_first=rng.integers(0, 2, len(pairs)).astype(np.bool_),
        passes=passes,
        section_pairs=len(section),
        rests_s=np.zeros(passes),
    )


def fit_photon_transfer(
    exposures: Exposures, levels: int, *, full_scale: float | None = None, seed: int = 0, resamples: int = 400
) -> PhotonTransfer:
    """Fit a, b, q, offset and drift to the exposures of a recipe of ``levels`` steps.

    full_scale: the highest value that readings can take, in units above the stated offset; a ceiling below it is found
    from the readings. seed, resamples: of the bootstrap. Raises NotCalibratableError (NoSignalError,
    ConstantReadingsError, SaturatedThroughoutError, TooFewLevelsError) where there is nothing to fit, ValueError where
    the exposures are not of such a recipe.
    """
    _refuse_too_few(levels)
    if len(exposures.pair) and not 0 <= int(exposures.pair.min()) <= int(exposures.pair.max()) <= levels // 2:
        raise ValueError(
            f"found pairs up to {int(exposures.pair.max())}; {levels} levels have pairs 0 to {levels // 2}"
        )
    refuse_unfit_readings(exposures, full_scale)
    readings = LevelReadings.of(exposures, levels, full_scale)
    state = clean_levels(readings)
    resampled, offsets = _bootstrap(readings, state, resamples, np.random.default_rng(seed))
    return _conclude(readings, state, resampled, offsets, exposures.saturated)


def _bootstrap(
    readings: LevelReadings, state: CleanedLevels, resamples: int, rng: np.random.Generator
) -> tuple[VarianceCurve, NDArray[np.float64]]:
    """Curves and offsets [resamples], fitted again to resampled residuals."""
    kept, points = state.kept, state.points
    cut = np.append(readings.is_cut_off(state.used), readings.at_floor(readings.off).any())
    residuals: list[NDArray[np.float64]] = []
    limits: list[float | None] = []
    for each in np.flatnonzero(kept):
        lit = each < readings.n_pictures
        shown = state.used & (readings.picture == each)
        if cut[each] and readings.floor is not None:
            mean = float(points.light[each])
            residuals.append((readings.value[shown] if lit else readings.off) - mean)
            limits.append(readings.floor - mean)
        else:
            own = state.drifting.residual[shown] if lit else readings.off
            residuals.append(own * (len(own) / points.freedom[each]) ** 0.5)
            limits.append(None)
    means, variances = resampled_moments(residuals, limits, resamples, rng)
    chosen = points.chosen(kept)
    offset_error = means[:, ~chosen.lit].sum(axis=1)
    light = np.where(chosen.lit, chosen.light + means - offset_error[:, None], 0.0)
    again = fit_variance_curve(replace(chosen, light=light, variance=variances), start=state.curve.parameters)
    return again, readings.offset + offset_error


def _conclude(
    readings: LevelReadings,
    state: CleanedLevels,
    resampled: VarianceCurve,
    offsets: NDArray[np.float64],
    saturated_exposures: int,
) -> PhotonTransfer:
    from scipy.special import chdtrc

    gain, variance, source = (float(each) for each in state.curve.parameters)
    about_gain, about_variance, about_source = (
        Studentized(
            float(state.curve.parameters[index]),
            float(state.curve.errors[index]),
            resampled.parameters[:, index],
            resampled.errors[:, index],
        )
        for index in range(3)
    )
    offset_spread = np.full(len(offsets), offsets.std())
    chi_squared = float(state.curve.chi_squared)
    chi_freedom = max(int(state.kept.sum()) - 3, 0)
    has_offset = len(readings.off) > 1
    result = PhotonTransfer(
        gain=gain,
        gain_interval=two_sided(about_gain),
        variance=max(variance, 0.0),
        variance_unclipped=variance,
        variance_interval=above_zero(about_variance, readings.step**2 / 12),
        source_noise=max(source, 0.0),
        source_noise_unclipped=source,
        source_noise_interval=above_zero(about_source),
        offset=readings.offset,
        offset_interval=two_sided(Studentized(readings.offset, float(offsets.std()), offsets, offset_spread))
        if has_offset
        else Interval(readings.offset, readings.offset),
        covariance=np.cov(resampled.parameters, rowvar=False),
        levels=_levels(readings, state),
        total=float(state.points.light[0]),
        background=float(state.points.light[1]),
        linear_up_to=float(state.points.light[: readings.n_pictures][state.kept[: readings.n_pictures]].max()),
        dark_variance=readings.off_variance if readings.off_freedom else None,
        dark_freedom=round(readings.off_freedom),
        drift_time_s=np.linspace(readings.time_s.min(), readings.time_s.max(), _CURVE_SAMPLES),
        drift=_curve_samples(readings, state),
        exposures=len(readings.value),
        outliers=int((~state.used).sum()) + readings.off_outliers,
        chi_squared=chi_squared,
        chi_freedom=chi_freedom,
        fit_probability=float(chdtrc(chi_freedom, chi_squared)) if chi_freedom else 1.0,
        usable=False,
        reasons=(),
        notes=(),
    )
    reasons = _why_not_usable(result, distinct_levels(readings.share, state.kept), readings.step)
    notes = _notes(result, readings, state, saturated_exposures)
    return replace(result, usable=not reasons, reasons=reasons, notes=notes)


def _levels(readings: LevelReadings, state: CleanedLevels) -> tuple[LightLevel, ...]:
    points = state.points
    levels = []
    for each in np.argsort(readings.share, kind="stable").tolist():
        tested = bool(np.isfinite(state.deviation[each]))
        variance, freedom, exposures = points.variance[each], points.freedom[each], points.exposures[each]
        modelled = max(float(state.curve.at(points.light[each : each + 1])[0]), points.least_variance)
        levels.append(
            LightLevel(
                pair=each // 2,
                sign=-1 if each % 2 else 1,
                share=float(readings.share[each]),
                exposures=int(np.sum(state.used & (readings.picture == each))),
                light=float(points.light[each]),
                light_error=float((variance / exposures) ** 0.5),
                variance=float(variance),
                variance_error=float(modelled * (2 / freedom) ** 0.5),
                freedom=float(freedom),
                deviation=float(state.deviation[each]) if tested else None,
                deviation_error=float(state.deviation_error[each]) if tested else None,
                excluded=state.reasons[each],
            )
        )
    return tuple(levels)


def _curve_samples(readings: LevelReadings, state: CleanedLevels) -> NDArray[np.float64]:
    """The drift at evenly spaced times; between exposures it is a polynomial, and interpolation is as good."""
    order = np.argsort(readings.time_s, kind="stable")
    times = np.linspace(readings.time_s.min(), readings.time_s.max(), _CURVE_SAMPLES)
    return np.interp(times, readings.time_s[order], state.drifting.curve[order])


def _why_not_usable(result: PhotonTransfer, distinct: int, step: float) -> tuple[str, ...]:
    reasons = []
    interval = result.gain_interval
    if interval.low <= 0:
        reasons.append(
            f"the gain cannot be told from 0 ({result.gain:.3g}, 95 % interval {interval.low:.3g} to "
            f"{interval.high:.3g}): take more exposures or more light"
        )
    elif interval.high - interval.low > 2 * GAIN_HALF_WIDTH * result.gain:
        reasons.append(
            f"the gain is known to no better than {interval.low:.3g} to {interval.high:.3g} (±{GAIN_HALF_WIDTH:.0%} is "
            "the limit): take more exposures or more light"
        )
    if distinct < LEAST_LEVELS:
        reasons.append(f"only {distinct} levels beside darkness are usable, of {LEAST_LEVELS} needed: reduce the light")
    dimmest = min((level for level in result.levels if level.used and level.share > 0), key=lambda level: level.share)
    if result.variance < step**2 / 12 and dimmest.variance < COARSE * step**2:
        reasons.append(
            f"readings come in steps of {step:.3g}, too coarse for the noise of dim levels (a variance of "
            f"{dimmest.variance:.3g}): raise the detector's gain, or the light"
        )
    if result.outliers > MOST_OUTLIERS * result.exposures:
        reasons.append(f"{result.outliers} of {result.exposures} readings are outliers, too many to be accidents")
    if result.chi_freedom and result.chi_squared > MISFIT * result.chi_freedom and result.fit_probability < SURPRISING:
        reasons.append(
            f"variances do not follow b + a·m + q·m² (χ² = {result.chi_squared:.3g} with {result.chi_freedom} "
            "degrees of freedom): look at the plot for levels off the curve"
        )
    return tuple(reasons)


def _notes(
    result: PhotonTransfer, readings: LevelReadings, state: CleanedLevels, saturated_exposures: int
) -> tuple[str, ...]:
    notes = []
    if result.variance_unclipped < 0:
        notes.append(f"b came out at {result.variance_unclipped:.3g}, below 0, and is set to 0")
    if result.variance_interval.one_sided:
        notes.append(f"b cannot be told from 0; it is below {result.variance_interval.high:.3g} with 95 % confidence")
    if result.source_noise_interval.one_sided:
        limit = result.source_noise_interval.high**0.5
        notes.append(f"no source noise is seen; it is below {limit:.2%} of the light with 95 % confidence")
    left_out = [level for level in result.levels if not level.used]
    if left_out:
        notes.append(f"{len(left_out)} of {len(result.levels)} pictures are left out: {left_out[0].excluded}")
    if all(level.deviation is None for level in result.levels):
        notes.append("linearity could not be tested: the pictures of half the mirrors are left out themselves")
    if result.outliers:
        notes.append(f"{result.outliers} outlying readings are left out")
    if saturated_exposures:
        notes.append(f"{saturated_exposures} exposures have a pixel at full scale")
    if len(readings.off) == 0:
        notes.append(
            "no readings with the light off: the stated offset is taken, and what is wrong with it goes into b"
        )
    if readings.floor is not None:
        cut = float(np.mean(readings.at_floor(readings.value[readings.picture == 1])))
        notes.append(
            f"{cut:.0%} of dark readings are cut off at {readings.floor + readings.offset:g} and counted as that or "
            "less: raise the detector's offset"
        )
    if abs(readings.off_shift) > 4:
        notes.append(f"the offset moved between before and after, by {readings.off_shift:.1f} standard errors")
    told = state.used & state.kept[readings.picture]
    light = state.drifting.light[readings.picture] * state.drifting.curve
    variance = np.maximum(state.curve.at(light), least_variance(readings))
    probability = faster_than_smooth(
        readings.time_s[told],
        state.drifting.residual[told],
        light[told],
        variance[told],
        readings.design.shape[1],
    )
    if probability < SURPRISING:
        notes.append("the light varies faster than the smooth drift curve follows; what is left counts as source noise")
    if result.chi_freedom and result.fit_probability < SURPRISING:
        notes.append(
            f"variances scatter around the curve more than their errors (χ²/df = "
            f"{result.chi_squared / result.chi_freedom:.2f}, p = {result.fit_probability:.1g})"
        )
    return tuple(notes)


def _refuse_too_few(levels: int) -> None:
    if levels < LEAST_ASKED:
        raise TooFewLevelsError(
            f"found {levels} levels of light; expected {LEAST_ASKED} or more, to fit three parameters and see whether "
            "they describe the detector. Ask for more levels"
        )
