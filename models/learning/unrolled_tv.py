"""Total-variation denoising as a fixed number of steps, over a batch, that gradients flow through."""

from __future__ import annotations

import torch

STEPS = 8
# The squared norm of the finite differences of an image is below 8.
_LIPSCHITZ = 8.0


def unrolled_tv(images: torch.Tensor, weight: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """Nearly argmin_x Σ(x - image)²/2 + weight·TV(x), x ≥ 0, after ``steps`` of fast gradient projection of the dual.

    images: [B, n, n]; weight: [B], in the images' units. TV is isotropic, differences across the border being 0 (Beck &
    Teboulle 2009, as ``models.tv_proximal``, which is faster for one image and knows no gradient).
    """
    limit = weight[:, None, None]
    down, across = torch.zeros_like(images), torch.zeros_like(images)
    ahead_down, ahead_across = down, across
    momentum = 1.0
    for _ in range(steps):
        primal = _primal(images, ahead_down, ahead_across)
        slope_down = torch.zeros_like(images)
        slope_across = torch.zeros_like(images)
        slope_down[:, :-1] = primal[:, 1:] - primal[:, :-1]
        slope_across[:, :, :-1] = primal[:, :, 1:] - primal[:, :, :-1]
        new_down = ahead_down + slope_down / _LIPSCHITZ
        new_across = ahead_across + slope_across / _LIPSCHITZ
        # Beside a length of 0 the square root has no gradient.
        length = torch.sqrt(new_down**2 + new_across**2 + 1e-20)
        shorter = torch.clamp(limit / length, max=1.0)
        new_down, new_across = new_down * shorter, new_across * shorter
        previous, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        push = (previous - 1) / momentum
        ahead_down = new_down + push * (new_down - down)
        ahead_across = new_across + push * (new_across - across)
        down, across = new_down, new_across
    return _primal(images, down, across)


def _primal(images: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """The image that belongs to a dual field: image + div(field), at least 0."""
    primal = images + down + across
    primal[:, 1:] -= down[:, :-1]
    primal[:, :, 1:] -= across[:, :, :-1]
    return primal.clamp(min=0)
