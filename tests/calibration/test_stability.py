"""What a lamp, a sample and a detector do is found again within the intervals that are stated, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.exposures import Exposures
from calibration.measured import Measured
from calibration.pair_readings import IncompletePairsError
from calibration.stability import LEAST_CONTRAST, MOST_CHANGE, Stability, fit_stability
from calibration.verdict import ConstantReadingsError, NoSignalError, SaturatedThroughoutError
from models.noise import NoiseModel
from tests.calibration.light_simulator import Light

PICTURE_TIME_US = 1000.0
TRIALS = 20
# Of 20 intervals of 95 % that hold independently, fewer than 16 cover the truth once in 400 times (binomial).
LEAST_COVERED = 16


def fitted(light: Light, seed: int = 0, *, noise_known: bool = True) -> Stability:
    noise = NoiseModel(light.gain, light.variance) if noise_known else None
    return fit_stability(light.exposures(seed), PICTURE_TIME_US, noise)


def holds(interval: Measured, truth: float) -> bool:
    above = interval.low is None or interval.low <= truth
    return above and (interval.high is None or truth <= interval.high)


def some(interval: Measured | None) -> Measured:
    assert interval is not None
    return interval


UNSTEADY = Light(
    bleaching=3e-3, drift=1.5e-3, source=0.01, slow=0.005, slow_s=0.05, background=40.0, first=25.0, sections=40
)


@pytest.fixture(scope="module")
def unsteady() -> list[Stability]:
    return [fitted(UNSTEADY, seed) for seed in range(TRIALS)]


@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (lambda each: some(each.fading.bleaching), UNSTEADY.bleaching),
        (lambda each: some(each.fading.drift), UNSTEADY.drift),
        (lambda each: each.fading.decline, 0.9 * UNSTEADY.bleaching + UNSTEADY.drift),
        (lambda each: each.source.inside, UNSTEADY.source**2),
        (lambda each: each.source.between, UNSTEADY.slow**2),
        (lambda each: each.source.first_minus_second, UNSTEADY.first),
    ],
    ids=["bleaching", "lamp drift", "decline", "inside pairs", "between pairs", "first minus second"],
)
def test_an_unsteady_light_is_found_within_its_intervals(
    unsteady: list[Stability], found: Callable[[Stability], Measured], truth: float
) -> None:
    assert sum(holds(found(each), truth) for each in unsteady) >= LEAST_COVERED


def test_intervals_are_as_narrow_as_the_light_allows(unsteady: list[Stability]) -> None:
    """Intervals that held because they were wide would tell nothing."""
    certain = [
        [each.fading.decline.excludes_zero for each in unsteady],
        [each.source.inside.excludes_zero for each in unsteady],
        [each.source.between.excludes_zero for each in unsteady],
        [each.source.first_minus_second.excludes_zero for each in unsteady],
    ]
    assert min(sum(each) for each in certain) >= LEAST_COVERED
    assert all((each.source.inside.high or 0) < 1.5 * UNSTEADY.source**2 for each in unsteady)


def test_a_steady_light_shows_nothing_and_is_usable() -> None:
    found = [fitted(Light(sections=40), seed) for seed in range(TRIALS)]
    for what in (
        [some(each.fading.bleaching) for each in found],
        [some(each.fading.drift) for each in found],
        [each.fading.change for each in found],
        [each.source.inside for each in found],
        [each.source.between for each in found],
        [each.source.first_minus_second for each in found],
        [some(each.offset_drift) for each in found],
    ):
        assert sum(holds(each, 0.0) for each in what) >= LEAST_COVERED
    assert all(each.usable and not each.reasons for each in found)


def test_totals_are_those_of_the_light() -> None:
    light = Light(background=100.0, bleaching=5e-3)
    found = fitted(light)
    assert found.total == pytest.approx(light.total, rel=2e-3)
    assert found.background == pytest.approx(light.background, abs=5)
    assert found.dark_level == pytest.approx(light.offset, abs=1.5)
    assert found.source.shot_variance == pytest.approx(found.source.light + 2 * light.variance)
    assert found.pairs == light.sections * light.section_pairs


def test_without_rests_only_the_decline_by_both_is_claimed() -> None:
    light = Light(bleaching=3e-3, drift=1.5e-3, rests=0)
    found = fitted(light)
    assert found.fading.bleaching is None
    assert found.fading.drift is None
    assert holds(found.fading.decline, 0.9 * light.bleaching + light.drift)
    assert any("cannot be told apart" in note for note in found.notes)


def test_what_could_not_be_separated_is_said() -> None:
    light = Light(bleaching=2e-3, drift=1e-3, slow=0.002, slow_s=3.0, sections=40, rest_s=0.2)
    notes = [note for seed in range(5) for note in fitted(light, seed).notes]
    assert any("could not be separated (correlation -0.9" in note for note in notes)


@pytest.mark.parametrize("source", [0.0, 0.02])
def test_without_a_and_b_an_upper_limit_of_source_noise_is_left(source: float) -> None:
    light = Light(source=source)
    found = [fitted(light, seed, noise_known=False) for seed in range(TRIALS)]
    assert sum(holds(each.source.inside, source**2) for each in found) >= LEAST_COVERED
    assert all(each.source.shot_variance is None for each in found)
    assert any("upper limit" in note for note in found[0].notes)
    # Were there no shot noise, all of var(y+ - y-) - 2b would be the source's, give or take 10 % of it.
    most = source**2 + light.gain * light.total / (light.total**2 / 2)
    assert all((each.source.inside.high or 0) < 1.1 * most for each in found)


def test_an_uncertain_gain_widens_the_interval_of_source_noise() -> None:
    exposures, noise = Light().exposures(0), NoiseModel(1.0, 50.0)
    certain = fit_stability(exposures, PICTURE_TIME_US, noise).source.inside
    uncertain = fit_stability(exposures, PICTURE_TIME_US, noise, np.diag([0.1**2, 0.0])).source.inside
    assert uncertain.value == certain.value
    # 10 % of the shot noise, relative to T²/2.
    assert (uncertain.high or 0) - uncertain.value == pytest.approx(2.306 * 0.1 * 20_000 / (20_000**2 / 2), rel=0.05)


def test_an_uncertain_variance_widens_the_interval_of_source_noise() -> None:
    exposures, noise = Light().exposures(0), NoiseModel(1.0, 50.0)
    certain = fit_stability(exposures, PICTURE_TIME_US, noise).source.inside
    uncertain = fit_stability(exposures, PICTURE_TIME_US, noise, np.diag([0.0, 2000.0**2])).source.inside
    assert uncertain.value == certain.value
    # Twice b's error, for the two exposures, relative to T²/2.
    assert (uncertain.high or 0) - uncertain.value == pytest.approx(2.306 * 2 * 2000 / (20_000**2 / 2), rel=0.05)


def test_source_noise_is_found_beside_as_much_background_as_light() -> None:
    """x+ and x- are then T/2 + B each: nine times their squares without B, and three times the shot noise."""
    light = Light(background=20_000.0, source=0.01, sections=40)
    found = [fitted(light, seed) for seed in range(TRIALS)]
    assert sum(holds(each.source.inside, light.source**2) for each in found) >= LEAST_COVERED
    assert all(abs(each.source.inside.value - light.source**2) < 0.2 * light.source**2 for each in found)
    assert found[0].source.shot_variance == pytest.approx(3 * light.total + 2 * light.variance, rel=0.01)


def test_without_a_and_b_the_upper_limit_holds_beside_as_much_background_as_light() -> None:
    """Nearly all noise is the source's, so the limit that no shot noise would set is the truth and not half of it."""
    light = Light(background=20_000.0, source=0.02, gain=0.01, variance=1.0, sections=40)
    found = [fitted(light, seed, noise_known=False).source.inside for seed in range(TRIALS)]
    assert sum(holds(each, light.source**2) for each in found) >= LEAST_COVERED


def test_the_contrast_is_found() -> None:
    contrast = some(fitted(Light(contrast=60.0)).contrast)
    assert contrast.value == pytest.approx(60, rel=0.02)
    assert contrast.high is not None


def test_light_that_no_mirror_decides_on_counts_as_leaked() -> None:
    light = Light(background=200.0)
    found = fitted(light)
    assert some(found.contrast).value == pytest.approx((light.total + 200) / 200, rel=0.02)
    assert any("no mirror decides on" in note for note in found.notes)


def test_where_dark_pictures_are_dark_a_lower_bound_of_contrast_is_left() -> None:
    contrast = some(fitted(Light()).contrast)
    assert contrast.high is None
    assert contrast.value > 1000


def test_a_slow_wave_of_the_lamp_counts_as_noise_from_pair_to_pair_and_that_is_said() -> None:
    found = fitted(Light(slow=0.01, slow_s=3.0))
    assert found.source.between.value > 0.002**2
    assert any("slow wandering of the lamp" in note for note in found.notes)
    assert not any("slow wandering" in note for note in fitted(Light()).notes)


def test_a_spike_in_a_fixed_order_is_announced() -> None:
    found = fitted(Light(first=100.0))
    assert found.first_minus_second_share == pytest.approx(100 / 20_000, rel=0.1)
    assert any("spike" in note and "pixel 0" in note for note in found.notes)


@pytest.mark.parametrize(
    ("light", "reason"),
    [
        (Light(bleaching=8e-3), f"allowed {MOST_CHANGE:.0%}"),
        (Light(source=0.05), "more light does not help"),
        (Light(contrast=20.0), f"expected {LEAST_CONTRAST:g} or more"),
        (Light(offset_drift=400.0), "the dark level moved"),
    ],
    ids=["fades", "source noise", "contrast", "offset"],
)
def test_a_light_that_will_not_do_says_why(light: Light, reason: str) -> None:
    found = fitted(light)
    assert not found.usable
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]


def test_readings_at_full_scale_make_it_unusable() -> None:
    found = fit_stability(replace(Light().exposures(0), saturated=3), PICTURE_TIME_US, NoiseModel(1.0, 50.0))
    assert any("full scale" in reason for reason in found.reasons)


def always_lit(light: Light, seed: int = 0) -> Stability:
    """Fitted without the readings with the light off."""
    exposures = replace(light.exposures(seed), dark_before=np.empty(0), dark_after=np.empty(0))
    return fit_stability(exposures, PICTURE_TIME_US, NoiseModel(light.gain, light.variance))


def test_a_light_that_cannot_be_switched_off_has_no_contrast_and_no_known_background() -> None:
    found = always_lit(Light(background=300.0))
    assert found.background is None
    assert found.contrast is None
    assert found.offset_drift is None
    assert found.dark_level == pytest.approx(Light().offset + 300, abs=5)
    assert any("could not be switched off" in note and "B counts as 0" in note for note in found.notes)


def test_the_detectors_offset_is_not_taken_for_background() -> None:
    """It is more than all the light; with the light off, or on all the time, source noise is the same."""
    light = Light(offset=25_600.0, source=0.009, sections=40)
    found = [always_lit(light, seed) for seed in range(TRIALS)]
    assert sum(holds(each.source.inside, light.source**2) for each in found) >= LEAST_COVERED
    assert found[0].source.inside.value == pytest.approx(fitted(light).source.inside.value, rel=0.01)
    assert found[0].total == pytest.approx(light.total, rel=0.01)
    assert found[0].source.light == pytest.approx(light.total, rel=0.01)
    assert found[0].source.shot_variance == pytest.approx(light.total + 2 * light.variance, rel=0.01)
    assert all(each.usable for each in found)


def test_where_background_is_unknown_a_noisy_light_may_be_background() -> None:
    light = Light(offset=25_600.0, source=0.05)
    (reason,) = always_lit(light).reasons
    assert "more light does not help" in reason
    assert "that no mirror decides on" in reason
    (known,) = fitted(light).reasons
    assert "that no mirror decides on" not in known


def test_a_cosmic_ray_is_left_out_and_counted() -> None:
    exposures = UNSTEADY.exposures(1)
    lit = np.flatnonzero(exposures.pair > 0)
    value = exposures.value.copy()
    value[lit[[500, 2001]]] += 200_000.0
    found = fit_stability(replace(exposures, value=value), PICTURE_TIME_US, NoiseModel(1.0, 50.0))
    clean = fitted(UNSTEADY, 1)
    assert found.outliers == 2
    assert clean.outliers == 0
    assert found.source.inside.value == pytest.approx(clean.source.inside.value, rel=0.02)
    assert found.source.between.value == pytest.approx(clean.source.between.value, rel=0.1)


def test_an_exact_detector_is_no_reason_to_fail() -> None:
    light = Light(bleaching=1e-3, drift=5e-4)
    exposures = light.exposures(0)
    share = np.where(exposures.pair == 0, exposures.sign > 0, (1 + exposures.sign * light.structure) / 2)
    decay = np.exp(-light.bleaching * exposures.lit_s - light.drift * exposures.time_us * 1e-6)
    dark = np.full(64, light.offset)
    exact = replace(exposures, value=light.total * share * decay + light.offset, dark_before=dark, dark_after=dark)
    found = fit_stability(exact, PICTURE_TIME_US, NoiseModel(1.0, 0.0))
    assert some(found.fading.bleaching).value == pytest.approx(light.bleaching, rel=1e-3)
    assert some(found.fading.drift).value == pytest.approx(light.drift, rel=1e-3)
    assert found.source.pair_variance == pytest.approx(0, abs=1e-3)
    assert found.usable


def with_values(values: Callable[[Exposures], NDArray[np.float64]]) -> Exposures:
    exposures = Light().exposures(0)
    return replace(exposures, value=values(exposures))


def test_a_closed_shutter_is_said_to_be_one() -> None:
    dark = np.random.default_rng(0).normal(3, 7, 20_000)
    with pytest.raises(NoSignalError, match="open the shutter"):
        fit_stability(with_values(lambda each: dark[: len(each.value)]), PICTURE_TIME_US)


def test_a_detector_that_gives_a_constant_is_said_to() -> None:
    with pytest.raises(ConstantReadingsError, match="are the same"):
        fit_stability(with_values(lambda each: np.full(len(each.value), 7.0)), PICTURE_TIME_US)


def test_a_detector_that_is_saturated_throughout_is_said_to_be() -> None:
    def flooded(each: Exposures) -> NDArray[np.float64]:
        return np.where((each.pair == 0) & (each.sign < 0), each.value, 65_535.0)

    with pytest.raises(SaturatedThroughoutError, match="lower the light"):
        fit_stability(with_values(flooded), PICTURE_TIME_US)


def test_light_that_drowns_in_noise_is_refused() -> None:
    """40 units of light, 200 of noise: guards tell bright from dark on average, pair sums tell nothing over time."""
    with pytest.raises(NoSignalError):
        fitted(Light(total=40.0, variance=40_000.0, contrast=np.inf, sections=20))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda each: each[: len(each) - 3], "two by two"),
        (lambda each: each[:400], "at least 256 pairs"),
        (lambda each: np.delete(each, 8), "two by two"),
    ],
    ids=["cut inside a pair", "too few", "one lost"],
)
def test_readings_that_are_not_whole_pairs_are_refused(
    broken: Callable[[NDArray[np.int64]], NDArray[np.int64]], said: str
) -> None:
    exposures = Light(sections=6).exposures(0)
    kept = broken(np.arange(len(exposures.value)))
    some_of_them = replace(
        exposures,
        pair=exposures.pair[kept],
        sign=exposures.sign[kept],
        value=exposures.value[kept],
        time_us=exposures.time_us[kept],
        lit_s=exposures.lit_s[kept],
    )
    with pytest.raises(IncompletePairsError, match=said):
        fit_stability(some_of_them, PICTURE_TIME_US)


def test_pairs_in_one_order_only_are_refused() -> None:
    exposures = Light(sections=6).exposures(0)
    first = np.flatnonzero(exposures.pair > 0)[::2]
    sign = exposures.sign.copy()
    sign[first], sign[first + 1] = 1, -1
    with pytest.raises(IncompletePairsError, match="same order"):
        fit_stability(replace(exposures, sign=sign), PICTURE_TIME_US)
