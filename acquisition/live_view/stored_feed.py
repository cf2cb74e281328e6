"""What a live view is fed by of a stored run: finished, or being written by another process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from acquisition.damaged_run import UNREADABLE
from acquisition.events import EVENTS_FILE
from acquisition.live_view.state import Remark, ViewedState, ViewState
from acquisition.live_view.stored_view import StoredView
from acquisition.observer import Place
from acquisition.problems import AcquisitionFileError
from acquisition.run_in_progress import now
from acquisition.run_layout import NotARunError
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, is_series

_POLL_S = 0.5
# Even without news: so often a viewer can tell that somebody is there.
_SIGN_OF_LIFE_S = 1.0
_MOST_TROUBLES = 20
_ENDED = (ViewedState.FINISHED, ViewedState.STOPPED, ViewedState.FAILED, ViewedState.INTERRUPTED)


class StoredFeed:
    """A run in a folder, or the newest one of a series, looked at twice a second in a thread of its own.

    A run of many blocks takes long to open: it is looked at half of the time at most, and one that has ended only when
    something has changed.
    What cannot be read now, because it is half written or damaged, is shown as a warning and tried again. A run that is
    replaced by another one is begun anew; one that is deleted stays as it was seen last.
    """

    def __init__(self, path: Path, *, poll_s: float = _POLL_S, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises NotARunError where there is nothing to show, AcquisitionFileError where its file is not usable."""
        self._path = path
        self._poll_s = poll_s
        self._clock = clock
        self._closing = threading.Event()
        self._troubles: deque[Remark] = deque(maxlen=_MOST_TROUBLES)
        self._trouble: str | None = None
        self._half_read: StoredRun | None = None
        self._marks: tuple[tuple[int, ...], ...] | None = None
        self._of_series: tuple[ViewedState, str | None] | None = None
        try:
            found = run_to_show(path)
            self._view = StoredView(StoredRun(found), place_in_series(path, found))
        except (NotARunError, AcquisitionFileError):
            raise
        except UNREADABLE as error:
            raise NotARunError(f"{path} is a damaged run ({error!r}): restore it from a copy") from error
        self._newest = self._view.state
        self._shown = self._newest
        self._version = 1
        self._shown_s = clock()
        self._thread = threading.Thread(target=self._run, name="stored run", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._thread.join()

    def state(self) -> ViewState:
        """The newest state; another one where there is news, and once a second."""
        newest, now_s = self._newest, self._clock()
        if newest is not self._shown or now_s - self._shown_s >= _SIGN_OF_LIFE_S:
            self._version += 1
            self._shown, self._shown_s = newest, now_s
        return replace(self._shown, version=self._version)

    def keep_up(self) -> None:
        """Nothing piles up here."""

    def stop(self) -> str | None:
        """A stored run is only read."""
        return "this view only reads the run: stop it where it was begun"

    def close(self) -> None:
        """Read no more. Idempotent."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            began_s = time.monotonic()
            is_behind = self._look()
            self._closing.wait(0.0 if is_behind else max(self._poll_s, time.monotonic() - began_s))

    def _look(self) -> bool:
        """Look at the run once; whether there is more to be read at once."""
        is_behind, is_gone, trouble = False, False, None
        try:
            found = run_to_show(self._path)
            marks = _marks(self._path, found)
            if marks == self._marks and self._newest.state in _ENDED:
                return False
            self._marks = None
            run, self._half_read = self._half_read or StoredRun(found), None
            if not self._view.is_of(run):
                self._view = StoredView(run, place_in_series(self._path, run.path))
            if is_behind := self._view.take_in(run):
                self._half_read = run
            else:
                self._marks = marks
            self._of_series = state_of_series(self._path)
        except Exception as error:
            self._marks = None
            # Whatever it is: the next look may find the run whole, and until then viewers have what was seen last.
            is_gone = not self._path.exists()
            trouble = None if is_gone else f"{self._path.name} cannot be read now: {str(error) or repr(error)}"
        if trouble is not None and trouble != self._trouble:
            self._troubles.append(Remark(now(), "warning", trouble))
        self._trouble = trouble
        state = self._view.state
        if is_gone:
            state = replace(state, state=ViewedState.GONE, left_s=None)
        elif state.state is ViewedState.FINISHED and self._of_series is not None:
            # Between two images, and after the last one, the series is what goes on or has ended.
            series_state, cause = self._of_series
            state = replace(state, state=series_state, cause=cause)
        state = replace(state, warnings=(*state.warnings, *self._troubles))
        if state != self._newest:
            self._newest = state
        return is_behind


def run_to_show(path: Path) -> Path:
    """The run in a folder; of a series that whose events were written last. Raises NotARunError."""
    if not is_series(path):
        return path
    written = {
        log.stat().st_mtime_ns: log.parent
        for log in (path / "events").glob(f"*/{EVENTS_FILE}")
        if not log.parent.name.startswith(".")
    }
    if not written:
        raise NotARunError(f"the series {path} has no image yet: wait until its first one has begun")
    return written[max(written)]


def state_of_series(path: Path) -> tuple[ViewedState, str | None] | None:
    """How far the series in a folder is, and why it ended where it failed; None where the folder holds one run."""
    if not is_series(path):
        return None
    series = StoredSeries(path)
    return ViewedState(series.state), series.facts.get("cause")


def place_in_series(path: Path, run: Path) -> Place | None:
    """Which image of the series in a folder a run is; None where the folder holds one run."""
    if run == path:
        return None
    events = StoredSeries(path).planned_events
    return next((Place(each.number, len(events), each.words) for each in events if each.name == run.name), None)


def _marks(path: Path, run: Path) -> tuple[tuple[int, ...], ...]:
    """What changes when a run that has ended, or its series, goes on or is replaced. Raises OSError."""
    files = [path / "zarr.json", run / "zarr.json", run / EVENTS_FILE]
    found = [file.stat() for file in files if file.exists()]
    return tuple((each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in found)
