"""How the light fades: bleaching, which counts time under light, and lamp drift, which counts time by the clock.

The dark-corrected pair sums follow

    log S(t) = c - k·lit(t) - r·t + w(t) + noise,

k the bleaching rate and r the drift rate, both in 1/s, lit(t) the time under light before t. w is what the lamp does
besides: a Gaussian process, rough, with covariance σ²·exp(-|Δt|/τ), flicker up to a random walk, or smooth, with
σ²·exp(-Δt²/2τ²). Kind, strength and τ are unknown, and rates are only as good as what w leaves of them, so nothing is
fixed at a best value: the rates' distribution is averaged over a grid of all three, each with the weight of its
restricted likelihood (Harville 1974). Where w is slow and strong, the intervals of k and r are wide, as they must be,
and still somewhat narrow: they hold then in 86 to 93 of 100 simulated measurements rather than in 95.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from calibration.measured import CONFIDENCE, Measured
from calibration.verdict import NoSignalError

# More tell nothing of slow changes, and matrices of this size are quick.
MOST_POINTS = 64
_FEWEST_POINTS = 12
# Sums are averaged until noise changes their logarithm by no more than its own square.
_MOST_ERROR = 0.05
# Above this correlation of light time and clock the light had no rests.
_INSEPARABLE = 0.99999
_TAUS, _STRENGTHS = 8, 25
# Variances of w over that of a point's noise. A higher lower end would make steady lamps look uncertain.
_WEAKEST, _STRONGEST = 1e-2, 1e5
# Relative squares below this are the rounding of double precision.
_ROUNDING = 1e-26
# Weights below this do not move a 95 % interval; so many halvings find its ends in double precision.
_NEGLIGIBLE = 1e-6
_HALVINGS = 60
# Longer than so many times the usual step from sum to sum is a rest, and no guard or arming.
_REST = 100.0


@dataclass(frozen=True)
class Fading:
    """What the pair sums say of slow changes.

    bleaching: k, 1/s of light, drift: r, 1/s, None each where the light had no rests and nothing tells them apart;
    decline: by both, 1/s while exposures follow each other; change: relative, from the first pair to the last.
    correlation: of the estimates of k and r, -1 where they are not told apart. total: the pair sum at the start,
    detector units; rates: (k, r). time_s, relative, error: float64 [p], averages of pair sums over time, 1 at the
    start, and their noise; fitted: float64 [p], the two exponentials.
    """

    bleaching: Measured | None
    drift: Measured | None
    decline: Measured
    change: Measured
    correlation: float
    total: float
    rates: tuple[float, float]
    time_s: NDArray[np.float64]
    relative: NDArray[np.float64]
    error: NDArray[np.float64]
    fitted: NDArray[np.float64]

    def at(self, time_s: NDArray[np.float64], lit_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The fitted light at some times, relative to that at the start."""
        k, r = self.rates
        return np.asarray(np.exp(-k * lit_s - r * time_s))


def fit_fading(
    light: NDArray[np.float64], time_s: NDArray[np.float64], lit_s: NDArray[np.float64], noise: float
) -> Fading:
    """Fit dark-corrected pair sums float64 [n], in order, at times time_s and after light times lit_s, float64 [n].

    noise: standard deviation of one sum from what is new every time. Both times count from where the light is to be 1.
    Raises NoSignalError where the light does not stand out of the noise.
    """
    mean = float(light.mean())
    most = len(light) * (_MOST_ERROR * mean / noise) ** 2 if noise else np.inf
    points = int(min(MOST_POINTS, len(light), most))
    if mean <= 0 or points < _FEWEST_POINTS:
        raise _too_dim(light, noise)
    starts = _starts(points, time_s)
    points = len(starts)
    count = np.diff(np.append(starts, len(light))).astype(np.float64)
    level, time, lit = (np.add.reduceat(each, starts) / count for each in (light, time_s, lit_s))
    if level.min() <= 0:
        raise _too_dim(light, noise)
    separable = bool(abs(np.corrcoef(time, lit)[0, 1]) < _INSEPARABLE)
    parts = (-time, -lit) if separable else (-time,)
    rates = _Rates(np.log(level), np.stack([np.ones(points), *parts], axis=1), count, time)
    steps_s, lit_steps_s = np.diff(time_s), np.diff(lit_s)
    contrasts = {
        "drift": [1.0, 0.0],
        "bleaching": [0.0, 1.0],
        "decline": [1.0, float(np.median(lit_steps_s / steps_s))],
    }
    whole = -np.array([time_s[-1] - time_s[0], lit_s[-1] - lit_s[0]])
    if not separable:
        contrasts, whole = {"decline": [1.0]}, whole[:1]
    found = {name: rates.measured(np.array([0.0, *each])) for name, each in contrasts.items()}
    changes = rates.measured(np.array([0.0, *whole]))
    start = float(np.exp(rates.mean[0]))
    drift_rate, bleaching_rate = rates.mean[1], rates.mean[2] if separable else 0.0
    return Fading(
        bleaching=found.get("bleaching"),
        drift=found.get("drift"),
        decline=found["decline"],
        change=Measured(*(float(np.expm1(each)) for each in (changes.value, changes.low or 0.0, changes.high or 0.0))),
        correlation=rates.correlation if separable else -1.0,
        total=start,
        rates=(float(bleaching_rate), float(drift_rate)),
        time_s=time,
        relative=level / start,
        error=noise / np.sqrt(count) / start,
        fitted=np.exp(-bleaching_rate * lit - drift_rate * time),
    )


def _too_dim(light: NDArray[np.float64], noise: float) -> NoSignalError:
    return NoSignalError(
        f"pair sums read {light.mean():.4g} ± {noise:.4g} detector units above darkness, {len(light)} of them; "
        "expected light enough to follow it over time: raise it, open the shutter, or measure for longer"
    )


def _starts(points: int, time_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """First of each of about so many stretches of about equal length, int64, none with a rest inside."""
    n = len(time_s)
    steps = np.diff(time_s)
    stretches = np.concatenate([[0], 1 + np.flatnonzero(steps > _REST * np.median(steps)), [n]])
    parts = [
        np.linspace(first, end, max(round((end - first) * points / n), 1), endpoint=False)
        for first, end in pairwise(stretches.tolist())
    ]
    return np.concatenate(parts).astype(np.int64)


class _Rates:
    """The distribution of the coefficients of a linear model whose errors may depend on each other over time.

    One Student distribution for every strength and time of the dependence, each with its weight.
    """

    def __init__(
        self,
        values: NDArray[np.float64],
        design: NDArray[np.float64],
        count: NDArray[np.float64],
        time_s: NDArray[np.float64],
    ) -> None:
        n, n_coefficients = design.shape
        self._degrees = n - n_coefficients
        root = np.sqrt(count / count.mean())
        values, design = values * root, design * root[:, None]
        apart = np.abs(time_s[:, None] - time_s)
        taus = np.geomspace(np.median(np.diff(time_s)), 3 * apart.max(), _TAUS)
        shapes = np.stack([wandering(apart / tau) for tau, wandering in product(taus, (_rough, _smooth))])
        strengths = np.geomspace(_WEAKEST, _STRONGEST, _STRENGTHS)
        wandering_parts = (strengths[:, None, None, None] * (root[:, None] * shapes * root)).reshape(-1, n, n)
        # Without any wandering, too. Matrices this small are quicker one by one than on many cores.
        factors = np.linalg.cholesky(np.eye(n) + np.concatenate([np.zeros((1, n, n)), wandering_parts]))
        whitened = np.linalg.solve(factors, np.column_stack([design, values])[None])
        x, y = whitened[:, :, :-1], whitened[:, :, -1]
        information = x.swapaxes(1, 2) @ x
        covariance = np.linalg.inv(information)
        means = np.einsum("gjk,gk->gj", covariance, np.einsum("gij,gi->gj", x, y))
        squares = ((y - np.einsum("gij,gj->gi", x, means)) ** 2).sum(axis=1) + _ROUNDING * n
        covariances = covariance * (squares / self._degrees)[:, None, None]
        determinant = 2 * np.log(np.einsum("gii->gi", factors)).sum(axis=1)
        logarithm = -(determinant + np.linalg.slogdet(information)[1] + self._degrees * np.log(squares)) / 2
        weights = np.exp(logarithm - logarithm.max())
        counts = weights > _NEGLIGIBLE
        self._means, self._covariances = means[counts], covariances[counts]
        self._weights = weights[counts] / weights[counts].sum()
        self.mean: NDArray[np.float64] = self._weights @ self._means

    @property
    def correlation(self) -> float:
        """Of the second and third coefficients' estimates."""
        around = self._means - self.mean
        covariance = np.einsum("g,gjk->jk", self._weights, self._covariances) + (self._weights * around.T) @ around
        return float(covariance[1, 2] / np.sqrt(covariance[1, 1] * covariance[2, 2]))

    def measured(self, contrast: NDArray[np.float64]) -> Measured:
        """A linear combination float64 [coefficients] of them."""
        centres = self._means @ contrast
        # Student's distribution is a normal one of the same reach here.
        reach = float(stdtrit(self._degrees, (1 + CONFIDENCE) / 2) / ndtri((1 + CONFIDENCE) / 2))
        widths = reach * np.sqrt(np.einsum("j,gjk,k->g", contrast, self._covariances, contrast))
        ends = []
        for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
            low, high = (float(end) for end in ((centres - 50 * widths).min(), (centres + 50 * widths).max()))
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                below = self._weights @ ndtr((middle - centres) / widths) < share
                low, high = (middle, high) if below else (low, middle)
            ends.append((low + high) / 2)
        return Measured(float(self._weights @ centres), *ends)


def _rough(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of what goes on at random, up to a random walk."""
    return np.asarray(np.exp(-distance))


def _smooth(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation of waves, of a room's temperature for example."""
    return np.asarray(np.exp(-(distance**2) / 2))
