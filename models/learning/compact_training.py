"""Training the compact network, alone or together with the mask that it will see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from models.draws import Draw
from models.learning.compact_network import CompactNetwork
from models.learning.conditions import NoiseRange, begun, drawn, one_of
from models.learning.learned_image import LearnedImage, learned_image
from models.learning.raw_sensing import measured_batch
from models.learning.sensing import Counts, LearnableMask, bernoulli_counts, fixed_counts, relaxed_counts
from models.learning.training import SCORE

# How much the likelihood of the errors' Laplace scale weighs against the logarithm of the squared error.
SCALE_WEIGHT = 0.1
# While the mask learns, so many steps are its own; the others keep the network good for any other mask.
OWN_STEPS = 0.75
_VALIDATION_BATCH = 8
_FAINTEST_MSE = 1e-12


@dataclass(frozen=True)
class Sensing:
    """What the mask is learned for. gradient: "relaxed" (M = S·P), "gumbel" (Bernoulli, straight through) or "none"
    (the mask stays as it began); mask_share: part of the epochs in which it learns, before it stays; draw: how M is
    drawn from then on.
    """

    repeats: int
    draw: Draw
    gradient: Literal["relaxed", "gumbel", "none"]
    mask_share: float


class _Trained(torch.nn.Module):
    def __init__(self, network: CompactNetwork, mask: LearnableMask) -> None:
        super().__init__()
        self.network = network
        self.mask = mask


class CompactTask:
    """Minimizes the mean of log MSE (the mean PSNR, in other words) and, for the scale alone, the Laplace likelihood.

    network: as it begins; start: mask [N] to begin with; prior_variance: λ float32 [N] at unit total light; others:
    masks [N] that the network shall serve beside its own.
    """

    def __init__(
        self,
        network: CompactNetwork,
        start: torch.Tensor,
        prior_variance: torch.Tensor,
        sensing: Sensing,
        noise: NoiseRange,
        others: Sequence[torch.Tensor],
    ) -> None:
        self._trained = _Trained(network, LearnableMask(start)).to(prior_variance.device)
        self._start = start.to(prior_variance)
        self._prior_variance = prior_variance
        self._order = torch.argsort(prior_variance, descending=True)
        self._sensing = sensing
        self._noise = noise
        self._others = [mask.to(prior_variance) for mask in others]

    @property
    def module(self) -> torch.nn.Module:
        """Network and mask."""
        return self._trained

    @property
    def network(self) -> CompactNetwork:
        """The network."""
        return self._trained.network

    def mask(self) -> torch.Tensor:
        """The mask as it is now, float32 [N]."""
        if self._sensing.gradient == "none":
            return self._start
        mask: torch.Tensor = self._trained.mask()
        return mask

    def loss(self, images: torch.Tensor, progress: float) -> torch.Tensor:
        """See the class; what is measured, and how well, is drawn anew for every batch."""
        total = (images[:, 0] if images.ndim > 3 else images).flatten(1).sum(1, keepdim=True)
        reference = float(torch.rand(())) < 0.5
        gain, variance = (self._noise.gain, self._noise.variance) if reference else self._noise.draw(total)
        truth, z, precision = measured_batch(images, self._counts(len(images), progress), gain, variance)
        found = self._image(z, precision)
        error = found.image - truth
        squared = (error**2).mean(dim=(1, 2)).clamp(min=_FAINTEST_MSE)
        likelihood = error.detach().abs() / found.scale + torch.log(found.scale)
        return torch.log(squared).mean() + SCALE_WEIGHT * likelihood.mean()

    def scores(self, images: torch.Tensor) -> Mapping[str, float]:
        """Mean PSNR in dB (data range 1) at the reference noise, under the mask's own draw."""
        decibels = []
        for batch in torch.split(images, _VALIDATION_BATCH):
            counts = fixed_counts(drawn(self.mask(), self._sensing.repeats, self._sensing.draw, len(batch)))
            truth, z, precision = measured_batch(batch, counts, self._noise.gain, self._noise.variance)
            found = self._image(z, precision)
            squared = ((found.image.clamp(min=0) - truth) ** 2).mean(dim=(1, 2)).clamp(min=_FAINTEST_MSE)
            decibels.append(-10 * torch.log10(squared))
        return {SCORE: float(torch.cat(decibels).mean())}

    def may_stop(self, progress: float) -> bool:
        """Once the mask stays as it is."""
        return self._sensing.gradient == "none" or progress >= self._sensing.mask_share

    def _counts(self, batch: int, progress: float) -> Counts:
        sensing = self._sensing
        learning = sensing.gradient != "none" and progress < sensing.mask_share
        if learning and float(torch.rand(())) < OWN_STEPS:
            if sensing.gradient == "gumbel":
                return bernoulli_counts(self.mask(), sensing.repeats)
            return relaxed_counts(self.mask(), sensing.repeats)
        own = float(torch.rand(())) < OWN_STEPS or not self._others
        mask = self.mask().detach() if own and not learning else one_of([*self._others, self._start])
        draw = sensing.draw if float(torch.rand(())) < OWN_STEPS else "bernoulli"
        counts = drawn(mask, sensing.repeats, draw, batch)
        under_way = float(torch.rand(())) < 0.2
        return fixed_counts(begun(counts, self._order) if under_way else counts)

    def _image(self, coefficients: torch.Tensor, precision: torch.Tensor) -> LearnedImage:
        return learned_image(self.network, coefficients, precision, self._prior_variance)
