"""How wrong an image is, judged by the noise that is known to be in what was measured: Stein's unbiased risk."""

from __future__ import annotations

from collections.abc import Callable

import torch

from models.hadamard import inverse_image, transform

# Of a standard deviation: small beside the noise, large beside the rounding of bf16.
STEP = 0.05


def unbiased_risk(
    reconstruct: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    coefficients: torch.Tensor,
    precision: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Estimated mean squared error per pixel of images [B, n, n] over the coefficients that were measured, float32 [B].

    (1/N²)·Σ_i (ĉ_i - z_i)² - v_i + 2·v_i·∂ĉ_i/∂z_i, i > 0 and taken (Stein 1981), the last sum by one random direction
    (Ramani et al. 2008): for ε small, b ~ N(0, 1), it is Σ √v_i·b_i·(ĉ_i(z + ε√v·b) - ĉ_i(z))/ε in expectation.
    reconstruct: coefficients [B, N] to images; image: what it makes of ``coefficients`` z [B, N]; precision: 1/v
    [B, N], 0 where untaken. Its own standard deviation is about sqrt(2·Σv_i²)/N², so it can come out negative.
    """
    taken = precision > 0
    taken[:, 0] = False
    variance = torch.where(taken, 1 / precision.clamp(min=1e-30), 0.0)
    push = torch.sqrt(variance) * torch.randn(
        coefficients.shape, generator=generator, device=coefficients.device, dtype=coefficients.dtype
    )
    moved = reconstruct(coefficients + STEP * push)
    n_coefficients = coefficients.shape[1]
    divergence = (inverse_image(push) * (moved - image)).sum(dim=(1, 2)) * n_coefficients / STEP
    residual = torch.where(taken, transform(image.flatten(1)) - coefficients, 0.0)
    return ((residual**2).sum(1) - variance.sum(1) + 2 * divergence) / n_coefficients**2
