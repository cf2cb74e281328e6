"""A whole evaluation: rows that are kept, the questions that they answer, the page and its pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.io import imread

from models.learning import evaluation_report as module
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
)
from models.learning.evaluation_report import EvaluationRequest, evaluate_all, questions, write_report
from models.learning.raw_repeats import measured_from_repeats
from models.learning.score_file import RecordMismatchError, read_scores
from models.learning.scores import Condition, SchemeLabel, Score, Scores
from models.noise import NoiseModel
from tests.models.learning.tiny_model import tiny_model, tiny_paper_model
from tests.models.learning.tiny_training import spots

N_SIDE, ALPHA, REPEATS = 16, 0.25, 400
BOTH = ("bernoulli", "systematic")


@pytest.fixture(autouse=True, scope="module")
def small_grid() -> Iterator[None]:
    """Few weights of TV-W to choose from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TV_GRID", (0.25, 1.0))
        patch.setattr(module, "WAVELET_GRID", (0.0, 0.5))
        yield


def request_of(**changes: Any) -> EvaluationRequest:
    mask = np.random.default_rng(0).uniform(0.05, 0.45, N_SIDE**2)
    compact, paper = tiny_model(N_SIDE, ALPHA), tiny_paper_model(mask * ALPHA / mask.mean(), ALPHA)
    whole: dict[str, Any] = {
        "name": "three cells",
        "images": spots(3, N_SIDE),
        "validation": spots(2, N_SIDE, seed=1),
        "repeats_of": None,
        "noise": NoiseModel(0.0139, 0.0),
        "alphas": (ALPHA,),
        "repeats": REPEATS,
        "draws": BOTH,
        "prior": compact.prior,
        "models": (compact, paper),
        "seed": 3,
    }
    return EvaluationRequest(**{**whole, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Scores]:
    """An evaluation from beginning to end, and its folder."""
    folder = tmp_path_factory.mktemp("whole") / "results"
    scores = evaluate_all(request_of(), folder)
    write_report(request_of(), scores, folder)
    return folder, scores


def rows_of(scores: Scores) -> set[tuple[str, str, str]]:
    return {(each.scheme.mask, each.scheme.draw, each.method) for each in scores.conditions}


def test_every_mask_meets_every_method_that_serves_it(done: tuple[Path, Scores]) -> None:
    free = [PLAIN, WIENER, WIENER_TV, CS_TV, COMPACT]
    binary = ["random", "low-sequency", "half-half"]
    graded = ["uniform", "water-filled", LEARNED, LEARNED_BY_PAPER]
    expected = {(mask, "bernoulli", method) for mask in binary for method in [*free, TV_WAVELET]}
    expected |= {(mask, draw, method) for mask in graded for draw in BOTH for method in free}
    expected |= {(LEARNED_BY_PAPER, draw, PAPER_UNET) for draw in BOTH}
    # A learned mask made binary is there for TV-W, and for nothing else.
    expected |= {(BINARY + mask, "bernoulli", TV_WAVELET) for mask in (LEARNED, LEARNED_BY_PAPER)}
    assert rows_of(done[1]) == expected
    assert len(done[1].rows) == 3 * len(expected)


def test_all_of_it_lies_in_the_folder(done: tuple[Path, Scores]) -> None:
    folder, scores = done
    assert {path.name for path in folder.iterdir()} == {
        "scores-0.25.csv",
        "scores-0.25.json",
        "tv-w-0.25.json",
        "results.md",
        "summary.csv",
        "masks.png",
        "psnr.png",
        "reconstructions.png",
    }
    assert set(read_scores(folder / "scores-0.25.csv").rows) == set(scores.rows)
    for picture in ("masks", "psnr", "reconstructions"):
        assert imread(folder / f"{picture}.png").std() > 10
    with (folder / "summary.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert {(line["mask"], line["draw"], line["method"]) for line in lines} == rows_of(scores)
    plain = next(line for line in lines if (line["mask"], line["method"]) == ("random", PLAIN))
    expected = [row.psnr for row in scores.rows if row.condition[0].mask == "random" and row.condition.method == PLAIN]
    assert float(plain["psnr_db_mean"]) == pytest.approx(np.mean(expected))


def test_the_page_says_what_was_measured_compared_and_foretold(done: tuple[Path, Scores]) -> None:
    page = (done[0] / "results.md").read_text(encoding="utf-8")
    for said in (
        "# three cells",
        "3 images of 16 × 16 pixels",
        "a = 0.0139, b = 0",
        "### α = 0.25, S = 400, Bernoulli draws",
        "### α = 0.25, S = 400, systematic draws",
        "## Compared image by image",
        "## What the networks say of themselves",
    ):
        assert said in page
    table = page.split("say of themselves")[1].strip().splitlines()
    assert len(table) == 3
    assert table[2].startswith("| 0.25 | ")
    assert table[2].count(" %") == 5


def test_rows_that_are_done_are_not_computed_again(done: tuple[Path, Scores]) -> None:
    told: list[tuple[int, int]] = []
    again = evaluate_all(request_of(), done[0], lambda rows, total, _: told.append((rows, total)))
    assert told == [(len(again.rows), len(again.rows))]
    assert again == done[1]


def test_interrupted_and_gone_on_with_is_never_interrupted(tmp_path: Path, done: tuple[Path, Scores]) -> None:
    def interrupting(rows: int, _: int, __: Score | None) -> None:
        if rows == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_all(request_of(), tmp_path, interrupting)
    assert len(read_scores(tmp_path / "scores-0.25.csv").rows) == 40
    told: list[int] = []
    assert evaluate_all(request_of(), tmp_path, lambda rows, *_: told.append(rows)) == done[1]
    assert told[:2] == [40, 41]


def test_another_model_is_not_put_into_the_same_table(done: tuple[Path, Scores]) -> None:
    _, paper = request_of().models
    other = tiny_model(N_SIDE, ALPHA, seed=1)
    changed = replace(other, card=other.card.model_copy(update={"sha256": "of other weights"}))
    with pytest.raises(RecordMismatchError, match="of other weights"):
        evaluate_all(request_of(models=(changed, paper)), done[0])


def test_the_weights_of_tv_w_are_chosen_on_validation_images_and_kept(tmp_path: Path) -> None:
    request = request_of(models=(), draws=("bernoulli",), images=spots(1, N_SIDE))
    evaluate_all(request, tmp_path / "first")
    kept = json.loads((tmp_path / "first" / "tv-w-0.25.json").read_text(encoding="utf-8"))
    assert kept["tv_weight"] in module.TV_GRID
    assert kept["wavelet_weight"] in module.WAVELET_GRID
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "tv-w-0.25.json").write_text('{"tv_weight": 0.0, "wavelet_weight": 0.0}', encoding="utf-8")

    # Without any weight what is left is least squares, the plain inverse of binary masks.
    rows = evaluate_all(request, tmp_path / "second").rows
    psnr = {row.condition.method: row.psnr for row in rows if row.condition.scheme.mask == "random"}
    assert psnr[TV_WAVELET] == pytest.approx(psnr[PLAIN], abs=0.05)
    assert abs(psnr[CS_TV] - psnr[PLAIN]) > 0.1


def test_without_validation_images_there_is_no_tv_w(tmp_path: Path) -> None:
    empty = np.empty((0, N_SIDE, N_SIDE), dtype=np.float32)
    scores = evaluate_all(request_of(models=(), draws=("bernoulli",), validation=empty), tmp_path)
    assert TV_WAVELET not in {condition.method for condition in scores.conditions}
    assert not (tmp_path / "tv-w-0.25.json").exists()


def test_every_alpha_has_a_file_of_its_own(tmp_path: Path) -> None:
    request = request_of(models=(), alphas=(0.25, 0.125), draws=("systematic",), images=spots(2, N_SIDE))
    scores = evaluate_all(request, tmp_path)
    assert {condition.scheme.alpha for condition in scores.conditions} == {0.25, 0.125}
    assert {path.name for path in tmp_path.glob("scores-*.csv")} == {"scores-0.25.csv", "scores-0.125.csv"}
    write_report(request, scores, tmp_path)
    assert "### α = 0.125" in (tmp_path / "results.md").read_text(encoding="utf-8")


def noisy_repeats(images: NDArray[np.float32]) -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    return np.asarray(images[:, None] + 0.05 * rng.standard_normal((len(images), 6, N_SIDE, N_SIDE)), dtype=np.float32)


def test_raw_repeats_stand_for_simulated_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = spots(2, N_SIDE)
    request = request_of(images=images, repeats_of=noisy_repeats(images), repeats=6, draws=("systematic",))
    scores = evaluate_all(request, tmp_path)
    assert TV_WAVELET not in {condition.method for condition in scores.conditions}
    shown: list[NDArray[np.generic]] = []

    def watched(repeats: NDArray[np.generic], *arguments: Any) -> Any:
        shown.append(repeats)
        return measured_from_repeats(repeats, *arguments)

    monkeypatch.setattr(module, "measured_from_repeats", watched)
    write_report(request, scores, tmp_path)
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "readings from raw camera repeats" in page
    assert "say of themselves" not in page
    # What the pictures show was measured from the same frames.
    assert {each.tobytes() for each in shown} <= {each.tobytes() for each in noisy_repeats(images)}
    assert shown


def test_of_one_image_there_is_a_page_that_says_what_it_could_not_compare(tmp_path: Path) -> None:
    request = request_of(images=spots(1, N_SIDE), draws=("systematic",))
    page, compared = write_report(request, evaluate_all(request, tmp_path), tmp_path)
    assert compared == ()
    said = page.read_text(encoding="utf-8")
    assert "Not compared, on fewer than two images or at doses that differ by more than 1 %:" in said
    assert f"- {COMPACT} ({LEARNED}, α = 0.25" in said
    assert "## Compared" not in said


# --- the questions ----------------------------------------------------------------------------------------------


def made_up(psnr: dict[tuple[str, str, str], float], alpha: float = ALPHA, pairs: int = 1000) -> Scores:
    """Two images each of (mask, draw, method), of this PSNR on average."""
    return Scores(
        tuple(
            Score(k, Condition(SchemeLabel(mask, alpha, 50, draw), method), pairs, mean + k - 0.5, 0.9, 20.0)
            for (mask, draw, method), mean in psnr.items()
            for k in range(2)
        )
    )


def said(pairs: list[tuple[Condition, Condition]]) -> list[tuple[tuple[str, str, str], tuple[str, str, str]]]:
    return [
        (
            (first.scheme.mask, first.scheme.draw, first.method),
            (second.scheme.mask, second.scheme.draw, second.method),
        )
        for first, second in pairs
    ]


def test_ours_is_held_against_the_paper_s_with_its_own_mask_and_the_best_that_needs_no_training() -> None:
    ours, best = (LEARNED, "systematic", COMPACT), (LEARNED, "bernoulli", WIENER_TV)
    scores = made_up(
        {
            (LEARNED, "bernoulli", COMPACT): 41.0,
            ours: 43.0,
            ("half-half", "bernoulli", PAPER_UNET): 39.0,
            (LEARNED_BY_PAPER, "bernoulli", PAPER_UNET): 38.0,
            ("random", "bernoulli", TV_WAVELET): 40.0,
            best: 40.5,
        }
    )
    assert said(questions(scores)) == [(ours, (LEARNED_BY_PAPER, "bernoulli", PAPER_UNET)), (ours, best)]


def test_learned_water_filled_and_uniform_masks_are_compared_under_one_method_and_one_draw() -> None:
    scores = made_up(
        {
            (mask, draw, method): 40.0
            for method in (CS_TV, PLAIN)
            for draw in BOTH
            for mask in ("random", "uniform", "water-filled", LEARNED)
        }
    )
    order = ((LEARNED, "water-filled"), ("water-filled", "uniform"), (LEARNED, "uniform"))
    expected = [((first, draw, CS_TV), (second, draw, CS_TV)) for draw in BOTH for first, second in order]
    assert said(questions(scores)) == expected


def test_questions_are_asked_for_every_alpha_on_its_own_and_none_twice() -> None:
    conditions = {(LEARNED, "systematic", COMPACT): 42.0, ("uniform", "systematic", CS_TV): 40.0}
    scores = Scores((*made_up(conditions, 0.125).rows, *made_up(conditions, 0.25).rows))
    found = questions(scores)
    assert [first.scheme.alpha for first, _ in found] == [0.25, 0.125]
    assert all(first.scheme.alpha == second.scheme.alpha for first, second in found)
    assert len(set(found)) == len(found)


def test_without_networks_nothing_is_asked_of_them() -> None:
    assert questions(made_up({("random", "bernoulli", PLAIN): 30.0, ("uniform", "bernoulli", PLAIN): 31.0})) == []
