"""The log of a training: a line an epoch, no more than the checkpoint holds, read as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.learning.training import EpochReport
from models.learning.training_log import LoggedEpoch, append_epoch, keep_epochs, read_log


def report(epoch: int, *, best: bool = False) -> EpochReport:
    return EpochReport(epoch, 12.345, -9.5 - epoch, {"validation_psnr_db": 40.5 + epoch, "other": 1.0}, best)


def written(path: Path, epochs: int) -> Path:
    for epoch in range(1, epochs + 1):
        append_epoch(path, report(epoch, best=epoch == 2))
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", 3)
    assert path.read_text(encoding="utf-8").splitlines()[:2] == [
        "epoch,seconds,loss,validation_psnr_db,other,best",
        "1,12.3,-10.5,41.5,1,0",
    ]
    assert read_log(path) == [
        LoggedEpoch(epoch, -9.5 - epoch, {"validation_psnr_db": 40.5 + epoch, "other": 1.0}, epoch == 2)
        for epoch in (1, 2, 3)
    ]


@pytest.mark.parametrize("kept", [1, 2, 3, 7])
def test_epochs_after_the_checkpoint_s_are_dropped(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path / "log.csv", 3)
    before = path.read_bytes()
    keep_epochs(path, kept)
    assert [each.epoch for each in read_log(path)] == [1, 2, 3][:kept]
    assert before.startswith(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_line_is_dropped_with_its_epoch(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", 2)
    with path.open("a", encoding="utf-8") as file:
        file.write("3,12.3,-1")
    keep_epochs(path, 2)
    append_epoch(path, report(3))
    assert [each.loss for each in read_log(path)] == [-10.5, -11.5, -12.5]


def test_where_nothing_is_kept_the_heading_is_written_anew(tmp_path: Path) -> None:
    path = written(tmp_path / "log.csv", 2)
    keep_epochs(path, 0)
    assert not path.exists()
    assert read_log(path) == []
    keep_epochs(path, 5)
    assert not path.exists()
