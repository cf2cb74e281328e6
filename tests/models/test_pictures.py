"""Packed pictures against a mirror-by-mirror rendering with kron, flip, rot90 and packbits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.hadamard import SideError
from models.pictures import PictureRenderer, Region, RegionError

ORIENTATIONS = list(product([False, True], [False, True], [0, 90, 180, 270]))
CHIPS = {
    "one mirror a pixel, byte boundary": Region(8, 16, 32, 4, 4, 8, 1),
    "one mirror a pixel, odd offset": Region(8, 13, 29, 4, 3, 5, 1),
    "three mirrors a pixel, odd offset": Region(4, 15, 31, 4, 2, 13, 3),
    "five mirrors a pixel, padded rows": Region(4, 24, 40, 8, 1, 19, 5),
    "whole chip": Region(16, 32, 32, 4, 0, 0, 2),
    "last row and last column": Region(8, 20, 43, 6, 12, 35, 1),
    "smallest image": Region(2, 5, 9, 2, 1, 3, 2),
    "one pixel": Region(1, 5, 9, 2, 1, 3, 2),
}


def mirrors(region: Region, index: int, sign: int) -> NDArray[np.bool_]:
    """The picture with one value a mirror, bool [mirrors_height, 8·row_bytes]."""
    n = region.side
    pattern = sign * np.kron(hadamard(n), hadamard(n))[index].reshape(n, n) > 0
    if region.flip_vertical:
        pattern = np.flip(pattern, axis=0)
    if region.flip_horizontal:
        pattern = np.flip(pattern, axis=1)
    pattern = np.rot90(pattern, region.rotation_deg // 90)
    magnified = np.kron(pattern, np.ones((region.mirrors_per_px, region.mirrors_per_px), dtype=bool))
    frame = np.zeros((region.mirrors_height, 8 * region.row_bytes), dtype=bool)
    bottom, right = region.top + len(magnified), region.left + len(magnified)
    frame[region.top : bottom, region.left : right] = magnified
    return frame


def packed(region: Region, indices: NDArray[np.int64], signs: NDArray[np.int8]) -> NDArray[np.uint8]:
    return np.stack([np.packbits(mirrors(region, int(i), int(s)), axis=1) for i, s in zip(indices, signs, strict=True)])


def every_picture(region: Region) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    n_patterns = region.side**2
    return np.tile(np.arange(n_patterns), 2), np.repeat(np.array([1, -1], dtype=np.int8), n_patterns)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_picture_is_right_in_every_orientation(chip: str) -> None:
    for flip_vertical, flip_horizontal, rotation_deg in ORIENTATIONS:
        region = replace(
            CHIPS[chip], flip_vertical=flip_vertical, flip_horizontal=flip_horizontal, rotation_deg=rotation_deg
        )
        indices, signs = every_picture(region)
        pictures = PictureRenderer(region).render(indices, signs)
        assert pictures.dtype == np.uint8
        np.testing.assert_array_equal(pictures, packed(region, indices, signs), err_msg=str(region))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_pictures_are_right_wherever_the_region_lies(data: st.DataObject) -> None:
    side = data.draw(st.sampled_from([1, 2, 4, 8]))
    magnification = data.draw(st.integers(1, 5))
    top, left = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 20))
    height = top + side * magnification + data.draw(st.integers(0, 5))
    width = left + side * magnification + data.draw(st.integers(0, 20))
    row_bytes = -(-width // 8) + data.draw(st.integers(0, 3))
    orientation = data.draw(st.sampled_from(ORIENTATIONS))
    region = Region(side, height, width, row_bytes, top, left, magnification, *orientation)
    indices, signs = every_picture(region)
    np.testing.assert_array_equal(PictureRenderer(region).render(indices, signs), packed(region, indices, signs))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_full_hd_chip_keeps_its_padding_dark(orientation: tuple[bool, bool, int]) -> None:
    """1920 mirrors take 240 bytes, and a row takes 256."""
    region = Region(32, 1080, 1920, 256, 59, 1920 - 32 * 30, 30, *orientation)
    indices, signs = np.array([0, 1, 37, 1023]), np.array([1, -1, 1, -1], dtype=np.int8)
    pictures = PictureRenderer(region).render(indices, signs)
    assert pictures.shape == (4, 1080, 256)
    assert not pictures[:, :, 240:].any()
    np.testing.assert_array_equal(pictures, packed(region, indices, signs))


@pytest.mark.parametrize("chip", CHIPS)
def test_a_pair_adds_up_to_a_full_region_and_nothing_else(chip: str) -> None:
    for orientation in ORIENTATIONS:
        region = replace(
            CHIPS[chip],
            flip_vertical=orientation[0],
            flip_horizontal=orientation[1],
            rotation_deg=orientation[2],
        )
        indices = np.arange(region.side**2)
        renderer = PictureRenderer(region)
        plus = np.unpackbits(renderer.render(indices, np.ones(len(indices), dtype=np.int8)), axis=2)
        minus = np.unpackbits(renderer.render(indices, -np.ones(len(indices), dtype=np.int8)), axis=2)
        both = plus.astype(int) + minus
        extent = region.side * region.mirrors_per_px
        inside = np.zeros(both.shape[1:], dtype=int)
        inside[region.top : region.top + extent, region.left : region.left + extent] = 1
        np.testing.assert_array_equal(both, np.broadcast_to(inside, both.shape))


def test_the_guards_pictures_are_all_bright_and_all_dark() -> None:
    region = CHIPS["three mirrors a pixel, odd offset"]
    bright, dark = np.unpackbits(PictureRenderer(region).render(np.array([0, 0]), np.array([1, -1])), axis=2)
    assert bright.sum() == 12 * 12
    assert not dark.any()


def test_light_through_a_pair_measures_the_coefficient() -> None:
    """Light as it lies on the mirrors, summed under H+ and under H-, differs by H_N·x."""
    region = Region(8, 60, 70, 10, 7, 11, 3, flip_vertical=True, flip_horizontal=False, rotation_deg=90)
    image = np.random.default_rng(0).uniform(size=(8, 8))
    on_mirrors = np.zeros((60, 80))
    oriented = np.kron(np.rot90(image[::-1]), np.ones((3, 3))) / 9
    on_mirrors[7:31, 11:35] = oriented
    renderer, indices = PictureRenderer(region), np.arange(64)
    plus, minus = (
        np.unpackbits(renderer.render(indices, np.full(64, sign)), axis=2).reshape(64, -1) @ on_mirrors.ravel()
        for sign in (1, -1)
    )
    np.testing.assert_allclose(plus - minus, np.kron(hadamard(8), hadamard(8)) @ image.ravel(), atol=1e-12)


@pytest.mark.parametrize("garbage", [0xFF, 0xA5])
def test_a_buffer_in_use_is_overwritten_everywhere(garbage: int) -> None:
    region = CHIPS["five mirrors a pixel, padded rows"]
    indices, signs = every_picture(region)
    buffer = np.full((len(indices), region.mirrors_height, region.row_bytes), garbage, dtype=np.uint8)
    result = PictureRenderer(region).render(indices, signs, buffer)
    assert np.shares_memory(result, buffer)
    np.testing.assert_array_equal(buffer, packed(region, indices, signs))


def test_part_of_a_larger_buffer_can_be_rendered_into() -> None:
    region = CHIPS["one mirror a pixel, odd offset"]
    buffer = np.full((5, region.mirrors_height, region.row_bytes), 0xFF, dtype=np.uint8)
    indices, signs = np.array([3, 60]), np.array([1, -1], dtype=np.int8)
    PictureRenderer(region).render(indices, signs, buffer[1:3])
    np.testing.assert_array_equal(buffer[1:3], packed(region, indices, signs))
    assert (buffer[[0, 3, 4]] == 0xFF).all()


def test_no_pictures_at_all_are_possible() -> None:
    region = CHIPS["smallest image"]
    none = PictureRenderer(region).render(np.array([], dtype=np.int64), np.array([], dtype=np.int8))
    assert none.shape == (0, region.mirrors_height, region.row_bytes)


@pytest.mark.parametrize("shape", [(1, 5, 2), (2, 5, 3), (2, 4, 2), (2, 10)])
def test_a_buffer_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected C-contiguous uint8 \[2, 5, 2\]"):
        PictureRenderer(CHIPS["smallest image"]).render(
            np.array([0, 1]), np.array([1, 1]), np.zeros(shape, dtype=np.uint8)
        )


@pytest.mark.parametrize(
    ("indices", "signs", "message"),
    [
        ([4], [1], "4"),
        ([-1], [1], "-1"),
        ([0], [0], r"\+1 or -1"),
        ([0], [2], r"\+1 or -1"),
        ([0, 1], [1], "1 signs for 2"),
    ],
)
def test_pictures_that_do_not_exist_are_refused(indices: list[int], signs: list[int], message: str) -> None:
    with pytest.raises(IndexError, match=message):
        PictureRenderer(CHIPS["smallest image"]).render(np.array(indices), np.array(signs))


GOOD = Region(8, 16, 32, 4, 4, 8, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"top": 9}, "16 rows and 32 columns"),
        ({"left": 25}, "16 rows and 32 columns"),
        ({"mirrors_per_px": 3}, "24 × 24"),
        ({"top": -1}, "row -1"),
        ({"left": -1}, "column -1"),
        ({"mirrors_per_px": 0}, "0 mirrors per pixel"),
        ({"row_bytes": 3}, "3 bytes"),
        ({"rotation_deg": 45}, "45°"),
        ({"rotation_deg": -90}, "-90°"),
    ],
)
def test_a_region_that_does_not_fit_the_mirrors_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(RegionError, match=message):
        replace(GOOD, **wrong)  # type: ignore[arg-type]


def test_a_region_of_a_side_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(SideError, match="6"):
        replace(GOOD, side=6)


def test_a_region_may_touch_every_edge_of_the_mirrors() -> None:
    assert Region(8, 16, 16, 2, 0, 0, 2).extent == 16
