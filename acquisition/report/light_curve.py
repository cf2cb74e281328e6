"""The sample's light over a run: what bleaching, and a lamp that drifts, leave of it.

Every pair's y+ + y- is the total light, whatever its coefficient is (DESIGN §5.7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.evidence import FEWEST_FOR_A_SLOPE
from acquisition.readings import Readings

_PARTS_OF_A_BLOCK = 4
_MOST_POINTS = 200


@dataclass(frozen=True)
class LightCurve:
    """Mean dark-corrected pair sums, and an exponential through them over the time that the sample was lit.

    time_s: since the run began, light_s: under light so far, repeated blocks included, total: detector units per
    exposure, float64 [points]; pairs: how many make each, int64 [points]. initial_total: at the first point;
    decay_per_light_s: share of the light lost per second of light, with its standard error from how the points scatter;
    change: of the light from the first point to the last, as a share, with its standard error. None where there are too
    few pairs, or no light, for a slope.
    """

    time_s: NDArray[np.float64]
    light_s: NDArray[np.float64]
    total: NDArray[np.float64]
    pairs: NDArray[np.int64]
    initial_total: float | None = None
    decay_per_light_s: float | None = None
    decay_error_per_light_s: float | None = None
    change: float | None = None
    change_error: float | None = None

    def fitted(self) -> NDArray[np.float64] | None:
        """The exponential at every point, float64 [points]."""
        if self.initial_total is None or self.decay_per_light_s is None:
            return None
        return np.asarray(self.initial_total * np.exp(-self.decay_per_light_s * (self.light_s - self.light_s[0])))


class LightCurveCollector:
    """Adds up blocks, a few numbers each; picture_time_us, illumination_time_us: as the projector accepted them."""

    def __init__(self, picture_time_us: float, illumination_time_us: float) -> None:
        self._picture_time_us = picture_time_us
        self._illumination_s = illumination_time_us * 1e-6
        self._points: list[tuple[float, float, float, int]] = []
        self._dark_sum = 0.0
        self._dark_exposures = 0

    def add(self, readings: Readings) -> None:
        """Add one accepted block."""
        sums = readings.plus + readings.minus
        before = readings.lit_exposures - 2 * readings.n_pairs - readings.guards.size
        lit = before + (readings.time_us - readings.start_us) / self._picture_time_us + 1  # the middle of a pair
        for part in np.array_split(np.arange(readings.n_pairs), min(_PARTS_OF_A_BLOCK, readings.n_pairs)):
            time_s = float(readings.time_us[part].mean()) * 1e-6
            light_s = float(lit[part].mean()) * self._illumination_s
            self._points.append((time_s, light_s, float(sums[part].mean()), len(part)))
        self._dark_sum += float(readings.dark.sum())
        self._dark_exposures += readings.dark.size

    def curve(self) -> LightCurve | None:
        """The light so far; None where there was no block."""
        if not self._points:
            return None
        time_s, light_s, sums, pairs = _merged(np.array(self._points))
        total = sums - 2 * self._dark_sum / max(self._dark_exposures, 1)
        curve = LightCurve(time_s, light_s, total, pairs.astype(np.int64))
        if pairs.sum() < FEWEST_FOR_A_SLOPE or len(time_s) < 3 or np.ptp(light_s) == 0 or total.min() <= 0:
            return curve
        return _with_exponential(curve)


def _merged(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Times, light, sums and pairs of at most _MOST_POINTS points, neighbours put together, pair for pair."""
    points = points[np.argsort(points[:, 0], kind="stable")]
    groups = np.array_split(points, min(_MOST_POINTS, len(points)))
    pairs = np.array([group[:, 3].sum() for group in groups])
    means = np.array([group[:, 3] @ group[:, :3] for group in groups]) / pairs[:, None]
    return means[:, 0], means[:, 1], means[:, 2], pairs


def _with_exponential(curve: LightCurve) -> LightCurve:
    """The exponential: a weighted straight line through the logarithms.

    The mean of K pairs of shot noise varies in proportion to T/K, its logarithm to 1/(K·T): the weights are K·T.
    """
    weight = curve.pairs * curve.total
    weight /= weight.sum()
    log = np.log(curve.total)
    middle, level = float(weight @ curve.light_s), float(weight @ log)
    centred = curve.light_s - middle
    spread = float(weight @ centred**2)
    slope = float(weight @ (centred * log)) / spread
    left = log - level - slope * centred
    slope_error = (float(weight @ left**2) / spread / (len(log) - 2)) ** 0.5
    lasted = float(curve.light_s[-1] - curve.light_s[0])
    remaining = float(np.exp(slope * lasted))
    return LightCurve(
        curve.time_s,
        curve.light_s,
        curve.total,
        curve.pairs,
        initial_total=float(np.exp(level + slope * (curve.light_s[0] - middle))),
        decay_per_light_s=-slope,
        decay_error_per_light_s=slope_error,
        change=remaining - 1,
        change_error=remaining * lasted * slope_error,
    )
