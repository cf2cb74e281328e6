"""The training images' prior against turned copies and dense matrices; water-filled masks against their optimum."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.stats import binom

from models.draws import Draw
from models.learning.crops import NoContrastError
from models.learning.training_prior import training_prior_variance, water_filled
from models.noise import NoiseModel
from models.priors import power_law_prior

FLOATS = NDArray[np.float64]
NOISE = NoiseModel(gain=0.5, variance=3.0)
REPEATS = 12


def prior() -> FLOATS:
    found = power_law_prior(8, 1.0).variance.copy()
    found[0] = 0.0
    return found


@pytest.mark.parametrize("n", [4, 8])
def test_it_is_the_mean_power_over_all_flips_and_rotations_at_unit_light(n: int) -> None:
    images = np.random.default_rng(n).gamma(0.5, 1.0, (5, n, n)).astype(np.float32)
    matrix = np.kron(hadamard(n), hadamard(n))
    turned = [np.rot90(image, turns) for image in images.astype(np.float64) for turns in range(4)]
    copies = [*turned, *(copy[::-1] for copy in turned)]
    expected = np.mean([(matrix @ (copy / copy.sum()).ravel()) ** 2 for copy in copies], axis=0)
    expected[0] = 0.0
    np.testing.assert_allclose(training_prior_variance(images), expected, rtol=1e-6, atol=1e-15)


def test_brightness_does_not_matter() -> None:
    images = np.random.default_rng(0).gamma(0.5, 1.0, (3, 8, 8)).astype(np.float32)
    brighter = images * np.array([1e-3, 1.0, 1e4], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(training_prior_variance(brighter), training_prior_variance(images), rtol=1e-4)


def test_an_image_without_light_is_refused() -> None:
    images = np.ones((3, 4, 4), dtype=np.float32)
    for wrong in (0.0, np.nan):
        images[1] = wrong
        with pytest.raises(NoContrastError, match="found an image without light"):
            training_prior_variance(images)


def gains(mask: FLOATS, draw: str, variance: FLOATS, pair_variance: float) -> FLOATS:
    """What a little more P_i takes off the expected error Σ λv/(λM + v), float64 [N - 1]."""
    ratio = variance[1:] / pair_variance
    if draw == "systematic":
        return np.asarray(REPEATS * variance[1:] * ratio / (1 + ratio * REPEATS * mask[1:]) ** 2)
    m = np.arange(REPEATS + 1)
    errors = variance[1:, None] / (1 + ratio[:, None] * m)
    step = 1e-6
    inside = np.clip(mask[1:, None], step, 1 - step)
    chances = [binom.pmf(m, REPEATS, inside + side) for side in (-step, step)]
    return np.asarray(((chances[0] - chances[1]) * errors).sum(1) / (2 * step))


@pytest.mark.parametrize("draw", ["systematic", "bernoulli"])
@pytest.mark.parametrize("total", [20.0, 400.0])
@pytest.mark.parametrize("alpha", [0.125, 0.25])
def test_no_measurement_would_do_more_elsewhere(draw: Draw, total: float, alpha: float) -> None:
    mask = water_filled(prior(), alpha, REPEATS, draw, NOISE, total)
    assert mask[0] == 1.0
    assert mask.mean() == pytest.approx(alpha, rel=1e-6)
    gain = gains(mask, draw, prior() * total**2, 0.5 * total + 6.0)
    between = (mask[1:] > 1e-3) & (mask[1:] < 1 - 1e-3)
    level = np.median(gain[between])
    tolerance = 1e-6 if draw == "systematic" else 0.03
    assert between.sum() > 3
    np.testing.assert_allclose(gain[between], level, rtol=tolerance)
    assert np.all(gain[mask[1:] <= 1e-3] <= level * (1 + tolerance))
    assert np.all(gain[mask[1:] >= 1 - 1e-3] >= level * (1 - tolerance))


def test_dimmer_light_asks_for_fewer_coefficients_measured_more_often() -> None:
    chosen = [
        np.count_nonzero(water_filled(prior(), 0.25, REPEATS, "systematic", NOISE, total)) for total in (5.0, 5e4)
    ]
    assert chosen[0] < chosen[1]
