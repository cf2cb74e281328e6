"""A training's state after an epoch, as one file that is replaced whole."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """epoch: epochs that are done; best: the best validation score, of best_epoch, with best_weights; else states of
    the module, of its running average (empty: none is taken) and of the optimizer.
    """

    epoch: int
    weights: Mapping[str, Any]
    average: Mapping[str, Any]
    optimizer: dict[str, Any]
    best: float
    best_epoch: int
    best_weights: Mapping[str, Any]


class CheckpointMismatchError(ValueError):
    """A checkpoint that another training left."""


def save_checkpoint(folder: Path, made_with: Mapping[str, object], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint.pt``; an older one stays until the new one is whole. made_with: as ``load_checkpoint``."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{FILE}.new"
    torch.save({"made_with": json.dumps(made_with, sort_keys=True), **asdict(checkpoint)}, beside)
    beside.replace(folder / FILE)


def load_checkpoint(folder: Path, made_with: Mapping[str, object]) -> Checkpoint | None:
    """What ``save_checkpoint`` wrote, None where there is none. Only tensors and plain values are read, no objects.

    Raises CheckpointMismatchError where it was made with other settings or data, and says which differ. What only one
    of both has on record, another version of hadascope having left it, is not compared.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        stored = torch.load(path, weights_only=True, map_location="cpu")
        then, now = json.loads(stored.pop("made_with")), json.loads(json.dumps(made_with))
        checkpoint = Checkpoint(**stored)
    # Whatever a broken file makes torch's reader raise.
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, pickle.PickleError) as error:
        raise CheckpointMismatchError(
            f"{path} cannot be read as a checkpoint ({_first_line(error)}); expected one of this training: remove its "
            "folder to begin anew"
        ) from error
    differing = sorted(key for key in then.keys() & now.keys() if then[key] != now[key])
    if differing:
        found, asked = (", ".join(f"{key} {made[key]!r}" for key in differing) for made in (then, now))
        raise CheckpointMismatchError(
            f"{path} was left by a training with {found}; asked for is {asked}: use the same settings and data to go "
            "on, or remove its folder to begin anew"
        )
    return checkpoint


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
