"""The U-Net of Wang et al. 2021: 64 channels at every one of four levels, and a residual connection."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from models.learning.convolutions import two_convolutions

LEVELS = 4
CHANNELS = 64


class PaperUNet(nn.Module):
    """x̂ = f_θ(Hz): two 3 × 3 convolutions and ReLU each a level, max-pooling, bilinear upsampling, concatenation.

    0.59 M parameters. Takes and gives images [B, n, n], n a multiple of 8.
    """

    def __init__(self, channels: int = CHANNELS, levels: int = LEVELS) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            two_convolutions(before, after) for before, after in pairwise([1] + [channels] * levels)
        )
        self.up = nn.ModuleList(two_convolutions(2 * channels, channels) for _ in range(levels - 1))
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Images [B, n, n] of plain inverses [B, n, n]."""
        features = image[:, None].contiguous(memory_format=torch.channels_last)
        skipped = []
        for block in self.down[:-1]:
            features = block(features)
            skipped.append(features)
            features = functional.max_pool2d(features, 2)
        features = self.down[-1](features)
        for block in self.up:
            features = functional.interpolate(features, scale_factor=2, mode="bilinear")
            features = block(torch.cat([features, skipped.pop()], dim=1))
        residual: torch.Tensor = self.head(features)[:, 0]
        return image + residual.to(image.dtype)
