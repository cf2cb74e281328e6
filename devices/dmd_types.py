"""The mirror chips that ALP boards drive, as their data sheets state them.

For planning only: a connected board is asked for its mirrors, its free memory and its shortest picture time. The
picture times are nominal, from the binary pattern rates ViALUX states for its modules (XGA 22 727 Hz, 1080p 17 857 Hz,
WUXGA 16 393 Hz, WQXGA 12 987 Hz), rounded up to whole microseconds.

Codes and sizes are those of ViALUX's alp.h. The bytes of a row are documented for XGA, the 0.95" 1080p chip and WUXGA
(quoted in ALP4lib 1.1.0); for the 0.65" 1080p chips (codes 10 and 11) they are taken to be the same by analogy, the
mirrors being as many, and for WQXGA to be the mirrors' own bits. No board with these chips has been tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_XGA_PICTURES_ON_4_GIB = 43_690
_XGA_PICTURE_BYTES = 768 * 128


@dataclass(frozen=True)
class DmdType:
    """One kind of mirror chip.

    ``row_bytes`` are the bytes one packed mirror row occupies, padding included; ``alp_codes`` are the values of the
    ALP's device inquiry 2021 that mean this chip, the first one standing for the rest where one is needed.
    """

    name: str
    mirrors_height: int
    mirrors_width: int
    row_bytes: int
    min_picture_time_us: int
    alp_codes: tuple[int, ...]

    @property
    def picture_bytes(self) -> int:
        """Bytes of one packed 1-bit picture."""
        return self.mirrors_height * self.row_bytes

    @property
    def memory_pictures(self) -> int:
        """1-bit pictures on a 4 GiB board: 43 690 of XGA, and of other chips as many as fill the same bytes."""
        return _XGA_PICTURES_ON_4_GIB * _XGA_PICTURE_BYTES // self.picture_bytes


DMD_TYPES: dict[str, DmdType] = {
    "xga": DmdType("XGA", 768, 1024, 128, 44, (4, 1, 5, 6)),
    "1080p": DmdType("1080p", 1080, 1920, 256, 56, (3, 10, 11)),
    "wuxga": DmdType("WUXGA", 1200, 1920, 256, 61, (7,)),
    "wqxga": DmdType("WQXGA", 1600, 2560, 320, 77, (8, 9)),
}


# Codes of alp.h that name no chip this table could describe, and what to do about each.
_UNSUPPORTED: Final[dict[int, str]] = {
    2: "SXGA+, whose packed rows begin with a byte that is ignored, which is not supported",
    12: "WXGA S450, whose packed rows are documented nowhere, and which is not supported",
    254: "a chip whose DLPC910 controller needs an update; contact ViALUX",
    255: "that no DMD is connected; switch the board off, check the cable between board and DMD, then try again",
}


def chip_of(alp_code: int, mirrors_width: int, chips: Mapping[str, DmdType] = DMD_TYPES) -> DmdType:
    """The chip that a board with this ALP code carries, out of ``chips``. Nothing is guessed.

    Raises ValueError where the code is unknown or unsupported, and where it names a chip whose width differs from
    ``mirrors_width``, because then neither can be trusted.
    """
    chip = next((chip for chip in chips.values() if alp_code in chip.alp_codes), None)
    if chip is None:
        known = ", ".join(f"{each.name} ({'/'.join(map(str, sorted(each.alp_codes)))})" for each in chips.values())
        meaning = f" means {_UNSUPPORTED[alp_code]}" if alp_code in _UNSUPPORTED else " is not known"
        raise ValueError(f"DMD type {alp_code}{meaning}; chips known, with their types: {known}")
    if chip.mirrors_width != mirrors_width:
        raise ValueError(
            f"DMD type {alp_code} ({chip.name}) has {chip.mirrors_width} mirrors in a row, "
            f"but the board states {mirrors_width}; power-cycle the board and check its DMD"
        )
    return chip
