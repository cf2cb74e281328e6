"""Reads what can still be read of a run that may be damaged, and says what cannot.

Whatever computes with a run stops at the first damage. Whatever tells of it, a report or a list, must not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from acquisition.events import EVENTS_FILE
from acquisition.readings import Readings
from acquisition.run_layout import LAYOUT_VERSION, NotARunError, RunState
from acquisition.stored_run import StoredRun

_Part = TypeVar("_Part")

# What zarr, its codecs and the file system raise where a file is missing, cut off or overwritten.
UNREADABLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, ArithmeticError)


def opened_run(path: Path) -> StoredRun:
    """A run whose attributes and commit records are whole.

    Raises NotARunError, also where something is missing that every run has.
    """
    readable_facts(path)
    try:
        return StoredRun(path)
    except NotARunError:
        raise
    except UNREADABLE as error:
        raise NotARunError(f"{path} is a damaged run: {_why(error)}; restore it from a copy") from error


def readable_facts(path: Path) -> dict[str, Any]:
    """The JSON-able facts of a run or a series, read without zarr; those of a run hold what every run has.

    Raises NotARunError.
    """
    file = path / "zarr.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if (path / EVENTS_FILE).exists():
            raise NotARunError(
                f"{path} is a damaged run: {file} is missing, as in a copy that was not finished; restore it from a "
                "whole copy"
            ) from error
        raise NotARunError(
            f"{path} is no run of Hadascope: expected a folder written by dry-run, acquire or calibrate"
        ) from error
    except (OSError, ValueError) as error:
        raise NotARunError(f"{path} is damaged: {file} cannot be read ({error}); restore it from a copy") from error
    attributes = document.get("attributes") if isinstance(document, dict) else None
    if not isinstance(attributes, dict) or "hadascope" not in attributes:
        raise NotARunError(
            f"{path} is a zarr group, but no run of Hadascope: expected a folder written by dry-run, acquire or "
            "calibrate"
        )
    facts = attributes["hadascope"]
    if not isinstance(facts, dict):
        raise NotARunError(f"{path} is a damaged run: expected a mapping under 'hadascope'; restore it from a copy")
    for missing in _missing(facts):
        raise NotARunError(f"{path} is a damaged run: its attributes lack {missing}; restore it from a copy")
    return facts


def tried(what: str, read: Callable[[], _Part], damage: list[str]) -> _Part | None:
    """What ``read`` returns; None where it cannot be read, which is added to ``damage``."""
    try:
        return read()
    except UNREADABLE as error:
        damage.append(f"{what} cannot be read: {_why(error)}")
        return None


def readable_blocks(run: StoredRun, damage: list[str]) -> Iterator[Readings]:
    """The committed blocks in order, but those that cannot be read, which are added to ``damage``."""
    for number in run.committed:
        readings = tried(f"block {number}", lambda each=int(number): run.block(each), damage)  # type: ignore[misc]
        if readings is not None:
            yield readings


def readable_image(run: StoredRun, name: str, damage: list[str]) -> NDArray[np.float64] | None:
    """A stored image float64 [n, n]; None where the run has none, or a damaged one, which is added to ``damage``."""
    if not tried(f"the list of images, images/{name},", lambda: run.has_image(name), damage):
        return None
    image = tried(f"images/{name}", lambda: run.image(name), damage)
    if image is not None and not np.isfinite(image).all():
        damage.append(f"images/{name} is not whole: some of its pixels were never written, or are lost")
        return None
    return image


def _missing(facts: dict[str, Any]) -> Iterator[str]:
    """What a run's attributes lack of what everything that reads them relies on."""
    if facts.get("layout", LAYOUT_VERSION) != LAYOUT_VERSION or "series" in facts:
        return  # other versions, which StoredRun refuses by name, and series have facts of their own
    for key, kind in (("state", str), ("simulated", bool), ("started", str), ("versions", dict), ("config", dict)):
        if not isinstance(facts.get(key), kind):
            yield f"{key!r}"
    if facts.get("state") not in set(RunState):
        yield f"a known state (found {facts.get('state')!r})"
    config = facts.get("config")
    for section in ("sensing", "timing", "devices", "noise"):
        if isinstance(config, dict) and not isinstance(config.get(section), dict):
            yield f"'config.{section}'"


def _why(error: Exception) -> str:
    """An error in one line, with its kind where its own words may not be for people."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
