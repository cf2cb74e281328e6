"""One line of the speed table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """what was measured; here, peer: both figures with their units; ratio: here over peer or limit; target: of ratio."""

    what: str
    here: str
    peer: str
    ratio: float
    target: str
