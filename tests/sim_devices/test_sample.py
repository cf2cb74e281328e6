"""The generated sample, and where its light lies on the mirrors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim_devices.sample import fluorescent_cells, place_on_mirrors


def eight_views(image: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [view.T for view in turned]


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("n", [16, 64, 128])
def test_the_sample_is_bright_somewhere_dark_somewhere_and_never_negative(n: int, seed: int) -> None:
    image = fluorescent_cells(n, seed)
    assert image.shape == (n, n)
    assert image.min() >= 0
    assert image.max() == 1.0
    assert np.median(image) < 0.4


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_flip_or_rotation_of_the_sample_looks_like_another(seed: int) -> None:
    image = fluorescent_cells(64, seed)
    for one, other in itertools.combinations(eight_views(image), 2):
        assert np.abs(one - other).mean() > 0.02


def test_the_sample_is_the_same_for_the_same_seed_only() -> None:
    np.testing.assert_array_equal(fluorescent_cells(32, 5), fluorescent_cells(32, 5))
    assert np.abs(fluorescent_cells(32, 5) - fluorescent_cells(32, 6)).max() > 0.1


def test_a_sample_too_small_for_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="8 or more"):
        fluorescent_cells(4, 0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    per_px=st.integers(1, 4),
    top=st.integers(0, 5),
    left=st.integers(0, 5),
    flips=st.tuples(st.booleans(), st.booleans()),
    quarter_turns=st.integers(0, 3),
)
def test_each_pixels_light_lies_where_the_turned_image_has_it(
    seed: int, per_px: int, top: int, left: int, flips: tuple[bool, bool], quarter_turns: int
) -> None:
    n = 4
    image = np.random.default_rng(seed).random((n, n))
    light = place_on_mirrors(image, 24, 22, top, left, per_px, *flips, 90 * quarter_turns)
    for row, column in np.ndindex(n, n):
        r, c = (n - 1 - row if flips[0] else row), (n - 1 - column if flips[1] else column)
        for _ in range(quarter_turns):
            r, c = n - 1 - c, r  # a quarter turn counter-clockwise
        y, x = top + r * per_px, left + c * per_px
        np.testing.assert_allclose(light[y : y + per_px, x : x + per_px], image[row, column] / per_px**2)
    assert light.sum() == pytest.approx(image.sum())


@pytest.mark.parametrize(("top", "left"), [(3, 0), (0, 3), (-1, 0), (0, -1)])
def test_an_image_that_does_not_fit_is_refused(top: int, left: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        place_on_mirrors(np.ones((4, 4)), 10, 10, top, left, 2)


def test_only_quarter_turns_are_possible() -> None:
    with pytest.raises(ValueError, match="45"):
        place_on_mirrors(np.ones((2, 2)), 4, 4, 0, 0, 1, rotation_deg=45)
