"""From the evidence of a run to its image: estimate, Wiener, the method the file asks for, error forecast."""

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
from models.learning.model_file import TrainedModel
from models.learning.uncertainty import INTERVAL_SCALES
from models.noise import NoiseModel
from models.priors import Prior, fit_power_law
from models.total_variation import denoise
from models.wiener import forecast_mse, noise_std, wiener_image

LARGEST_PAIR_RATIO_BIAS = 0.01
# Of fewer photo-electrons all may happen to fall into one exposure of the pairs: the ratio is 1 then, and its variance
# says that it is exact.
FEWEST_PHOTOELECTRONS = 100


@dataclass(frozen=True)
class Reconstruction:
    """An image and what is known of it.

    image: float64 [n, n] in detector units per exposure, not negative; wiener: the linear image; forecast_mse: expected
    squared error per pixel of ``wiener`` under the prior; estimate, prior: what it was made from. A network says of its
    image, too: uncertainty, float64 [n, n], detector units: half the width of the interval that holds the light of a
    pixel with 90 % confidence; predicted_mse: its expected squared error per pixel.
    """

    image: NDArray[np.float64]
    wiener: NDArray[np.float64]
    forecast_mse: float
    estimate: Estimate
    prior: Prior
    uncertainty: NDArray[np.float64] | None = None
    predicted_mse: float | None = None

    @property
    def expected_mse(self) -> float:
        """Expected squared error per pixel: as the network predicts it for its image, or the linear forecast."""
        return self.forecast_mse if self.predicted_mse is None else self.predicted_mse

    def forecast_psnr(self, data_range: float) -> float:
        """10·log10(data_range²/forecast_mse) in dB."""
        return psnr_of(self.forecast_mse, data_range)

    def predicted_psnr(self, data_range: float) -> float | None:
        """10·log10(data_range²/predicted_mse) in dB; None without a network."""
        return None if self.predicted_mse is None else psnr_of(self.predicted_mse, data_range)

    def said_of_quality(self, data_range: float) -> str:
        """The network's prediction, or else the linear forecast, in words."""
        what = "linear forecast" if self.predicted_mse is None else "predicted"
        return f"{what} {psnr_of(self.expected_mse, data_range):.1f} dB"


def psnr_of(mse: float, data_range: float) -> float:
    """10·log10(data_range²/mse) in dB; inf without error."""
    return float(10 * np.log10(data_range**2 / mse)) if mse > 0 else float("inf")


def reconstruct(
    evidence: Evidence,
    config: AcquisitionConfig,
    image_prior: Prior | None = None,
    model: TrainedModel | None = None,
) -> Reconstruction:
    """Reconstruct the newest image from the evidence, as the acquisition file asks.

    image_prior: prior from images or of a trained model, at unit total light; None: a power law, fitted to the
    evidence. model: whose network makes the image, where that is the method; it brings its own prior. Raises
    NothingSeenError, MissingModelError, and ModelFileError where the model holds no network for it.
    """
    estimate = estimate_coefficients(evidence, config)
    if image_prior is None:
        prior = fit_power_law(estimate.coefficients, estimate.variance, config.sensing.side, estimate.total)
    else:
        prior = image_prior.scaled(estimate.total)
    wiener = wiener_image(estimate.coefficients, estimate.variance, prior)
    uncertainty, predicted_mse = None, None
    match config.reconstruction.method:
        case "network":
            if model is None:
                raise MissingModelError("reconstruction.method is network, and no trained model came with it")
            found = model.network.image(estimate)
            image, uncertainty, predicted_mse = found.image, INTERVAL_SCALES * found.scale, found.predicted_mse
        case "weighted-tv":
            from models.weighted_tv import weighted_tv_image

            image = weighted_tv_image(estimate)
        case "wiener-tv":
            strength = config.reconstruction.tv_weight
            image = denoise(wiener, noise_std(prior, estimate.variance), strength) if strength > 0 else wiener
    return Reconstruction(
        image=np.maximum(image, 0.0),
        wiener=wiener,
        forecast_mse=forecast_mse(prior.variance, estimate.variance),
        estimate=estimate,
        prior=prior,
        uncertainty=uncertainty,
        predicted_mse=predicted_mse,
    )


class NothingSeenError(ValueError):
    """So far the readings hold no light above darkness; more of them may."""


class MissingModelError(ValueError):
    """A network's image was asked for without a trained model."""


def estimate_coefficients(evidence: Evidence, config: AcquisitionConfig) -> Estimate:
    """Coefficients and their variances from the evidence, by the acquisition file's estimator.

    difference: the mean of y+ - y-, variance (a(T + 2B) + 2b)/M; entry 0 is the mean dark-corrected pair sum, which
    every pair measures. pair-ratio: see _ratio_estimate; entry 0 is the total at the start of the run. Raises
    NothingSeenError.
    """
    noise = NoiseModel(config.noise.gain, config.noise.variance)
    by_difference = config.reconstruction.estimator == "difference"
    total = total_from_pairs(evidence.statistics, evidence.lit_dark_level)
    light = total if by_difference else min(total, evidence.reference_total)
    if not light > 0:
        raise NothingSeenError(
            f"found a total light of {light:.4g} detector units in {evidence.n_pairs} pairs; expected more than 0: "
            "there is no image yet"
        )
    return (_difference_estimate if by_difference else _ratio_estimate)(evidence, noise, total)


def _difference_estimate(evidence: Evidence, noise: NoiseModel, total: float) -> Estimate:
    statistics = evidence.statistics
    pair_variance = noise.pair_variance(total, max(evidence.background, 0.0))
    variance = np.full(len(statistics.count), np.inf)
    taken = statistics.count > 0
    variance[taken] = pair_variance / statistics.count[taken]
    variance[0] = pair_variance / evidence.n_pairs
    return Estimate(difference(statistics, total), variance, total)


def _ratio_estimate(evidence: Evidence, noise: NoiseModel, mean_total: float) -> Estimate:
    """T̂·Σ(y+ - y-)/L with L = Σ(y+ + y- - 2 dark), or L = the smoothed pair sums where the ratio's bias 2b/(M T²)
    would exceed 1 % (DESIGN §5.7; the background's shot noise aB is part of b here) or its photo-electrons are few.

    At the mean light L/M of its pairs a coefficient has the variance of DESIGN §5.7 (the smoothed one that of the plain
    difference), scaled to T̂ and divided by M.
    """
    statistics, total = evidence.statistics, evidence.reference_total
    background = max(evidence.background, 0.0)
    constant_noise = NoiseModel(noise.gain, noise.variance + noise.gain * background)
    biased = pair_ratio_bias(statistics.count, mean_total, constant_noise) > LARGEST_PAIR_RATIO_BIAS
    smoothed = biased | (statistics.count * mean_total < FEWEST_PHOTOELECTRONS * noise.gain)
    coefficients = np.where(
        smoothed,
        light_ratio(statistics, evidence.smoothed_sums, total),
        pair_ratio(statistics, total, evidence.lit_dark_level),
    )
    taken = statistics.count > 0
    count = statistics.count[taken]
    light = evidence.smoothed_sums[taken] / count
    at_this_light = np.where(smoothed[taken], 0.0, coefficients[taken] * light / total)
    at_this_light = np.clip(at_this_light, -np.abs(light), np.abs(light))
    pair_variance = pair_ratio_variance(at_this_light, light, noise, background)
    variance = np.full(len(statistics.count), np.inf)
    variance[taken] = pair_variance * (total / light) ** 2 / count
    coefficients[0] = total
    # The end of a straight line through K sums has four times the variance of their mean.
    ends = 4 if evidence.reference_pairs >= FEWEST_FOR_A_SLOPE else 1
    variance[0] = ends * noise.pair_variance(mean_total, background) / evidence.reference_pairs
    return Estimate(coefficients, variance, total)
