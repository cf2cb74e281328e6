"""The conditions a network is trained under: noise and masks, drawn anew for every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class NoiseRange:
    """a and b of images scaled to maximum 1: the values that the mask is learned for, and the ranges around them.

    gain, variance: reference a and b; spread: a reaches from gain/spread to gain·spread, log-uniformly; largest_read:
    2b reaches up to this share of aT, in half of the steps.
    """

    gain: float
    variance: float
    spread: float = 8.0
    largest_read: float = 1.0

    def draw(self, total: torch.Tensor) -> tuple[float, torch.Tensor]:
        """(a, b) for images of total light [B, 1]; b is [B, 1]."""
        exponent = 2 * float(torch.rand(())) - 1
        gain = self.gain * self.spread**exponent
        read = float(torch.rand(())) * self.largest_read if float(torch.rand(())) < 0.5 else 0.0
        return gain, read * gain * total / 2 + self.variance


def drawn(probability: torch.Tensor, repeats: int, draw: str, batch: int) -> torch.Tensor:
    """Counts M float32 [B, N] of ``batch`` draws from P [N]; draw: "bernoulli" or "systematic".

    Systematic counts are S·P rounded up or down at random, each on its own: the marginals of a systematic draw.
    """
    expected = (repeats * probability).expand(batch, -1)
    if draw == "systematic":
        # A sum just below a whole number above S may round to it.
        return torch.floor(expected + torch.rand_like(expected)).clamp(max=repeats)
    return torch.binomial(torch.full_like(expected, repeats), probability.expand(batch, -1).clamp(0, 1))


def begun(counts: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Counts [B, N] of an acquisition that is under way: only some first ones of ``order`` [N] were measured yet."""
    share = float(torch.rand(())) ** 2
    done = torch.zeros_like(counts[0])
    done[order[: max(1, int(share * len(order)))]] = 1
    return counts * done


def one_of(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """A mask of these, each as likely."""
    return masks[int(torch.randint(len(masks), ()))]
