"""What a network's own scales are worth: calibrated on held-out images, once, and then believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of a Laplace distribution 90 % lie within this many scales.
INTERVAL_SCALES = float(np.log(10))
COVERAGE = 0.9
_KNOTS = 12
_LEAST = 1e-30


@dataclass(frozen=True)
class UncertaintyCalibration:
    """Numbers that go into a model's card.

    levels, factors: piecewise linear factor of the scale over log(brightness/scale), so that image ± ln(10)·scale holds
    the truth in 90 % of pixels at every brightness; error_offset, error_slope: log of the MSE over
    the squared mean light = offset + slopes·``error_features``.
    """

    levels: tuple[float, ...] = (0.0, 1.0)
    factors: tuple[float, ...] = (1.0, 1.0)
    error_offset: float = 0.0
    error_slopes: tuple[float, ...] = (1.0, 0.0)

    def scale(self, image: NDArray[np.float64], raw_scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated Laplace scale of every pixel, float64 like ``image``; raw_scale: the network's own, same shape."""
        return raw_scale * np.interp(_level(image, raw_scale), self.levels, self.factors)

    def mean_squared_error(
        self, image: NDArray[np.float64], raw_scale: NDArray[np.float64], wiener_mse: float
    ) -> float:
        """Predicted mean squared error of an image; wiener_mse: what is expected of its Wiener image."""
        features = error_features(image, raw_scale, wiener_mse)
        return float(np.exp(self.error_offset + features @ np.array(self.error_slopes)) * _mean_light(image) ** 2)


def error_features(
    image: NDArray[np.float64], raw_scale: NDArray[np.float64], wiener_mse: float
) -> NDArray[np.float64]:
    """Log of the scales' own mean squared error, 2·scale², and of the Wiener image's, float64 [2]; both over
    the squared mean light, so that they are the same in any unit of light.
    """
    errors = np.array([2 * float(np.mean(raw_scale**2)), wiener_mse]) / _mean_light(image) ** 2
    return np.asarray(np.log(np.maximum(errors, _LEAST)), dtype=np.float64)


def calibrate(
    truths: Sequence[NDArray[np.float64]],
    images: Sequence[NDArray[np.float64]],
    raw_scales: Sequence[NDArray[np.float64]],
    wiener_mse: Sequence[float],
) -> UncertaintyCalibration:
    """The calibration of held-out images: their truths, what the network made of them, and its scales, all [n, n].

    factors: in bins of equal numbers of pixels along the level, the 90 % quantile of |error|/scale over ln(10). Errors:
    least absolute deviations of log MSE on the features. Raises ValueError where there are fewer than two images.
    """
    if len(truths) < 2:
        raise ValueError(f"found {len(truths)} held-out images; expected two at least to calibrate uncertainty on")
    truth, image, scale = (np.concatenate([np.ravel(one) for one in many]) for many in (truths, images, raw_scales))
    level, ratio = _level(image, scale), np.abs(truth - image) / scale
    order = np.argsort(level, kind="stable")
    bins = np.array_split(order, _KNOTS)
    centres = np.array([np.median(level[each]) for each in bins])
    # Where many pixels are at the same level, dark ones say, several bins are one.
    levels = np.unique(centres)
    together = [np.concatenate([bins[k] for k in np.flatnonzero(centres == each)]) for each in levels]
    factors = [float(np.quantile(ratio[each], COVERAGE)) / INTERVAL_SCALES for each in together]
    features = np.array([error_features(*each) for each in zip(images, raw_scales, wiener_mse, strict=True)])
    errors = [np.mean((t - i) ** 2) / _mean_light(i) ** 2 for t, i in zip(truths, images, strict=True)]
    offset, *slopes = _least_deviations(features, np.log(np.maximum(errors, _LEAST)))
    return UncertaintyCalibration(
        levels=tuple(map(float, levels)), factors=tuple(factors), error_offset=offset, error_slopes=tuple(slopes)
    )


def _least_deviations(features: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Offset and slopes of least Σ|target - offset - features·slopes|, as a linear program."""
    from scipy.optimize import linprog

    design = np.column_stack([np.ones(len(target)), features])
    count, width = design.shape
    slack = np.eye(count)
    found = linprog(
        np.concatenate([np.zeros(width), np.ones(count)]),
        A_ub=np.block([[design, -slack], [-design, -slack]]),
        b_ub=np.concatenate([target, -target]),
        bounds=[(None, None)] * width + [(0, None)] * count,
    )
    return [float(value) for value in found.x[:width]]


def _mean_light(image: NDArray[np.float64]) -> float:
    return max(float(np.mean(image)), _LEAST)


def _level(image: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log1p(np.maximum(image, 0) / np.maximum(scale, _LEAST)), dtype=np.float64)
