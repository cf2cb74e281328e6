"""Test pictures for adjusting the optics, against what plain NumPy and the dense matrix make of their names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.alignment_pictures import ALIGNMENT_PICTURES, alignment_picture
from models.pictures import Region

WIDTH_IN_BYTES = 24


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """Small chips with padded rows, and a region anywhere on them."""
    side, mirrors_per_px = draw(st.sampled_from([2, 4, 8])), draw(st.integers(1, 4))
    extent = side * mirrors_per_px
    height, width = draw(st.integers(extent, 150)), draw(st.integers(extent, 8 * WIDTH_IN_BYTES))
    return Region(
        side=side,
        mirrors_height=height,
        mirrors_width=width,
        row_bytes=WIDTH_IN_BYTES,
        top=draw(st.integers(0, height - extent)),
        left=draw(st.integers(0, width - extent)),
        mirrors_per_px=mirrors_per_px,
        flip_vertical=draw(st.booleans()),
        flip_horizontal=draw(st.booleans()),
        rotation_deg=draw(st.sampled_from([0, 90, 180, 270])),
    )


def mirrors(region: Region, name: str, index: int = 0) -> NDArray[np.uint8]:
    """A picture's mirrors, 0 or 1; what stands in the padding must be dark."""
    picture = alignment_picture(region, name, index)
    assert picture.dtype == np.uint8
    assert picture.shape == (region.mirrors_height, region.row_bytes)
    bits = np.unpackbits(picture, axis=1)
    assert not bits[:, region.mirrors_width :].any()
    return bits[:, : region.mirrors_width]


@given(regions())
def test_full_is_every_mirror_and_dark_is_none(region: Region) -> None:
    assert mirrors(region, "full").all()
    assert not mirrors(region, "dark").any()


@given(regions())
def test_the_grid_is_every_64th_row_and_column_with_a_broad_cross_in_the_middle(region: Region) -> None:
    rows, columns = np.ogrid[: region.mirrors_height, : region.mirrors_width]
    lines = (rows % 64 == 0) | (columns % 64 == 0)
    cross = (abs(rows - region.mirrors_height // 2) <= 1) | (abs(columns - region.mirrors_width // 2) <= 1)
    assert (mirrors(region, "grid") == (lines | cross)).all()


@given(regions())
def test_the_region_is_its_outline_one_mirror_wide(region: Region) -> None:
    rows, columns = np.ogrid[: region.mirrors_height, : region.mirrors_width]
    down, across = rows - region.top, columns - region.left
    last = region.side * region.mirrors_per_px - 1
    inside = (down >= 0) & (down <= last) & (across >= 0) & (across <= last)
    edge = (down == 0) | (down == last) | (across == 0) | (across == last)
    assert (mirrors(region, "region") == (inside & edge)).all()


@given(regions(), st.data())
def test_a_coefficient_is_its_row_of_the_dense_matrix_turned_as_the_image_is(
    region: Region, data: st.DataObject
) -> None:
    n = region.side
    index = data.draw(st.integers(0, n * n - 1))
    pattern = (hadamard(n * n)[index] > 0).reshape(n, n)
    if region.flip_vertical:
        pattern = pattern[::-1]
    if region.flip_horizontal:
        pattern = pattern[:, ::-1]
    pattern = np.rot90(pattern, region.rotation_deg // 90)
    expected = np.zeros((region.mirrors_height, region.mirrors_width), dtype=np.uint8)
    extent = n * region.mirrors_per_px
    expected[region.top : region.top + extent, region.left : region.left + extent] = np.kron(
        pattern, np.ones((region.mirrors_per_px, region.mirrors_per_px))
    )
    assert (mirrors(region, "coefficient", index) == expected).all()


SMALL = Region(side=4, mirrors_height=40, mirrors_width=100, row_bytes=13, top=3, left=7, mirrors_per_px=5)


def test_a_name_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no test picture 'gird'; allowed: full, dark, grid, region, coefficient"):
        alignment_picture(SMALL, "gird")


@pytest.mark.parametrize("index", [-1, 16])
def test_a_pattern_that_is_none_is_refused_with_those_there_are(index: int) -> None:
    with pytest.raises(ValueError, match=f"no pattern {index}; allowed: 0 to 15"):
        alignment_picture(SMALL, "coefficient", index)


def test_no_two_pictures_are_alike() -> None:
    pictures = {alignment_picture(SMALL, name, 1).tobytes() for name in ALIGNMENT_PICTURES}
    assert len(pictures) == len(ALIGNMENT_PICTURES) == 5
