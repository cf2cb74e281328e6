"""What the command line writes to: a terminal that somebody looks at, or a pipe, a log file, a build server."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rich.console import Console

# What a person reads as the same, where an encoding lacks it.
_STAND_INS = {
    "α": "alpha",
    "λ": "lambda",
    "κ": "kappa",
    "σ": "sigma",
    "Σ": "sum",
    "Δ": "delta",
    "∂": "d",
    "µ": "u",
    "μ": "u",
    "×": "x",
    "·": "*",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "−": "-",
    "–": "-",
    "—": "-",
    "…": "...",
    "²": "^2",
    "³": "^3",
    "√": "sqrt ",
    "→": "->",
    "°": " deg",
}


def at_a_terminal(console: Console, environ: Mapping[str, str] | None = None) -> bool:
    """Whether what was written can be written over: not in pipes, files, dumb terminals and on build servers.

    A wish for colours (FORCE_COLOR) does not make a file a terminal. environ: instead of the process's.
    """
    built = (os.environ if environ is None else environ).get("CI", "")
    return console.is_interactive and console.file.isatty() and built.lower() in ("", "0", "false")


def showable(text: str, encoding: str) -> str:
    """``text`` in what ``encoding`` can show: stand-ins for the signs it lacks ("u" for "µ"), "?" for what has none."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_showable_sign(sign, encoding) for sign in text)
    return text


def in_one_line(text: str) -> str:
    """``text`` without line breaks, and without what moves a cursor."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _showable_sign(sign: str, encoding: str) -> str:
    for candidate in (sign, _STAND_INS.get(sign, "?")):
        try:
            candidate.encode(encoding)
        except UnicodeEncodeError:
            continue
        return candidate
    return "?"
