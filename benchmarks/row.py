"""One line of the speed table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What was measured, both figures with their units, their ratio, and what the ratio should be."""

    what: str
    here: str
    peer: str
    ratio: float
    target: str
