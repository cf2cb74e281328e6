"""Does every reading belong to the picture it is filed under? The guards of a block must read their code."""

from __future__ import annotations

import math

import numpy as np

from acquisition.readings import Readings
from acquisition.schedule import GUARD_BRIGHT, GUARD_PICTURES
from models.noise import NoiseModel

FALSE_ALARMS_PER_BLOCK = 1e-6


class AlignmentError(RuntimeError):
    """A guard does not read its code: readings and pictures of the block may be shifted against each other."""


class GuardsTooDimError(RuntimeError):
    """The sample gives so little light that guards cannot prove anything at the stated false-alarm rate."""


def prove_alignment(readings: Readings, noise: NoiseModel) -> None:
    """Raise unless every guard of the block reads bright where it was bright and dark where it was dark.

    A guard passes when its bright mean exceeds its dark mean by T/2, T being the mean dark-corrected pair sum; aligned
    the excess is T, shifted by one picture it is negative. With variance (a(T + B) + b)/n_bright + (aB + b)/n_dark the
    false alarms of all guards together must stay under FALSE_ALARMS_PER_BLOCK, else the guards are too dim to decide.

    Raises AlignmentError, GuardsTooDimError.
    """
    dark = float(readings.dark.mean())
    total = float((readings.plus + readings.minus).mean()) - 2 * dark
    excess = readings.bright.mean(axis=1) - readings.dark.mean(axis=1)
    wrong = np.flatnonzero(excess <= total / 2) if total > 0 else np.arange(len(excess))
    false_alarms = len(excess) * guard_false_alarm(max(total, 0.0), noise)
    if false_alarms > FALSE_ALARMS_PER_BLOCK:
        raise GuardsTooDimError(
            f"block {readings.block_number}: the sample's total light reads {total:.4g} detector units per exposure, "
            f"and its {len(excess)} guards would raise {false_alarms:.1e} false alarms (at most "
            f"{FALSE_ALARMS_PER_BLOCK:.0e} allowed). Nothing was recorded from this block: open the shutter, raise the "
            "light or the illumination time, or correct noise.gain and noise.variance"
        )
    if len(wrong):
        guard = int(wrong[0])
        raise AlignmentError(
            f"block {readings.block_number}: guard {guard} of {len(excess)} reads "
            f"{np.array2string(readings.guards[guard], precision=0)}, expected bright = dark + {total:.4g} in order "
            f"{''.join('B' if bright else 'D' for bright in GUARD_BRIGHT)}; a trigger was lost, doubled or late. "
            "Nothing was recorded from this block: check the trigger cable and the trigger mode, or lengthen the "
            "picture time"
        )


def guard_false_alarm(total: float, noise: NoiseModel) -> float:
    """Probability that one aligned guard misses the threshold T/2 by noise alone; total: T in detector units."""
    n_bright = int(GUARD_BRIGHT.sum())
    n_dark = GUARD_PICTURES - n_bright
    variance = (noise.gain * total + noise.variance) / n_bright + noise.variance / n_dark
    if variance == 0:
        return 0.0 if total > 0 else 1.0
    return 0.5 * math.erfc(total / 2 / math.sqrt(2 * variance))
