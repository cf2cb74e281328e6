"""Whether a network's uncertainty holds on images that it has never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.learning.evaluation import SensingScheme, simulated_estimate
from models.learning.uncertainty import INTERVAL_SCALES
from models.noise import NoiseModel

if TYPE_CHECKING:
    from models.learning.trained_network import TrainedNetwork

WITHIN_DB = 1.0


@dataclass(frozen=True)
class UncertaintyScores:
    """error_db: predicted minus true PSNR of every image, float64 [K]; coverage: share of all pixels whose truth lies
    in the 90 % interval; by_third: the same among the darkest, middle and brightest third of all pixels, by their
    truth.
    """

    error_db: NDArray[np.float64]
    coverage: float
    by_third: tuple[float, float, float]

    @property
    def within(self) -> float:
        """Share of images whose PSNR was predicted within WITHIN_DB."""
        return float(np.mean(np.abs(self.error_db) <= WITHIN_DB))


def check_uncertainty(
    network: TrainedNetwork,
    images: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    scheme: SensingScheme,
    noise: NoiseModel,
    *,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> UncertaintyScores:
    """Measure every image [n, n] by a scheme, reconstruct it, and hold what the network says of itself against it.

    progress: called with images done, and all of them.
    """
    errors, inside, brightness = [], [], []
    for k, image in enumerate(images):
        truth = np.asarray(image, dtype=np.float64)
        counts = scheme.counts(seed * len(images) + k)
        found = network.image(simulated_estimate(truth, counts, noise, np.random.default_rng([seed, k])))
        error = np.abs(found.image - truth)
        errors.append(-10 * np.log10(found.predicted_mse / np.mean(error**2)))
        inside.append((error <= INTERVAL_SCALES * found.scale).ravel())
        brightness.append(truth.ravel())
        if progress is not None:
            progress(k + 1, len(images))
    held, light = np.concatenate(inside), np.concatenate(brightness)
    thirds = np.array_split(np.argsort(light, kind="stable"), 3)
    dark, middle, bright = (float(held[third].mean()) for third in thirds)
    return UncertaintyScores(np.array(errors), float(held.mean()), (dark, middle, bright))
