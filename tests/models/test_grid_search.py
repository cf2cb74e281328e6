"""The best point of a grid, by looking at all of them."""

from __future__ import annotations

import numpy as np
import pytest

from models.grid_search import GridError, best_on_grid


def test_the_highest_score_wins() -> None:
    best, scores = best_on_grid(lambda point: -((point[0] - 2) ** 2) - abs(point[1] + 1), [0, 1, 2, 3], [-1, 0])
    assert list(best) == [2, -1]
    np.testing.assert_array_equal(scores, [[-4, -5], [-1, -2], [0, -1], [-1, -2]])


def test_the_first_of_equals_wins() -> None:
    assert best_on_grid(lambda point: point[0] % 2, [0, 1, 2, 3])[0] == (1,)


@pytest.mark.parametrize("axes", [(), ([],), ([1.0], [])])
def test_an_empty_grid_is_refused(axes: tuple[list[float], ...]) -> None:
    with pytest.raises(GridError, match="one point at least"):
        best_on_grid(sum, *axes)


def test_a_score_that_is_no_number_is_named() -> None:
    with pytest.raises(GridError, match=r"\(2\.0,\) is NaN"):
        best_on_grid(lambda point: float("nan") if point[0] == 2 else 0.0, [1.0, 2.0])
