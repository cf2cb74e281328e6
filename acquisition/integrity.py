"""Does every reading belong to the picture it is filed under? The guards of a block must read their code."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from acquisition.readings import Readings
from acquisition.schedule import GUARD_BRIGHT, GUARD_PICTURES
from models.noise import NoiseModel

FALSE_ALARMS_PER_BLOCK = 1e-6


class AlignmentError(RuntimeError):
    """A guard does not read its code: readings and pictures of the block may be shifted against each other."""


class FrameNumberError(RuntimeError):
    """The camera's own count of its frames has a gap or a repetition."""


class GuardsTooDimError(RuntimeError):
    """The sample gives so little light that guards cannot prove anything at the stated false-alarm rate."""


def prove_alignment(readings: Readings, noise: NoiseModel, dark_level: float = 0.0) -> None:
    """Raise unless every guard of the block reads bright where it was bright and dark where it was dark.

    A guard passes when its bright mean exceeds its dark mean by T/2, T being the mean dark-corrected pair sum; aligned
    the excess is T, shifted by one picture it is negative. The false alarms of all guards together must stay under
    FALSE_ALARMS_PER_BLOCK (see guard_false_alarm), else the guards are too dim to decide. dark_level: mean reading of
    a dark picture with the light off; what dark guards read beyond it is the background B.

    Raises AlignmentError, GuardsTooDimError.
    """
    dark = float(readings.dark.mean())
    pair_sum = float((readings.plus + readings.minus).mean())
    total = pair_sum - 2 * dark
    excess = readings.bright.mean(axis=1) - readings.dark.mean(axis=1)
    wrong = np.flatnonzero(excess <= max(total, 0.0) / 2)
    # Shifted guards show light where they should be dark, and the T that this leaves says nothing of the sample. Yet
    # whatever the shift, one place of the code was dark.
    darkest = float(readings.guards.mean(axis=0).min()) if len(wrong) else dark
    light = max(pair_sum - 2 * darkest, 0.0)
    background = max(darkest - dark_level, 0.0)
    false_alarms = len(excess) * guard_false_alarm(light, background, noise, readings.n_pairs, len(excess))
    if false_alarms > FALSE_ALARMS_PER_BLOCK:
        raise GuardsTooDimError(
            f"block {readings.block_number}: the sample's total light reads {light:.4g} detector units per exposure, "
            f"and its {len(excess)} guards would raise {false_alarms:.1e} false alarms (at most "
            f"{FALSE_ALARMS_PER_BLOCK:.0e} allowed). Nothing was recorded from this block: open the shutter, raise the "
            "light or the illumination time, or correct noise.gain and noise.variance" + _saturation_remark(readings)
        )
    if len(wrong):
        guard = int(wrong[0])
        raise AlignmentError(
            f"block {readings.block_number}: guard {guard} of {len(excess)} reads "
            f"{np.array2string(readings.guards[guard], precision=0)}, expected bright = dark + {light:.4g} in order "
            f"{''.join('B' if bright else 'D' for bright in GUARD_BRIGHT)}; a trigger was lost, doubled or late. "
            "Nothing was recorded from this block: check the trigger cable and the trigger mode, or lengthen the "
            "picture time" + _saturation_remark(readings)
        )


def _saturation_remark(readings: Readings) -> str:
    if not readings.saturated:
        return ""
    return (
        f". {readings.saturated} of its exposures saturated the detector, which alone can be the cause: lower the "
        "light, or spread it over more pixels"
    )


def prove_contiguous(frame_numbers: NDArray[np.int64] | None) -> None:
    """Raise FrameNumberError unless a burst's frame numbers, where the camera gives them, count up by one."""
    if frame_numbers is None:
        return
    gaps = np.flatnonzero(np.diff(frame_numbers) != 1)
    if len(gaps):
        at = int(gaps[0])
        raise FrameNumberError(
            f"frame number {frame_numbers[at]} is followed by {frame_numbers[at + 1]} at exposure {at + 1} of the "
            f"block, and the count is broken {len(gaps)} times in all. Frames were lost or doubled, nothing was "
            "recorded from this block: lengthen the picture time, or enlarge the camera's buffer"
        )


def guard_false_alarm(total: float, background: float, noise: NoiseModel, n_pairs: int, n_guards: int) -> float:
    """Probability that noise alone makes one aligned guard of a block miss the threshold.

    What decides is (bright mean - dark mean) - T̂/2 > 0, where T̂ takes n_pairs pairs and the dark pictures of all
    n_guards guards: normal, of mean T/2 and variance v_bright/n_bright + v_dark/n_dark·(1 - 1/n_guards) +
    v_pair/(4·n_pairs), with v_bright = a(T + B) + b, v_dark = aB + b, v_pair = a(T + 2B) + 2b. total, background: T, B
    in detector units.
    """
    n_bright = int(GUARD_BRIGHT.sum())
    n_dark = GUARD_PICTURES - n_bright
    dark_variance = noise.gain * background + noise.variance
    variance = (noise.gain * total + dark_variance) / n_bright
    variance += dark_variance / n_dark * (1 - 1 / n_guards)
    variance += noise.pair_variance(total, background) / (4 * n_pairs)
    if variance == 0:
        return 1.0  # no noise, but no light either: the threshold is not exceeded
    return 0.5 * math.erfc(total / 2 / math.sqrt(2 * variance))
