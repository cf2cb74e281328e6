"""What happens in a run is on disk when it has happened, for machines and for people."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acquisition.events import EVENTS_FILE, LOG_FILE, Event, EventKind, Journal, read_events


@given(
    said=st.lists(
        st.tuples(
            st.sampled_from(list(EventKind)),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
            st.dictionaries(
                st.text(st.characters(categories=["Ll"]), min_size=1, max_size=8).filter(
                    lambda key: key not in ("time", "kind", "text", "self")
                ),
                st.one_of(
                    st.integers(),
                    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
                    st.booleans(),
                    st.lists(st.integers(), max_size=3),
                ),
                max_size=3,
            ),
        ),
        max_size=8,
    )
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_events_are_read_back_in_order_whatever_they_say(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[EventKind, str, dict[str, object]]]
) -> None:
    run = tmp_path_factory.mktemp("run")
    journal = Journal()
    journal.open(run)
    for kind, text, facts in said:
        journal.add(kind, text, **facts)
    journal.close()
    assert [(event.kind, event.text, event.facts) for event in read_events(run)] == said


def test_an_event_is_on_disk_when_it_has_been_added(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path)
    journal.add(EventKind.STARTED, "8 × 8 px", config="run.zarr")
    line = json.loads((tmp_path / EVENTS_FILE).read_text(encoding="utf-8"))
    assert (line["kind"], line["text"], line["config"]) == ("started", "8 × 8 px", "run.zarr")
    assert abs(datetime.fromisoformat(line["time"]) - datetime.now(UTC)) < timedelta(minutes=5)
    log = (tmp_path / LOG_FILE).read_text(encoding="utf-8")
    assert log.split(maxsplit=2)[1:] == ["started", "8 × 8 px\n"]
    journal.close()


def test_what_happens_before_the_run_has_a_folder_is_written_first(tmp_path: Path) -> None:
    journal = Journal()
    journal.add(EventKind.WARNING, "blocks are shortened")
    journal.open(tmp_path)
    journal.add(EventKind.STARTED, "begun")
    journal.close()
    assert [event.text for event in read_events(tmp_path)] == ["blocks are shortened", "begun"]


def test_a_run_that_goes_on_adds_to_what_is_there(tmp_path: Path) -> None:
    for text in ("first sitting", "second sitting"):
        journal = Journal()
        journal.open(tmp_path)
        journal.add(EventKind.STARTED, text)
        journal.close()
        journal.close()
    assert [event.text for event in read_events(tmp_path)] == ["first sitting", "second sitting"]
    assert len((tmp_path / LOG_FILE).read_text(encoding="utf-8").splitlines()) == 2


def test_whoever_listens_is_told_of_every_event_whether_it_is_on_disk_or_not(tmp_path: Path) -> None:
    heard: list[Event] = []
    journal = Journal(heard.append)
    journal.add(EventKind.WARNING, "early")
    journal.open(tmp_path)
    journal.add(EventKind.BANK, "bank 0 of 1", bank=0)
    journal.close()
    assert heard == list(read_events(tmp_path))


def test_a_listener_may_add_events_of_its_own(tmp_path: Path) -> None:
    journal: Journal

    def answer(event: Event) -> None:
        if event.kind is EventKind.STARTED:
            journal.add(EventKind.WARNING, "heard")

    journal = Journal(answer)
    journal.open(tmp_path)
    journal.add(EventKind.STARTED, "begun")
    journal.close()
    assert [event.text for event in read_events(tmp_path)] == ["begun", "heard"]


def test_events_of_several_threads_are_whole_lines(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path)

    def report(thread: int) -> None:
        for number in range(100):
            journal.add(EventKind.TELEMETRY, "x" * 200, thread=thread, number=number)

    threads = [threading.Thread(target=report, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    found = [(event.facts["thread"], event.facts["number"]) for event in read_events(tmp_path)]
    assert sorted(found) == [(thread, number) for thread in range(4) for number in range(100)]


@pytest.mark.parametrize("bytes_left", [1, 20, 60])
def test_a_line_that_a_crash_cut_off_is_left_out(tmp_path: Path, bytes_left: int) -> None:
    journal = Journal()
    journal.open(tmp_path)
    for number in range(3):
        journal.add(EventKind.BANK, f"bank {number} of 3 at 20 °C")
    journal.close()
    path = tmp_path / EVENTS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:bytes_left])
    assert [event.text for event in read_events(tmp_path)] == ["bank 0 of 3 at 20 °C", "bank 1 of 3 at 20 °C"]


def test_a_run_without_a_journal_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path)) == []
