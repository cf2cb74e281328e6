"""The error of a run's image, measured by the run itself: two halves of its pairs, each estimated alone.

The pairs of every coefficient go alternately, in the order they were taken, into a first and a second half
(models.split_half has the mathematics). What shrinking costs, and what was never taken, is the same in both halves and
does not show in their difference: that part of the error stays the forecast's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.evidence import Evidence, EvidenceCollector
from acquisition.readings import Readings
from acquisition.reconstruction import NothingSeenError, Reconstruction, estimate_coefficients, psnr_of
from acquisition.stored_run import StoredRun
from models.split_half import HalvesCompared, compare_halves
from models.wiener import noise_std, wiener_weight

# With fewer the interval spans more than a factor of two, and a number in a table would promise too much.
FEWEST_DEGREES = 30


@dataclass(frozen=True)
class SplitHalf:
    """The random error of the linear image as measured, beside its forecast; JSON-able.

    n_taken: coefficients with a pair; n_split: with two at least; degrees: effective degrees of freedom of the
    comparison. ratio: measured over forecast random error, of the coefficients that could be split; ratio_low,
    ratio_high: its 95 % interval. mse: whole expected squared error per pixel, units², the random part of it as
    measured; psnr_db: the same against the image's maximum; forecast_psnr_db: the forecast against the same. None where
    too little could be split, and of a PSNR also where there is no error or no light. said: the comparison in words.
    """

    n_taken: int
    n_split: int
    degrees: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    mse: float | None
    psnr_db: float | None
    forecast_psnr_db: float | None
    said: str


class HalvesCollector:
    """Deals accepted blocks into two ``halves``, whose sums are all it keeps: a few numbers per coefficient."""

    def __init__(self, n_coefficients: int, dark_level: float) -> None:
        self._taken = np.zeros(n_coefficients, dtype=np.int64)
        self.halves = tuple(EvidenceCollector(n_coefficients, dark_level) for _ in range(2))

    def add(self, readings: Readings) -> None:
        """Add one accepted block; blocks come in the order they were taken."""
        turn = (self._taken[readings.index] + _earlier_in_block(readings.index)) % 2
        for number, half in enumerate(self.halves):
            chosen = turn == number
            if chosen.any():
                half.add(_only(readings, chosen))
        np.add.at(self._taken, readings.index, 1)

    def compared(self, whole: Evidence, config: AcquisitionConfig, reconstruction: Reconstruction) -> SplitHalf:
        """Hold the halves together.

        whole: the evidence of the same blocks; reconstruction: what was made from it, whose estimate, prior and
        forecast are used.
        """
        estimate, prior, forecast_mse = reconstruction.estimate, reconstruction.prior, reconstruction.forecast_mse
        peak = float(reconstruction.image.max())
        n_taken = int(np.count_nonzero(self._taken))
        forecast_db = _psnr(forecast_mse, peak)
        found = self._found(whole, config, reconstruction) if self._taken.max(initial=0) > 1 else None
        if found is None or found.degrees < FEWEST_DEGREES:
            n_split, degrees = (0, 0.0) if found is None else (found.n_split, found.degrees)
            why = (
                f"not measured: only {n_split} of {n_taken} coefficients have pairs in both halves, which make "
                f"{degrees:.0f} effective degrees of freedom, and {FEWEST_DEGREES} are needed"
            )
            return SplitHalf(n_taken, n_split, degrees, None, None, None, None, None, forecast_db, why)
        low, high = found.interval()
        random = noise_std(prior, estimate.variance) ** 2
        mse = found.ratio * random + max(forecast_mse - random, 0.0)
        return SplitHalf(
            n_taken=n_taken,
            n_split=found.n_split,
            degrees=found.degrees,
            ratio=found.ratio,
            ratio_low=low,
            ratio_high=high,
            mse=mse,
            psnr_db=_psnr(mse, peak),
            forecast_psnr_db=forecast_db,
            said=_said(found.ratio, low, high),
        )

    def _found(
        self, whole: Evidence, config: AcquisitionConfig, reconstruction: Reconstruction
    ) -> HalvesCompared | None:
        """The halves, held together; None where one of them shows no light."""
        halves = [_in_terms_of(whole, half.snapshot()) for half in self.halves]
        try:
            first, second = (estimate_coefficients(half, config).coefficients for half in halves)
        except NothingSeenError:
            return None
        counts = halves[0].statistics.count, halves[1].statistics.count
        variance = reconstruction.estimate.variance
        return compare_halves((first, second), counts, variance, wiener_weight(reconstruction.prior.variance, variance))


def split_half(
    run: StoredRun, config: AcquisitionConfig, evidence: Evidence, reconstruction: Reconstruction
) -> SplitHalf:
    """Measure the error of a run's image from its committed blocks, in one pass.

    evidence, reconstruction: of all these blocks. Raises CorruptBlockError.
    """
    collector = HalvesCollector(len(evidence.statistics.count), evidence.dark_level)
    for readings in run.blocks():
        collector.add(readings)
    return collector.compared(evidence, config, reconstruction)


def measured_at_the_end(
    run: StoredRun, config: AcquisitionConfig, evidence: Evidence, reconstruction: Reconstruction
) -> dict[str, Any]:
    """What a finished run puts on record of itself, so that nobody has to read its blocks for it; JSON-able.

    pairs, lit_exposures: how many there were; image_peak: the image's maximum, detector units, the data range of its
    PSNR; split_half: see SplitHalf. Raises CorruptBlockError.
    """
    return {
        "pairs": evidence.n_pairs,
        "lit_exposures": max(run.lit_exposures, int(run.facts.get("lit_exposures", 0))),
        "image_peak": float(reconstruction.image.max()),
        "split_half": asdict(split_half(run, config, evidence, reconstruction)),
    }


def _earlier_in_block(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pairs of the same coefficient come before each in its block, int64 [K]."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    first = np.searchsorted(ordered, ordered, side="left")
    earlier = np.empty(len(index), dtype=np.int64)
    earlier[order] = np.arange(len(index)) - first
    return earlier


def _only(readings: Readings, chosen: NDArray[np.bool_]) -> Readings:
    """A block with some of its pairs, and all of its guards."""
    return replace(
        readings,
        index=readings.index[chosen],
        plus=readings.plus[chosen],
        minus=readings.minus[chosen],
        time_us=readings.time_us[chosen],
        frames=None,
    )


def _in_terms_of(whole: Evidence, half: Evidence) -> Evidence:
    """A half with the dark level and the reference total of the whole: what both halves have in common is no error."""
    darker = 2 * (half.lit_dark_level - whole.lit_dark_level) * half.statistics.count
    return replace(
        half,
        smoothed_sums=half.smoothed_sums + darker,
        dark_level=whole.dark_level,
        lit_dark_level=whole.lit_dark_level,
        reference_total=whole.reference_total,
        reference_pairs=whole.reference_pairs,
    )


def _psnr(mse: float, peak: float) -> float | None:
    return psnr_of(mse, peak) if mse > 0 and peak > 0 else None


def _said(ratio: float, low: float, high: float) -> str:
    measured = f"the random error is {ratio:.3g} times its forecast (95 %: {low:.3g} to {high:.3g})"
    if low > 1:
        return f"{measured}: more than the noise model says"
    if high < 1:
        return f"{measured}: less than the noise model says"
    return f"{measured}: as the noise model says"
