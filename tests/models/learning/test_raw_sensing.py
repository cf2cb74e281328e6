"""Coefficients from raw repeats, for training: averages over as many frames as were drawn, and their gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.learning.raw_sensing import measure_repeats, measured_batch
from models.learning.sensing import Counts, fixed_counts

N = 4
R = 6


def frames(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images [2, n, n] and noisy frames of them [2, R, n, n]."""
    random = torch.Generator().manual_seed(seed)
    truth = 1 + torch.rand(2, N, N, generator=random)
    return truth, truth[:, None] + 0.1 * torch.randn(2, R, N, N, generator=random)


def dense(images: torch.Tensor) -> NDArray[np.float64]:
    """Hx by the dense matrix, float64 [..., N]."""
    return np.asarray(images.double().flatten(-2).numpy() @ hadamard(N * N).T.astype(np.float64))


def test_all_frames_together_are_the_transform_of_their_mean() -> None:
    truth, repeats = frames()
    z, precision = measure_repeats(truth, repeats, fixed_counts(torch.full((N * N,), float(R))))
    np.testing.assert_allclose(z.numpy(), dense(repeats.mean(dim=1)), rtol=1e-4, atol=1e-4)
    scatter = dense(repeats)[:, :, 1:].var(axis=1, ddof=1).mean(axis=1)
    np.testing.assert_allclose(precision[:, 1:].numpy(), (R / scatter)[:, None].repeat(N * N - 1, axis=1), rtol=1e-3)


def test_one_frame_is_one_of_them_for_each_coefficient() -> None:
    truth, repeats = frames()
    z, _ = measure_repeats(truth, repeats, fixed_counts(torch.ones(N * N)))
    distance = np.abs(dense(repeats) - z.double().numpy()[:, None])[:, :, 1:].min(axis=1)
    assert distance.max() < 1e-4


def test_two_of_many_frames_scatter_half_as_much_as_one() -> None:
    torch.manual_seed(1)
    truth, repeats = frames()
    spread = []
    for taken in (1.0, 2.0):
        counts = fixed_counts(torch.full((N * N,), taken))
        drawn = torch.stack([measure_repeats(truth, repeats, counts)[0] for _ in range(4000)])
        spread.append(drawn[:, :, 1:].var(dim=0).mean().item())
    # Two of R without replacement: half the variance times (R - 2)/(R - 1), the finite population correction.
    assert spread[1] / spread[0] == pytest.approx((R - 2) / (R - 1) / 2, rel=0.05)


def test_what_is_not_taken_is_nothing_and_weighs_nothing() -> None:
    truth, repeats = frames()
    counts = torch.tensor([0.0, 2.0] * (N * N // 2))
    z, precision = measure_repeats(truth, repeats, fixed_counts(counts))
    assert not z[:, 2::2].any()
    assert not precision[:, 2::2].any()
    assert (precision[:, 1::2] > 0).all()
    np.testing.assert_allclose(z[:, 0].numpy(), dense(repeats)[:, :, 0].mean(axis=1), rtol=1e-5)


def test_more_frames_make_the_noise_smaller_by_the_gradient() -> None:
    torch.manual_seed(2)
    truth, repeats = frames()
    repeats_drawn = torch.full((2, N * N), 3.0, requires_grad=True)
    z, _ = measure_repeats(truth, repeats, Counts(repeats_drawn, torch.ones(2, N * N)))
    z[:, 1:].sum().backward()  # type: ignore[no-untyped-call]
    noise = z.detach().double().numpy() - dense(truth)
    assert repeats_drawn.grad is not None
    np.testing.assert_allclose(repeats_drawn.grad[:, 1:].numpy(), -noise[:, 1:] / 6, rtol=1e-2, atol=1e-4)


def test_a_batch_says_by_its_shape_whether_repeats_stand_behind_the_images() -> None:
    torch.manual_seed(3)
    truth, repeats = frames()
    counts = fixed_counts(torch.full((N * N,), float(R)))
    behind = torch.cat([truth[:, None], repeats], dim=1)
    found, z, _ = measured_batch(behind, counts, gain=0.01, variance=0.0)
    assert torch.equal(found, truth)
    np.testing.assert_allclose(z.numpy(), dense(repeats.mean(dim=1)), rtol=1e-4, atol=1e-4)
    found, z, precision = measured_batch(truth, counts, gain=0.01, variance=0.5)
    assert torch.equal(found, truth)
    total = dense(truth)[:, :1]
    np.testing.assert_allclose(
        precision[:, 1:].numpy(), np.broadcast_to(R / (0.01 * total + 1.0), (2, N * N - 1)), rtol=1e-5
    )
