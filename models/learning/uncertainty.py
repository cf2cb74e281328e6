"""What a network's own scales are worth: calibrated on held-out images, once, and then believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

# Of a Laplace distribution 90 % lie within this many scales.
INTERVAL_SCALES = float(np.log(10))
COVERAGE = 0.9
LEAST_SHARE = 0.05
_KNOTS = 24
_LEAST = 1e-30


@dataclass(frozen=True)
class UncertaintyCalibration:
    """Numbers that go into a model's card.

    levels, factors: piecewise linear factor of the scale over log(1 + brightness/scale), so that image ± ln(10)·scale
    holds the truth in 90 % of pixels at every brightness; measured_factor, unmeasured_factor: of the error that was
    estimated from what was measured, and of the power that is expected of what was not.
    """

    levels: tuple[float, ...] = (0.0, 1.0)
    factors: tuple[float, ...] = (1.0, 1.0)
    measured_factor: float = 1.0
    unmeasured_factor: float = 1.0

    def mean_squared_error(self, raw_scale: NDArray[np.float64], measured_mse: float, unmeasured_mse: float) -> float:
        """Predicted squared error per pixel of an image. raw_scale [n, n]: the network's own; the others: RawImage's.

        Where the estimate is lost in its own noise, LEAST_SHARE of what the scales say stands in its place.
        """
        least = LEAST_SHARE * _scales_mse(raw_scale)
        return self.measured_factor * max(measured_mse, least) + self.unmeasured_factor * unmeasured_mse

    def scale(
        self, image: NDArray[np.float64], raw_scale: NDArray[np.float64], predicted_mse: float
    ) -> NDArray[np.float64]:
        """Calibrated Laplace scale of every pixel of an image [n, n], float64 [n, n].

        The network's scales tell pixels apart; how large they are on the whole the predicted error has a say in.
        """
        scale = _rescaled(raw_scale, predicted_mse)
        return scale * np.interp(_level(image, scale), self.levels, self.factors)


@dataclass(frozen=True)
class HeldOut:
    """A held-out image: its truth, the network's image and raw scales, float64 [n, n], and both errors of RawImage."""

    truth: NDArray[np.float64]
    image: NDArray[np.float64]
    raw_scale: NDArray[np.float64]
    measured_mse: float
    unmeasured_mse: float

    @property
    def mean_squared_error(self) -> float:
        """The true one, per pixel."""
        return float(np.mean((self.truth - self.image) ** 2))


def calibrate(held_out: Sequence[HeldOut]) -> UncertaintyCalibration:
    """The calibration of held-out images.

    Errors: the factors of least absolute deviation of log MSE. factors: in bins of equal numbers of pixels along the
    level, the 90 % quantile of |error|/scale over ln(10). Raises ValueError where there are fewer than two images.
    """
    if len(held_out) < 2:
        raise ValueError(f"found {len(held_out)} held-out images; expected two at least to calibrate uncertainty on")
    errors = _error_factors(held_out)
    scales = [
        _rescaled(one.raw_scale, errors.mean_squared_error(one.raw_scale, one.measured_mse, one.unmeasured_mse))
        for one in held_out
    ]
    level = np.concatenate([_level(one.image, scale).ravel() for one, scale in zip(held_out, scales, strict=True)])
    ratio = np.concatenate(
        [(np.abs(one.truth - one.image) / scale).ravel() for one, scale in zip(held_out, scales, strict=True)]
    )
    bins = np.array_split(np.argsort(level, kind="stable"), _KNOTS)
    centres = np.array([np.median(level[each]) for each in bins])
    # Where many pixels are at the same level, dark ones say, several bins are one.
    levels = np.unique(centres)
    together = [np.concatenate([bins[k] for k in np.flatnonzero(centres == each)]) for each in levels]
    factors = [float(np.quantile(ratio[each], COVERAGE)) / INTERVAL_SCALES for each in together]
    return replace(errors, levels=tuple(map(float, levels)), factors=tuple(factors))


def _error_factors(held_out: Sequence[HeldOut]) -> UncertaintyCalibration:
    from scipy.optimize import minimize

    truth = np.log([max(one.mean_squared_error, _LEAST) for one in held_out])

    def with_factors(logarithms: NDArray[np.float64]) -> UncertaintyCalibration:
        measured, unmeasured = np.exp(logarithms)
        return UncertaintyCalibration(measured_factor=float(measured), unmeasured_factor=float(unmeasured))

    def deviation(logarithms: NDArray[np.float64]) -> float:
        tried = with_factors(logarithms)
        predicted = [
            max(tried.mean_squared_error(one.raw_scale, one.measured_mse, one.unmeasured_mse), _LEAST)
            for one in held_out
        ]
        return float(np.abs(truth - np.log(predicted)).sum())

    # What was never seen unmeasured cannot be calibrated: its factor stays 1.
    both = any(one.unmeasured_mse > 0 for one in held_out)
    found = minimize(
        (lambda x: deviation(x)) if both else (lambda x: deviation(np.array([x[0], 0.0]))),
        np.zeros(2 if both else 1),
        method="Nelder-Mead",
        options={"xatol": 1e-4, "fatol": 1e-4},
    ).x
    return with_factors(found if both else np.array([found[0], 0.0]))


def _scales_mse(raw_scale: NDArray[np.float64]) -> float:
    """Mean variance of Laplace distributions of these scales."""
    return 2 * float(np.mean(raw_scale**2))


def _rescaled(raw_scale: NDArray[np.float64], predicted_mse: float) -> NDArray[np.float64]:
    """Scales half-way, by their logarithms, between what the network says and what the predicted error asks for."""
    ratio = predicted_mse / max(_scales_mse(raw_scale), _LEAST)
    return np.asarray(raw_scale * ratio**0.25, dtype=np.float64)


def _level(image: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log1p(np.maximum(image, 0) / np.maximum(scale, _LEAST)), dtype=np.float64)
