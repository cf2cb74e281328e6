"""What happens in a run besides readings: events, for machines and for people."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

EVENTS_FILE = "events.jsonl"
LOG_FILE = "log.txt"


class EventKind(StrEnum):
    """What an event is about."""

    STARTED = "started"
    RESUMED = "resumed"
    DARK_LEVEL = "dark-level"
    IMAGE = "image"
    BANK = "bank"
    BLOCK_REPEATED = "block-repeated"
    BLOCK_FAILED = "block-failed"
    TELEMETRY = "telemetry"
    WARNING = "warning"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Event:
    """One thing that happened: when (ISO 8601, UTC), of which kind, in words, and JSON-able facts."""

    time: str
    kind: EventKind
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> str:
        """One line of events.jsonl."""
        return json.dumps({"time": self.time, "kind": self.kind, "text": self.text, **self.facts}, ensure_ascii=False)


class Journal:
    """Keeps a run's events: ``events.jsonl`` for machines, ``log.txt`` for people. Safe to use from several threads.

    on_event: called with each of them. Events before ``open`` are written when it is called.
    """

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self._on_event = on_event
        self._lock = threading.Lock()
        self._early: list[Event] = []
        self._files: tuple[TextIO, TextIO] | None = None

    def open(self, run: Path) -> None:
        """Write to a run's folder from now on, after what is there already."""
        with self._lock:
            events, log = (_continued(run / name) for name in (EVENTS_FILE, LOG_FILE))
            self._files = events, log
            for event in self._early:
                self._write(event)
            self._early.clear()

    def add(self, kind: EventKind, text: str, **facts: Any) -> None:
        """Note that something happened; on disk when this returns. Raises OSError where it cannot be written."""
        event = Event(datetime.now(UTC).isoformat(timespec="milliseconds"), kind, text, facts)
        with self._lock:
            if self._files is None:
                self._early.append(event)
            else:
                self._write(event)
        if self._on_event is not None:
            self._on_event(event)

    def close(self) -> None:
        """Close the files. Idempotent."""
        with self._lock:
            files, self._files = self._files, None
            for file in files or ():
                file.close()

    def _write(self, event: Event) -> None:
        assert self._files is not None
        events, log = self._files
        events.write(event.as_json() + "\n")
        events.flush()
        log.write(f"{event.time}  {event.kind:<15} {event.text}\n")
        log.flush()


def _continued(path: Path) -> TextIO:
    """A text file, to go on with on a new line, also where a crash cut the last one off."""
    is_cut = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
    file = path.open("a", encoding="utf-8", errors="backslashreplace")
    if is_cut:
        file.write("\n")
    return file


def read_events(run: Path) -> Iterator[Event]:
    """The events of a run, in order; a last line that was cut off by a crash is left out."""
    path = run / EVENTS_FILE
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        if not isinstance(fields, dict) or not {"time", "kind", "text"} <= fields.keys():
            continue
        yield Event(fields.pop("time"), EventKind(fields.pop("kind")), fields.pop("text"), fields)
