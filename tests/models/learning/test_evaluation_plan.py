"""Which masks and methods a table has: every mask under its draws, every network under the masks it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.draws import Draw
from models.estimators import Estimate
from models.learning.evaluation import SensingScheme
from models.learning.evaluation_plan import (
    BINARY,
    COMPACT,
    CS_TV,
    LEARNED,
    LEARNED_BY_PAPER,
    PAPER_UNET,
    PLAIN,
    TV_WAVELET,
    WIENER,
    WIENER_TV,
    is_binary,
    methods_of_table,
    plain_image,
    schemes_of_table,
)
from models.learning.model_file import TrainedModel
from models.masks import bernoulli_optimal, half_half, random_binary, uniform, water_filling
from models.noise import NoiseModel
from models.priors import power_law_prior
from tests.models.learning.tiny_model import tiny_model, tiny_paper_model

N_SIDE, ALPHA, REPEATS, SEED, TOTAL = 16, 0.25, 20, 4, 30.0
NOISE = NoiseModel(0.0139, 0.001)
BOTH: tuple[Draw, ...] = ("bernoulli", "systematic")
FIXED = ["random", "low-sequency", "half-half"]


def paper_mask(seed: int = 0) -> NDArray[np.float64]:
    """Probabilities of mean α, such as the paper's method would learn."""
    drawn = np.random.default_rng(seed).uniform(0.05, 0.45, N_SIDE**2)
    return np.asarray(drawn * ALPHA / drawn.mean())


def compact_model(alpha: float = ALPHA, n: int = N_SIDE, seed: int = 0) -> TrainedModel:
    return tiny_model(n, alpha, seed=seed)


def schemes_for(models: Sequence[TrainedModel] = (), draws: Sequence[Draw] = BOTH) -> list[SensingScheme]:
    prior = power_law_prior(N_SIDE, 1.0)
    return schemes_of_table(N_SIDE, ALPHA, REPEATS, draws, prior, NOISE, TOTAL, models, SEED)


def named(schemes: Sequence[SensingScheme], name: str, draw: Draw = "bernoulli") -> SensingScheme:
    return next(scheme for scheme in schemes if (scheme.name, scheme.draw) == (name, draw))


def methods_for(models: Sequence[TrainedModel] = (), weights: tuple[float, float] | None = None) -> dict[str, object]:
    return dict(methods_of_table(power_law_prior(N_SIDE, 1.0), models, weights))


def served(models: Sequence[TrainedModel], method: str, weights: tuple[float, float] | None = None) -> set[str]:
    """Names of the masks that a method serves."""
    found = methods_of_table(power_law_prior(N_SIDE, 1.0), models, weights)[method]
    return {scheme.name for scheme in schemes_for(models) if found(scheme) is not None}


def estimate(seed: int = 0) -> Estimate:
    rng = np.random.default_rng(seed)
    z = 0.3 * rng.standard_normal(N_SIDE**2)
    z[0] = TOTAL
    variance = np.where(rng.random(N_SIDE**2) < 0.5, 0.02, np.inf)
    variance[0] = 1e-4
    return Estimate(np.where(np.isfinite(variance), z, np.nan), variance, TOTAL)


def test_masks_of_ones_and_zeros_are_listed_once_and_probabilities_under_every_draw() -> None:
    labels = [(scheme.name, scheme.draw) for scheme in schemes_for()]
    assert labels == [
        *((name, "bernoulli") for name in [*FIXED, "uniform", "water-filled"]),
        ("uniform", "systematic"),
        ("water-filled", "systematic"),
    ]
    assert [scheme.draw for scheme in schemes_for(draws=("systematic",))] == ["systematic"] * 5
    assert all((scheme.alpha, scheme.repeats) == (ALPHA, REPEATS) for scheme in schemes_for())


def test_the_water_filled_mask_is_that_of_its_draw_at_the_light_of_the_images() -> None:
    prior = power_law_prior(N_SIDE, 1.0).variance * TOTAL**2
    pair_variance = 0.0139 * TOTAL + 2 * 0.001
    bernoulli, systematic = (named(schemes_for(), "water-filled", draw).mask for draw in BOTH)
    np.testing.assert_allclose(bernoulli, bernoulli_optimal(prior, ALPHA, REPEATS, pair_variance), atol=1e-9)
    np.testing.assert_allclose(systematic, water_filling(prior, ALPHA, REPEATS, pair_variance), atol=1e-9)


def test_two_learned_masks_of_one_kind_are_told_apart_by_number() -> None:
    other = compact_model()
    another = replace(other, mask=np.roll(other.mask[1:], 3))
    another = replace(another, mask=np.concatenate([[other.mask[0]], another.mask]))
    schemes = schemes_for([other, another])
    np.testing.assert_array_equal(named(schemes, LEARNED).mask, other.mask)
    np.testing.assert_array_equal(named(schemes, f"{LEARNED} 2").mask, another.mask)


def test_learned_masks_are_named_after_whose_they_are_and_come_as_ones_and_zeros_too() -> None:
    models = [compact_model(), tiny_paper_model(paper_mask(), ALPHA)]
    schemes = schemes_for(models)
    learned = {LEARNED, LEARNED_BY_PAPER, BINARY + LEARNED, BINARY + LEARNED_BY_PAPER}
    assert {scheme.name for scheme in schemes} == {*FIXED, "uniform", "water-filled", *learned}
    np.testing.assert_array_equal(named(schemes, LEARNED).mask, models[0].mask)
    for draw in BOTH:
        np.testing.assert_array_equal(named(schemes, LEARNED_BY_PAPER, draw).mask, models[1].mask)
    binary = named(schemes, BINARY + LEARNED_BY_PAPER)
    likeliest = np.argsort(models[1].mask)[-round(ALPHA * N_SIDE**2) + 1 :]
    assert binary.mask[0] == 1
    assert binary.mask[likeliest].all()
    assert binary.mask.sum() == round(ALPHA * N_SIDE**2)
    assert [scheme.draw for scheme in schemes if scheme.name == binary.name] == ["bernoulli"]


@pytest.mark.parametrize(
    "mask",
    [random_binary(N_SIDE, ALPHA, SEED), half_half(N_SIDE, ALPHA, SEED), uniform(N_SIDE, ALPHA)],
    ids=["random", "half-half", "uniform"],
)
def test_a_mask_that_was_not_learned_is_not_listed_as_learned(mask: NDArray[np.float64]) -> None:
    names = [scheme.name for scheme in schemes_for([tiny_paper_model(mask, ALPHA)])]
    assert names == [scheme.name for scheme in schemes_for()]


@pytest.mark.parametrize("model", [compact_model(0.5), compact_model(n=8)])
def test_models_of_another_budget_or_side_bring_no_mask(model: TrainedModel) -> None:
    assert len(schemes_for([model])) == len(schemes_for())


def test_without_models_there_are_the_methods_that_need_none() -> None:
    assert list(methods_for()) == [PLAIN, WIENER, WIENER_TV, CS_TV]
    everywhere = {scheme.name for scheme in schemes_for()}
    for method in methods_for():
        assert served((), method) == everywhere


def test_tv_w_serves_masks_of_ones_and_zeros_only() -> None:
    models = [compact_model(), tiny_paper_model(paper_mask(), ALPHA)]
    assert served(models, TV_WAVELET, (0.5, 0.5)) == {*FIXED, BINARY + LEARNED, BINARY + LEARNED_BY_PAPER}
    assert TV_WAVELET not in methods_for(models)
    # A coefficient that every pair measures is no choice.
    half = SensingScheme("half", np.r_[0.5, np.ones(63), np.zeros(192)], 0.25, 8, "bernoulli")
    assert is_binary(half)


def test_tv_w_gets_its_weights() -> None:
    one = estimate()
    images = []
    for weights in ((0.0, 0.0), (3.0, 0.0), (0.0, 3.0)):
        method = methods_of_table(power_law_prior(N_SIDE, 1.0), (), weights)[TV_WAVELET](named(schemes_for(), "random"))
        assert method is not None
        images.append(method(one))
    np.testing.assert_allclose(images[0], plain_image(one), atol=0.02 * np.abs(images[0]).max())
    assert np.abs(images[1] - images[0]).max() > 0.01
    assert np.abs(images[2] - images[1]).max() > 0.01


def test_the_paper_s_u_net_serves_the_mask_that_it_was_trained_for_and_no_other() -> None:
    own = tiny_paper_model(paper_mask(), ALPHA, seed=1)
    fixed = tiny_paper_model(half_half(N_SIDE, ALPHA, SEED), ALPHA, seed=2)
    assert served([own, fixed], PAPER_UNET) == {LEARNED_BY_PAPER, "half-half"}
    method_for = methods_of_table(own.prior, [own, fixed], None)[PAPER_UNET]
    schemes, one = schemes_for([own, fixed]), estimate()
    images = []
    for name in (LEARNED_BY_PAPER, "half-half"):
        method = method_for(named(schemes, name))
        assert method is not None
        images.append(method(one))
    assert np.abs(images[0] - images[1]).max() > 1e-3


def test_the_compact_network_serves_every_mask_of_its_budget() -> None:
    model, other = compact_model(seed=1), compact_model(0.5, seed=2)
    assert served([model, other], COMPACT) == {scheme.name for scheme in schemes_for([model])}
    method_for = methods_of_table(model.prior, [other, model], None)[COMPACT]
    method = method_for(named(schemes_for(), "uniform"))
    assert method is not None
    one = estimate()
    np.testing.assert_array_equal(method(one), model.network.image(one).image)
    assert method_for(SensingScheme("uniform", uniform(N_SIDE, 0.125), 0.125, 8, "bernoulli")) is None
    assert method_for(SensingScheme("uniform", uniform(8, ALPHA), ALPHA, 8, "bernoulli")) is None


def test_wiener_images_take_the_prior_at_the_light_that_was_measured() -> None:
    prior, one = power_law_prior(N_SIDE, 1.0), estimate()
    spread = prior.variance * TOTAL**2
    shrunk = np.where(np.isfinite(one.variance), np.nan_to_num(one.coefficients) * spread / (spread + one.variance), 0)
    shrunk[0] = TOTAL
    dense = np.kron(hadamard(N_SIDE), hadamard(N_SIDE))
    method = methods_of_table(prior, (), None)[WIENER](schemes_for()[0])
    smoothed = methods_of_table(prior, (), None)[WIENER_TV](schemes_for()[0])
    assert method is not None
    assert smoothed is not None
    found = method(one)
    np.testing.assert_allclose(found, (dense @ shrunk / N_SIDE**2).reshape(found.shape), atol=1e-3 * found.max())
    assert smoothed(one).min() >= 0
    assert np.abs(np.diff(smoothed(one))).sum() < np.abs(np.diff(found)).sum()


def test_the_plain_inverse_leaves_untaken_coefficients_0() -> None:
    one = estimate()
    dense = np.kron(hadamard(N_SIDE), hadamard(N_SIDE))
    expected = (dense @ np.nan_to_num(one.coefficients) / N_SIDE**2).reshape(N_SIDE, N_SIDE)
    np.testing.assert_allclose(plain_image(one), expected, atol=1e-12)
    filled = replace(one, coefficients=np.where(np.isfinite(one.variance), one.coefficients, 1e9))
    np.testing.assert_array_equal(plain_image(filled), plain_image(one))
