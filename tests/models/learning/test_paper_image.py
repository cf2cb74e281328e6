"""The paper's reconstruction: its U-Net on the plain inverse, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard

from models.estimators import Estimate
from models.learning.model_card import ModelFileError
from models.learning.paper_image import paper_network
from models.learning.paper_unet import PaperUNet
from models.masks import uniform
from tests.models.learning.tiny_model import random_weights, tiny_paper_model

N_SIDE = 16


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    """Where a processor multiplies bf16, networks are computed in it, which is coarser than what is compared here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


def estimate(seed: int = 0) -> Estimate:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(N_SIDE**2)
    z[0] = 60.0
    variance = np.where(rng.random(N_SIDE**2) < 0.5, 0.1, np.inf)
    return Estimate(np.where(np.isfinite(variance), z, np.nan), variance, 60.0)


def test_the_image_is_the_u_net_s_of_the_plain_inverse() -> None:
    model = tiny_paper_model(uniform(N_SIDE, 0.25), 0.25, seed=3)
    one = estimate()
    plain = np.kron(hadamard(N_SIDE), hadamard(N_SIDE)) @ np.nan_to_num(one.coefficients) / N_SIDE**2
    network = PaperUNet()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in model.weights.items()})
    with torch.no_grad():
        expected = network(torch.from_numpy(plain.reshape(1, N_SIDE, N_SIDE)).float())[0]
    found = paper_network(model)(one)
    assert found.dtype == np.float64
    assert found.shape == (N_SIDE, N_SIDE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - plain.reshape(found.shape)).max() > 1e-3


@pytest.mark.parametrize("junk", [0.0, 1e30, np.inf, np.nan])
def test_nothing_of_an_untaken_coefficient_leaks_into_the_image(junk: float) -> None:
    network, one = paper_network(tiny_paper_model(uniform(N_SIDE, 0.25), 0.25)), estimate(1)
    filled = np.where(np.isfinite(one.variance), one.coefficients, junk)
    np.testing.assert_array_equal(network(replace(one, coefficients=filled)), network(one))


def test_weights_of_another_network_are_refused() -> None:
    model = replace(tiny_paper_model(uniform(N_SIDE, 0.25), 0.25), weights=random_weights(0))
    with pytest.raises(ModelFileError, match="the weights are not those of the paper's U-Net"):
        paper_network(model)
