"""From noisy coefficients to the compact network's image: frame, network, data consistency. All of it in torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from models.hadamard import inverse_image, transform
from models.learning.compact_network import CompactNetwork
from models.learning.precision import autocast
from models.learning.unrolled_tv import unrolled_tv
from models.sequency import image_sequency

# A weight of one part in a million is none; logarithms of weights stay between these.
_LARGEST_LOG = 14.0

PRIOR_COUNT = 1.0
TV_WEIGHT = 0.6
_SCORING_STEPS = 4
_LEAST_FACTOR = 1e-4


@dataclass(frozen=True)
class LearnedImage:
    """image: light of every pixel [B, n, n]; scale: its Laplace scale, uncalibrated, [B, n, n]; wiener: the Wiener
    image [B, n, n]; wiener_mse: its expected squared error per pixel, [B]; unmeasured_mse: the power per pixel that is
    expected of coefficients that were not taken, [B].
    """

    image: torch.Tensor
    scale: torch.Tensor
    wiener: torch.Tensor
    wiener_mse: torch.Tensor
    unmeasured_mse: torch.Tensor


def learned_image(
    network: CompactNetwork, coefficients: torch.Tensor, precision: torch.Tensor, prior_variance: torch.Tensor
) -> LearnedImage:
    """The network's image of coefficients.

    coefficients: z float32 [B, N], 0 where untaken, entry 0 the total light T > 0; precision: 1/v float32 [B, N], 0
    where untaken; prior_variance: λ float32 [N] at unit total light, prior means being 0 but for T. The frame is unit
    total light and the Wiener image's own root mean square, so that z → cz, v → c²v gives c times the image.
    Data consistency: of the network's coefficients ĉ and the measured z every one becomes ĉ + K(z - ĉ), with
    logit K = g + k·log(λ/v) and g, k piecewise linear in the logarithm of 2-D sequency, as the network says for this
    image. g = 0, k = 1 would be the Wiener filter.
    """
    total = coefficients[:, :1]
    z, weight = coefficients / total, precision * total**2
    n = round(z.shape[1] ** 0.5)
    adapted = adapted_prior(z, weight, prior_variance)
    signal_to_noise = adapted * weight
    shrink = signal_to_noise / (1 + signal_to_noise)
    shrink = torch.cat([torch.ones_like(shrink[:, :1]), shrink[:, 1:]], dim=1)
    shrunk = shrink * z
    both = inverse_image(torch.stack([shrunk, z], dim=1))
    wiener = both[:, 0]
    scale = shrunk.norm(dim=1)[:, None, None] / n**2
    taken = weight > 0
    plain_noise = torch.sqrt((taken / weight.clamp(min=1e-30)).sum(1)) / n**2
    unknown = torch.where(taken, shrink / weight.clamp(min=1e-30), adapted)
    expected_error = torch.sqrt(unknown[:, 1:].sum(1)) / n**2
    noise = torch.sqrt((shrink**2 * (taken / weight.clamp(min=1e-30)))[:, 1:].sum(1)) / n**2
    smooth = unrolled_tv(wiener / scale, TV_WEIGHT * noise / scale[:, 0, 0])
    levels = torch.stack([plain_noise, expected_error], dim=1)[:, :, None, None] / scale[:, None]
    images = torch.cat([both / scale[:, None], smooth[:, None]], dim=1)
    inputs = torch.cat([images, levels.log1p().expand(-1, -1, n, n)], dim=1)
    # The network alone: transforms in bf16 would add noise of their own.
    with autocast(inputs.device):
        output = network(inputs)
    blended = wiener + output.smoothness * (scale * smooth - wiener)
    found = blended + scale * output.correction
    consistent = _consistent(found, z, signal_to_noise, output.trust)
    per_pixel = expected_error[:, None, None] * torch.exp(output.log_scale.clamp(-_LARGEST_LOG, _LARGEST_LOG))
    light = total[:, :, None]
    unmeasured = torch.where(taken, 0.0, adapted)[:, 1:].sum(1) / n**4
    return LearnedImage(
        image=light * consistent,
        scale=light * per_pixel,
        wiener=light * wiener,
        wiener_mse=(total[:, 0] * expected_error) ** 2,
        unmeasured_mse=total[:, 0] ** 2 * unmeasured,
    )


@torch.no_grad()
def adapted_prior(z: torch.Tensor, weight: torch.Tensor, prior_variance: torch.Tensor) -> torch.Tensor:
    """Prior variances [B, N] of these images: λ times one factor for each cell of an octave by an octave of sequency.

    The factor f under which what was measured in the cell is most likely, z_i ~ N(0, f·λ_i + v_i), by Fisher scoring,
    with the training images counting as PRIOR_COUNT coefficients of f = 1, whose weight does not grow as f falls below
    1. z [B, N], weight: 1/v [B, N], 0 where untaken, prior_variance: λ [N]. It carries no gradient: a mask is not to be
    learned for what it does to a prior.
    """
    cell, n_cells = _cells(round(z.shape[1] ** 0.5))
    cell = cell.to(z.device).expand(len(z), -1)
    known = torch.where(prior_variance > 0, 1 / prior_variance.clamp(min=1e-30), 0.0)
    # In units of λ: power of what was measured, variance of its noise.
    told = (weight > 0) & (prior_variance > 0)
    power = z**2 * known
    noise = torch.where(told, known / weight.clamp(min=1e-30), torch.inf)
    factor = z.new_ones(len(z), n_cells)
    for _ in range(_SCORING_STEPS):
        spread = factor.gather(1, cell) + noise
        information = 1 / spread**2
        surplus = torch.where(told & (information > 0), (power - noise) * information, 0.0)
        prior_information = PRIOR_COUNT / factor.clamp(min=1.0) ** 2
        above = torch.zeros_like(factor).scatter_add_(1, cell, surplus) + prior_information
        below = torch.zeros_like(factor).scatter_add_(1, cell, information) + prior_information
        factor = (above / below).clamp(_LEAST_FACTOR, 1 / _LEAST_FACTOR)
    return factor.gather(1, cell) * prior_variance


def _consistent(
    image: torch.Tensor, z: torch.Tensor, signal_to_noise: torch.Tensor, trust: torch.Tensor
) -> torch.Tensor:
    lower, share = _bands(image.shape[-1], trust.shape[-1])
    lower, share = lower.to(image.device), share.to(image.device)
    offset, slope = torch.lerp(trust[..., lower], trust[..., lower + 1], share).unbind(1)
    log_ratio = torch.log(signal_to_noise.clamp(min=1e-30)).clamp(-_LARGEST_LOG, _LARGEST_LOG)
    weight = torch.sigmoid(_START_OFFSET + offset + (_START_SLOPE + slope) * log_ratio)
    weight = torch.where(signal_to_noise > 0, weight, 0.0)
    weight = torch.cat([torch.ones_like(weight[:, :1]), weight[:, 1:]], dim=1)
    own = transform(image.flatten(1))
    return inverse_image(own + weight * (z - own))


@lru_cache(maxsize=8)
def _bands(n: int, bands: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The band below every coefficient's radial sequency, int64 [N], and the share of the way to the next one, [N]."""
    vertical, horizontal = image_sequency(n)
    place = np.log1p(np.hypot(vertical, horizontal)) / np.log1p(np.hypot(n - 1, n - 1)) * (bands - 1)
    lower = np.minimum(place.astype(np.int64), bands - 2)
    with torch.inference_mode(False):
        return torch.from_numpy(lower), torch.from_numpy((place - lower).astype(np.float32))


@lru_cache(maxsize=8)
def _cells(n: int) -> tuple[torch.Tensor, int]:
    """The cell of every coefficient, int64 [N], and their number: octaves of vertical by octaves of horizontal."""
    octave = [np.ceil(np.log2(1.0 + sequency)).astype(np.int64) for sequency in image_sequency(n)]
    octaves = int(octave[0].max()) + 1
    with torch.inference_mode(False):
        return torch.from_numpy(octave[0] * octaves + octave[1]), octaves**2


# At the start the network counts as twenty times as precise as the prior.
_START_OFFSET = -3.0
_START_SLOPE = 1.0
