"""Sensing that gradients flow through: masks that are parameters, draws, and the noisy coefficients they give.

What the loss sees of a coefficient's count M is twofold: M scales its noise, and decides whether it is there at all.
docs/mathematics.md derives the gradient that carries both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from models.hadamard import transform

# Probabilities at 0 or 1 have no gradient; a start is moved this far away from them.
START_MARGIN = 0.02
GUMBEL_TEMPERATURE = 0.8

_CERTAIN = 1e-4
# From so many photo-electrons in half of the light on, a Poisson number is drawn as its Gaussian.
_GAUSSIAN_FROM = 1e4


def normalized(unconstrained: torch.Tensor, alpha: float) -> torch.Tensor:
    """Probabilities of mean α, as Eq. 8 of Wang et al. 2021: P = (α/p̄)·P̃ if p̄ ≥ α, else 1 - (1 - α)/(1 - p̄)·(1 - P̃).

    unconstrained: P̃ [N] in [0, 1] with mean p̄; the result is in [0, 1] too.
    """
    mean = unconstrained.mean()
    if mean >= alpha:
        return unconstrained * (alpha / mean)
    return 1 - (1 - unconstrained) * ((1 - alpha) / (1 - mean))


class LearnableMask(torch.nn.Module):
    """A mask of mean α whose probabilities are parameters: P̃ = sigmoid(parameters), then ``normalized``.

    Coefficient 0 is no parameter: every pair measures it, so P_0 = 1, and the others share αN - 1. Coefficient u·n + v
    and its transpose v·n + u share the mean of their logits: samples lie on a stage in any orientation.
    """

    def __init__(self, start: torch.Tensor) -> None:
        """start: mask [N] to begin with; moved into [START_MARGIN, 1 - START_MARGIN] and kept at its mean."""
        super().__init__()
        inner = start[1:].to(torch.float32)
        # A start that does not give coefficient 0 its P_0 = 1 leaves that much less to the others.
        self.share = float(inner.mean()) - (1 - float(start[0])) / len(inner)
        self.logits = torch.nn.Parameter(torch.logit(inner.clamp(START_MARGIN, 1 - START_MARGIN)))

    def forward(self) -> torch.Tensor:
        """P float32 [N]."""
        side = round((len(self.logits) + 1) ** 0.5)
        logits = torch.cat([self.logits.new_zeros(1), self.logits]).view(side, side)
        inner = normalized(torch.sigmoid((logits + logits.T) / 2).flatten()[1:], self.share)
        return torch.cat([inner.new_ones(1), inner])


@dataclass(frozen=True)
class Counts:
    """How often each coefficient is measured, and whether it is, float32 [N]; both may carry gradients.

    repeats: M, whole or (relaxed) not; presence: 1 where M > 0, else 0.
    """

    repeats: torch.Tensor
    presence: torch.Tensor


def bernoulli_counts(probability: torch.Tensor, repeats: int, *, temperature: float = GUMBEL_TEMPERATURE) -> Counts:
    """M_i = Σ_s M_i^(s), M_i^(s) ~ B(P_i), s = 1…S, with the straight-through Gumbel-softmax gradient.

    Forward every draw is 0 or 1; backward it is sigmoid((logit P + L)/τ), L logistic noise (Jang et al., Maddison et
    al. 2017). The gradient of M is the sum over the S draws; that of presence = 1 - Π_s(1 - M^(s)) is the sum over
    those draws that decide it: all where M = 0, the one that was included where M = 1, none else. probability: P [N];
    0 and 1 are exact, others are kept 1e-4 away from them. It is biased, and blind to presence where the loss is not
    about quadratic in z: docs/mathematics.md says by how much.
    """
    drawn, presence = _StraightThroughCounts.apply(probability, repeats, temperature)  # type: ignore[no-untyped-call]
    return Counts(drawn, presence)


def relaxed_counts(probability: torch.Tensor, repeats: int) -> Counts:
    """M = S·P as a real number: noise scales with 1/√(S·P), and every coefficient of P > 0 is there."""
    return Counts(repeats * probability, (probability > 0).to(probability.dtype))


def fixed_counts(repeats: torch.Tensor) -> Counts:
    """Counts that were drawn elsewhere, without gradient."""
    return Counts(repeats, (repeats > 0).to(repeats.dtype))


def measure(
    images: torch.Tensor, counts: Counts, gain: torch.Tensor | float, variance: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy coefficients z [B, N] of images [B, n, n] (light ≥ 0), and the precision M/(aT + 2b) of each, [B, N].

    z_i = Hx_i + noise of variance (aT + 2b)/M_i (DESIGN §5.1, §5.3), 0 where it was not taken. Entry 0 is T, which all
    ΣM pairs measure. Sums of M exposures are drawn once per coefficient and sign; bright ones as their Gaussian. The
    drawn noise keeps its value and scales with 1/√M in the gradient: ∂z/∂M = -noise/(2M). gain: a, variance: b, one
    number or [B, 1].
    """
    flat = images.flatten(1)
    exact = transform(flat)
    total = exact[:, :1]
    pairs = counts.repeats[..., 1:].sum(-1, keepdim=True)
    repeats = torch.cat([pairs, counts.repeats[..., 1:]], dim=-1)
    presence = torch.cat([torch.ones_like(pairs), counts.presence[..., 1:]], dim=-1)
    pair_variance = gain * total + 2 * variance
    # Where nothing was taken presence has a gradient yet: that of taking one pair.
    taken = torch.where(repeats > 0, repeats.clamp(min=_CERTAIN), 1.0)
    with torch.no_grad():
        noise = _drawn_noise(exact, total, taken, pair_variance, gain, variance)
    scaled = noise * torch.sqrt(taken.detach() / taken)
    return presence * (exact + scaled), presence * repeats / pair_variance


def _drawn_noise(
    exact: torch.Tensor,
    total: torch.Tensor,
    taken: torch.Tensor,
    pair_variance: torch.Tensor,
    gain: torch.Tensor | float,
    variance: torch.Tensor | float,
) -> torch.Tensor:
    electrons = torch.as_tensor(total / (2 * gain)).min()
    if electrons >= _GAUSSIAN_FROM:
        return torch.randn_like(exact) * torch.sqrt(pair_variance / taken)
    half = [(taken * (total + sign * exact) / 2 / gain).clamp(min=0) for sign in (1, -1)]
    counted = torch.poisson(half[0]) - torch.poisson(half[1])
    read = torch.randn_like(exact) * torch.sqrt(torch.as_tensor(2 * variance) / taken)
    return gain * counted / taken - exact + read


class _StraightThroughCounts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, probability: torch.Tensor, repeats: int, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        p = probability.clamp(_CERTAIN, 1 - _CERTAIN)
        logit = torch.logit(p)
        count, slopes, slope_of_included = (torch.zeros_like(p) for _ in range(3))
        for _ in range(repeats):
            logistic = torch.logit(torch.rand_like(p).clamp(1e-7, 1 - 1e-7))
            soft = torch.sigmoid((logit + logistic) / temperature)
            hard = (((soft > 0.5) | (probability >= 1)) & (probability > 0)).to(p.dtype)
            slope = soft * (1 - soft)
            count += hard
            slopes += slope
            slope_of_included += hard * slope
        per_probability = 1 / (temperature * p * (1 - p))
        deciding = torch.where(count == 0, slopes, torch.where(count == 1, slope_of_included, 0.0))
        ctx.save_for_backward(slopes * per_probability, deciding * per_probability)
        return count, (count > 0).to(p.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        slopes, deciding = ctx.saved_tensors
        return gradients[0] * slopes + gradients[1] * deciding, None, None
