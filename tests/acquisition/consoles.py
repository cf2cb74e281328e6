"""Consoles as the tests of this room look at them: a terminal of any width, a pipe, and an old encoding."""

from __future__ import annotations

import io
import re

from rich.console import Console

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """What is written to a terminal, control codes and all."""

    def isatty(self) -> bool:
        return True


def terminal(width: int, **environ: str) -> Console:
    """A console on a terminal of ``width`` columns that shows colours, unless ``environ`` says otherwise."""
    return Console(file=Terminal(), width=width, height=25, force_terminal=True, _environ=environ, color_system="256")


def pipe(**environ: str) -> Console:
    """A console on a pipe or a log file."""
    return Console(file=io.StringIO(), _environ=environ)


def encoded(encoding: str, *, is_terminal: bool, width: int = 80) -> tuple[Console, io.BytesIO]:
    """A console that refuses what its encoding lacks, and the bytes written to it."""
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
    if is_terminal:
        stream.isatty = lambda: True  # type: ignore[method-assign]
    console = Console(file=stream, width=width, height=25, force_terminal=is_terminal, _environ={}, color_system="256")
    return console, written


def written(console: Console) -> str:
    """All that was written, control codes included."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def lines(console: Console) -> list[str]:
    """All lines that were ever written, one over the other or not, without control codes and trailing blanks."""
    return [line.rstrip() for line in re.split(r"[\r\n]", _CONTROL.sub("", written(console))) if line.strip()]
