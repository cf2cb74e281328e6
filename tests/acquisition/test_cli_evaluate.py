"""hadascope evaluate: from a folder of images to a page of results; what it refuses; going on after Ctrl-C."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition import console_training
from models.learning import evaluation_report
from models.learning.score_file import read_scores
from tests.acquisition.real_bench import CommandLine, files_in
from tests.models.learning.tiny_model import saved
from tests.models.learning.tiny_training import spots

FEW = ("--side", "32", "--alpha", "0.25", "--draw", "systematic")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images of 32 × 32 pixels in ./cells, and ./tiny, a model for them."""
    monkeypatch.chdir(tmp_path)
    folder = Path("cells")
    folder.mkdir()
    for k, image in enumerate(spots(2, 32)):
        np.save(folder / f"{k}.npy", image)
    saved(Path(), "tiny", n=32, alpha=0.25)
    return folder


def test_an_evaluation_leaves_a_page_tables_and_pictures(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_report, "TV_GRID", (0.5,))
    monkeypatch.setattr(evaluation_report, "WAVELET_GRID", (0.0,))
    words = ("--model", "tiny", "--validation", data, "--name", "my cells")
    done = hadascope("evaluate", data, "--output", "results", *FEW, *words)
    assert done.code == 0, done.err
    assert {path.name for path in Path("results").iterdir()} >= {
        "results.md",
        "summary.csv",
        "scores-0.25.csv",
        "masks.png",
        "psnr.png",
        "reconstructions.png",
    }
    page = Path("results/results.md").read_text(encoding="utf-8")
    assert "my cells: 2 images of 32 × 32 pixels, each scaled to a maximum of 1" in page
    for line in ("| compact network | learned |", "| CS-TV | water-filled |", "| TV-W | half-half |"):
        assert line in page
    assert " ".join(page.split()) in done.out
    assert f"written: {Path('results') / 'results.md'}" in done.out


@contextmanager
def interrupting(after: int) -> Iterator[Any]:
    """Ctrl-C as soon as so many rows are done."""

    def on_row(done: int, *_: object) -> None:
        if done >= after:
            raise KeyboardInterrupt

    yield on_row


def test_after_ctrl_c_the_same_command_goes_on(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("evaluate", data, "--output", "results", *FEW, "--model", "tiny")
    with monkeypatch.context() as patched:
        patched.setattr(console_training, "evaluation_bar", lambda: interrupting(7))
        stopped = hadascope(*words)
    assert stopped.code == 130
    assert "interrupted: the same command goes on from the rows in results" in stopped.err
    assert "Traceback" not in stopped.out + stopped.err
    before = Path("results/scores-0.25.csv").read_bytes()
    assert len(read_scores(Path("results/scores-0.25.csv")).rows) == 7
    done = hadascope(*words)
    assert done.code == 0, done.err
    assert Path("results/scores-0.25.csv").read_bytes().startswith(before)
    assert len(read_scores(Path("results/scores-0.25.csv")).rows) > 7


def test_ctrl_c_while_the_page_is_written_ends_the_same_way(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_report, "evaluate_all", lambda *_: None)
    monkeypatch.setattr(evaluation_report, "write_report", stop)
    stopped = hadascope("evaluate", data, "--output", "results", *FEW, "--model", "tiny")
    assert stopped.code == 130
    assert "the same command goes on" in stopped.err


@pytest.mark.parametrize(
    ("words", "found", "expected"),
    [
        (("gone",), "gone is not there", "expected a TIFF"),
        (("empty",), "empty holds nothing", "expected a TIFF, PNG, NPY, NPZ or zarr with images"),
        (("constant",), "all 1 crops are constant", "expected images with something in them"),
        (("holes",), "1 NaN", "expected grey values of 0 or more"),
        (("small",), "8 × 40 pixels", "expected at least 32 × 32"),
        (("cells", "--side", "8"), "tiny was trained for n = 32", "expected models for n = 8"),
        (("cells", "--side", "33"), "found 33", "expected a power of two"),
        (("cells", "--draw", "poisson"), "found the draw 'poisson'", "expected bernoulli or systematic"),
        (("cells", "--alpha", "1.5"), "1.5]", "expected more than 0 and at most 1"),
        (("cells", "--alpha", "0"), "0.0]", "expected more than 0 and at most 1"),
        (("cells", "--alpha", "0.0001"), "α = 0.0001", "expected a budget of one coefficient"),
        (("cells", "--model", "nothing"), "found no model 'nothing'", "shipped"),
        (("cells", "--model", "other"), "other was trained for n = 8", "expected models for n = 32"),
        (("cells", "--model", "torn"), "torn.safetensors", "restore both"),
        (("cells", "--gain", "0"), "found a = 0", "expected a > 0"),
        (("cells", "--gain", "inf"), "found a = inf", "expected finite numbers"),
        (("cells", "--validation", "gone"), "gone is not there", "expected a TIFF"),
        (("cells", "--repeats", "0"), "Invalid value", "greater than or equal to 1"),
        (("cells", "--every", "0"), "Invalid value", "greater than or equal to 1"),
        (("cells", "--raw-repeats"), "raw", "expected"),
        (("cells", "--output", "tiny.json"), "tiny.json", "File exists"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    data: Path, hadascope: CommandLine, words: tuple[str, ...], found: str, expected: str
) -> None:
    assert data.exists()
    for name in ("empty", "constant", "holes", "small"):
        Path(name).mkdir()
    np.save("constant/0.npy", np.ones((32, 32)))
    np.save("small/0.npy", np.eye(8, 40))
    holed = spots(1, 32)[0]
    holed[3, 4] = np.nan
    np.save("holes/0.npy", holed)
    saved(Path(), "other", n=8)
    saved(Path(), "torn", n=32, alpha=0.25)
    Path("torn.safetensors").write_bytes(Path("tiny.safetensors").read_bytes()[:-8])
    before = files_in(Path())
    refused = hadascope("evaluate", "--output", "results", *FEW, "--model", "tiny", *words)
    assert refused.code == 2, refused.err
    assert found in refused.err
    assert expected in refused.err
    assert "Traceback" not in refused.out + refused.err
    assert files_in(Path()) == before


def test_scores_of_something_else_are_not_gone_on_with(data: Path, hadascope: CommandLine) -> None:
    words = ("evaluate", data, "--output", "results", *FEW, "--model", "tiny", "--every", "2")
    assert hadascope(*words).code == 0
    before = files_in(Path())
    refused = hadascope(*words, "--gain", "0.1")
    assert refused.code == 2
    assert "gain = 0.0139 on record; found 0.1" in refused.err
    assert files_in(Path()) == before


def test_of_a_single_image_the_page_is_written_too(data: Path, hadascope: CommandLine) -> None:
    done = hadascope("evaluate", data, "--output", "results", *FEW, "--model", "tiny", "--every", "2")
    assert done.code == 0, done.err
    assert "Not compared, on fewer than two images" in Path("results/results.md").read_text(encoding="utf-8")


def test_help_says_what_every_option_is_for(hadascope: CommandLine) -> None:
    said = hadascope("evaluate", "--help")
    assert said.code == 0
    for what in ("--gain", "--alpha", "--raw-repeats", "--validation", "weights of TV-W", "it goes on where it was"):
        assert what in said.out
