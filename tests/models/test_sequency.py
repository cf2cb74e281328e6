"""Sequency orders against counted sign changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard

from models.hadamard import SideError
from models.sequency import image_sequency, order_by_total_sequency, sequency_order, sequency_rank

SIDES = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def sign_changes(n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(np.count_nonzero(np.diff(hadamard(n), axis=1), axis=1), dtype=np.int64)


@pytest.mark.parametrize("n", SIDES)
def test_the_rank_of_a_row_is_its_number_of_sign_changes(n: int) -> None:
    rank = sequency_rank(n)
    assert rank.dtype == np.int64
    np.testing.assert_array_equal(rank, sign_changes(n))


@pytest.mark.parametrize("n", SIDES)
def test_the_row_at_place_k_has_k_sign_changes(n: int) -> None:
    order = sequency_order(n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(sign_changes(n)[order], np.arange(n))


def test_rows_of_length_four_in_their_textbook_order() -> None:
    assert sequency_order(4).tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("n", [1, 2, 8, 32])
def test_a_pattern_has_the_sequency_of_its_row_down_and_of_its_column_across(n: int) -> None:
    vertical, horizontal = image_sequency(n)
    rows = np.kron(hadamard(n), hadamard(n)).reshape(n * n, n, n)
    np.testing.assert_array_equal(vertical, np.count_nonzero(np.diff(rows[:, :, 0], axis=1), axis=1))
    np.testing.assert_array_equal(horizontal, np.count_nonzero(np.diff(rows[:, 0, :], axis=1), axis=1))


@pytest.mark.parametrize("n", [1, 2, 4, 16, 64])
def test_patterns_are_ordered_by_sum_then_larger_then_index(n: int) -> None:
    changes = sign_changes(n).tolist()
    keys = [(changes[i // n] + changes[i % n], max(changes[i // n], changes[i % n]), i) for i in range(n * n)]
    order = order_by_total_sequency(n)
    assert order.dtype == np.int64
    assert order.tolist() == sorted(range(n * n), key=keys.__getitem__)


@pytest.mark.parametrize("n", [0, 3, 24, -2])
@pytest.mark.parametrize("function", [sequency_rank, sequency_order, image_sequency, order_by_total_sequency])
def test_sides_that_are_no_power_of_two_are_refused(function: object, n: int) -> None:
    assert callable(function)
    with pytest.raises(SideError, match="power of two"):
        function(n)
