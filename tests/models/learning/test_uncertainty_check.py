"""What a network says of itself is held against images that are known: a network is played whose errors are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.estimators import Estimate
from models.learning.evaluation import SensingScheme
from models.learning.network_image import NetworkImage
from models.learning.uncertainty_check import UncertaintyScores, check_uncertainty
from models.masks import uniform
from models.noise import NoiseModel

FLOATS = NDArray[np.float64]
N_SIDE = 16
SCHEME = SensingScheme("uniform", uniform(N_SIDE, 0.5), 0.5, 4, "bernoulli")
NOISE = NoiseModel(0.01, 0.0)
IMAGES = np.random.default_rng(0).gamma(2.0, 0.1, (6, N_SIDE, N_SIDE))


class Played:
    """Its images err by 0.1 everywhere; it says so of the pixels it is told to, and says a tenth of it elsewhere.

    over: by how much its predicted squared error is too large, for every image.
    """

    def __init__(self, honest: list[NDArray[np.bool_]], over: list[float]) -> None:
        self._honest, self._over = honest, over
        self.seen: list[Estimate] = []

    def image(self, estimate: Estimate) -> NetworkImage:
        k = len(self.seen)
        self.seen.append(estimate)
        sign = np.where(np.arange(N_SIDE**2).reshape(N_SIDE, N_SIDE) % 2, 1.0, -1.0)
        # An interval is ln(10) of these scales wide on either side.
        scale = np.where(self._honest[k], 0.101, 0.01) / np.log(10)
        return NetworkImage(IMAGES[k] + 0.1 * sign, scale, 0.01 * self._over[k])


def scores_of(network: Any, seed: int = 1, **options: Any) -> UncertaintyScores:
    return check_uncertainty(network, IMAGES, SCHEME, NOISE, seed=seed, **options)


ALL = [np.ones((N_SIDE, N_SIDE), dtype=np.bool_)] * len(IMAGES)


def test_an_error_predicted_too_large_is_a_psnr_predicted_too_low() -> None:
    over = [1.0, 10.0, 0.1, 10**0.09, 10**-0.09, 10**0.11]
    found = scores_of(Played(ALL, over))
    np.testing.assert_allclose(found.error_db, [0, -10, 10, -0.9, 0.9, -1.1], atol=1e-9)
    assert found.within == pytest.approx(3 / 6)
    assert found.coverage == 1.0
    assert found.by_third == (1.0, 1.0, 1.0)


def test_coverage_counts_pixels_whose_truth_lies_in_the_interval() -> None:
    rng = np.random.default_rng(2)
    honest = [rng.random((N_SIDE, N_SIDE)) < 0.7 for _ in IMAGES]
    assert scores_of(Played(honest, [1.0] * 6)).coverage == pytest.approx(np.mean(honest))


def test_thirds_are_those_of_the_true_light() -> None:
    """Where only what is brighter than two of three pixels is honest, of all images together."""
    bounds = np.quantile(IMAGES, [1 / 3, 2 / 3])
    found = scores_of(Played([image > bounds[1] for image in IMAGES], [1.0] * 6))
    np.testing.assert_allclose(found.by_third, (0.0, 0.0, 1.0), atol=0.01)
    found = scores_of(Played([image < bounds[0] for image in IMAGES], [1.0] * 6))
    np.testing.assert_allclose(found.by_third, (1.0, 0.0, 0.0), atol=0.01)


def test_the_seed_decides_what_is_measured_and_every_image_gets_a_draw_of_its_own() -> None:
    first, again, other = (Played(ALL, [1.0] * 6) for _ in range(3))
    for network, seed in ((first, 1), (again, 1), (other, 2)):
        scores_of(network, seed)
    for one, two in zip(first.seen, again.seen, strict=True):
        np.testing.assert_array_equal(one.coefficients, two.coefficients)
        np.testing.assert_array_equal(one.variance, two.variance)
    assert not np.array_equal(first.seen[0].coefficients, other.seen[0].coefficients)
    untaken = [np.isinf(each.variance) for each in first.seen]
    assert untaken[0].any()
    assert not np.array_equal(untaken[0], untaken[1])
    assert first.seen[0].total == pytest.approx(IMAGES[0].sum(), rel=0.05)


def test_it_says_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    scores_of(Played(ALL, [1.0] * 6), progress=lambda done, all_of_them: told.append((done, all_of_them)))
    assert told == [(k, 6) for k in range(1, 7)]
