"""From the evidence of a run to its image: estimate, Wiener, total variation, error forecast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.evidence import FEWEST_FOR_A_SLOPE, Evidence
from models.estimators import (
    Estimate,
    difference,
    light_ratio,
    pair_ratio,
    pair_ratio_bias,
    pair_ratio_variance,
    total_from_pairs,
)
from models.noise import NoiseModel
from models.priors import Prior, fit_power_law
from models.total_variation import denoise
from models.wiener import forecast_mse, noise_std, wiener_image

LARGEST_PAIR_RATIO_BIAS = 0.01


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


def reconstruct(evidence: Evidence, config: AcquisitionConfig, image_prior: Prior | None = None) -> Reconstruction:
    """Reconstruct the newest image from the evidence, as the acquisition file asks.

    image_prior: prior from images at unit total light; None: a power law, fitted to the evidence.
    """
    estimate = estimate_coefficients(evidence, config)
    if image_prior is None:
        prior = fit_power_law(estimate.coefficients, estimate.variance, config.sensing.side, estimate.total)
    else:
        prior = image_prior.scaled(estimate.total)
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
    """Coefficients and their variances from the evidence, by the acquisition file's estimator.

    difference: the mean of y+ - y-, variance (a(T + 2B) + 2b)/M; entry 0 is the mean dark-corrected pair sum, which
    every pair measures. pair-ratio: see _ratio_estimate; entry 0 is the total at the start of the run.
    """
    noise = NoiseModel(config.noise.gain, config.noise.variance)
    if config.reconstruction.estimator == "difference":
        return _difference_estimate(evidence, noise)
    return _ratio_estimate(evidence, noise)


def _difference_estimate(evidence: Evidence, noise: NoiseModel) -> Estimate:
    statistics = evidence.statistics
    total = total_from_pairs(statistics, evidence.lit_dark_level)
    pair_variance = noise.pair_variance(max(total, 0.0), max(evidence.background, 0.0))
    variance = np.full(len(statistics.count), np.inf)
    taken = statistics.count > 0
    variance[taken] = pair_variance / statistics.count[taken]
    variance[0] = pair_variance / evidence.n_pairs
    return Estimate(difference(statistics, total), variance, total)


def _ratio_estimate(evidence: Evidence, noise: NoiseModel) -> Estimate:
    """T̂·Σ(y+ - y-)/L with L = Σ(y+ + y- - 2 dark), or L = the smoothed pair sums where the ratio's bias 2b/(M T²)
    would exceed 1 % (DESIGN §5.7).

    At the mean light L/M of its pairs a coefficient has the variance of DESIGN §5.7 (the smoothed one that of the plain
    difference), scaled to T̂ and divided by M.
    """
    statistics, total = evidence.statistics, evidence.reference_total
    background = max(evidence.background, 0.0)
    mean_total = max(total_from_pairs(statistics, evidence.lit_dark_level), 0.0)
    biased = pair_ratio_bias(statistics.count, mean_total, noise) > LARGEST_PAIR_RATIO_BIAS
    coefficients = np.where(
        biased,
        light_ratio(statistics, evidence.smoothed_sums, total),
        pair_ratio(statistics, total, evidence.lit_dark_level),
    )
    taken = statistics.count > 0
    count = statistics.count[taken]
    light = evidence.smoothed_sums[taken] / count
    at_this_light = np.where(biased[taken], 0.0, coefficients[taken] * light / total)
    at_this_light = np.clip(at_this_light, -np.abs(light), np.abs(light))
    pair_variance = pair_ratio_variance(at_this_light, light, noise, background)
    variance = np.full(len(statistics.count), np.inf)
    variance[taken] = pair_variance * (total / light) ** 2 / count
    coefficients[0] = total
    # The end of a straight line through K sums has four times the variance of their mean.
    ends = 4 if evidence.reference_pairs >= FEWEST_FOR_A_SLOPE else 1
    variance[0] = ends * noise.pair_variance(mean_total, background) / evidence.reference_pairs
    return Estimate(coefficients, variance, total)
