"""The compact network: a U-Net on unshuffled pixels, in a frame that makes it blind to units.

It gets the Wiener image, the plain inverse, the Wiener image smoothed by total variation, and how noisy they are. It
says for every pixel how far to trust the smoothed one of them, what to add, and the Laplace scale of the error; and for
every band of sequency, how far to trust what was measured there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from models.learning.convolutions import two_convolutions

N_INPUTS = 5
N_OUTPUTS = 3


@dataclass(frozen=True)
class CompactArchitecture:
    """channels: of every level, finest first; unshuffle: side of the pixel blocks that become channels; bands: of
    sequency, in which network and measurement are weighed against each other.
    """

    channels: tuple[int, ...] = (32, 56, 72, 88)
    unshuffle: int = 2
    bands: int = 16

    @property
    def multiple(self) -> int:
        """Sides of images must be multiples of this number of pixels."""
        return int(self.unshuffle * 2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class CompactOutput:
    """correction: in units of the frame's scale, [B, n, n]; smoothness: between 0 and 1, [B, n, n]; log_scale: log of
    the Laplace scale, in units of the Wiener image's expected error, [B, n, n]; trust: offset and slope of every
    band's weight, [B, 2, bands].
    """

    correction: torch.Tensor
    smoothness: torch.Tensor
    log_scale: torch.Tensor
    trust: torch.Tensor


class CompactNetwork(nn.Module):
    """Inputs [B, N_INPUTS, n, n] to a CompactOutput; n a multiple of the architecture's."""

    def __init__(self, architecture: CompactArchitecture = CompactArchitecture()) -> None:
        super().__init__()
        self.architecture = architecture
        channels, block = list(architecture.channels), architecture.unshuffle**2
        self.down = nn.ModuleList(
            two_convolutions(before, after) for before, after in pairwise([N_INPUTS * block, *channels])
        )
        self.up = nn.ModuleList(
            two_convolutions(coarse + fine, fine) for fine, coarse in reversed(list(pairwise(channels)))
        )
        self.head = nn.Conv2d(channels[0], N_OUTPUTS * block, 1)
        self.trust = nn.Linear(channels[-1], 2 * architecture.bands)
        for layer in (self.head, self.trust):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, inputs: torch.Tensor) -> CompactOutput:
        """See the class."""
        shuffle = self.architecture.unshuffle
        features = functional.pixel_unshuffle(inputs, shuffle).contiguous(memory_format=torch.channels_last)
        skipped = []
        for block in self.down[:-1]:
            features = block(features)
            skipped.append(features)
            features = functional.max_pool2d(features, 2)
        features = self.down[-1](features)
        trust = self.trust(features.mean(dim=(2, 3)))
        for block in self.up:
            features = functional.interpolate(features, scale_factor=2, mode="bilinear")
            features = block(torch.cat([features, skipped.pop()], dim=1))
        planes = functional.pixel_shuffle(self.head(features), shuffle).float()
        smoothness = torch.sigmoid(planes[:, 1].float() + _START_SMOOTHNESS)
        return CompactOutput(
            planes[:, 0], smoothness, planes[:, 2], trust.float().unflatten(1, (2, self.architecture.bands))
        )


# At the start the image is nearly the smoothed one.
_START_SMOOTHNESS = 2.0
