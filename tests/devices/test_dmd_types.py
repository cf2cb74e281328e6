"""The table of mirror chips."""

from __future__ import annotations

import pytest

from devices.dmd_types import DMD_TYPES, DmdType, chip_of


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
    boards = ((4, 1024), (1, 1024), (3, 1920), (10, 1920), (11, 1920), (7, 1920), (8, 2560))
    assert [chip_of(*board).row_bytes for board in boards] == [128, 128, 256, 256, 256, 256, 320]


@pytest.mark.parametrize(
    ("code", "width", "reason"),
    [
        (2, 1400, r"type 2 means SXGA\+.*not supported"),
        (12, 1280, "type 12 means WXGA S450.*not supported"),
        (254, 1920, "type 254 means a chip whose DLPC910 controller needs an update"),
        (255, 1920, "type 255 means that no DMD is connected"),
        (0, 1024, "type 0 is not known"),
        (13, 1920, "type 13 is not known"),
    ],
)
def test_a_chip_whose_rows_are_not_known_is_refused_and_never_guessed(code: int, width: int, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{reason}.*chips known.*XGA \(1/4/5/6\), 1080p \(3/10/11\)"):
        chip_of(code, width)


def test_a_chip_of_another_width_than_the_boards_is_refused() -> None:
    with pytest.raises(ValueError, match="the board states 1920"):
        chip_of(4, 1920)
