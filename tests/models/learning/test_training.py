"""Training as such: what a step sees, when it ends, which weights are kept, and going on after an interruption."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.learning.checkpoint import CheckpointMismatchError
from models.learning.training import (
    EpochReport,
    Step,
    TrainingDivergedError,
    TrainingSettings,
    TrainingSettingsError,
    train,
)
from tests.models.learning.tiny_training import Interruption, ScriptedTask

IMAGES = np.arange(7 * 4, dtype=np.float32).reshape(7, 2, 2)
SETTINGS = TrainingSettings(epochs=4, batch=2, rate=0.1, mask_rate=0.1, average=0.0, patience=10)


def unturned(images: torch.Tensor, which: int) -> torch.Tensor:
    return images


def played(
    folder: Path,
    task: ScriptedTask,
    settings: TrainingSettings = SETTINGS,
    *,
    images: NDArray[np.float32] = IMAGES,
    validation: NDArray[np.float32] = IMAGES[:1],
    **more: Any,
) -> list[EpochReport]:
    return train(task, images, validation, settings, folder, **{"augment": unturned, **more})


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key != "seconds"} for line in csv.DictReader(file)]


def state_of(task: ScriptedTask) -> dict[str, list[float]]:
    return {name: value.flatten().tolist() for name, value in task.module.state_dict().items()}


def test_an_epoch_sees_every_image_once_but_for_what_no_batch_is_full_of(tmp_path: Path) -> None:
    task = ScriptedTask([0.0] * 4)
    played(tmp_path, task)
    assert [len(batch) for batch in task.seen] == [2] * 12
    for epoch in range(4):
        seen = torch.cat(task.seen[3 * epoch : 3 * epoch + 3])[:, 0, 0].tolist()
        assert len(set(seen)) == 6
        assert set(seen) <= set(IMAGES[:, 0, 0].tolist())


def test_fewer_images_than_a_batch_are_one_step(tmp_path: Path) -> None:
    task = ScriptedTask([0.0] * 2)
    steps: list[Step] = []
    played(tmp_path, task, replace(SETTINGS, epochs=2, batch=100), on_step=steps.append)
    assert [sorted(batch[:, 0, 0].tolist()) for batch in task.seen] == [IMAGES[:, 0, 0].tolist()] * 2
    assert [(step.epoch, step.epochs, step.step, step.steps) for step in steps] == [(1, 2, 1, 1), (2, 2, 1, 1)]


def test_batches_are_turned_by_all_eight_symmetries(tmp_path: Path) -> None:
    turns: list[int] = []

    def remembered(images: torch.Tensor, which: int) -> torch.Tensor:
        turns.append(which)
        return images

    played(tmp_path, ScriptedTask([0.0] * 40), replace(SETTINGS, epochs=40, patience=99), augment=remembered)
    assert set(turns) == set(range(8))


def test_the_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    tasks = [ScriptedTask([0.0] * 4) for _ in range(3)]
    for k, (task, seed) in enumerate(zip(tasks, (3, 3, 4), strict=True)):
        played(tmp_path / str(k), task, replace(SETTINGS, seed=seed))
    assert tasks[0].drawn == tasks[1].drawn
    assert state_of(tasks[0]) == state_of(tasks[1])
    assert tasks[0].drawn != tasks[2].drawn
    # No epoch repeats the draws of another one.
    assert len(set(tasks[0].drawn)) == len(tasks[0].drawn)


def test_what_is_drawn_outside_changes_nothing(tmp_path: Path) -> None:
    tasks = [ScriptedTask([0.0] * 4) for _ in range(2)]
    played(tmp_path / "a", tasks[0])
    played(tmp_path / "b", tasks[1], on_step=lambda _: None, on_epoch=lambda _: torch.manual_seed(99))
    assert state_of(tasks[0]) == state_of(tasks[1])


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("interrupted_after", [1, 2, 3])
def test_interrupted_and_gone_on_with_is_never_interrupted(
    tmp_path: Path, interrupted_after: int, average: float
) -> None:
    scores, settings = [1.0, 5.0, 3.0, 4.0], replace(SETTINGS, average=average)
    whole, first, second = ScriptedTask(scores), ScriptedTask(scores), ScriptedTask(scores[interrupted_after:])
    reports = played(tmp_path / "whole", whole, settings)
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path / "parts", first, settings, on_epoch=Interruption(interrupted_after))
    later = played(tmp_path / "parts", second, settings)
    assert [report.epoch for report in later] == list(range(interrupted_after + 1, 5))
    assert state_of(second) == state_of(whole)
    assert first.validated + second.validated == whole.validated
    assert first.drawn + second.drawn == whole.drawn
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert [report.loss for report in later] == [report.loss for report in reports[interrupted_after:]]


def test_an_epoch_that_was_not_finished_is_played_again(tmp_path: Path) -> None:
    def at_third_epoch(step: Step) -> None:
        if (step.epoch, step.step) == (3, 2):
            raise KeyboardInterrupt

    scores = [1.0, 5.0, 3.0, 4.0]
    whole, first, second = ScriptedTask(scores), ScriptedTask(scores), ScriptedTask(scores[2:])
    played(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path / "parts", first, on_step=at_third_epoch)
    played(tmp_path / "parts", second)
    assert state_of(second) == state_of(whole)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")


def test_a_line_of_the_log_that_no_checkpoint_holds_is_played_and_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power that fails between the two files costs an epoch, and no line."""
    scores = [1.0, 5.0, 3.0, 4.0]
    whole, first, second = ScriptedTask(scores), ScriptedTask(scores), ScriptedTask(scores[1:])
    played(tmp_path / "whole", whole)
    saves: list[Path] = []

    def failing(value: object, path: Path) -> None:
        saves.append(path)
        if len(saves) == 2:
            raise OSError("no space left")
        save(value, path)

    save = torch.save
    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space left"):
        played(tmp_path / "parts", first)
    monkeypatch.undo()
    played(tmp_path / "parts", second)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert state_of(second) == state_of(whole)


def test_a_finished_training_has_nothing_left_to_play(tmp_path: Path) -> None:
    first, second = ScriptedTask([1.0, 5.0, 3.0, 4.0]), ScriptedTask([])
    played(tmp_path, first)
    assert played(tmp_path, second) == []
    assert state_of(second) == state_of(first)


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    task = ScriptedTask([1.0, 5.0, 3.0, 4.9])
    reports = played(tmp_path, task)
    assert [report.best for report in reports] == [True, True, False, False]
    assert state_of(task)["weight"] == task.validated[1] != task.validated[3]
    assert not task.module.training


def test_the_running_mean_of_the_weights_is_what_is_validated_and_kept(tmp_path: Path) -> None:
    """Against the mean by hand, over the steps' own weights as they would be without one."""
    own: list[NDArray[np.float64]] = []
    bare = ScriptedTask([0.0])
    settings = replace(SETTINGS, epochs=1)
    played(tmp_path / "bare", bare, settings, on_step=lambda _: own.append(np.array(state_of(bare)["weight"])))
    task = ScriptedTask([0.0])
    played(tmp_path / "mean", task, replace(settings, average=0.15))
    expected = np.zeros(3)
    # A young mean keeps (1 + k)/(10 + k) in step k, until that is more than the setting.
    for keep, weight in zip((0.1, 0.15, 0.15), own, strict=True):
        expected = keep * expected + (1 - keep) * weight
    np.testing.assert_allclose(task.validated, [expected], rtol=1e-5)
    np.testing.assert_allclose(state_of(task)["weight"], expected, rtol=1e-5)


def test_it_ends_after_some_epochs_without_a_better_one(tmp_path: Path) -> None:
    task = ScriptedTask([1.0, 5.0, 4.0, 4.0, 4.0, 4.0, 9.0])
    reports = played(tmp_path, task, replace(SETTINGS, epochs=20, patience=3))
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert state_of(task)["weight"] == task.validated[1]


def test_it_does_not_end_while_the_mask_still_learns(tmp_path: Path) -> None:
    """Ten epochs with the mask, of which only the last counts; then two without a better one."""
    task = ScriptedTask([20.0 - epoch for epoch in range(20)], until=0.5)
    reports = played(tmp_path, task, replace(SETTINGS, epochs=20, patience=2))
    assert [report.epoch for report in reports] == list(range(1, 12))
    assert state_of(task)["weight"] == task.validated[8]


def test_patience_outlasts_an_interruption(tmp_path: Path) -> None:
    scores, settings = [5.0, 4.0, 4.0, 4.0, 9.0], replace(SETTINGS, epochs=5, patience=3)
    with pytest.raises(KeyboardInterrupt):
        played(tmp_path, ScriptedTask(scores), settings, on_epoch=Interruption(2))
    reports = played(tmp_path, ScriptedTask(scores[2:]), settings)
    assert [report.epoch for report in reports] == [3, 4]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused(tmp_path: Path, loss: float) -> None:
    task = ScriptedTask([0.0] * 4, losses=[0.0] * 4 + [loss])
    with pytest.raises(TrainingDivergedError, match=r"the loss is (nan|inf) in epoch 2, step 2; expected a number"):
        played(tmp_path, task)
    assert [line["epoch"] for line in log_of(tmp_path)] == ["1"]


def test_a_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match="score on validation is nan after epoch 2"):
        played(tmp_path, ScriptedTask([0.0, math.nan]))


def test_the_log_has_a_line_an_epoch(tmp_path: Path) -> None:
    reports = played(tmp_path, ScriptedTask([1.0, 5.0, 3.0, 4.0]))
    text = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    assert text[0] == "epoch,seconds,loss,validation_psnr_db,images,best"
    assert [line["epoch"] for line in log_of(tmp_path)] == ["1", "2", "3", "4"]
    assert [float(line["validation_psnr_db"]) for line in log_of(tmp_path)] == [1.0, 5.0, 3.0, 4.0]
    assert [line["best"] for line in log_of(tmp_path)] == ["1", "1", "0", "0"]
    assert [float(line["loss"]) for line in log_of(tmp_path)] == pytest.approx([r.loss for r in reports], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"rate": 0.2}, "rate 0.1; asked for is rate 0.2"), ({"epochs": 9}, "epochs 4; asked for is epochs 9")],
)
def test_a_checkpoint_of_other_settings_is_refused_and_what_differs_is_named(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    played(tmp_path, ScriptedTask([0.0] * 4))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointMismatchError, match=named):
        played(tmp_path, ScriptedTask([0.0] * 9), replace(SETTINGS, **changes))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path) -> None:
    played(tmp_path, ScriptedTask([0.0] * 4))
    with pytest.raises(CheckpointMismatchError, match="images 7, images digest"):
        played(tmp_path, ScriptedTask([0.0] * 4), images=IMAGES[:5])
    with pytest.raises(CheckpointMismatchError, match="with images digest"):
        played(tmp_path, ScriptedTask([0.0] * 4), images=IMAGES + 1)
    with pytest.raises(CheckpointMismatchError, match="with validation digest"):
        played(tmp_path, ScriptedTask([0.0] * 4), validation=IMAGES[1:2])


def test_a_checkpoint_of_another_identity_is_refused(tmp_path: Path) -> None:
    played(tmp_path, ScriptedTask([0.0] * 4), identity={"begun with": "this"})
    with pytest.raises(CheckpointMismatchError, match="begun with 'this'; asked for is begun with 'that'"):
        played(tmp_path, ScriptedTask([0.0] * 4), identity={"begun with": "that"})


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch": 0},
        {"patience": 0},
        {"rate": 0.0},
        {"rate": math.nan},
        {"mask_rate": -1.0},
        {"mask_rate": math.inf},
        {"mask_share": 0.0},
        {"mask_share": 1.5},
        {"average": 1.0},
    ],
)
def test_settings_that_no_training_can_have_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TrainingSettingsError, match=next(iter(changes))):
        replace(SETTINGS, **changes)
