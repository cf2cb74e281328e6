"""What is evaluated by default: the masks and the methods of the paper's table, and what was learned since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.draws import Draw
from models.estimators import Estimate
from models.hadamard import inverse_image
from models.learning.evaluation import Method, MethodFor, SensingScheme, for_every_scheme
from models.learning.model_file import TrainedModel
from models.learning.training_prior import water_filled
from models.masks import half_half, low_sequency, random_binary, top_alpha, uniform
from models.noise import NoiseModel
from models.priors import Prior
from models.total_variation import denoise
from models.tv_wavelet import tv_wavelet_image
from models.weighted_tv import weighted_tv_image
from models.wiener import noise_std, wiener_image

PLAIN, WIENER, WIENER_TV, CS_TV, TV_WAVELET = "plain inverse", "Wiener", "Wiener-TV", "CS-TV", "TV-W"
PAPER_UNET, COMPACT = "U-Net (paper)", "compact network"
LEARNED, LEARNED_BY_PAPER = "learned", "learned (paper)"
BINARY = "top α of "


def schemes_of_table(
    n: int,
    alpha: float,
    repeats: int,
    draws: Sequence[Draw],
    prior: Prior,
    noise: NoiseModel,
    total: float,
    models: Sequence[TrainedModel],
    seed: int,
) -> list[SensingScheme]:
    """Random, low-sequency, half-half, uniform, water-filled and learned masks, [N] each, under every draw.

    Masks of ones and zeros mean the same under either draw: they are listed once. The masks of models that learned
    theirs come last, and those masks' largest probabilities as a binary mask, which TV-W can use. prior: at unit total
    light, for water-filling, at images of this total light. Raises MaskError.
    """
    masks: dict[str, NDArray[np.float64]] = {
        "random": random_binary(n, alpha, seed),
        "low-sequency": low_sequency(n, alpha),
        "half-half": half_half(n, alpha, seed),
        "uniform": uniform(n, alpha),
    }
    for model in models:
        if (model.card.n, model.card.alpha) == (n, alpha) and mask_name(model, masks) is None:
            name = _free(LEARNED if model.card.kind == "compact" else LEARNED_BY_PAPER, masks)
            masks[name] = model.mask
            masks[BINARY + name] = top_alpha(model.mask, alpha)
    schemes = []
    for draw in draws:
        of_draw = {**masks, "water-filled": water_filled(prior.variance, alpha, repeats, draw, noise, total)}
        for name, mask in of_draw.items():
            if draw == draws[0] or not np.isin(mask[1:], (0.0, 1.0)).all():
                schemes.append(SensingScheme(name, mask, alpha, repeats, draw))
    return schemes


def mask_name(model: TrainedModel, masks: Mapping[str, NDArray[np.float64]]) -> str | None:
    """The name of the mask that a model was trained with, None where it is none of these (it was learned)."""
    return next((name for name, mask in masks.items() if np.allclose(mask, model.mask, atol=1e-6)), None)


def _free(name: str, masks: Mapping[str, NDArray[np.float64]]) -> str:
    """The name, or with the first number that tells it from others of its kind."""
    numbered = (name if k == 1 else f"{name} {k}" for k in range(1, len(masks) + 2))
    return next(each for each in numbered if each not in masks)


def methods_of_table(
    prior: Prior, models: Sequence[TrainedModel], weights: tuple[float, float] | None
) -> dict[str, MethodFor]:
    """Reconstructions by name; networks serve the masks that they were made for.

    prior: at unit total light, for the Wiener image. The paper's U-Net was trained for one mask each, the compact
    network of a model serves every mask of its α. weights: of total variation and wavelets in TV-W, which is for binary
    masks; None: without it.
    """
    methods: dict[str, MethodFor] = {
        PLAIN: for_every_scheme(plain_image),
        WIENER: for_every_scheme(partial(_wiener, prior)),
        WIENER_TV: for_every_scheme(partial(_wiener_tv, prior)),
        CS_TV: for_every_scheme(weighted_tv_image),
    }
    if weights is not None:
        tv_wavelet = partial(tv_wavelet_image, tv_weight=weights[0], wavelet_weight=weights[1])
        methods[TV_WAVELET] = lambda scheme: tv_wavelet if is_binary(scheme) else None
    unets = [model for model in models if model.card.kind == "paper-unet"]
    if unets:
        methods[PAPER_UNET] = _first(unets, lambda model, scheme: np.allclose(model.mask, scheme.mask, atol=1e-6))
    compact = [model for model in models if model.card.kind == "compact"]
    if compact:
        methods[COMPACT] = _first(
            compact, lambda model, scheme: (model.card.n, model.card.alpha) == (scheme.side, scheme.alpha)
        )
    return methods


def plain_image(estimate: Estimate) -> NDArray[np.float64]:
    """The plain inverse Hz/N, untaken coefficients being 0, float64 [n, n]."""
    taken = np.isfinite(estimate.variance)
    z: NDArray[np.float64] = np.where(taken, estimate.coefficients, 0.0)
    return inverse_image(z)


def is_binary(scheme: SensingScheme) -> bool:
    """Whether a coefficient is measured S times or not at all."""
    return bool(np.isin(scheme.mask[1:], (0.0, 1.0)).all())


def _wiener(prior: Prior, estimate: Estimate) -> NDArray[np.float64]:
    return wiener_image(estimate.coefficients, estimate.variance, prior.scaled(estimate.total))


def _wiener_tv(prior: Prior, estimate: Estimate) -> NDArray[np.float64]:
    scaled = prior.scaled(estimate.total)
    wiener = wiener_image(estimate.coefficients, estimate.variance, scaled)
    return np.maximum(denoise(wiener, noise_std(scaled, estimate.variance)), 0.0)


def _first(models: Sequence[TrainedModel], serves: Callable[[TrainedModel, SensingScheme], bool]) -> MethodFor:
    def method_for(scheme: SensingScheme) -> Method | None:
        model = next((model for model in models if model.card.n == scheme.side and serves(model, scheme)), None)
        return None if model is None else _network_method(model)

    return method_for


def _network_method(model: TrainedModel) -> Method:
    if model.card.kind == "compact":
        network = model.network
        return lambda estimate: network.image(estimate).image
    from models.learning.paper_image import paper_network

    return paper_network(model)
