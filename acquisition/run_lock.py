"""Who writes a run holds its lock, a file beside it that the operating system lets go of when the process dies."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


class RunInUseError(RuntimeError):
    """Another process is writing this run."""


def is_in_use(path: Path) -> bool:
    """Whether a process is writing this run."""
    if not _lock_path(path).exists():
        return False
    try:
        unlock_run(lock_run(path, patience_s=0))
    except RunInUseError:
        return True
    return False


def lock_run(path: Path, patience_s: float = 1.0) -> BaseFileLock:
    """Hold a run's lock. Whoever only looks who holds it does so for a moment, which is waited for."""
    lock = FileLock(_lock_path(path), thread_local=False)
    try:
        lock.acquire(timeout=patience_s)
    except Timeout as error:
        raise in_use(path) from error
    return lock


def unlock_run(lock: BaseFileLock) -> None:
    """Let go of a run's lock, and take its file away."""
    # Taken away while it is still held, so that nobody who waits for it gets hold of a file that is about to vanish.
    if os.name == "posix":
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release(force=True)


def in_use(path: Path) -> RunInUseError:
    """The error that says who is in the way."""
    return RunInUseError(f"{path} is being written by another process: wait until it ends, or choose another output")


def _lock_path(path: Path) -> Path:
    return path.absolute().with_name(f".{path.name}.lock")
