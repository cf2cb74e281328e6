"""Which floating-point numbers a network is computed in."""

from __future__ import annotations

import torch


def autocast(device: torch.device) -> torch.autocast:
    """bf16 where the device multiplies it fast, float32 elsewhere; to be entered around a network."""
    if device.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    return torch.autocast(device.type, torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported())
