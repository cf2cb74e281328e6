"""Training as in Wang et al. 2021: U-Net and mask by Gumbel-softmax draws and the mean squared error."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from models.hadamard import inverse_image
from models.learning.paper_unet import PaperUNet
from models.learning.precision import autocast
from models.learning.raw_sensing import measured_batch
from models.learning.sensing import LearnableMask, bernoulli_counts, fixed_counts
from models.learning.training import SCORE

_VALIDATION_BATCH = 4


class _Trained(torch.nn.Module):
    def __init__(self, network: PaperUNet, mask: LearnableMask) -> None:
        super().__init__()
        self.network = network
        self.mask = mask


class PaperTask:
    """min E‖f_θ(Hz) - x‖² over θ and, where it learns, P, with S Bernoulli draws a coefficient (their Eq. 7).

    start: mask [N] to begin with; learns: whether it changes; gain, variance: a and b of images scaled to maximum 1;
    patch: side of the part of every image that the network sees in a step (the whole is measured always), n for all of
    it. A convolution does not know where it is: patches cost less, and change nothing but the borders.
    """

    def __init__(
        self,
        network: PaperUNet,
        start: torch.Tensor,
        *,
        learns: bool,
        repeats: int,
        gain: float,
        variance: float,
        patch: int,
    ) -> None:
        self._trained = _Trained(network, LearnableMask(start).to(start.device))
        self._start = start
        self._learns = learns
        self._repeats = repeats
        self._gain, self._variance = gain, variance
        self._patch = patch

    @property
    def module(self) -> torch.nn.Module:
        """Network and mask."""
        return self._trained

    @property
    def network(self) -> PaperUNet:
        """The network."""
        return self._trained.network

    def mask(self) -> torch.Tensor:
        """The mask as it is now, float32 [N]."""
        if not self._learns:
            return self._start
        mask: torch.Tensor = self._trained.mask()
        return mask

    def loss(self, images: torch.Tensor, progress: float) -> torch.Tensor:
        """Mean squared error over the patch, relative to the typical one; one draw of M serves the whole batch."""
        del progress
        counts = bernoulli_counts(self.mask(), self._repeats)
        truth, z, _ = measured_batch(images, counts, self._gain, self._variance)
        plain = inverse_image(z)
        top, left = (int(torch.randint(side - self._patch + 1, ())) for side in truth.shape[1:])
        window = (slice(None), slice(top, top + self._patch), slice(left, left + self._patch))
        return ((self._image(plain[window]) - truth[window]) ** 2).mean() / _TYPICAL_MSE

    def scores(self, images: torch.Tensor) -> Mapping[str, float]:
        """Mean PSNR in dB (data range 1) of whole images."""
        decibels = []
        for batch in torch.split(images, _VALIDATION_BATCH):
            counts = bernoulli_counts(self.mask(), self._repeats)
            truth, z, _ = measured_batch(batch, fixed_counts(counts.repeats), self._gain, self._variance)
            found = self._image(inverse_image(z))
            decibels.append(-10 * torch.log10(((found - truth) ** 2).mean(dim=(1, 2))))
        return {SCORE: float(torch.cat(decibels).mean())}

    def may_stop(self, progress: float) -> bool:
        """At any time."""
        del progress
        return True

    def _image(self, plain: torch.Tensor) -> torch.Tensor:
        with autocast(plain.device):
            image: torch.Tensor = self._trained.network(plain)
        return image


# So that gradients are of order one; a factor changes nothing under ADAM but what clipping sees.
_TYPICAL_MSE = 1e-3
