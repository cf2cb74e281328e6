"""Evaluation on small images: what is measured, what is scored, and that a stopped one goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models import masks
from models.estimators import Estimate
from models.learning.evaluation import (
    EvaluationInputError,
    Method,
    MethodImageError,
    RawRepeats,
    SensingScheme,
    evaluate,
    for_every_scheme,
    simulated_estimate,
)
from models.learning.score_file import RecordMismatchError, read_scores
from models.learning.scores import Condition, Score
from models.masks import MaskError
from models.noise import NoiseModel

N = 16
IMAGES = np.random.default_rng(0).gamma(2.0, 0.1, (3, N, N))
IMAGES /= IMAGES.max(axis=(1, 2), keepdims=True)
NOISE = NoiseModel(0.01, 0.0)
DENSE = np.kron(hadamard(N), hadamard(N)).astype(np.float64)

FULL = SensingScheme("all", masks.uniform(N, 1.0), 1.0, 4, "systematic")
UNIFORM = SensingScheme("U", masks.uniform(N, 0.5), 0.5, 8, "bernoulli")
LOW = SensingScheme("LS", masks.low_sequency(N, 0.5), 0.5, 8, "bernoulli")


def plain_inverse(estimate: Estimate) -> NDArray[np.float64]:
    return (DENSE @ np.nan_to_num(estimate.coefficients) / N**2).reshape(N, N)


def blurred(estimate: Estimate) -> NDArray[np.float64]:
    return 0.5 * plain_inverse(estimate) + 0.5 * estimate.total / N**2


METHODS = {"inverse": for_every_scheme(plain_inverse), "blurred": for_every_scheme(blurred)}


def run(**changed: Any) -> tuple[Score, ...]:
    settings: dict[str, Any] = {
        "images": IMAGES,
        "schemes": [UNIFORM, LOW],
        "methods": METHODS,
        "noise": NOISE,
        "seed": 1,
        "data_range": 1.0,
    }
    return evaluate(**{**settings, **changed}).rows


def test_every_image_scheme_and_method_has_one_row() -> None:
    rows = run()
    conditions = [Condition(scheme.label, name) for scheme in (UNIFORM, LOW) for name in METHODS]
    assert [(row.image, row.condition) for row in rows] == [(k, c) for k in range(3) for c in conditions]


def test_scores_are_those_of_the_image_that_the_method_gave() -> None:
    given: list[NDArray[np.float64]] = []

    def watched(estimate: Estimate) -> NDArray[np.float64]:
        given.append(plain_inverse(estimate))
        return given[-1]

    rows = run(methods={"watched": for_every_scheme(watched)}, schemes=[UNIFORM], data_range=2.0)
    for row, truth, image in zip(rows, IMAGES, given, strict=True):
        assert row.psnr == pytest.approx(10 * np.log10(4 / np.mean((truth - image) ** 2)))
        truth_01 = (truth - truth.min()) / (truth.max() - truth.min())
        image_01 = (image - image.min()) / (image.max() - image.min())
        assert row.min_max_psnr == pytest.approx(-10 * np.log10(np.mean((truth_01 - image_01) ** 2)))


def test_enough_light_gives_the_image_back() -> None:
    (row, *_) = run(schemes=[FULL], noise=NoiseModel(1e-12, 0.0))
    assert row.psnr > 80
    assert row.ssim == pytest.approx(1, abs=1e-4)


def test_the_error_of_the_plain_inverse_is_what_the_noise_model_says() -> None:
    """All coefficients four times: (aT + 2b)/4 each, divided by N per pixel."""
    images = np.repeat(IMAGES[:1], 40, axis=0)
    noise = NoiseModel(0.02, 0.5)
    rows = run(images=images, schemes=[FULL], noise=noise, methods={"inverse": METHODS["inverse"]})
    expected = (0.02 * IMAGES[0].sum() + 2 * 0.5) / 4 / N**2
    assert np.mean([10 ** (-row.psnr / 10) for row in rows]) == pytest.approx(expected, rel=0.03)


def test_the_dose_is_the_number_of_pairs_drawn() -> None:
    rows = run(schemes=[FULL, LOW, UNIFORM])
    doses: dict[str, list[int]] = {}
    for row in rows:
        doses.setdefault(row.condition.scheme.mask, []).append(row.pairs)
    assert set(doses["all"]) == {4 * (N**2 - 1)}
    assert set(doses["LS"]) == {8 * (N**2 // 2 - 1)}
    assert len(set(doses["U"])) > 1
    assert np.mean(doses["U"]) == pytest.approx(0.5 * 8 * N**2, rel=0.1)


def test_no_row_depends_on_which_others_are_computed() -> None:
    everything = {(row.image, row.condition): row for row in run()}
    alone = run(schemes=[LOW], methods={"blurred": METHODS["blurred"]})
    assert all(everything[row.image, row.condition] == row for row in alone)
    turned = run(schemes=[LOW, UNIFORM], methods=dict(reversed(METHODS.items())))
    assert {(row.image, row.condition): row for row in turned} == everything


def test_another_seed_draws_other_noise() -> None:
    assert {row.psnr for row in run(seed=1)}.isdisjoint({row.psnr for row in run(seed=2)})


def test_all_methods_of_a_scheme_see_the_same_estimate() -> None:
    seen: list[NDArray[np.float64]] = []

    def watched(estimate: Estimate) -> NDArray[np.float64]:
        seen.append(estimate.coefficients)
        return plain_inverse(estimate)

    run(images=IMAGES[:1], schemes=[UNIFORM], methods={name: for_every_scheme(watched) for name in "ab"})
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_method_may_serve_some_schemes_only_and_hold_a_model_for_each() -> None:
    def network_for(scheme: SensingScheme) -> Method | None:
        return blurred if scheme.name == "U" else None

    rows = run(methods={"inverse": METHODS["inverse"], "network": network_for}, images=IMAGES[:1])
    assert [(row.condition.scheme.mask, row.condition.method) for row in rows] == [
        ("U", "inverse"),
        ("U", "network"),
        ("LS", "inverse"),
    ]


def test_only_the_chosen_rows_are_computed() -> None:
    rows = run(only={("LS", "blurred")})
    assert {(row.condition.scheme.mask, row.condition.method) for row in rows} == {("LS", "blurred")}
    with pytest.raises(EvaluationInputError, match=r"\('LS', 'blured'\)"):
        run(only={("LS", "blured")})


def test_progress_counts_every_row() -> None:
    heard: list[tuple[int, int, Score | None]] = []
    rows = run(progress=lambda done, total, score: heard.append((done, total, score)))
    assert heard[0] == (0, 12, None)
    assert heard[1:] == [(k + 1, 12, row) for k, row in enumerate(rows)]


def stopping_after(calls: int) -> tuple[Callable[[Estimate], NDArray[np.float64]], list[int]]:
    """A method that is interrupted after some calls, and how often it was called."""
    called = [0]

    def method(estimate: Estimate) -> NDArray[np.float64]:
        if called[0] == calls:
            raise KeyboardInterrupt
        called[0] += 1
        return plain_inverse(estimate)

    return method, called


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = run(methods={"m": for_every_scheme(plain_inverse)})
    path = tmp_path / "scores.csv"
    stopping, _ = stopping_after(2)
    with pytest.raises(KeyboardInterrupt):
        run(methods={"m": for_every_scheme(stopping)}, path=path)
    assert read_scores(path).rows == whole[:2]

    going_on, called = stopping_after(100)
    heard: list[tuple[int, int]] = []
    resumed = run(
        methods={"m": for_every_scheme(going_on)},
        path=path,
        progress=lambda done, total, _: heard.append((done, total)),
    )
    assert called == [4]
    assert heard == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
    assert resumed == whole == read_scores(path).rows


def test_a_finished_evaluation_computes_nothing_again(tmp_path: Path) -> None:
    first = run(path=tmp_path / "s.csv")
    never, called = stopping_after(0)
    again = run(methods={name: for_every_scheme(never) for name in METHODS}, path=tmp_path / "s.csv")
    assert again == first
    assert called == [0]


def test_a_file_may_grow_by_schemes_and_gives_back_what_is_asked_for(tmp_path: Path) -> None:
    run(schemes=[LOW], path=tmp_path / "s.csv")
    both = run(path=tmp_path / "s.csv")
    assert both == run()
    assert set(read_scores(tmp_path / "s.csv").rows) == set(both)
    assert run(schemes=[UNIFORM], path=tmp_path / "s.csv") == run(schemes=[UNIFORM])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seed": 2}, "seed"),
        ({"noise": NoiseModel(0.02, 0.0)}, "gain"),
        ({"data_range": 255.0}, "data_range"),
        ({"images": IMAGES * 0.9}, "images_digest"),
        ({"images": IMAGES[:2]}, "images"),
        ({"method_facts": {"inverse": "another model"}}, "inverse"),
        ({"schemes": [SensingScheme("LS", masks.half_half(N, 0.5, 0), 0.5, 8, "bernoulli")]}, "LS"),
        ({"noise": RawRepeats(np.ones((3, 2, N, N)))}, "noise"),
    ],
)
def test_other_parameters_do_not_continue_a_file(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    path = tmp_path / "s.csv"
    run(path=path)
    with pytest.raises(RecordMismatchError, match=words):
        run(path=path, **changed)


def test_raw_repeats_stand_in_for_simulated_readings() -> None:
    """Every coefficient four times out of four repeats: the plain inverse is the average of the repeats."""
    frames = np.random.default_rng(1).poisson(IMAGES[:, None] * 50, (3, 4, N, N)) / 50
    rows = run(noise=RawRepeats(frames), schemes=[FULL], methods={"inverse": METHODS["inverse"]})
    for row, truth, repeats in zip(rows, IMAGES, frames, strict=True):
        assert row.psnr == pytest.approx(-10 * np.log10(np.mean((repeats.mean(axis=0) - truth) ** 2)), abs=1e-6)


def test_an_estimate_states_its_variance() -> None:
    counts = LOW.counts(0)
    noise = NoiseModel(0.5, 3.0)
    estimate = simulated_estimate(IMAGES[0], counts, noise, np.random.default_rng(0))
    pair_variance = 0.5 * estimate.total + 2 * 3.0
    taken = counts > 0
    np.testing.assert_allclose(estimate.variance[taken], pair_variance / counts[taken])
    assert estimate.variance[0] == pytest.approx(pair_variance / counts.sum())
    assert np.isinf(estimate.variance[~taken][1:]).all()
    assert np.isnan(estimate.coefficients[~taken][1:]).all()
    assert estimate.coefficients[0] == estimate.total


def test_a_reconstruction_without_contrast_has_no_min_max_psnr() -> None:
    rows = run(methods={"zero": for_every_scheme(lambda _: np.zeros((N, N)))})
    assert all(np.isnan(row.min_max_psnr) and np.isfinite(row.psnr) for row in rows)


@pytest.mark.parametrize("wrong", [np.full((N, N), np.nan), np.zeros((N, N + 1)), np.zeros(N * N)])
def test_a_method_that_gives_no_image_is_named(wrong: NDArray[np.float64]) -> None:
    with pytest.raises(MethodImageError, match=r"image 0 of broken \(U"):
        run(methods={"broken": for_every_scheme(lambda _: wrong)})


def with_value(value: float) -> NDArray[np.float64]:
    images = IMAGES.copy()
    images[1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"images": with_value(np.nan)}, "image 1"),
        ({"images": with_value(np.inf)}, "image 1"),
        ({"images": with_value(-0.1)}, "from -0.1 to"),
        ({"images": np.ones((2, N, N))}, "with contrast"),
        ({"images": IMAGES[:0]}, "K at least 1"),
        ({"images": IMAGES[0]}, r"expected \[K, n, n\]"),
        ({"images": IMAGES[:, :8, :8]}, "n at least 16"),
        ({"data_range": 0.0}, "data range of 0"),
        ({"schemes": [UNIFORM, UNIFORM]}, "two schemes named U"),
        ({"schemes": [SensingScheme("U", masks.uniform(32, 0.5), 0.5, 8, "bernoulli")]}, "n = 32 .* images of n = 16"),
        ({"methods": {"a\nb": METHODS["inverse"]}}, r"'a\\nb' as a name"),
        ({"methods": {" ": METHODS["inverse"]}}, "' ' as a name"),
        ({"schemes": []}, "no method that applies"),
        ({"methods": {"none": lambda _: None}}, "no method that applies"),
        ({"noise": RawRepeats(np.ones((2, 4, N, N)))}, r"raw repeats \[2, 4, 16, 16\]"),
        (
            {"schemes": [SensingScheme("LS", masks.low_sequency(N, 1 / N**2), 1 / N**2, 8, "bernoulli")]},
            "no pair drawn",
        ),
    ],
)
def test_input_that_cannot_be_evaluated_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(EvaluationInputError, match=words):
        run(**changed)


def test_a_scheme_is_a_mask_of_its_alpha() -> None:
    with pytest.raises(MaskError, match=r"mean 0\.5; expected α = 0.25"):
        SensingScheme("U", masks.uniform(N, 0.5), 0.25, 8, "bernoulli")
    with pytest.raises(MaskError, match="found 200 probabilities"):
        SensingScheme("U", np.full(200, 0.5), 0.5, 8, "bernoulli")
    with pytest.raises(EvaluationInputError, match="S = 0"):
        SensingScheme("U", masks.uniform(N, 0.5), 0.5, 0, "bernoulli")
    with pytest.raises(EvaluationInputError, match="'gaussian'"):
        SensingScheme("U", masks.uniform(N, 0.5), 0.5, 8, "gaussian")  # type: ignore[arg-type]
