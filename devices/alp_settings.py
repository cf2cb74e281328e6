"""How an ALP board is set when it is connected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from devices import alp_codes as codes

SyncPolarity = Literal["high", "low"]
BinaryMode = Literal["normal", "uninterrupted"]

SYNC_LEVELS: Final[dict[str, int]] = {"high": codes.LEVEL_HIGH, "low": codes.LEVEL_LOW}
BINARY_MODES: Final[dict[str, int]] = {"normal": codes.BIN_NORMAL, "uninterrupted": codes.BIN_UNINTERRUPTED}


@dataclass(frozen=True)
class AlpSettings:
    """Settings of the board, in effect from connecting to closing.

    ``sync_polarity`` is the level of an active sync output. In ``binary_mode`` "normal" every picture ends with a dark
    phase and the illumination time is free; in "uninterrupted" there is none, and a picture is displayed for all of
    its picture time. ``float_mirrors_at_end`` releases the mirrors from their deflected states on closing.
    ``device_number`` is the board's serial number, 0 the first one found.

    Raises ValueError where a value is none of these.
    """

    sync_polarity: SyncPolarity = "high"
    binary_mode: BinaryMode = "normal"
    float_mirrors_at_end: bool = False
    device_number: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("sync_polarity", self.sync_polarity, get_args(SyncPolarity)),
            ("binary_mode", self.binary_mode, get_args(BinaryMode)),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {' or '.join(allowed)}")
        if self.device_number < 0:
            raise ValueError(f"device_number is {self.device_number}; allowed: a serial number, or 0 for the first one")
