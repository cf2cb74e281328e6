"""What an evaluation is asked for: images, models and a prior that belong together, or a refusal in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.io import imsave

from acquisition.evaluation_request import EvaluationRequestError, evaluation_request
from models.hadamard import SideError
from models.learning.crops import ImageTooSmallError, MissingRepeatsError
from models.learning.evaluation_report import EvaluationRequest
from models.learning.model_file import load_model, save_model
from models.learning.shipped_models import ModelNotFoundError
from models.masks import uniform
from models.noise import NoiseModelError
from models.priors import power_law_prior
from tests.models.learning.tiny_model import saved, tiny_paper_model
from tests.models.learning.tiny_training import spots


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five images in ./cells."""
    monkeypatch.chdir(tmp_path)
    folder = Path("cells")
    folder.mkdir()
    for k, image in enumerate(spots(5, 16)):
        np.save(folder / f"{k}.npy", 50 * image)
    return folder


def asked(**changes: Any) -> EvaluationRequest:
    whole: dict[str, Any] = {
        "data": [Path("cells")],
        "validation": [],
        "n": 16,
        "gain": 0.0139,
        "variance": 0.001,
        "alphas": [0.25, 0.125],
        "repeats": 50,
        "draws": ["bernoulli", "systematic"],
        "models": [],
        "every": 1,
        "raw_repeats": False,
        "name": None,
        "seed": 7,
    }
    return evaluation_request(**{**whole, **changes})


def test_images_are_scaled_to_a_maximum_of_1_each(cells: Path) -> None:
    request = asked(validation=[cells])
    np.testing.assert_allclose(request.images, spots(5, 16), rtol=1e-6)
    np.testing.assert_allclose(request.validation, spots(5, 16), rtol=1e-6)
    assert (request.noise.gain, request.noise.variance) == (0.0139, 0.001)
    assert (request.name, request.repeats, request.seed) == ("cells", 50, 7)
    assert request.repeats_of is None
    assert asked(name="mine").name == "mine"


def test_without_validation_images_there_are_none(cells: Path) -> None:
    assert cells.exists()
    assert asked().validation.shape == (0, 16, 16)


def test_every_k_th_crop_is_taken(cells: Path) -> None:
    assert cells.exists()
    np.testing.assert_array_equal(asked(every=2).images, asked().images[[0, 2, 4]])
    assert len(asked(every=100).images) == 1


def test_what_is_said_twice_counts_once_and_draws_have_their_order(cells: Path) -> None:
    assert cells.exists()
    request = asked(alphas=[0.125, 0.25, 0.125], draws=["systematic", "bernoulli", "systematic"])
    assert request.alphas == (0.125, 0.25)
    assert request.draws == ("bernoulli", "systematic")


def test_the_prior_is_the_first_compact_model_s(cells: Path) -> None:
    assert cells.exists()
    model = load_model(saved(Path(), "compact", n=16, alpha=0.25))
    save_model(Path("paper"), tiny_paper_model(uniform(16, 0.25), 0.25))
    request = asked(models=["paper", "compact"])
    assert [each.card.kind for each in request.models] == ["paper-unet", "compact"]
    np.testing.assert_array_equal(request.prior.variance, model.prior.variance)
    typical = power_law_prior(16, 1.0).variance
    np.testing.assert_array_equal(asked(models=["paper"]).prior.variance, typical)


def test_without_names_the_shipped_models_of_that_side_and_those_budgets_are_taken(
    cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cells.exists()
    shelf = Path("shelf")
    shelf.mkdir()
    for name, n, alpha in (("a", 16, 0.25), ("b", 16, 0.5), ("c", 8, 0.25)):
        saved(shelf, name, n=n, alpha=alpha)
    monkeypatch.setattr("models.learning.shipped_models.FOLDER", shelf)
    assert [(model.card.n, model.card.alpha) for model in asked(models=None).models] == [(16, 0.25)]
    assert asked(models=[]).models == ()
    assert [model.card.n for model in asked(models=["b"]).models] == [16]


def test_raw_frames_are_kept_beside_their_images(cells: Path) -> None:
    """Of the published layout: type/raw/field of view, type/gt/field of view."""
    assert cells.exists()
    rng = np.random.default_rng(0)
    for view, image in enumerate(spots(2, 16)):
        raw, truth = (Path("fmd") / "cells" / kind / str(view + 1) for kind in ("raw", "gt"))
        raw.mkdir(parents=True)
        truth.mkdir(parents=True)
        imsave(truth / "avg50.png", (200 * image).astype(np.uint8), check_contrast=False)
        for k in range(4):
            frame = np.clip(200 * image + 5 * rng.standard_normal((16, 16)), 0, 255).astype(np.uint8)
            imsave(raw / f"frame{k}.png", frame, check_contrast=False)
    request = asked(data=[Path("fmd")], raw_repeats=True)
    assert request.repeats_of is not None
    assert request.repeats_of.shape == (2, 4, 16, 16)
    assert request.repeats_of.mean() == pytest.approx(request.images.mean(), rel=0.1)
    one = asked(data=[Path("fmd")], raw_repeats=True, every=2).repeats_of
    assert one is not None
    assert len(one) == 1


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"draws": ["poisson"]}, EvaluationRequestError, "found the draw 'poisson'; expected bernoulli or systematic"),
        ({"alphas": [0.25, 1.5]}, EvaluationRequestError, r"found α of \[0.25, 1.5\]; expected more than 0"),
        ({"alphas": [0.0]}, EvaluationRequestError, "expected more than 0 and at most 1"),
        ({"alphas": [float("nan")]}, EvaluationRequestError, "expected more than 0 and at most 1"),
        ({"gain": 0.0}, NoiseModelError, "expected a > 0"),
        ({"gain": float("inf")}, EvaluationRequestError, "found a = inf"),
        ({"variance": float("inf")}, EvaluationRequestError, "b = inf; expected finite numbers"),
        ({"variance": float("nan")}, NoiseModelError, "b ≥ 0"),
        ({"n": 24}, SideError, "expected a power of two"),
        ({"n": 32}, ImageTooSmallError, "16 × 16"),
        ({"data": [Path("gone")]}, FileNotFoundError, "gone"),
        ({"validation": [Path("gone")]}, FileNotFoundError, "gone"),
        ({"models": ["gone"]}, ModelNotFoundError, "found no model 'gone'"),
        ({"models": ["eight"]}, EvaluationRequestError, "eight was trained for n = 8; expected models for n = 16"),
        ({"raw_repeats": True}, MissingRepeatsError, "expected"),
    ],
)
def test_what_cannot_be_is_refused(cells: Path, changes: dict[str, Any], error: type[Exception], said: str) -> None:
    assert cells.exists()
    saved(Path(), "eight", n=8)
    with pytest.raises(error, match=said):
        asked(**changes)
