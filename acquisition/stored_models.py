"""Are the trained models still those that a run was begun with?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acquisition.stored_run import StoredRun
from acquisition.trained_models import NamedModel, TrainedModels


class DifferentRunError(ValueError):
    """What the run would go on with is not what it was begun with."""


def must_be_unchanged(run: StoredRun, models: TrainedModels) -> None:
    """Raise DifferentRunError where a model is not the one on record."""
    for use, named in (("sensing", models.sensing), ("network", models.network)):
        _must_be(named, recorded_model(run, use), run.path)


def network_must_be_unchanged(run: StoredRun, named: NamedModel | None) -> None:
    """The same for a network alone: that of the run's own image or, where that had none, that of its mask."""
    _must_be(named, recorded_model(run, "network") or recorded_model(run, "sensing"), run.path)


def recorded_model(run: StoredRun, use: str) -> Mapping[str, Any] | None:
    """What is on record of the model that a run used for "sensing" or as "network"; None where it used none."""
    models = run.facts.get("models") or {}
    found: Mapping[str, Any] | None = models.get(use)
    return found


def _must_be(named: NamedModel | None, recorded: Mapping[str, Any] | None, path: Path) -> None:
    if named is None or recorded is None or named.name != recorded["model"]:
        return
    found = named.card.digest
    if found != recorded["sha256"]:
        raise DifferentRunError(
            f"the model {named.name} is not the one {path} was begun with: found SHA-256 {found}; expected "
            f"{recorded['sha256']}. Restore its two files (of a shipped model: the version of hadascope that wrote the "
            "run has them), or reconstruct with another model by naming it"
        )
