"""The runs in a folder, from their attributes alone: no readings are read, so that hundreds of runs take a moment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acquisition.damaged_run import UNREADABLE, opened_run, readable_facts
from acquisition.events import EVENTS_FILE
from acquisition.reconstruction import psnr_of
from acquisition.run_layout import RECIPES, NotARunError, RunState
from acquisition.run_lock import is_in_use

CATALOGUE_SCHEMA = 1


class EmptyCatalogueError(ValueError):
    """A folder that is no run and holds none."""


@dataclass(frozen=True)
class Record:
    """A run, a calibration or a series, in a line; what is not known, or does not apply, is None.

    path: relative to the folder that was asked about; holds: what it is, in words; pairs: measured so far;
    pairs_scheduled: in all; dose_mj: of a series at the position that was lit longest. PSNRs have the image's maximum
    as data range. events: of a series, as planned, or begun where its plan cannot be read; damage: why nothing else is
    known.
    """

    path: str
    holds: str | None = None
    state: str | None = None
    simulated: bool | None = None
    started: str | None = None
    sample: str | None = None
    side: int | None = None
    alpha: float | None = None
    repeats: int | None = None
    pairs: int | None = None
    pairs_scheduled: int | None = None
    dose_mj: float | None = None
    forecast_psnr_db: float | None = None
    split_half_psnr_db: float | None = None
    events: int | None = None
    events_finished: int | None = None
    damage: str | None = None


def catalogue(folder: Path) -> list[Record]:
    """All runs in a folder, at any depth, by the time they started; what is damaged comes last.

    A series counts as one. A folder that is a run is that run alone; one that must not be looked into counts as
    damaged. Raises EmptyCatalogueError.
    """
    closed: list[Record] = []

    def note(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # gone since it was listed
            name = _name(Path(error.filename), folder)
            closed.append(Record(name, damage=f"cannot be looked into: {error.strerror}"))

    records = [*(record_of(path, folder) for path in _found_in(folder, note)), *closed]
    if not records:
        what = "holds none" if folder.is_dir() else "no folder at all"
        raise EmptyCatalogueError(
            f"{folder} is no run of Hadascope, and {what}: expected a folder written by dry-run, acquire or "
            "calibrate, or one that such folders lie in"
        )
    return sorted(records, key=lambda record: (record.started is None, record.started or "", record.path))


def catalogue_json(folder: Path, records: list[Record]) -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "catalogue_schema": CATALOGUE_SCHEMA,
        "folder": str(folder.absolute()),
        "records": [asdict(record) for record in records],
    }


def record_of(path: Path, folder: Path) -> Record:
    """One run, told from its attributes; of an unfinished one its commit records are read, too."""
    name = _name(path, folder)
    try:
        facts = readable_facts(path)
        return _series(path, name, facts) if "series" in facts else _run(path, name, facts)
    except NotARunError as error:
        return Record(name, damage=str(error))
    except UNREADABLE as error:
        return Record(name, damage=f"{type(error).__name__}: {error}")


def _name(path: Path, folder: Path) -> str:
    name = path.relative_to(folder).as_posix()
    return path.resolve().name if name == "." else name


def _found_in(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Folders with a zarr group of ours, or one that cannot be read or is lost; nothing inside of any zarr group."""
    if not folder.is_dir():
        return
    for where, folders, files in os.walk(folder, onerror=on_error):
        # What a run is replaced by, and what is replaced, lies beside it under a hidden name for a moment.
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if "zarr.json" in files or EVENTS_FILE in files:
            folders.clear()
            if "zarr.json" not in files or _is_ours(Path(where)):
                yield Path(where)


def _is_ours(path: Path) -> bool:
    """True of what has our attributes, and of what may have had them."""
    try:
        document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return not isinstance(document, dict) or "hadascope" in (document.get("attributes") or {})


def _run(path: Path, name: str, facts: dict[str, Any]) -> Record:
    sensing, recipe = facts["config"]["sensing"], str(facts.get("recipe"))
    state = RunState(facts["state"])
    if state is RunState.RUNNING and not is_in_use(path):
        state = RunState.INTERRUPTED
    if state is RunState.FINISHED and "pairs" in facts:
        pairs = scheduled = int(facts["pairs"])
        dose_mj = _dose_mj(facts, facts["lit_exposures"])
    else:
        run = opened_run(path)
        pairs, scheduled, dose_mj = run.n_pairs, int(run.repeats.sum()), run.dose_mj
    peak, mse = facts.get("image_peak"), facts.get("forecast_mse")
    is_acquisition = recipe == "hadamard"
    return Record(
        path=name,
        holds=RECIPES.get(recipe, "something else"),
        state=str(state),
        simulated=facts["simulated"],
        started=facts["started"],
        sample=(facts["config"].get("sample") or {}).get("name"),
        side=sensing["side"] if is_acquisition else None,
        alpha=sensing["alpha"] if is_acquisition else None,
        repeats=sensing["repeats"] if is_acquisition else None,
        pairs=pairs,
        pairs_scheduled=scheduled,
        dose_mj=dose_mj,
        forecast_psnr_db=psnr_of(mse, peak) if peak and mse else None,
        split_half_psnr_db=(facts.get("split_half") or {}).get("psnr_db"),
    )


def _dose_mj(facts: dict[str, Any], lit_exposures: int) -> float | None:
    """As StoredRun.dose_mj, from the facts alone."""
    power_mw = facts["config"]["devices"]["light_source"]["power_mw"]
    timing = facts.get("accepted_timing") or facts["config"]["timing"]
    illumination_s = timing["illumination_time_us"] * 1e-6
    return None if power_mw is None else float(lit_exposures * illumination_s * power_mw)


def _series(path: Path, name: str, facts: dict[str, Any]) -> Record:
    """A series, its events counted."""
    states = []
    for event in (path / "events").glob("*/zarr.json"):
        try:
            states.append(readable_facts(event.parent)["state"])
        except NotARunError:
            states.append(None)
    config = facts.get("config") or {}
    sensing = config.get("sensing") or {}
    state = facts.get("state")
    if state == RunState.RUNNING and not is_in_use(path):
        state = RunState.INTERRUPTED
    planned, lit = _planned_events(path), facts.get("lit_by_place") or {}
    return Record(
        path=name,
        holds=RECIPES["series"],
        state=None if state is None else str(state),
        simulated=facts.get("simulated"),
        started=facts.get("started"),
        sample=(config.get("sample") or {}).get("name"),
        side=sensing.get("side"),
        alpha=sensing.get("alpha"),
        repeats=sensing.get("repeats"),
        dose_mj=_dose_mj(facts, max(lit.values())) if lit else None,
        events=len(states) if planned is None else planned,
        events_finished=states.count(RunState.FINISHED),
    )


def _planned_events(path: Path) -> int | None:
    """How many events the sequence of a series has; None where that cannot be told."""
    from acquisition.stored_series import StoredSeries

    with suppress(*UNREADABLE):
        return len(StoredSeries(path).planned_events)
    return None
