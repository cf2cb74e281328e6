"""Dots: what is projected, and how the frames that come back are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.dot_frames import DotFrames
from calibration.fiducials import FiducialPictures, fiducial_recipe
from calibration.verdict import NotCalibratableError
from models.pictures import BufferShapeError, PictureIndexError, Region, RegionError
from tests.calibration.registration_scene import PICTURES, REGION, bits

REGIONS = st.builds(
    lambda side, px, top, left, pad: Region(
        side, top + side * px + 3, left + side * px + 5, (left + side * px + 12) // 8 + pad, top, left, px
    ),
    st.sampled_from([8, 16, 32]),
    st.integers(1, 5),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 2),
)


def inside(region: Region) -> np.ndarray:
    lit = np.zeros((region.mirrors_height, region.mirrors_width), dtype=bool)
    lit[region.top : region.top + region.extent, region.left : region.left + region.extent] = True
    return lit


@given(REGIONS, st.integers(1, 25))
def test_a_dot_and_its_complement_make_the_region_and_nothing_beside_it(region: Region, pair: int) -> None:
    pictures = FiducialPictures(region)
    dot, rest = bits(pair, 1, pictures), bits(pair, -1, pictures)
    assert not (dot & rest).any()
    assert ((dot | rest) == inside(region)).all()
    assert dot.any()
    packed = pictures.render(np.array([pair, pair, 0, 0]), np.array([1, -1, 1, -1]))
    padding = np.unpackbits(packed, axis=2)[:, :, region.mirrors_width :]
    assert not padding.any()


@given(REGIONS)
def test_picture_zero_is_all_of_the_region_or_darkness(region: Region) -> None:
    pictures = FiducialPictures(region)
    assert (bits(0, 1, pictures) == inside(region)).all()
    assert not bits(0, -1, pictures).any()


@given(REGIONS, st.integers(1, 25))
def test_a_dots_mirrors_lie_around_the_position_that_is_stated(region: Region, pair: int) -> None:
    pictures = FiducialPictures(region)
    row, column = np.nonzero(bits(pair, 1, pictures))
    assert np.allclose([column.mean(), row.mean()], pictures.positions[pair - 1])
    mirrors = pictures.positions[pair - 1] + pictures.dot
    assert {(x, y) for x, y in mirrors.tolist()} == set(zip(column.tolist(), row.tolist(), strict=True))
    reach = np.hypot(column - column.mean(), row - row.mean()).max()
    assert reach <= pictures.diameter / 2
    assert pictures.diameter == max(region.extent // 16, 4)


def test_dots_are_at_different_places_all_over_the_region() -> None:
    columns, rows = PICTURES.positions.T
    assert len(PICTURES.positions) == 25
    assert len(np.unique(PICTURES.positions, axis=0)) == 25
    for places, first in ((columns, REGION.left), (rows, REGION.top)):
        assert np.ptp(places) > 0.85 * REGION.extent
        assert abs(places.mean() - (first + (REGION.extent - 1) / 2)) < 0.5


def test_pictures_are_rendered_into_a_buffer_whatever_it_held() -> None:
    pairs, signs = np.array([3, 0, 25, 7]), np.array([-1, 1, 1, 1])
    out = np.full((4, REGION.mirrors_height, REGION.row_bytes), 0xA5, dtype=np.uint8)
    assert PICTURES.render(pairs, signs, out) is out
    assert (out == PICTURES.render(pairs, signs)).all()


@pytest.mark.parametrize(("pairs", "signs"), [([26], [1]), ([-1], [1]), ([1], [0]), ([1, 2], [1])])
def test_pictures_that_do_not_exist_are_refused(pairs: list[int], signs: list[int]) -> None:
    with pytest.raises(PictureIndexError):
        PICTURES.render(np.array(pairs), np.array(signs))


def test_a_buffer_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BufferShapeError):
        PICTURES.render(np.array([1]), np.array([1]), np.empty((1, 2, 3), dtype=np.uint8))


def test_a_region_too_small_for_its_dots_is_refused() -> None:
    tiny = Region(2, 20, 20, 4, 0, 0, 3)
    with pytest.raises(RegionError, match="at least 8 mirrors"):
        FiducialPictures(tiny)
    with pytest.raises(ValueError, match="at least 3 × 3"):
        FiducialPictures(REGION, grid=2)


def test_the_recipe_shows_every_dot_as_often_as_asked_and_keeps_the_frames() -> None:
    recipe = fiducial_recipe(REGION, grid=4, repeats=3, seed=9)
    assert sorted(recipe.pairs.tolist()) == list(range(1, 17))
    assert recipe.n_pairs == 48
    assert recipe.keeps_frames
    assert (fiducial_recipe(REGION, grid=4, repeats=3, seed=9).pairs == recipe.pairs).all()
    assert (fiducial_recipe(REGION, grid=4, repeats=3, seed=8).pairs != recipe.pairs).any()
    assert set(recipe.plus_first.tolist()) == {True, False}
    with pytest.raises(ValueError, match="passes"):
        fiducial_recipe(REGION, repeats=0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_means_do_not_depend_on_how_frames_come_in_blocks(lengths: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = sum(lengths) + 10
    pair, sign = rng.integers(0, 4, n), rng.choice([-1, 1], n)
    pair[:6], sign[:6] = [0, 0, 0, 1, 2, 3], [1, -1, -1, 1, 1, 1]
    frames = rng.integers(0, 60_000, (n, 3, 2), dtype=np.uint16)
    kept = DotFrames(3)
    for these in np.split(np.arange(n), np.cumsum(lengths)):
        kept.add(pair[these], sign[these], frames[these])
    seen = kept.seen()
    exact = frames.astype(np.float64)
    of = {(k, s): exact[(pair == k) & (sign == s)] for k in range(4) for s in (-1, 1)}
    for k in range(3):
        assert seen.count[k] == len(of[k + 1, 1])
        assert np.allclose(seen.dot(k), of[k + 1, 1].mean(axis=0) - of[0, -1].mean(axis=0), rtol=0, atol=0.05)
    assert np.allclose(seen.sample, of[0, 1].mean(axis=0) - of[0, -1].mean(axis=0))
    dark_variance = of[0, -1].var(axis=0, ddof=1).mean()
    fewest = min(len(of[k, 1]) for k in (1, 2, 3))
    assert np.isclose(seen.noise**2, dark_variance * (1 / fewest + 1 / len(of[0, -1])))


def test_pixels_at_full_scale_are_kept_of_every_dot_and_hot_ones_told_apart() -> None:
    kept = DotFrames(2, full_scale=200)
    frames = np.full((5, 2, 3), 100, dtype=np.uint16)
    frames[0, 0, 0], frames[1, 0, 1], frames[2, 1, 1], frames[4, 0, 2] = 250, 200, 199, 201
    # A hot pixel stands at full scale once in the dark, and under dot 2 too.
    frames[3, 1, 2] = frames[1, 1, 2] = 230
    kept.add(np.array([1, 2, 1, 0, 0]), np.array([1, 1, 1, -1, 1]), frames)
    kept.add(np.array([1, 0]), np.array([1, -1]), np.full((2, 2, 3), 100, dtype=np.uint16))
    seen = kept.seen()
    assert np.argwhere(seen.saturated(0)).tolist() == [[0, 0]]
    assert np.argwhere(seen.saturated(1)).tolist() == [[0, 1]]
    assert seen.saturated(1, slice(0, 1), slice(1, 3)).tolist() == [[True, False]]
    assert np.argwhere(seen.saturated_sample).tolist() == [[0, 2]]


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65_535)])
def test_full_scale_is_what_a_pixels_bytes_hold_unless_it_is_known(dtype: type, largest: int) -> None:
    kept = DotFrames(1)
    frames: NDArray[Any] = np.array([[[largest, largest - 1]], [[0, 0]], [[0, 0]], [[0, 0]]], dtype=dtype)
    kept.add(np.array([1, 0, 0, 0]), np.array([1, 1, -1, -1]), frames)
    assert kept.seen().saturated(0).tolist() == [[True, False]]


def test_a_dot_of_which_no_frame_came_has_no_light() -> None:
    kept = DotFrames(2)
    kept.add(np.array([0, 0, 0, 2]), np.array([1, -1, -1, 1]), np.full((4, 2, 2), 9, dtype=np.uint8))
    assert kept.seen().count.tolist() == [0, 1]
    assert not kept.seen().dot(0).any()


def test_frames_that_do_not_fit_are_refused() -> None:
    kept = DotFrames(2)
    kept.add(np.array([1]), np.array([1]), np.zeros((1, 4, 4), dtype=np.uint16))
    with pytest.raises(ValueError, match="expected one size"):
        kept.add(np.array([1]), np.array([1]), np.zeros((1, 4, 5), dtype=np.uint16))
    with pytest.raises(ValueError, match="expected as many frames"):
        kept.add(np.array([1, 2]), np.array([1, 1]), np.zeros((1, 4, 4), dtype=np.uint16))
    with pytest.raises(ValueError, match="expected 0 to 2"):
        kept.add(np.array([3]), np.array([1]), np.zeros((1, 4, 4), dtype=np.uint16))


def test_what_is_missing_for_a_fit_is_said() -> None:
    kept = DotFrames(2)
    with pytest.raises(NotCalibratableError, match="frames came of 0 dots, 0 full and 0 dark"):
        kept.seen()
    kept.add(np.array([1, 0, 0]), np.array([1, 1, -1]), np.zeros((3, 4, 4), dtype=np.uint16))
    with pytest.raises(NotCalibratableError, match="frames came of 1 dots, 1 full and 1 dark"):
        kept.seen()
