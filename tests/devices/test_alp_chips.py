"""Mirror chips: rows with padding, and boards whose rows are not known."""

from __future__ import annotations

import numpy as np
import pytest

from devices.dmd_types import DMD_TYPES
from devices.errors import DeviceStateError
from sim_devices.alp_library import alp4_on
from sim_devices.bench import OpticalBench
from tests.devices.benches import SILENT, a_bench, a_driver, a_library, displayed


@pytest.mark.parametrize("key", ["1080p", "wuxga"])
def test_padded_chips_are_told_by_their_type(key: str) -> None:
    chip = DMD_TYPES[key]
    bench = OpticalBench(SILENT, np.ones((chip.mirrors_height, chip.mirrors_width)), light_on=True)
    library = a_library(bench, row_bytes=chip.row_bytes, dmd_type_code=chip.alp_codes[0])
    projector = a_driver(alp4_on(library))
    assert (projector.info.name, projector.info.row_bytes) == (f"ALP {chip.name}", 256)
    pictures = np.zeros((1, chip.mirrors_height, 256), np.uint8)
    pictures[0, -1, chip.mirrors_width // 8 - 1 :] = 0xFF
    bank = projector.allocate(1)
    projector.load(bank, 0, pictures)
    projector.start(bank, 0, 0)
    assert displayed(bench).tolist() == [8.0]


def test_a_chip_type_that_does_not_match_its_mirrors_is_an_error() -> None:
    with pytest.raises(DeviceStateError, match="1024 mirrors"):
        a_driver(alp4_on(a_library(a_bench(), dmd_type_code=4)))


@pytest.mark.parametrize("code", [2, 12, 77, 254, 255])
def test_a_board_whose_rows_are_not_known_is_refused_and_freed(code: int) -> None:
    bench = a_bench()
    alp = alp4_on(a_library(bench, dmd_type_code=code))
    with pytest.raises(DeviceStateError, match=f"laid out.*DMD type {code} .*XGA"):
        a_driver(alp)
    assert not hasattr(alp, "_ALPLib")  # ALP4lib lets go of its library once the device is freed


@pytest.mark.parametrize("key", DMD_TYPES)
def test_every_bit_of_a_row_lands_on_its_mirror_and_padding_never_counts(key: str) -> None:
    """One picture per bit of a packed row, on a board that has the chip's columns and three rows of them."""
    chip, rows, row = DMD_TYPES[key], 3, 1
    light = np.random.default_rng(1).integers(1, 1000, (rows, chip.mirrors_width)).astype(np.float64)
    bench = OpticalBench(SILENT, light, light_on=True)
    n_bits = 8 * chip.row_bytes
    library = a_library(bench, row_bytes=chip.row_bytes, dmd_type_code=chip.alp_codes[0], memory_pictures=n_bits)
    projector = a_driver(alp4_on(library))
    pictures = np.zeros((n_bits, rows, chip.row_bytes), np.uint8)
    pictures[:, row] = np.packbits(np.eye(n_bits, dtype=np.uint8), axis=1)
    bank = projector.allocate(n_bits)
    projector.load(bank, 0, pictures)
    projector.start(bank, 0, n_bits - 1)
    expected = np.zeros(n_bits)
    expected[: chip.mirrors_width] = light[row]
    np.testing.assert_array_equal(displayed(bench), expected)
