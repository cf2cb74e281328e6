"""The table of mirror chips."""

from __future__ import annotations

import pytest

from devices.dmd_types import DMD_TYPES, DmdType, row_bytes_of


@pytest.mark.parametrize("chip", DMD_TYPES.values(), ids=DMD_TYPES)
def test_a_row_holds_all_mirrors_in_whole_64_bit_words(chip: DmdType) -> None:
    assert chip.row_bytes * 8 >= chip.mirrors_width
    assert chip.row_bytes % 8 == 0


@pytest.mark.parametrize("chip", DMD_TYPES.values(), ids=DMD_TYPES)
def test_the_memory_of_a_4_gib_board_is_filled_and_not_passed(chip: DmdType) -> None:
    used = chip.memory_pictures * chip.picture_bytes
    assert 43_690 * 768 * 128 - chip.picture_bytes < used <= 43_690 * 768 * 128 <= 4 * 2**30


def test_an_xga_board_holds_43690_pictures_at_22_7_khz() -> None:
    assert (DMD_TYPES["xga"].memory_pictures, DMD_TYPES["xga"].min_picture_time_us) == (43_690, 44)


def test_codes_mean_one_chip_each() -> None:
    codes = [code for chip in DMD_TYPES.values() for code in chip.alp_codes]
    assert len(codes) == len(set(codes))


def test_rows_are_padded_where_the_chip_pads_them() -> None:
    assert [row_bytes_of(code, width) for code, width in ((4, 1024), (3, 1920), (7, 1920), (8, 2560))] == [
        128,
        256,
        256,
        320,
    ]
    assert row_bytes_of(12, 1280) == 160
    assert row_bytes_of(0, 20) == 3


def test_a_chip_of_another_width_than_the_boards_is_refused() -> None:
    with pytest.raises(ValueError, match="the board states 1920"):
        row_bytes_of(4, 1920)
