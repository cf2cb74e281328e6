"""From the evidence of a run to its image: estimate, Wiener, total variation, error forecast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.evidence import Evidence
from acquisition.sensing_plan import planning_prior
from models.estimators import difference, light_ratio, pair_ratio_bias
from models.noise import NoiseModel
from models.priors import Prior, fit_power_law
from models.total_variation import denoise
from models.wiener import forecast_mse, noise_std, wiener_image

LARGEST_PAIR_RATIO_BIAS = 0.01


@dataclass(frozen=True)
class Estimate:
    """Coefficients float64 [N] (NaN where untaken), their variances (inf there), and the total T they refer to."""

    coefficients: NDArray[np.float64]
    variance: NDArray[np.float64]
    total: float


@dataclass(frozen=True)
class Reconstruction:
    """An image and what is known of it.

    image: float64 [n, n] in detector units per exposure (Wiener, then total variation, not negative); wiener: the
    linear image before that; forecast_mse: expected squared error per pixel of ``wiener`` under the prior; estimate,
    prior: what it was made from.
    """

    image: NDArray[np.float64]
    wiener: NDArray[np.float64]
    forecast_mse: float
    estimate: Estimate
    prior: Prior

    def forecast_psnr(self, data_range: float) -> float:
        """10·log10(data_range²/forecast_mse) in dB."""
        return float(10 * np.log10(data_range**2 / self.forecast_mse)) if self.forecast_mse > 0 else float("inf")


def reconstruct(evidence: Evidence, config: AcquisitionConfig) -> Reconstruction:
    """Reconstruct the newest image from the evidence, as the acquisition file asks."""
    estimate = estimate_coefficients(evidence, config)
    prior = reconstruction_prior(estimate, config)
    wiener = wiener_image(estimate.coefficients, estimate.variance, prior)
    image = wiener
    if config.reconstruction.tv_weight > 0:
        image = denoise(wiener, noise_std(prior, estimate.variance), config.reconstruction.tv_weight)
    return Reconstruction(
        image=np.maximum(image, 0.0),
        wiener=wiener,
        forecast_mse=forecast_mse(prior.variance, estimate.variance),
        estimate=estimate,
        prior=prior,
    )


def estimate_coefficients(evidence: Evidence, config: AcquisitionConfig) -> Estimate:
    """Coefficients and their variances from the evidence.

    difference: the mean of y+ - y-, variance (a(T + 2B) + 2b)/M with T the mean corrected pair sum.
    pair-ratio (DESIGN §5.7): T̂·Σ(y+ - y-)/L with L = Σ(y+ + y- - 2 dark), or L = the smoothed pair sums where the
    ratio's bias 2b/(M T²) would exceed 1 %; variance T̂²(a(L + 2BM) + 2bM)/L². Entry 0 is T̂, which every pair measures.
    """
    statistics = evidence.statistics
    noise = NoiseModel(config.noise.gain, config.noise.variance)
    background = max(evidence.background, 0.0)
    taken = statistics.count > 0
    count = statistics.count[taken].astype(np.float64)
    variance = np.full(len(statistics.count), np.inf)
    mean_total = float(evidence.smoothed_sums.sum() / count.sum())
    if config.reconstruction.estimator == "difference":
        total = mean_total
        coefficients = difference(statistics, total)
        variance[taken] = noise.pair_variance(total, background) / count
    else:
        total = evidence.reference_total
        light = statistics.sum_total - 2 * evidence.lit_dark_level * statistics.count
        biased = pair_ratio_bias(statistics.count, mean_total, noise) > LARGEST_PAIR_RATIO_BIAS
        light[biased] = evidence.smoothed_sums[biased]
        coefficients = light_ratio(statistics, light, total)
        light = light[taken]
        pair_noise = noise.gain * (light + 2 * background * count) + 2 * noise.variance * count
        variance[taken] = total**2 * pair_noise / light**2
    variance[0] = noise.pair_variance(mean_total, background) / count.sum()
    return Estimate(coefficients, variance, total)


def reconstruction_prior(estimate: Estimate, config: AcquisitionConfig) -> Prior:
    """The Wiener image's prior: from images where the file names some, else a power law fitted to the estimate."""
    if config.reconstruction.prior.kind == "images":
        return planning_prior(config, estimate.total)
    return fit_power_law(estimate.coefficients, estimate.variance, config.sensing.side, estimate.total)
