"""The mirror chips that ALP boards drive, as their data sheets state them.

For planning only: a connected board is asked for its mirrors, its free memory and its shortest picture time. The
picture times are nominal, from the binary pattern rates ViALUX states for its modules (XGA 22 727 Hz, 1080p 17 857 Hz,
WUXGA 16 393 Hz, WQXGA 12 987 Hz), rounded up to whole microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    "1080p": DmdType("1080p", 1080, 1920, 256, 56, (3,)),
    "wuxga": DmdType("WUXGA", 1200, 1920, 256, 61, (7,)),
    "wqxga": DmdType("WQXGA", 1600, 2560, 320, 77, (8, 9)),
}


def row_bytes_of(alp_code: int, mirrors_width: int) -> int:
    """Bytes of one packed mirror row on the chip with this ALP code: padded where known, else ⌈width / 8⌉.

    Raises ValueError where the code names a chip whose width differs from ``mirrors_width``, because then neither
    can be trusted.
    """
    for chip in DMD_TYPES.values():
        if alp_code in chip.alp_codes:
            if chip.mirrors_width != mirrors_width:
                raise ValueError(
                    f"DMD type {alp_code} ({chip.name}) has {chip.mirrors_width} mirrors in a row, "
                    f"but the board states {mirrors_width}"
                )
            return chip.row_bytes
    return -(-mirrors_width // 8)
