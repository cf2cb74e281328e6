"""Sensing from raw camera repeats that gradients flow through: the paper's second data path, for training."""

from __future__ import annotations

import torch

from models.hadamard import transform
from models.learning.sensing import Counts, measure


def measured_batch(
    batch: torch.Tensor, counts: Counts, gain: torch.Tensor | float, variance: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truths [B, n, n] of a batch, what is measured of them, z [B, N], and its precision [B, N].

    batch: images [B, n, n], measured under simulated noise of a and b (``measure``), or images with their raw repeats
    behind them [B, 1 + R, n, n], measured from those (``measure_repeats``), whatever a and b.
    """
    if batch.ndim == _WITH_REPEATS:
        truth = batch[:, 0]
        return truth, *measure_repeats(truth, batch[:, 1:], counts)
    return batch, *measure(batch, counts, gain, variance)


def measure_repeats(truth: torch.Tensor, repeats: torch.Tensor, counts: Counts) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients z [B, N] as averages over M_i randomly chosen repeats, and the precision M/σ² of each, [B, N].

    truth: [B, n, n]; repeats: raw frames [B, R, n, n], R at least 2 and at least as many as any M. Chosen without
    replacement, for each coefficient anew. Entry 0 is the mean total of all repeats. σ²: scatter of the repeats'
    coefficients, pooled over i > 0. What the average is off by keeps its value and scales with 1/√M in the gradient, as
    in ``measure``; a relaxed M, which is not whole, averages the next larger number of repeats, and scales.
    """
    exact = transform(truth.flatten(1))
    each = transform(repeats.flatten(2))
    pair_variance = each[:, :, 1:].var(dim=1).mean(dim=1, keepdim=True)
    wanted = torch.where(counts.repeats > 0, counts.repeats, 1.0).expand(exact.shape)
    whole = torch.ceil(wanted.detach())
    with torch.no_grad():
        place = torch.rand_like(each).argsort(dim=1).argsort(dim=1)
        average = (each * (place < whole[:, None])).sum(dim=1) / whole
        noise = average - exact
    z = counts.presence * (exact + noise * torch.sqrt(whole / wanted))
    precision = counts.presence * wanted / pair_variance
    pairs = counts.repeats[..., 1:].sum(-1, keepdim=True).expand(len(exact), 1)
    total = each[:, :, 0].mean(dim=1, keepdim=True)
    return torch.cat([total, z[:, 1:]], dim=1), torch.cat([pairs / pair_variance, precision[:, 1:]], dim=1)


_WITH_REPEATS = 4
