"""Checkpoints: what is written is read, whole or not at all, and never of another training."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from models.learning.checkpoint import FILE, Checkpoint, CheckpointMismatchError, load_checkpoint, save_checkpoint

MADE_WITH = {"epochs": 3, "channels": (4, 6), "rate": 1e-3}


def checkpoint(epoch: int = 2) -> Checkpoint:
    torch.manual_seed(epoch)
    weights = {"a": torch.randn(3, 2), "b": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)}
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.Adam([{"params": [parameter], "peak": 0.5}])
    parameter.sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return Checkpoint(epoch, weights, {}, optimizer.state_dict(), 31.5, 1, {"a": torch.ones(2)})


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    saved = checkpoint()
    save_checkpoint(tmp_path / "new" / "folder", MADE_WITH, saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder", MADE_WITH)
    assert loaded is not None
    assert (loaded.epoch, loaded.best, loaded.best_epoch) == (2, 31.5, 1)
    for name, value in saved.weights.items():
        assert torch.equal(loaded.weights[name], value)
        assert loaded.weights[name].stride() == value.stride()
    assert loaded.average == {}
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]
    assert torch.equal(loaded.optimizer["state"][0]["exp_avg"], saved.optimizer["state"][0]["exp_avg"])
    assert torch.equal(loaded.best_weights["a"], torch.ones(2))


def test_where_there_is_none_a_training_begins(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, MADE_WITH) is None


def test_an_older_checkpoint_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, MADE_WITH, checkpoint(1))

    def failing(value: object, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, MADE_WITH, checkpoint(2))
    kept = load_checkpoint(tmp_path, MADE_WITH)
    assert kept is not None
    assert kept.epoch == 1


def test_what_differs_is_named_and_nothing_else(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, MADE_WITH, checkpoint())
    with pytest.raises(CheckpointMismatchError) as refused:
        load_checkpoint(tmp_path, {**MADE_WITH, "rate": 2e-3, "channels": (4, 8)})
    said = str(refused.value)
    assert "channels [4, 6], rate 0.001; asked for is channels [4, 8], rate 0.002" in said
    assert "epochs" not in said
    assert str(tmp_path / FILE) in said


def test_what_another_version_did_not_have_on_record_is_not_held_against_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, {**MADE_WITH, "older": 1}, checkpoint())
    assert load_checkpoint(tmp_path, {**MADE_WITH, "newer": 2}) is not None


class _Trap:
    """What would run code if a pickle were opened as such."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self._mark,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04garbage", b"PK\x03\x04 half a zip"])
def test_a_broken_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(CheckpointMismatchError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path, MADE_WITH)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_half_a_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    save_checkpoint(tmp_path, MADE_WITH, checkpoint())
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(CheckpointMismatchError, match="remove its folder to begin anew"):
        load_checkpoint(tmp_path, MADE_WITH)


@pytest.mark.parametrize(
    "stored", [[1, 2], {"made_with": "{}"}, {"epoch": 1}, {"made_with": "no json"}, torch.zeros(3)]
)
def test_other_things_that_torch_wrote_are_no_checkpoints(tmp_path: Path, stored: object) -> None:
    torch.save(stored, tmp_path / FILE)
    with pytest.raises(CheckpointMismatchError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path, MADE_WITH)


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    torch.save({"made_with": _Trap(mark)}, tmp_path / FILE)
    with pytest.raises(CheckpointMismatchError) as refused:
        load_checkpoint(tmp_path, MADE_WITH)
    assert not mark.exists()
    assert "\n" not in str(refused.value)
    pickle.loads(pickle.dumps(_Trap(mark)))
    assert mark.exists()
