"""The picture of a training: what is drawn is what the log says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.io import imread

from models.learning.training_log import LoggedEpoch
from models.learning.training_plot import NothingToDrawError, draw_training

LOG = [LoggedEpoch(k, -9.0 - k, {"validation_psnr_db": 40.0 + (3 - k) ** 2}, k in (1, 5)) for k in range(1, 6)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def remembered(figure: Figure, *arguments: Any, **named: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **named)

    monkeypatch.setattr(Figure, "savefig", remembered)
    return figures


def test_loss_and_score_are_drawn_over_the_epochs_and_the_kept_one_is_marked(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    draw_training(tmp_path / "t.png", LOG, learning_until=3.0)
    above, beneath = drawn[0].axes
    assert np.array(above.lines[0].get_xydata()).tolist() == [[each.epoch, each.loss] for each in LOG]
    assert np.array(beneath.lines[0].get_xydata()).tolist() == [
        [each.epoch, each.scores["validation_psnr_db"]] for each in LOG
    ]
    said = [text.get_text() for text in beneath.get_legend().get_texts()]  # type: ignore[union-attr]
    assert said == ["kept: epoch 5, 44.00 dB", "the mask stays from here"]
    assert imread(tmp_path / "t.png").std() > 10


def test_a_mask_that_did_not_learn_or_learned_to_the_end_has_no_line(tmp_path: Path, drawn: list[Figure]) -> None:
    for until in (None, 5.0):
        draw_training(tmp_path / "t.png", LOG, until)
    for figure in drawn:
        assert [len(axis.lines) for axis in figure.axes] == [1, 2]


def test_one_epoch_is_a_picture_too(tmp_path: Path) -> None:
    draw_training(tmp_path / "t.pdf", LOG[:1])
    assert (tmp_path / "t.pdf").stat().st_size > 1000


def test_no_epoch_is_none(tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError):
        draw_training(tmp_path / "t.png", [])
    assert not list(tmp_path.iterdir())
