"""Networks are computed in bf16 where that is fast, and in single precision elsewhere."""

from __future__ import annotations

import pytest
import torch

from models.learning.precision import autocast


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_processor_multiplies_in_bf16_where_it_can(
    monkeypatch: pytest.MonkeyPatch, supported: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    inputs = torch.rand(4, 4)
    with autocast(torch.device("cpu")):
        assert (inputs @ inputs).dtype == dtype
    assert (inputs @ inputs).dtype == torch.float32
