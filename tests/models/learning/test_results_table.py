"""The table: what it says of itself, what is bold, and what a spreadsheet reads."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from models.learning.comparison import compare
from models.learning.results_table import (
    TableSetting,
    comparisons_markdown,
    group_by_dose_setting,
    results_markdown,
    write_summaries,
)
from models.learning.scores import Condition, SchemeLabel, Score, Scores
from models.noise import NoiseModel

SETTING = TableSetting("crops_test", 256, "each scaled to its maximum", 1.0, NoiseModel(0.0139, 0.0))


def rows(mask: str, method: str, psnr: tuple[float, ...], alpha: float = 0.25, pairs: int = 819200) -> list[Score]:
    condition = Condition(SchemeLabel(mask, alpha, 50, "bernoulli"), method)
    return [Score(k, condition, pairs, value, value / 50, value - 8) for k, value in enumerate(psnr)]


SCORES = Scores(
    (
        *rows("U", "TV-W", (30.0, 32.0), alpha=0.125, pairs=409600),
        *rows("U", "TV-W", (33.0, 36.0)),
        *rows("U", "network", (38.0, 42.0)),
        *rows("LS", "TV-W", (31.0, 31.5)),
    )
)


def table_lines(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|") and not line.startswith(("| method", "|--"))]


def test_the_table_states_how_it_was_made() -> None:
    text = results_markdown(SCORES, SETTING)
    for fact in (
        "crops_test: 2 images of 256 × 256 pixels",
        "each scaled to its maximum",
        "a = 0.0139, b = 0",
        "data range of 1.",
        "Mean ± standard deviation",
        "### α = 0.25, S = 50, Bernoulli draws",
        "min-max PSNR (dB, the paper's)",
    ):
        assert fact in text


def test_raw_repeats_are_said_to_be_raw_repeats() -> None:
    heading = TableSetting("FMD", 256, "native grey values", 255.0, None).heading(1)
    assert "1 image of" in heading
    assert "raw camera repeats" in heading
    assert "a =" not in heading


def test_lines_stand_by_method_within_alpha_and_the_best_is_bold() -> None:
    sd = np.sqrt(8)
    assert table_lines(results_markdown(SCORES, SETTING)) == [
        "| TV-W | U | 34.50 ± 2.12 | 0.690 ± 0.042 | 26.50 ± 2.12 | 819,200 |",
        "| TV-W | LS | 31.25 ± 0.35 | 0.625 ± 0.007 | 23.25 ± 0.35 | 819,200 |",
        f"| network | U | **40.00 ± {sd:.2f}** | **0.800 ± {sd / 50:.3f}** | **32.00 ± {sd:.2f}** | 819,200 |",
        "| TV-W | U | **31.00 ± 1.41** | **0.620 ± 0.028** | **23.00 ± 1.41** | 409,600 |",
    ]


def test_what_reads_alike_is_equally_good() -> None:
    scores = Scores((*rows("U", "a", (30.001, 30.003)), *rows("U", "b", (30.0, 30.0))))
    assert all("**30.00" in line for line in table_lines(results_markdown(scores, SETTING)))


def test_nothing_is_bold_where_doses_differ() -> None:
    scores = Scores((*rows("U", "a", (30.0, 31.0)), *rows("LS", "a", (35.0, 36.0), pairs=900000)))
    text = results_markdown(scores, SETTING)
    assert "**" not in text
    assert "Doses differ by more than 1 %" in text


def test_a_table_that_is_not_finished_says_so() -> None:
    text = results_markdown(Scores((*rows("U", "a", (30.0, 31.0, 32.0)), *rows("U", "b", (30.0,)))), SETTING)
    assert "3 images" in text
    assert "Not finished: the smallest number of images on a line is 1." in text


def test_a_method_without_contrast_leaves_a_gap_not_a_best() -> None:
    flat = [
        Score(k, Condition(SchemeLabel("U", 0.25, 50, "bernoulli"), "zero"), 819200, 10.0, 0.1, np.nan) for k in (0, 1)
    ]
    first, second = table_lines(results_markdown(Scores((*flat, *rows("U", "a", (30.0, 31.0)))), SETTING))
    assert "nan ± nan" in first
    assert "**22.50" in second


def test_settings_are_kept_apart() -> None:
    systematic = Condition(SchemeLabel("U", 0.25, 50, "systematic"), "TV-W")
    groups = group_by_dose_setting(Scores((*SCORES.rows, Score(0, systematic, 819200, 30.0, 0.5, 20.0))))
    assert [(group.alpha, group.draw, len(lines)) for group, lines in groups.items()] == [
        (0.25, "bernoulli", 3),
        (0.25, "systematic", 1),
        (0.125, "bernoulli", 1),
    ]


def test_names_cannot_break_the_table() -> None:
    (line,) = table_lines(results_markdown(Scores(tuple(rows("a|b", "c\nd", (30.0, 31.0)))), SETTING))
    assert line.startswith("| c d | a\\|b |")


def test_comparisons_are_printed_with_interval_and_p() -> None:
    scores = Scores((*rows("U", "network", (38.0, 42.0, 40.5)), *rows("U", "TV-W", (37.0, 40.9, 39.6))))
    first, second = (summary.condition for summary in scores.summaries())
    (comparison,) = compare(scores, [(first, second)])
    line = comparisons_markdown([comparison]).splitlines()[2]
    assert line == (
        "| α = 0.25, S = 50, Bernoulli draws | network, U | TV-W, U | PSNR (dB) | 3 | +1.00 [+0.75, +1.25] | 0.003 |"
    )


def test_a_comparison_across_settings_names_both() -> None:
    scores = Scores((*rows("U", "a", (30.0, 31.0)), *rows("U", "a", (28.0, 29.5), alpha=0.125)))
    first, second = (summary.condition for summary in scores.summaries())
    text = comparisons_markdown(compare(scores, [(first, second)]))
    assert "| α = 0.25, S = 50, Bernoulli draws | a, U | a, U (α = 0.125, S = 50, Bernoulli draws) |" in text


def test_summaries_are_read_by_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "summary.csv"
    write_summaries(path, SCORES.summaries())
    with path.open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == 4
    assert (read[1]["mask"], read[1]["method"], read[1]["images"]) == ("U", "TV-W", "2")
    assert float(read[1]["psnr_db_mean"]) == 34.5
    assert float(read[1]["psnr_db_sd"]) == pytest.approx(np.std([33.0, 36.0], ddof=1))
    assert float(read[1]["mean_pairs"]) == 819200
