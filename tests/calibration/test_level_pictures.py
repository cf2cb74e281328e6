from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.level_pictures import LevelCountError, LevelPictures
from models.pictures import BufferShapeError, PictureIndexError, Region

REGION = Region(32, 80, 100, 16, 7, 13, 2)


def mirrors(packed: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """Single mirrors uint8 [K, H, W] of packed pictures, and nothing in the padding of the rows."""
    bits = np.unpackbits(packed, axis=2)
    assert not bits[:, :, region.mirrors_width :].any()
    return bits[:, :, : region.mirrors_width]


def inside(region: Region) -> NDArray[np.bool_]:
    covered = np.zeros((region.mirrors_height, region.mirrors_width), dtype=np.bool_)
    covered[region.top : region.top + region.extent, region.left : region.left + region.extent] = True
    return covered


@pytest.mark.parametrize("levels", [2, 6, 16, 64])
def test_a_pair_lights_every_mirror_of_the_region_once(levels: int) -> None:
    pairs = np.arange(levels // 2 + 1)
    source = LevelPictures(REGION, levels, seed=4)
    plus = mirrors(source.render(pairs, np.ones_like(pairs)), REGION)
    minus = mirrors(source.render(pairs, -np.ones_like(pairs)), REGION)
    assert np.array_equal(plus + minus, np.broadcast_to(inside(REGION), plus.shape))


def test_pair_0_is_all_of_the_region_and_darkness() -> None:
    bright, dark = mirrors(LevelPictures(REGION, 16, seed=1).render(np.array([0, 0]), np.array([1, -1])), REGION)
    assert np.array_equal(bright, inside(REGION))
    assert not dark.any()


def test_every_tile_of_the_region_has_the_stated_share() -> None:
    lit = mirrors(LevelPictures(REGION, 16, seed=1).render(np.arange(1, 9), np.ones(8, dtype=int)), REGION)
    region = lit[:, 7 : 7 + 64, 13 : 13 + 64]
    tiles = region.reshape(8, 8, 8, 8, 8).sum(axis=(2, 4))
    assert np.array_equal(tiles, np.broadcast_to(4 * np.arange(1, 9)[:, None, None], (8, 8, 8)))


def test_tiles_differ_and_follow_the_seed() -> None:
    def first_level(seed: int) -> NDArray[np.uint8]:
        packed = LevelPictures(REGION, 16, seed).render(np.array([4]), np.array([1]))
        lit: NDArray[np.uint8] = mirrors(packed, REGION)[0]
        return lit

    lit = first_level(1)
    assert not np.array_equal(lit[7:15, 13:21], lit[15:23, 13:21])
    assert np.array_equal(lit, first_level(1))
    assert not np.array_equal(lit, first_level(2))


def test_light_is_even_over_a_structured_sample() -> None:
    down, across = np.mgrid[:80, :100]
    sample = (1 + np.sin(down / 9.0) * np.cos(across / 7.0)) * inside(REGION)
    lit = mirrors(LevelPictures(REGION, 16, seed=5).render(np.arange(1, 9), np.ones(8, dtype=int)), REGION)
    share = (lit * sample).sum(axis=(1, 2)) / sample.sum()
    assert share == pytest.approx(np.arange(1, 9) / 16, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(2, 1), (4, 1), (8, 3), (16, 2)]), st.integers(0, 20), st.integers(0, 20), st.integers(0, 9))
def test_regions_of_any_size_and_place_keep_the_rest_dark(
    size: tuple[int, int], top: int, left: int, seed: int
) -> None:
    region = Region(size[0], 60, 60, 8, top, left, size[1])
    plus = LevelPictures(region, 8, seed).render(np.array([1, 3]), np.array([1, -1]))
    assert not (mirrors(plus, region).astype(bool) & ~inside(region)).any()


def test_what_the_buffer_held_is_gone() -> None:
    source = LevelPictures(REGION, 8, seed=1)
    out = np.full((2, 80, 16), 255, dtype=np.uint8)
    returned = source.render(np.array([0, 3]), np.array([-1, 1]), out)
    assert returned is out
    assert np.array_equal(out, source.render(np.array([0, 3]), np.array([-1, 1])))


def test_pictures_that_do_not_exist_are_refused() -> None:
    source = LevelPictures(REGION, 8, seed=1)
    with pytest.raises(PictureIndexError, match="expected 0 to 4"):
        source.render(np.array([5]), np.array([1]))
    with pytest.raises(PictureIndexError, match="signs"):
        source.render(np.array([1]), np.array([0]))
    with pytest.raises(BufferShapeError):
        source.render(np.array([1]), np.array([1]), np.zeros((1, 80, 15), dtype=np.uint8))


@pytest.mark.parametrize("levels", [0, 7, 66])
def test_levels_that_cannot_be_displayed_are_refused(levels: int) -> None:
    with pytest.raises(LevelCountError, match="even number"):
        LevelPictures(REGION, levels, seed=1)
