"""The paper's U-Net against its description, and against the same layers computed by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate

from models.learning.paper_unet import PaperUNet

FLOATS = NDArray[np.float64]


def convolution(features: FLOATS, state: dict[str, torch.Tensor], name: str) -> FLOATS:
    """3 × 3, zeros around, ReLU; features [channels, n, n]."""
    weight, bias = (state[f"{name}.{part}"].double().numpy() for part in ("weight", "bias"))
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    planes = [correlate(padded, kernel, mode="valid")[0] + offset for kernel, offset in zip(weight, bias, strict=True)]
    return np.maximum(planes, 0)


def twice(features: FLOATS, state: dict[str, torch.Tensor], name: str) -> FLOATS:
    return convolution(convolution(features, state, f"{name}.0"), state, f"{name}.2")


def doubled(features: FLOATS) -> FLOATS:
    """Bilinear, both axes: each half of a pixel is 3/4 its own and 1/4 the neighbour's, borders repeated."""
    for axis in (1, 2):
        before = np.concatenate([features.take([0], axis), features.take(range(features.shape[axis] - 1), axis)], axis)
        after = np.concatenate([features.take(range(1, features.shape[axis]), axis), features.take([-1], axis)], axis)
        pair = np.stack([0.75 * features + 0.25 * before, 0.75 * features + 0.25 * after], axis + 1)
        shape = list(features.shape)
        shape[axis] *= 2
        features = pair.reshape(shape)
    return features


def pooled(features: FLOATS) -> FLOATS:
    channels, n, _ = features.shape
    return np.asarray(features.reshape(channels, n // 2, 2, n // 2, 2).max(axis=(2, 4)))


def test_it_has_the_papers_number_of_parameters() -> None:
    counted = sum(parameter.numel() for parameter in PaperUNet().parameters())
    wide = 9 * 64 * 64 + 64
    down = (9 * 64 + 64) + wide + 3 * 2 * wide
    up = 3 * ((9 * 128 * 64 + 64) + wide)
    assert counted == down + up + 65 == 591_361
    assert f"{counted / 1e6:.2f}" == "0.59"


def test_it_computes_what_its_description_says() -> None:
    torch.manual_seed(0)
    network = PaperUNet(channels=3, levels=3)
    state = network.state_dict()
    image = np.random.default_rng(0).random((8, 8))
    skipped = []
    features = image[None]
    for level in range(2):
        features = twice(features, state, f"down.{level}")
        skipped.append(features)
        features = pooled(features)
    features = twice(features, state, "down.2")
    for level in range(2):
        features = twice(np.concatenate([doubled(features), skipped.pop()]), state, f"up.{level}")
    head = state["head.weight"].double().numpy()[0, :, 0, 0]
    expected = image + np.tensordot(head, features, 1) + float(state["head.bias"])
    with torch.no_grad():
        found = network(torch.from_numpy(image).float()[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_its_head_it_gives_back_what_it_got() -> None:
    network = PaperUNet(channels=4)
    for parameter in network.head.parameters():
        torch.nn.init.zeros_(parameter)
    images = torch.rand(2, 16, 16)
    torch.testing.assert_close(network(images), images)


@pytest.mark.parametrize("n", [8, 16, 64])
def test_sides_are_kept(n: int) -> None:
    assert PaperUNet(channels=2)(torch.rand(3, n, n)).shape == (3, n, n)


def test_every_parameter_has_a_gradient() -> None:
    torch.manual_seed(1)
    network = PaperUNet(channels=4)
    (network(torch.rand(2, 16, 16)) ** 2).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name
