"""What an evaluation is asked for, from the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from models.draws import Draw
from models.hadamard import check_side
from models.learning.evaluation_report import EvaluationRequest
from models.learning.model_file import TrainedModel, load_model
from models.learning.shipped_models import find_model, shipped_models
from models.learning.training_images import evaluation_images
from models.noise import NoiseModel
from models.priors import Prior, power_law_prior

# As many raw frames of a field as are worth their memory.
_MOST_REPEATS = 50


class EvaluationRequestError(ValueError):
    """An evaluation that cannot be."""


def evaluation_request(
    *,
    data: Sequence[Path],
    validation: Sequence[Path],
    n: int,
    gain: float,
    variance: float,
    alphas: Sequence[float],
    repeats: int,
    draws: Sequence[str],
    models: Sequence[str] | None,
    every: int,
    raw_repeats: bool,
    name: str | None,
    seed: int,
) -> EvaluationRequest:
    """The request, its images read and its models loaded.

    models: names or files; None: every shipped one of side n and these α. The prior of the Wiener image and of
    water-filling is the first compact model's; without one it is the typical power law. Raises EvaluationRequestError,
    SideError, NoiseModelError, ModelFileError, ModelNotFoundError, and what reading the images raises.
    """
    check_side(n)
    noise = NoiseModel(gain, variance)
    if not np.isfinite([gain, variance]).all():
        raise EvaluationRequestError(f"found a = {gain:g}, b = {variance:g}; expected finite numbers")
    for draw in draws:
        if draw not in get_args(Draw):
            raise EvaluationRequestError(f"found the draw {draw!r}; expected {' or '.join(get_args(Draw))}")
    if not all(0 < alpha <= 1 for alpha in alphas):
        raise EvaluationRequestError(f"found α of {list(alphas)}; expected more than 0 and at most 1")
    loaded = _models(models, n, alphas)
    crops = evaluation_images(data, n, _MOST_REPEATS if raw_repeats else 0)
    held_out = evaluation_images(validation, n).images if validation else np.empty((0, n, n), dtype=np.float32)
    return EvaluationRequest(
        name=name or ", ".join(path.name for path in data),
        images=crops.images[::every],
        validation=held_out,
        repeats_of=None if crops.repeats is None else crops.repeats[::every],
        noise=noise,
        alphas=tuple(dict.fromkeys(alphas)),
        repeats=repeats,
        draws=tuple(draw for draw in get_args(Draw) if draw in draws),
        prior=_prior(loaded, n),
        models=tuple(loaded),
        seed=seed,
    )


def _models(names: Sequence[str] | None, n: int, alphas: Sequence[float]) -> list[TrainedModel]:
    if names is None:
        shipped = [load_model(path) for path in shipped_models().values()]
        return [model for model in shipped if model.card.n == n and model.card.alpha in alphas]
    loaded = [load_model(find_model(name)) for name in names]
    for name, model in zip(names, loaded, strict=True):
        if model.card.n != n:
            raise EvaluationRequestError(f"{name} was trained for n = {model.card.n}; expected models for n = {n}")
    return loaded


def _prior(models: Sequence[TrainedModel], n: int) -> Prior:
    return next((model.prior for model in models if model.card.kind == "compact"), None) or power_law_prior(n, 1.0)
