"""What is a terminal, and what an encoding can show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from acquisition.terminal import at_a_terminal, in_one_line, showable
from tests.acquisition.consoles import Terminal, pipe, terminal


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
        ({"TERM": "xterm", "CI": "false"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "unknown"}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "xterm", "TTY_INTERACTIVE": "0"}, False),
    ],
)
def test_a_terminal_is_one_in_which_a_line_can_be_written_again(environ: dict[str, str], expected: bool) -> None:
    assert at_a_terminal(Console(file=Terminal(), _environ=environ), environ) is expected


@pytest.mark.parametrize("environ", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}, {"TERM": "xterm"}])
def test_no_wish_for_colours_makes_a_pipe_a_terminal(environ: dict[str, str]) -> None:
    assert not at_a_terminal(pipe(**environ), environ)


def test_the_process_s_own_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert at_a_terminal(terminal(80))
    monkeypatch.setenv("CI", "1")
    assert not at_a_terminal(terminal(80))


def test_signs_that_an_encoding_lacks_have_stand_ins() -> None:
    said = "128 × 128 px, α = 0.25, 90 µs"
    assert showable(said, "utf-8") == said
    assert showable(said, "cp1252") == "128 × 128 px, alpha = 0.25, 90 µs"
    assert showable(said, "ascii") == "128 x 128 px, alpha = 0.25, 90 us"
    assert showable("細胞 1", "ascii") == "?? 1"


@given(st.text(), st.sampled_from(["utf-8", "cp1252", "cp437", "ascii", "cp932"]))
def test_what_is_showable_can_be_encoded(text: str, encoding: str) -> None:
    showable(text, encoding).encode(encoding)


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    line = in_one_line(text)
    assert len(line.splitlines()) <= 1
    assert line.isprintable()


def test_one_line_keeps_its_words() -> None:
    assert in_one_line("position A\n\x1b[2Jnear\tthe edge ") == "position A [2Jnear the edge"
