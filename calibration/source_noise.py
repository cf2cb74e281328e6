"""What the light itself does from exposure to exposure, told apart from shot and read noise.

Light fluctuates by ε, new in every exposure (inside pairs, variance q), and by η, common to both exposures of a pair
and different in the next one or later (between pairs). With light x+ and x- in the two exposures (x+ + x- = T + 2B),

    var(y+ - y-) = a(T + 2B) + 2b + q·(x+² + x-²),
    var(y+ + y-) = var(y+ - y-) + var(η)·(T + 2B)²,

around what the fading and the order of the exposures explain. So the excess of sums over differences is what goes on
between pairs, whatever a and b are; of what goes on inside them, shot noise must be known. x+² + x-² is T²/2 for equal
halves and no background.

With an unknown gain, three lights tell shot noise, linear in light, from source noise, quadratic: differences of dark
guard pictures, of pairs, and of bright guard pictures. There are few guards, so this is coarse; two lights, bright and
dark, would not tell a from q at all. The upper limit is never above what q would be if there were no shot noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.measured import Measured, series_error, series_mean
from calibration.pair_readings import PairReadings
from models.noise import NoiseModel


@dataclass(frozen=True)
class SourceNoise:
    """Variances of the light, relative to all light T + 2B of a pair, and of pairs, in detector units².

    inside: q of one exposure; between: of pair sums, beyond what is inside them. Both may come out below 0 by noise.
    pair_variance: var(y+ - y-); shot_variance: a(T + 2B) + 2b, None where a and b are not known; squared_light:
    x+² + x-². first_minus_second: mean of the first minus the second exposure of a pair, whatever was displayed,
    detector units. light: T + 2B.
    """

    inside: Measured
    between: Measured
    pair_variance: float
    shot_variance: float | None
    squared_light: float
    first_minus_second: Measured
    light: float

    @property
    def inside_variance(self) -> float:
        """What q adds to pair_variance, at least 0."""
        return max(self.inside.value, 0.0) * self.squared_light


def fit_source_noise(
    pairs: PairReadings,
    fading: NDArray[np.float64],
    dark_level: float,
    background: float,
    noise: NoiseModel | None = None,
    noise_covariance: NDArray[np.float64] | None = None,
) -> SourceNoise:
    """Fit the pairs; fading float64 [n]: relative light of each, as fitted.

    dark_level: reading without any light; background: B. noise: a and b; noise_covariance: of them, float64 [2, 2],
    which widens the interval of q.
    """
    n = len(fading)
    lit_dark = dark_level + background
    mean_fading = float(fading.mean())
    design = np.stack([fading / mean_fading, pairs.order], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    structure, first_minus_second = inverse @ design.T @ pairs.differences
    inside = pairs.differences - design @ np.array([structure, first_minus_second])
    sums = pairs.sums - 2 * lit_dark
    total = float((sums @ fading) / (fading @ fading)) * mean_fading
    around = sums - total * fading / mean_fading
    inside_squares, sum_squares = inside**2 * n / (n - 2), around**2 * n / (n - 2)
    pair_variance = float(inside_squares.mean())

    halves = np.stack([total + structure, total - structure])[:, None] / 2 * (fading / mean_fading) + background
    squared_light = float((halves**2).sum(axis=0).mean())
    light = total + 2 * background
    slope_error, degrees = series_error(pairs.order * inside)
    q, shot_variance = _inside(pairs, inside_squares, squared_light, light, total, background, noise, noise_covariance)
    return SourceNoise(
        inside=q,
        between=series_mean(sum_squares - inside_squares).scaled(1 / light**2),
        pair_variance=pair_variance,
        shot_variance=shot_variance,
        squared_light=squared_light,
        first_minus_second=Measured.around(float(first_minus_second), slope_error, degrees),
        light=light,
    )


def _inside(
    pairs: PairReadings,
    squares: NDArray[np.float64],
    squared_light: float,
    light: float,
    total: float,
    background: float,
    noise: NoiseModel | None,
    noise_covariance: NDArray[np.float64] | None,
) -> tuple[Measured, float | None]:
    """The variance q and, where it is known, that of a pair without it."""
    error, degrees = series_error(squares)
    variance = float(squares.mean())
    if noise is not None:
        shot = noise.pair_variance(total, background)
        gradient = np.array([light, 2.0])
        shot_error = 0.0 if noise_covariance is None else float(gradient @ noise_covariance @ gradient) ** 0.5
        reach = Measured.around(variance - shot, float(np.hypot(error, shot_error)), degrees)
        return reach.scaled(1 / squared_light), shot
    bright, dark = (steps**2 / 2 for steps in (pairs.bright_steps, pairs.dark_steps))
    errors = [_error_of_variance(bright), error, _error_of_variance(dark)]
    curvature = float(bright.mean()) - variance + float(dark.mean())
    reach = Measured.around(curvature, float(np.hypot.reduce(errors)), min(degrees, max(len(bright) - 1, 1)))
    reach = reach.scaled(1 / ((total + background) ** 2 - squared_light + background**2))
    shotless = Measured.around(variance - 2 * float(dark.mean()), float(np.hypot(error, 2 * errors[2])), degrees)
    assert reach.high is not None
    assert shotless.high is not None
    most = max(shotless.high, 0.0) / (squared_light - 2 * background**2)
    return Measured(min(reach.value, most), reach.low, min(reach.high, most)), None


def _error_of_variance(squares: NDArray[np.float64]) -> float:
    return float(squares.std(ddof=1) / np.sqrt(len(squares))) if len(squares) > 1 else np.inf
