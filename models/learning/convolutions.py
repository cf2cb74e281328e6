"""The block that both networks are made of."""

from __future__ import annotations

from torch import nn


def two_convolutions(n_in: int, n_out: int) -> nn.Sequential:
    """Two 3 × 3 convolutions that keep the side, a ReLU after each."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(n_out, n_out, 3, padding=1),
        nn.ReLU(inplace=True),
    )
