"""What a run has to close, and to mark, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from acquisition.controller import Controller
from acquisition.events import EventKind, Journal
from acquisition.observer import Observer
from acquisition.run_layout import RunState


class MarkedStore(Protocol):
    """What is written while something is in progress: a run, or a series of them."""

    path: Path

    def annotate(self, **facts: Any) -> None:
        """Add JSON-able facts to it."""
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


_Store = TypeVar("_Store", bound=MarkedStore)


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class RunInProgress(Generic[_Store]):
    """What a run has to close, and to mark, whatever ends it: its store and journal, as soon as they are there."""

    def __init__(self, observer: Observer, remedy: str) -> None:
        """remedy: what can be done where the run fails, for people.

        facts_so_far: JSON-able, put on record with whatever ends the run before it finishes.
        """
        self.observer = observer
        self._remedy = remedy
        self.journal = Journal(observer.on_event)
        self.store: _Store | None = None
        self.controller: Controller | None = None
        self.is_begun = False
        self.facts_so_far: dict[str, Any] = {}
        self._cause: str | None = None

    def begin(self, kind: EventKind, text: str, **facts: Any) -> None:
        """From now on there is something to mark and to tell of."""
        assert self.store is not None
        self.is_begun = True
        self.journal.open(self.store.path)
        self.journal.add(kind, text, **facts)

    @contextmanager
    def marked(self) -> Iterator[None]:
        """Mark the run with how it ended, where it does not finish, while its devices are still held."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception):
                error.add_note(self._remedy)
            self._mark(error)
            raise

    def finish(self, text: str, **facts: Any) -> None:
        """Mark the run as finished; whatever happens afterwards does not change that."""
        assert self.store is not None
        self.store.annotate(**facts, state=RunState.FINISHED, ended=now())
        self.is_begun = False
        self.journal.add(EventKind.FINISHED, text)

    def end(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        """Mark the run, where it began and did not finish, with what went wrong since; let go of store and journal."""
        with ExitStack() as ending:
            ending.callback(self.journal.close)
            if self.store is not None:
                ending.callback(self.store.close)
            if error is not None:
                self._mark(error)

    def _mark(self, error: BaseException) -> None:
        cause = "\n".join([f"{type(error).__name__}: {error}".rstrip(": "), *getattr(error, "__notes__", ())])
        if self.store is None or not self.is_begun or cause == self._cause:
            return
        self._cause = cause
        # What could not be put to rest is a failure, whoever asked for the end.
        stopped = isinstance(error, KeyboardInterrupt) and not hasattr(error, "__notes__")
        state, kind = (RunState.STOPPED, EventKind.STOPPED) if stopped else (RunState.FAILED, EventKind.FAILED)
        lit = {} if self.controller is None else {"lit_exposures": self.controller.lit_exposures}
        try:
            self.store.annotate(state=state, ended=now(), cause=cause, **lit, **self.facts_so_far)
            self.journal.add(kind, cause)
        except OSError as unmarked:
            error.add_note(f"the run could not be marked as {state}: {unmarked}")
            self._cause = "\n".join([cause, error.__notes__[-1]])
