"""The folder of a run or of a series: it appears when it is whole, one process writes it, it says how far it came."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock

from acquisition.run_layout import RECIPES, RunState, disk_full, existing_output, facts_of, open_run
from acquisition.run_lock import in_use, is_in_use, lock_run, unlock_run


def check_replaceable(path: Path, recipe: str, *, overwrite: bool) -> None:
    """Raise unless nothing stands where a run will be written, or a run of the same recipe that may be overwritten.

    Raises OutputExistsError, NotARunError, RunInUseError.
    """
    if not path.exists():
        return
    if not overwrite:
        raise existing_output(path, "the output")
    found = facts_of(open_run(path, "r")).get("recipe", recipe)
    if found != recipe:
        raise existing_output(path, f"{RECIPES.get(str(found), 'something else')}, which is not what would replace it,")
    if is_in_use(path):
        raise in_use(path)


@contextmanager
def lock_to_keep(path: Path) -> Iterator[BaseFileLock]:
    """The lock of a folder, held beyond the block, but let go of where that fails. Raises RunInUseError."""
    lock = lock_run(path)
    try:
        yield lock
    except BaseException:
        unlock_run(lock)
        raise


@contextmanager
def made_whole(path: Path) -> Iterator[Path]:
    """The folder in which to make what appears at ``path`` when the block has ended. Raises DiskFullError."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        yield unfinished
        _put_in_place(unfinished, path)
    except BaseException as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if isinstance(error, OSError):
            raise disk_full(path, error) from error
        raise


class WrittenFolder:
    """A folder that exists and whose lock is held, with the facts that it says of itself."""

    def __init__(self, path: Path) -> None:
        """Open a run or a series. Raises NotARunError."""
        self.path = path
        self._group = open_run(path, "r+")

    @property
    def facts(self) -> dict[str, Any]:
        """The JSON-able facts on record, a copy."""
        return facts_of(self._group)

    def annotate(self, **facts: Any) -> None:
        """Add JSON-able facts to those on record. Raises DiskFullError."""
        try:
            self._group.attrs["hadascope"] = {**facts_of(self._group), **facts}
        except OSError as error:
            raise disk_full(self.path, error) from error


class StoredFolder:
    """Reads what a folder says of itself: ``facts``, a copy, and how far it came."""

    def __init__(self, path: Path) -> None:
        """Open a run or a series. Raises NotARunError."""
        self.path = path
        self._group = open_run(path, "r")
        self.facts: dict[str, Any] = facts_of(self._group)

    @property
    def state(self) -> RunState:
        """How far it came: as it was marked, or interrupted where it is marked as running and nobody writes it."""
        if self.marked_state is not RunState.RUNNING or is_in_use(self.path):
            return self.marked_state
        self.facts = facts_of(open_run(self.path, "r"))  # it may have ended, and been marked, since it was opened
        return RunState.INTERRUPTED if self.marked_state is RunState.RUNNING else self.marked_state

    @property
    def marked_state(self) -> RunState:
        """What it says of itself: running, also where it was killed."""
        return RunState(self.facts["state"])


def _put_in_place(unfinished: Path, path: Path) -> None:
    """Rename a folder to where it belongs; the one that stands there goes when it has been replaced, and not before."""
    replaced = path.with_name(f".{path.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if path.exists():
        path.rename(replaced)
    try:
        unfinished.rename(path)
    except BaseException:
        if replaced.exists():
            replaced.rename(path)
        raise
    shutil.rmtree(replaced, ignore_errors=True)
