"""The compact network is as small as it is said to be, and begins by saying nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.learning.compact_network import N_INPUTS, N_OUTPUTS, CompactArchitecture, CompactNetwork


def test_it_has_about_half_a_million_parameters() -> None:
    channels, bands = [4 * N_INPUTS, 32, 56, 72, 88], 16
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in pairwise(channels))
    up = sum(9 * (a + b) * b + b + 9 * b * b + b for a, b in [(88, 72), (72, 56), (56, 32)])
    rest = (32 + 1) * N_OUTPUTS * 4 + (88 + 1) * 2 * bands
    counted = sum(parameter.numel() for parameter in CompactNetwork().parameters())
    assert counted == down + up + rest
    assert 450_000 < counted < 600_000


def test_an_image_of_256_px_takes_less_than_4_billion_operations() -> None:
    with torch.device("meta"):
        network, inputs = CompactNetwork(), torch.zeros(1, N_INPUTS, 256, 256)
    with FlopCounterMode(display=False) as counter:
        network(inputs)
    # Multiplications and additions each count.
    assert 2e9 < counter.get_total_flops() < 4e9


def test_before_training_it_corrects_nothing() -> None:
    torch.manual_seed(0)
    found = CompactNetwork()(torch.rand(2, N_INPUTS, 32, 32))
    assert found.correction.shape == found.smoothness.shape == found.log_scale.shape == (2, 32, 32)
    assert found.trust.shape == (2, 2, 16)
    for part in (found.correction, found.log_scale, found.trust):
        assert not part.any()
    torch.testing.assert_close(found.smoothness, found.smoothness[:1, :1, :1].expand(2, 32, 32))
    assert 0.8 < float(found.smoothness.detach()[0, 0, 0]) < 1


@pytest.mark.parametrize(("channels", "unshuffle", "multiple"), [((4, 6), 2, 4), ((4, 6, 8), 4, 16), ((4,), 2, 2)])
def test_it_takes_the_sides_that_it_says_it_takes(channels: tuple[int, ...], unshuffle: int, multiple: int) -> None:
    architecture = CompactArchitecture(channels, unshuffle, bands=3)
    assert architecture.multiple == multiple
    network = CompactNetwork(architecture)
    found = network(torch.rand(1, N_INPUTS, 2 * multiple, 2 * multiple))
    assert found.correction.shape == (1, 2 * multiple, 2 * multiple)
    assert found.trust.shape == (1, 2, 3)


def test_a_pixel_answers_to_its_own_place() -> None:
    torch.manual_seed(1)
    network = CompactNetwork(CompactArchitecture((4,), 2, 3))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs = torch.rand(1, N_INPUTS, 16, 16)
    changed = inputs.clone()
    changed[0, :, 3, 10] += 1.0
    with torch.no_grad():
        moved = (network(changed).correction - network(inputs).correction)[0].abs() > 1e-6
    rows, columns = torch.nonzero(moved, as_tuple=True)
    # One block of pixels, and two convolutions around it.
    assert int(rows.max()) <= 7
    assert int(columns.min()) >= 6
    assert int(columns.max()) <= 15
    assert bool(moved[3, 10])
