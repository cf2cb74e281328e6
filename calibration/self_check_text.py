"""What a run's check of its own readings found, in words."""

from __future__ import annotations

from calibration.first_minus_second import FirstMinusSecond
from calibration.noise_knowledge import NoiseKnowledge
from calibration.self_check import (
    CERTAIN,
    GAIN,
    GAIN_CHANGE,
    PROMISED_FALSE_ALARMS,
    VARIANCE_CHANGE,
    ScatterTest,
    SelfCheck,
)
from calibration.square_sums import PAIR_SUMS, REPEATS

# So many degrees of freedom no run has.
_ENDLESS = 1e8

_PERCENT = round(100 * (GAIN_CHANGE - 1))


def warnings(check: SelfCheck, knowledge: NoiseKnowledge) -> tuple[str, ...]:
    """What does not fit, and what to do about it; empty where everything does."""
    found = []
    if check.failed:
        noise = knowledge.noise
        found.append(
            f"the readings do not fit to the noise model (a = {noise.gain:.4g}, b = {noise.variance:.4g}): "
            f"{'; '.join(map(_failure, check.failed))}. Fewer than one run in "
            f"{round(1 / PROMISED_FALSE_ALARMS)} says so wrongly. "
            f"{_own(check)}{_advice(check.failed)}"
        )
    if check.spike_found:
        assert check.first_minus_second is not None
        found.append(
            f"first and second readings of the pairs differ by {_spike(check.first_minus_second, check.total)}: the "
            "light changes in step with the pictures. The order of each pair is random, so that it makes no spike at "
            "pixel 0 but noise; look for mains ripple, or take another picture time"
        )
    return tuple(found)


def verdict(check: SelfCheck) -> str:
    """Whether the readings fit, with every z-score."""
    scores = [f"{test.what} {test.z:+.1f}" for test in check.tests]
    if check.first_minus_second is not None:
        scores.append(f"first minus second {check.first_minus_second.z:+.1f}")
    if not scores:
        return "nothing could be tested"
    fits = "do not fit" if check.failed or check.spike_found else "fit"
    return f"readings {fits} to the noise model; z: {', '.join(scores)}"


def power(check: SelfCheck) -> str:
    """What the check would have noticed."""
    chance = f"a gain changed by {_PERCENT} % would be noticed with probability {_share(check.gain_power)}"
    if check.gain_power < CERTAIN:
        chance = f"{chance} only: {_why_weak(check)}"
    least = check.least_gain_change
    certain = (
        f"no change below a factor of 10 with {_certain()}"
        if least is None
        else f"a change by {100 * (least - 1):.2g} % with {_certain()}"
    )
    return (
        f"{chance}; {certain}; a variance changed by a factor of {VARIANCE_CHANGE:g} with probability "
        f"{_share(check.variance_power)}"
    )


def estimate(check: SelfCheck) -> str:
    """The run's own a and b."""
    own = check.estimate
    if own is None:
        return "nothing in this run tells a from b"
    return (
        f"a = {own.gain:.4g} ± {own.gain_error:.2g} (z {own.gain_z:+.1f}), "
        f"b = {own.variance:.4g} ± {own.variance_error:.2g} (z {own.variance_z:+.1f})"
    )


def spike(check: SelfCheck) -> str:
    """First minus second reading of the pairs."""
    found = check.first_minus_second
    return "too few coefficients to tell" if found is None else _spike(found, check.total)


def _failure(test: ScatterTest) -> str:
    if test.what == GAIN:
        return f"all readings together ask for {test.ratio:.3g} times the gain (z = {test.z:+.1f})"
    return f"{test.what} vary {test.ratio:.3g} times as much as it says (z = {test.z:+.1f})"


def _own(check: SelfCheck) -> str:
    return "" if check.estimate is None else f"By themselves they say {estimate(check)}. "


def _advice(failed: tuple[ScatterTest, ...]) -> str:
    # The gain is asked for by all readings, and fails with a part of them.
    names = {test.what for test in failed} - {GAIN}
    if names == {PAIR_SUMS} and failed[0].z > 0:
        return "Only sums of pairs vary too much, which is light that flickers from pair to pair: look at the lamp"
    if names == {REPEATS} and failed[0].z > 0:
        return "Only repeats vary too much, which is a sample that moves or bleaches unevenly"
    return "Calibrate again (`hadascope calibrate noise`), or correct noise.gain and noise.variance"


def _why_weak(check: SelfCheck) -> str:
    if check.exact_gain_power >= CERTAIN:
        return "the calibration's own error of a and b hides it"
    shot = f"only {check.shot_share:.0%} of the variance is shot noise"
    if check.degrees_needed > _ENDLESS:
        return shot
    there_are = f"{check.n_pairs} pairs and {check.n_repeated} coefficients with several give {_rounded(check.degrees)}"
    because = f" because {shot}" if check.shot_share < 0.5 else ""
    return f"{there_are} degrees of freedom, and {_certain()} takes {_rounded(check.degrees_needed)}{because}"


def _rounded(number: float) -> str:
    """Two digits and zeros."""
    return f"{float(f'{number:.2g}'):.0f}"


def _certain() -> str:
    return f"{100 * CERTAIN:g} %"


def _share(probability: float) -> str:
    return f"{min(probability, 0.9999):.4g}" if probability > 0.9 else f"{probability:.2g}"


def _spike(found: FirstMinusSecond, total: float) -> str:
    return (
        f"{total * found.share:+.3g} ± {total * found.error:.2g} detector units, {100 * found.share:+.2g} ± "
        f"{100 * found.error:.1g} % of T (slow decline alone: {100 * found.drift:+.2g} %)"
    )
