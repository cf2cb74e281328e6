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

from calibration.bootstrap import (
    IMPOSSIBLE,
    Interval,
    Studentized,
    above_zero,
    resampled_moments,
    two_sided,
)
from calibration.cleaned_levels import (
    LEAST_LEVELS,
    CleanedLevels,
    clean_levels,
    distinct_levels,
    kinds,
    least_variance,
    remedy,
)
from calibration.drift import faster_than_smooth
from calibration.exposures import Exposures
from calibration.level_pictures import check_levels
from calibration.level_readings import LEAST_EXPOSURES, LevelReadings
from calibration.linearity import TOLERANCE
from calibration.recipe import Recipe
from calibration.tails import Tails, find_tails
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
MOST_OUTLIERS = 0.002
"""Share of outlying exposures above which they are no accidents; many smaller ones will be among what is left."""
MISFIT = 5.0
"""χ² per degree of freedom above which variances do not follow the curve, whatever a and b come out as."""
SURPRISING = 1e-3
"""Probability below which what noise alone would do is worth a note."""
MOVED = 4.0
"""Standard errors by which the offset must have moved for that to be said."""
WORTH_SAYING = 0.1
"""Share of its own error, or of the rounding's variance, above which an estimate below 0 is news."""

_CURVE_SAMPLES = 200


@dataclass(frozen=True)
class LightLevel:
    """One picture's readings. Light and variance in detector units, above the offset, and units².

    pair, sign: its number (calibration.recipe); share: of the region's mirrors that are on; exposures: without
    outliers; light: mean; variance: with ``freedom`` degrees of freedom, drift removed; deviation: of the light from
    proportionality, as a share of it, None where that is not tested (calibration.linearity); excluded: why it was not
    used, "" where it was.
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
    source_noise_unclipped; offset: dark level with the light off, in the middle of the run, units above the stated
    offset (0 where it was not measured); covariance: float64 [3, 3] of unclipped (a, b, q), from the bootstrap.
    Intervals of b and q below 0 contradict the model, and are a reason not to use it.

    levels: by share of mirrors; total: light of all of the region (T + B); background: light of dark pictures (B);
    linear_up_to: the brightest level that was used, units above the offset: what it reads is in proportion to its light
    within 1 %, but for nonlinearity that superposition does not show (calibration.linearity); dark_variance: of
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


def photon_transfer_recipe(levels: int, exposures_per_level: int, seed: int = 0) -> Recipe:
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
    exposures: Exposures,
    levels: int,
    *,
    full_scale: float | None = None,
    floor: float | None = None,
    seed: int = 0,
    resamples: int = 400,
) -> PhotonTransfer:
    """Fit a, b, q, offset and drift to the exposures of a recipe of ``levels`` steps.

    full_scale: the highest value that readings can take, in units above the stated offset; a ceiling below it is found
    from the readings. floor: the lowest value that they can take, in the same units; where it is not given, darkness
    that is cut off altogether cannot be told from darkness without noise. seed, resamples: of the bootstrap. Raises
    NotCalibratableError (NoSignalError, ConstantReadingsError, SaturatedThroughoutError, TooFewLevelsError) where there
    is nothing to fit, ValueError where the exposures are not of such a recipe.
    """
    _refuse_too_few(levels)
    if len(exposures.pair) and not 0 <= int(exposures.pair.min()) <= int(exposures.pair.max()) <= levels // 2:
        raise ValueError(
            f"found pairs up to {int(exposures.pair.max())}; {levels} levels have pairs 0 to {levels // 2}"
        )
    refuse_unfit_readings(exposures, full_scale)
    readings = LevelReadings.of(exposures, levels, full_scale, floor)
    state = clean_levels(readings)
    resampled, offsets = _bootstrap(readings, state, resamples, np.random.default_rng(seed))
    return _conclude(readings, state, resampled, offsets, exposures.saturated)


def _bootstrap(
    readings: LevelReadings, state: CleanedLevels, resamples: int, rng: np.random.Generator
) -> tuple[VarianceCurve, NDArray[np.float64]]:
    """Curves and offsets [resamples], fitted again to resampled residuals."""
    kept, points = state.kept, state.points
    off = readings.off
    cut = np.append(readings.is_cut_off(state.used), off.cut)
    residuals: list[NDArray[np.float64]] = []
    limits: list[float | None] = []
    for each in np.flatnonzero(kept):
        lit = each < readings.n_pictures
        shown = state.used & (readings.picture == each)
        if cut[each] and readings.floor is not None:
            mean = float(points.light[each]) + off.offset
            residuals.append(readings.raw[shown] - mean if lit else off.residual)
            limits.append(readings.floor - mean)
        else:
            own = state.drifting.residual[shown] if lit else off.residual
            residuals.append(own * (len(own) / points.freedom[each]) ** 0.5)
            limits.append(None)
    means, variances = resampled_moments(residuals, limits, resamples, rng)
    chosen = points.chosen(kept)
    variances += rng.standard_normal(variances.shape) * chosen.rounding_error
    offset_error = means[:, ~chosen.lit].sum(axis=1)
    # Uniform within half a step, as rounding errors are.
    offset_error += points.offset_rounding * 3**0.5 * rng.uniform(-1, 1, resamples)
    light = np.where(chosen.lit, chosen.light + means - offset_error[:, None], 0.0)
    again = fit_variance_curve(replace(chosen, light=light, variance=variances), start=state.curve.parameters)
    return again, off.offset + offset_error


def _conclude(
    readings: LevelReadings,
    state: CleanedLevels,
    resampled: VarianceCurve,
    offsets: NDArray[np.float64],
    saturated_exposures: int,
) -> PhotonTransfer:
    from scipy.special import chdtrc

    gain, variance, source = (float(each) for each in state.curve.parameters)
    chi_squared = float(state.curve.chi_squared)
    chi_freedom = max(int(state.kept.sum()) - 3, 0)
    fit_probability = float(chdtrc(chi_freedom, chi_squared)) if chi_freedom else 1.0
    # Points off the curve by more than their errors: what moves them has moved a, b and q as well.
    widening = (chi_squared / chi_freedom) ** 0.5 if fit_probability < SURPRISING else 1.0
    about_gain, about_variance, about_source = (
        Studentized(
            float(state.curve.parameters[index]),
            float(state.curve.errors[index]) * widening,
            resampled.parameters[:, index],
            resampled.errors[:, index],
        )
        for index in range(3)
    )
    off = readings.off
    offset_spread = np.full(len(offsets), offsets.std())
    result = PhotonTransfer(
        gain=gain,
        gain_interval=two_sided(about_gain),
        variance=max(variance, 0.0),
        variance_unclipped=variance,
        variance_interval=_below(about_variance, readings, state)
        if _is_dark_coarse(readings, state)
        else above_zero(about_variance, readings.step**2 / 12),
        source_noise=max(source, 0.0),
        source_noise_unclipped=source,
        source_noise_interval=above_zero(about_source),
        offset=off.offset,
        offset_interval=two_sided(Studentized(off.offset, float(offsets.std()), offsets, offset_spread))
        if off.freedom
        else Interval(off.offset, off.offset),
        covariance=np.cov(resampled.parameters, rowvar=False) * widening**2,
        levels=_levels(readings, state),
        total=float(state.points.light[0]),
        background=float(state.points.light[1]),
        linear_up_to=float(state.points.light[: readings.n_pictures][state.kept[: readings.n_pictures]].max()),
        dark_variance=off.variance if off.freedom else None,
        dark_freedom=round(off.freedom),
        drift_time_s=np.linspace(readings.time_s.min(), readings.time_s.max(), _CURVE_SAMPLES),
        drift=_curve_samples(readings, state),
        exposures=len(readings.value),
        outliers=int((~state.used).sum()) + off.outliers,
        chi_squared=chi_squared,
        chi_freedom=chi_freedom,
        fit_probability=fit_probability,
        usable=False,
        reasons=(),
        notes=(),
    )
    tails = _tails(readings, state)
    reasons = _why_not_usable(result, readings, state, tails)
    notes = _notes(result, readings, state, saturated_exposures, tails)
    return replace(result, usable=not reasons, reasons=reasons, notes=notes)


def _below(about: Studentized, readings: LevelReadings, state: CleanedLevels) -> Interval:
    """From 0 to what b may be at most where dark readings vary by less than their step.

    Of normal noise rounded to steps u the variance is measured too small by u²/9 at most, wherever the mean lies. What
    is measured, s², comes from few readings that are a step off: their number, s²·f/u², scatters as Poisson's do.
    """
    dark = 1
    off, points = readings.off, state.points
    measured, freedom = (off.variance, off.freedom) if off.freedom else (points.variance[dark], points.freedom[dark])
    square = readings.step**2
    error = ((2 * measured**2 + measured * square) / freedom) ** 0.5
    high = float(measured + 1.65 * error + 3 * square / freedom) + square / 9
    return Interval(0.0, max(about.estimate, high), one_sided=True)


def _levels(readings: LevelReadings, state: CleanedLevels) -> tuple[LightLevel, ...]:
    points = state.points
    levels = []
    for each in np.argsort(readings.share, kind="stable").tolist():
        tested = bool(np.isfinite(state.faults.deviation[each]))
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
                variance_error=float((2 * modelled**2 / freedom + points.rounding_error[each] ** 2) ** 0.5),
                freedom=float(freedom),
                deviation=float(state.faults.deviation[each]) if tested else None,
                deviation_error=float(state.faults.deviation_error[each]) if tested else None,
                excluded=state.reasons[each],
            )
        )
    return tuple(levels)


def _curve_samples(readings: LevelReadings, state: CleanedLevels) -> NDArray[np.float64]:
    """The drift at evenly spaced times; between exposures it is a polynomial, and interpolation is as good."""
    order = np.argsort(readings.time_s, kind="stable")
    times = np.linspace(readings.time_s.min(), readings.time_s.max(), _CURVE_SAMPLES)
    return np.interp(times, readings.time_s[order], state.drifting.curve[order])


def _modelled(readings: LevelReadings, state: CleanedLevels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Light and variance that the fit gives each reading [n]."""
    light = state.drifting.light[readings.picture] * state.drifting.curve
    return light, np.maximum(state.curve.at(light), least_variance(readings))


def _tails(readings: LevelReadings, state: CleanedLevels) -> Tails:
    """Of the pictures that the curve was fitted to, none of them cut off or coarse."""
    fine = ~readings.is_cut_off(state.used) & ~readings.is_coarse(state.points.variance[: readings.n_pictures])
    told = state.used & (fine & state.kept[: readings.n_pictures])[readings.picture]
    return find_tails(
        state.drifting.residual[told],
        _modelled(readings, state)[1][told],
        readings.picture[told],
        state.points.light[: readings.n_pictures],
        float(state.curve.parameters[0]),
    )


def _why_not_usable(
    result: PhotonTransfer, readings: LevelReadings, state: CleanedLevels, tails: Tails
) -> tuple[str, ...]:
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
    distinct = distinct_levels(readings.share, state.kept)
    if distinct < LEAST_LEVELS:
        reasons.append(
            f"only {distinct} levels beside darkness are usable, of {LEAST_LEVELS} needed; "
            f"{remedy(state.reasons)[0].lower()}{remedy(state.reasons)[1:]}"
        )
    dark = 1
    if readings.off.hidden or state.reasons[dark].startswith("cut off"):
        reasons.append(
            "nearly all dark readings are the lowest value that there is, so that neither b nor the offset can be "
            "known: raise the camera's offset"
        )
    elif result.variance_interval.high < 0:
        reasons.append(
            f"b came out at {result.variance_unclipped:.3g}, below 0 beyond its error: "
            + ("the offset is wrong, or moved" if readings.off.freedom else "the stated offset is wrong")
            + ", or the detector is not linear. Take readings with the light off before and after"
        )
    if result.source_noise_interval.high < 0:
        reasons.append(
            f"variance grows more slowly than the light (q = {result.source_noise_unclipped:.2g}, below 0 beyond its "
            "error): the detector compresses, or its noise is filtered (smoothing, averaging, compressed frames)"
        )
    if result.background < -IMPOSSIBLE * _background_error(readings, state):
        reasons.append(
            f"dark pictures under light read {-result.background:.3g} less than "
            + (
                "darkness with the light off: the offset moved, or light leaked in"
                if readings.off.measured
                else "the stated offset: it is wrong"
            )
        )
    shift = readings.off.shift
    if _moved(readings) and abs(shift) > max(readings.off.variance**0.5, readings.step):
        reasons.append(
            f"the offset moved by {shift:.3g} between before and after, more than dark readings scatter: let the "
            "camera warm up, and calibrate again"
        )
    if result.outliers > MOST_OUTLIERS * result.exposures:
        reasons.append(f"{result.outliers} of {result.exposures} readings are outliers, too many to be accidents")
    if _tails_matter(result, tails):
        reasons.append(
            f"readings stray further than noise does (excess kurtosis {tails.excess:.2g} ± {tails.error:.1g}): "
            f"glitches, cosmic rays or flicker may be up to {tails.share:.1%} of the variance. Find their cause"
        )
    if result.chi_freedom and result.chi_squared > MISFIT * result.chi_freedom and result.fit_probability < SURPRISING:
        reasons.append(
            f"variances do not follow b + a·m + q·m² (χ² = {result.chi_squared:.3g} with {result.chi_freedom} "
            "degrees of freedom): look at the plot for levels off the curve"
        )
    return tuple(reasons)


def _notes(
    result: PhotonTransfer, readings: LevelReadings, state: CleanedLevels, saturated_exposures: int, tails: Tails
) -> tuple[str, ...]:
    notes = [*_about_variance(result, readings, state)]
    if result.source_noise_interval.one_sided:
        limit = result.source_noise_interval.high**0.5
        notes.append(f"no source noise is seen; it is below {100 * limit:.2g} % of the light with 95 % confidence")
    left_out = [level for level in result.levels if not level.used]
    if left_out:
        why = "; ".join(kinds(state.reasons))
        notes.append(f"{len(left_out)} of {len(result.levels)} pictures are left out: {why}")
    notes += _about_linearity(result, state)
    if result.outliers:
        notes.append(f"{result.outliers} outlying readings are left out")
    if tails.significant and not _tails_matter(result, tails):
        notes.append(
            f"readings stray a little further than noise does (excess kurtosis {tails.excess:.2g} ± {tails.error:.1g})"
        )
    if saturated_exposures:
        notes.append(f"{saturated_exposures} exposures have a pixel at full scale")
    if not readings.off.measured:
        notes.append(
            "no readings with the light off: the stated offset is taken, and what is wrong with it goes into b"
        )
    cut = float(np.mean(readings.at_floor[readings.picture == 1]))
    if readings.floor is not None and cut and not readings.off.hidden:
        notes.append(
            f"{100 * cut:.2g} % of dark readings are cut off at {readings.floor:g} and counted as that or less: raise "
            "the detector's offset"
        )
    if _moved(readings):
        taken = "taken to move evenly in between" if readings.off.follows else "taken to be the mean of both"
        notes.append(
            f"the offset moved between before and after, by {readings.off.shift:.3g} ± {readings.off.shift_error:.2g}; "
            f"it is {taken}"
        )
    told = state.used & state.kept[readings.picture]
    light, variance = _modelled(readings, state)
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
        ratio = result.chi_squared / result.chi_freedom
        notes.append(
            f"variances scatter around the curve more than their errors (χ²/df = {ratio:.2f}, p = "
            f"{result.fit_probability:.1g}); intervals are {ratio**0.5:.2f} times wider for that"
        )
    return tuple(notes)


def _about_variance(result: PhotonTransfer, readings: LevelReadings, state: CleanedLevels) -> tuple[str, ...]:
    """What is to be said where b is not above 0: one note at most."""
    value, interval = result.variance_unclipped, result.variance_interval
    news = WORTH_SAYING * max(float(state.curve.errors[1]), readings.step**2 / 12)
    came_out = f"b came out at {value:.3g}, below 0, and is set to 0"
    if interval.high < 0:
        return (came_out,)
    if readings.off.hidden or not interval.one_sided:
        return ()
    below = f"it is below {interval.high:.3g} with 95 % confidence"
    if _is_dark_coarse(readings, state):
        below += f", since readings in steps of {readings.step:.3g} are too coarse to tell it by"
    return (f"{came_out}; {below}" if value < -news else f"b cannot be told from 0; {below}",)


def _about_linearity(result: PhotonTransfer, state: CleanedLevels) -> tuple[str, ...]:
    """Whether linearity could be tested, and how well."""
    bend = state.faults.bend
    if all(level.deviation is None for level in result.levels):
        return ("linearity could not be tested: the pictures of half the mirrors are left out themselves",)
    if bend is None:
        return ("a smooth bend of the detector could not be looked for: too few pairs of pictures add up to one total",)
    if bend.significant:
        amount = f"{abs(bend.curvature) * result.linear_up_to:.2%} too {'little' if bend.curvature > 0 else 'much'}"
        return (f"the detector bends: at a light of {result.linear_up_to:.4g} it reads {amount}",)
    unseen = 1.96 * bend.error * result.linear_up_to
    if unseen > TOLERANCE:
        return (f"a smooth bend of the detector by up to {unseen:.1%} could not be seen with these exposures",)
    return ()


def _tails_matter(result: PhotonTransfer, tails: Tails) -> bool:
    """Whether what strays may move the gain by more than half of what its interval allows for."""
    width = result.gain_interval.high - result.gain_interval.low
    return tails.significant and tails.share * abs(result.gain) > width / 4


def _is_dark_coarse(readings: LevelReadings, state: CleanedLevels) -> bool:
    """Whether what the curve was fitted to includes dark readings quieter than their step."""
    return bool(readings.is_coarse(state.points.variance)[state.kept].any())


def _moved(readings: LevelReadings) -> bool:
    off = readings.off
    return abs(off.shift) > MOVED * off.shift_error


def _background_error(readings: LevelReadings, state: CleanedLevels) -> float:
    """Standard error of the light of dark pictures, units; the offset's, where it is stated, is nobody's guess."""
    dark = 1
    points = state.points
    of_offset = readings.off.variance * points.offset_error
    rounding = readings.step**2 / 12 if readings.is_coarse(points.variance)[dark] else 0.0
    error: float = (float(points.variance[dark] / points.exposures[dark]) + of_offset + rounding) ** 0.5
    return error


def _refuse_too_few(levels: int) -> None:
    if levels < LEAST_ASKED:
        raise TooFewLevelsError(
            f"found {levels} levels of light; expected {LEAST_ASKED} or more, to fit three parameters and see whether "
            "they describe the detector. Ask for more levels"
        )
