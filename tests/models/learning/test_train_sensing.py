"""From images to a model: the same after an interruption, the mask a mask all through, what is planted is found."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.estimators import Estimate
from models.learning.augmentation import turned
from models.learning.checkpoint import CheckpointMismatchError
from models.learning.compact_network import CompactArchitecture
from models.learning.compact_training import CompactTask
from models.learning.model_file import TrainedModel, load_model
from models.learning.paper_training import PaperTask
from models.learning.paper_unet import PaperUNet
from models.learning.train_sensing import SensingRequest, SensingRequestError, masks_beside, train_sensing
from models.learning.training import EpochReport
from models.masks import half_half, low_sequency, random_binary, uniform, validate_mask, water_filling
from models.noise import NoiseModelError
from tests.models.learning.tiny_model import tiny_model
from tests.models.learning.tiny_training import GAIN, SOURCES, Interruption, planted, request_of, spots, trained


def measured(image: NDArray[np.float32]) -> Estimate:
    """Noiseless coefficients of an image, half of them."""
    from scipy.linalg import hadamard

    z = hadamard(image.size) @ image.ravel().astype(np.float64)
    variance = np.where(np.arange(len(z)) % 2, np.inf, 0.5)
    return Estimate(np.where(np.isfinite(variance), z, np.nan), variance, float(z[0]))


def same(first: TrainedModel, second: TrainedModel) -> bool:
    weights = first.weights.keys() == second.weights.keys() and all(
        np.array_equal(first.weights[name], second.weights[name]) for name in first.weights
    )
    return weights and np.array_equal(first.mask, second.mask) and first.card.metrics == second.card.metrics


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "training" / "log.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key != "seconds"} for line in csv.DictReader(file)]


KINDS = [
    {},
    {"gradient": "gumbel", "draw": "bernoulli", "start": "uniform"},
    {"gradient": "none", "start": "half-half"},
    {"kind": "paper-unet", "draw": "bernoulli", "start": "random"},
]


@pytest.mark.parametrize("changes", KINDS)
def test_interrupted_and_gone_on_with_is_never_interrupted(tmp_path: Path, changes: dict[str, Any]) -> None:
    request = request_of(training={"epochs": 3}, **changes)
    whole = trained(tmp_path / "whole", request)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts", request, on_epoch=Interruption(epoch))
        assert not list((tmp_path / "parts").glob("model*"))
    assert same(trained(tmp_path / "parts", request), whole)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    requests = [request_of(training={"seed": seed}) for seed in (1, 1, 2)]
    models = [trained(tmp_path / str(k), request) for k, request in enumerate(requests)]
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    assert [model.card.seed for model in models] == [1, 1, 2]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"alpha": 0.125}, "alpha 0.25; asked for is alpha 0.125"),
        ({"gain": 0.1}, "gain 0.0139; asked for is gain 0.1"),
        ({"start": "uniform", "repeats": 9}, "repeats 8, start 'water-filling'"),
        ({"training": {"batch": 2}}, "batch 4; asked for is batch 2"),
    ],
)
def test_a_training_of_something_else_is_not_gone_on_with(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, on_epoch=Interruption(1))
    with pytest.raises(CheckpointMismatchError, match=named):
        trained(tmp_path, request_of(**changes))
    with pytest.raises(CheckpointMismatchError, match="with images digest"):
        trained(tmp_path, images=spots(8, 16, seed=5))


class _Watched(Exception):  # noqa: N818  # nothing went wrong
    """The training is over before it began."""


@pytest.mark.parametrize("start", ["water-filling", "uniform", "low-sequency", "half-half", "random"])
@pytest.mark.parametrize("changes", [{}, *KINDS[1:2], {"kind": "paper-unet", "draw": "bernoulli"}])
def test_a_learning_mask_keeps_its_mean_and_the_free_coefficient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, changes: dict[str, Any]
) -> None:
    """After every step, from every start; and it moves."""

    def watched(task: CompactTask | PaperTask, images: NDArray[np.float32], *_: Any, **__: Any) -> None:
        logits = dict(task.module.named_parameters())["mask.logits"]
        optimizer = torch.optim.Adam([logits], lr=0.3)
        first = task.mask().detach().numpy().copy()
        for step in range(8):
            optimizer.zero_grad()
            task.loss(turned(torch.from_numpy(images), step), 0.1).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            mask = task.mask().detach().double().numpy()
            assert mask[0] == 1
            assert ((mask >= 0) & (mask <= 1)).all()
            assert mask.mean() == pytest.approx(0.125, rel=1e-5)
        assert np.abs(mask - first).max() > 0.01
        raise _Watched

    monkeypatch.setattr("models.learning.train_sensing.train", watched)
    with pytest.raises(_Watched):
        trained(tmp_path, request_of(**{**changes, "start": start, "alpha": 0.125}), images=spots(4, 16))


def test_the_mask_of_a_saved_model_is_one_for_small_sides_too(tmp_path: Path) -> None:
    """A uniform start has no free coefficient of its own."""
    for alpha in (0.05, 0.25, 0.9):
        model = trained(tmp_path / str(alpha), request_of(alpha=alpha, start="uniform", training={"epochs": 1}))
        validate_mask(model.mask, 16, alpha)
        assert model.mask[0] == 1


@pytest.mark.parametrize("kind", ["compact", "paper-unet"])
@pytest.mark.parametrize("start", ["uniform", "low-sequency", "half-half", "random"])
def test_a_mask_that_shall_not_learn_stays_as_it_is(tmp_path: Path, kind: str, start: str) -> None:
    request = request_of(
        kind=kind, start=start, gradient="none", draw="bernoulli", training={"epochs": 1, "mask_rate": 1.0, "seed": 3}
    )
    expected = {
        "uniform": uniform(16, 0.25),
        "low-sequency": low_sequency(16, 0.25),
        "half-half": half_half(16, 0.25, 3),
        "random": random_binary(16, 0.25, 3),
    }[start]
    assert trained(tmp_path, request).mask.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "changes", [{"gradient": "relaxed"}, {"gradient": "gumbel", "draw": "bernoulli", "repeats": 4}]
)
def test_a_mask_finds_where_the_contrast_was_planted(tmp_path: Path, changes: dict[str, Any]) -> None:
    """From a uniform start, which knows nothing; half of the coefficients hold nearly all of the contrast."""
    images, inside = planted(24, 16)
    request = request_of(
        start="uniform",
        gain=0.1,
        training={"epochs": 6, "batch": 4, "mask_rate": 0.3, "mask_share": 1.0, "rate": 1e-3},
        **changes,
    )
    mask = trained(tmp_path, request, images=images[:20], validation=images[20:]).mask
    outside = ~inside
    outside[0] = False
    assert mask[inside].mean() > 2 * mask[outside].mean()
    # Not by a few: nine of ten of either side lie on their side of α.
    assert np.mean(mask[inside] > 0.25) > 0.9
    assert np.mean(mask[outside] < 0.25) > 0.9


def test_the_paper_s_mask_finds_it_too(tmp_path: Path) -> None:
    images, inside = planted(24, 16)
    request = request_of(
        kind="paper-unet",
        draw="bernoulli",
        start="uniform",
        repeats=4,
        gain=0.1,
        patch=16,
        training={"epochs": 12, "mask_rate": 0.3, "rate": 1e-3},
    )
    mask = trained(tmp_path, request, images=images[:20], validation=images[20:]).mask
    assert mask[inside].mean() > 1.5 * np.delete(mask, 0)[~inside[1:]].mean()


@pytest.mark.parametrize("kind", ["compact", "paper-unet"])
def test_training_raises_the_psnr_on_images_that_it_does_not_learn_from(tmp_path: Path, kind: str) -> None:
    """Of a fixed mask: a mask that learns could do it alone."""
    reports: list[EpochReport] = []
    request = request_of(
        kind=kind,
        draw="bernoulli",
        gradient="none",
        gain=0.1,
        patch=16,
        training={"epochs": 8, "rate": 2e-3 if kind == "paper-unet" else 1e-2, "average": 0.9},
    )
    trained(tmp_path, request, images=spots(32, 16), on_epoch=reports.append)
    scores = [report.scores["validation_psnr_db"] for report in reports]
    assert max(scores) > scores[0] + 0.3


def test_a_saved_model_loads_again_and_makes_the_same_image(tmp_path: Path) -> None:
    model = trained(tmp_path)
    loaded = load_model(tmp_path / "model")
    assert loaded.card == model.card
    assert same(loaded, model)
    estimate = measured(spots(1, 16, seed=7)[0])
    first, second = (each.network.image(estimate) for each in (model, loaded))
    assert first.image.tolist() == second.image.tolist()
    assert first.scale.tolist() == second.scale.tolist()
    assert first.predicted_mse == second.predicted_mse


def test_the_card_says_what_was_done(tmp_path: Path) -> None:
    card = trained(tmp_path, request_of(alpha=0.2, variance=0.001)).card
    assert (card.kind, card.n, card.alpha, card.repeats, card.draw) == ("compact", 16, 0.2, 8, "systematic")
    assert card.trained_over.alpha == pytest.approx((0.1, 0.4))
    assert card.trained_over.repeats == pytest.approx((1, 8))
    assert card.trained_over.gain == pytest.approx((GAIN / 8, GAIN * 8))
    assert card.trained_over.variance[1] > 0.001
    assert card.data == SOURCES
    assert card.command == "hadascope train sensing made-up"
    assert card.architecture == {"channels": (4, 6), "unshuffle": 2, "bands": 4}
    assert card.metrics["validation_images"] == 3
    assert set(json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))["versions"]) == {
        "hadascope",
        "torch",
        "numpy",
        "python",
    }


def test_the_paper_s_model_is_saved_with_its_mask(tmp_path: Path) -> None:
    model = trained(tmp_path, request_of(kind="paper-unet", draw="bernoulli", training={"epochs": 1}))
    loaded = load_model(tmp_path / "model")
    assert loaded.card.kind == "paper-unet"
    assert same(loaded, model)
    network = PaperUNet()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in loaded.weights.items()})
    assert loaded.card.trained_over.gain == (GAIN, GAIN)


def test_a_patch_larger_than_the_image_is_all_of_it(tmp_path: Path) -> None:
    models = [
        trained(
            tmp_path / str(patch),
            request_of(kind="paper-unet", draw="bernoulli", patch=patch, training={"epochs": 1}),
        )
        for patch in (16, 128)
    ]
    assert same(*models)


def test_a_model_begins_with_another_ones_network_and_mask(tmp_path: Path) -> None:
    """A rate of next to nothing leaves what it began with."""
    begun = trained(tmp_path / "first")
    standing = request_of(start="model", training={"epochs": 1, "rate": 1e-12, "mask_rate": 1e-12, "average": 0.0})
    model = trained(tmp_path / "second", standing, begin_with=begun)
    for name, value in begun.weights.items():
        np.testing.assert_allclose(model.weights[name], value, atol=1e-9)
    inner = np.clip(begun.mask[1:], 0.02, 0.98)
    assert np.corrcoef(model.mask[1:], inner)[0, 1] > 0.999
    fixed = request_of(start="model", gradient="none", training={"epochs": 1, "rate": 1e-12})
    assert trained(tmp_path / "fixed", fixed, begin_with=begun).mask.tolist() == begun.mask.tolist()
    other = request_of(32, training={"epochs": 1, "rate": 1e-12, "average": 0.0})
    larger = trained(tmp_path / "third", other, begin_with=begun)
    assert larger.mask.shape == (1024,)
    for name, value in begun.weights.items():
        np.testing.assert_allclose(larger.weights[name], value, atol=1e-9)


def test_a_model_of_another_kind_is_nothing_to_begin_with(tmp_path: Path) -> None:
    paper = trained(tmp_path / "paper", request_of(kind="paper-unet", draw="bernoulli", training={"epochs": 1}))
    with pytest.raises(SensingRequestError, match="kind paper-unet to begin a compact with"):
        trained(tmp_path / "new", begin_with=paper)
    words: dict[str, Any] = {"kind": "paper-unet", "draw": "bernoulli"}
    with pytest.raises(SensingRequestError, match="kind compact to begin a paper-unet with"):
        trained(tmp_path / "new", request_of(**words), begin_with=tiny_model())
    standing = request_of(training={"epochs": 1, "rate": 1e-12, "average": 0.0}, **words)
    again = trained(tmp_path / "again", standing, begin_with=paper)
    for name, value in paper.weights.items():
        np.testing.assert_allclose(again.weights[name], value, atol=1e-9)
    other = tiny_model(architecture={"channels": (4, 8), "unshuffle": 2, "bands": 4})
    with pytest.raises(SensingRequestError, match=r"'channels': \(4, 8\).* expected .*'channels': \(4, 6\)"):
        trained(tmp_path / "new", begin_with=other)
    assert not (tmp_path / "new").exists()


def test_a_mask_to_go_on_with_needs_a_model_of_its_side_and_its_budget(tmp_path: Path) -> None:
    request = request_of(start="model")
    for model in (None, tiny_model(8, 0.25), tiny_model(16, 0.5)):
        with pytest.raises(SensingRequestError, match="no model of the same n and α to begin with"):
            trained(tmp_path / "new", request, begin_with=model)
    assert not (tmp_path / "new").exists()


def test_too_few_images_to_calibrate_on_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(SensingRequestError, match="found 1 image to validate on; expected 2 at least"):
        trained(tmp_path / "new", validation=spots(1, 16))
    assert not (tmp_path / "new").exists()
    trained(tmp_path / "paper", request_of(kind="paper-unet", draw="bernoulli"), validation=spots(1, 16))


def test_images_of_another_side_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SensingRequestError, match=r"to learn from of shape \[8, 32, 32\]; expected \[K, 16, 16\]"):
        trained(tmp_path, images=spots(8, 32))
    with pytest.raises(SensingRequestError, match="to validate on of shape"):
        trained(tmp_path, validation=spots(8, 32))


def test_more_pairs_than_coefficients_hold_anything_are_refused(tmp_path: Path) -> None:
    """Images that are the same in blocks of 4 × 4 have 16 coefficients."""
    images = np.kron(spots(8, 4), np.ones((1, 4, 4), dtype=np.float32))
    with pytest.raises(SensingRequestError, match=r"found α = 0.25, .* expected α ≤ 0.0625"):
        trained(tmp_path, images=images)
    model = trained(tmp_path, request_of(alpha=0.05, training={"epochs": 1}), images=images)
    assert model.card.trained_over.alpha == pytest.approx((0.025, 0.0625))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n": 24}, "side n: found 24; expected a power of two"),
        ({"n": 2}, "side n: found 2; expected a multiple of 4"),
        ({"n": 4, "kind": "paper-unet", "draw": "bernoulli"}, "side n: found 4; expected a multiple of 8"),
        ({"kind": "paper-unet", "draw": "bernoulli", "patch": 12}, "patch: found 12; expected a multiple of 8"),
        ({"kind": "paper-unet", "draw": "bernoulli", "patch": 0}, "patch: found 0; expected a multiple of 8"),
        ({"kind": "paper-unet"}, "draw: found systematic for the paper's U-Net; expected bernoulli"),
        ({"draw": "poisson"}, "draw: found 'poisson'; expected one of bernoulli, systematic"),
        ({"kind": "resnet"}, "kind: found 'resnet'; expected one of compact, paper-unet"),
        ({"gradient": "full"}, "gradient: found 'full'; expected one of relaxed, gumbel, none"),
        ({"start": "best"}, "start: found 'best'; expected one of water-filling, uniform"),
        ({"alpha": 0.0}, "α = 0"),
        ({"alpha": 1.5}, "α = 1.5"),
        ({"alpha": 0.005}, "α = 0.005, which is 1.3 of the 256 coefficients; expected 2 or more of them"),
        ({"repeats": 0}, "S = 0"),
        ({"gain": float("inf")}, "a = inf"),
    ],
)
def test_a_request_that_cannot_be_is_refused_in_words(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SensingRequestError, match=said):
        request_of(**changes)


@pytest.mark.parametrize("changes", [{"gain": 0.0}, {"gain": -1.0}, {"gain": float("nan")}, {"variance": -1.0}])
def test_noise_that_no_detector_has_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(NoiseModelError):
        request_of(**changes)


def test_the_default_architecture_asks_for_sides_that_it_can_halve() -> None:
    assert CompactArchitecture().multiple == 16
    with pytest.raises(SensingRequestError, match="multiple of 16"):
        SensingRequest(n=8, alpha=0.5, repeats=8, gain=GAIN, variance=0.0)


def test_the_learned_mask_is_shown_beside_those_that_need_no_learning(tmp_path: Path) -> None:
    request, images = request_of(training={"epochs": 1}), spots(8, 16)
    model = trained(tmp_path, request, images=images)
    masks = masks_beside(request, model, images)
    assert list(masks) == ["uniform", "low-sequency", "water-filling", "learned"]
    total = float(images.sum(axis=(1, 2)).mean())
    expected = water_filling(model.prior.variance * total**2, 0.25, 8, GAIN * total)
    np.testing.assert_allclose(masks["water-filling"], expected)
    assert masks["learned"] is model.mask
    fixed = request_of(gradient="none", start="half-half", training={"epochs": 1})
    beside = masks_beside(fixed, trained(tmp_path / "fixed", fixed, images=images), images)
    assert list(beside) == ["uniform", "low-sequency", "water-filling", "half-half"]


@pytest.mark.parametrize("changes", [{}, {"kind": "paper-unet", "draw": "bernoulli", "gradient": "gumbel"}])
def test_a_training_from_raw_repeats_takes_its_noise_from_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    truth = spots(8, 16)
    noise = 0.05 * np.random.default_rng(1).standard_normal((8, 8, 16, 16)).astype(np.float32)
    behind = np.concatenate([truth[:, None], truth[:, None] + noise], axis=1)
    model = train_sensing(
        request_of(**changes),
        behind,
        behind[:4],
        tmp_path / "model",
        tmp_path / "training",
        data=SOURCES,
        command="hadascope train sensing",
    )
    assert model.mask.mean() == pytest.approx(0.25, rel=1e-3)
    if not changes:
        assert model.card.metrics["interval_90_coverage"] == pytest.approx(0.9, abs=0.01)


def test_fewer_raw_repeats_than_pairs_that_may_be_drawn_are_refused(tmp_path: Path) -> None:
    behind = np.repeat(spots(6, 16)[:, None], 8, axis=1)
    with pytest.raises(SensingRequestError, match=r"found 7 raw repeats .* expected S = 8"):
        train_sensing(request_of(), behind, behind, tmp_path / "model", tmp_path / "training", data=SOURCES, command="")
