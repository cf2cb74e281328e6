"""What packed pictures send to the detector, against unpacking every bit and multiplying."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from sim_devices.bits import BitDecoder


def light_by_unpacking(pictures: NDArray[np.uint8], mirror_light: NDArray[np.float64]) -> list[float]:
    """Every bit on its own, in exact arithmetic."""
    width = mirror_light.shape[1]
    exact = [[Fraction(value) for value in row] for row in mirror_light.tolist()]
    sums = []
    for picture in pictures:
        bits = np.unpackbits(picture, axis=1)[:, :width]
        rows, columns = np.nonzero(bits)
        sums.append(float(sum((exact[r][c] for r, c in zip(rows, columns, strict=True)), Fraction(0))))
    return sums


def separable_pictures(height: int, row_bytes: int, n: int, count: int, seed: int) -> NDArray[np.uint8]:
    """Outer products of Hadamard rows on the mirrors' upper left n × n corner, as packed pictures."""
    random = np.random.default_rng(seed)
    signs = hadamard(n)
    pictures = np.zeros((count, height, row_bytes * 8), np.uint8)
    for picture in pictures:
        u, v = random.integers(0, n, 2)
        sign = random.choice([1, -1])
        picture[:n, :n] = (1 + sign * np.outer(signs[u], signs[v])) // 2
    return np.packbits(pictures, axis=2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 12),
    width=st.integers(1, 90),
    padding_bytes=st.integers(0, 5),
    n_pictures=st.integers(1, 12),
    dark_share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_bits_are_decoded_exactly(
    seed: int, height: int, width: int, padding_bytes: int, n_pictures: int, dark_share: float
) -> None:
    random = np.random.default_rng(seed)
    mirror_light = random.exponential(3.0, (height, width)) * (random.random((height, width)) >= dark_share)
    row_bytes = -(-width // 8) + padding_bytes
    pictures = random.integers(0, 256, (n_pictures, height, row_bytes), dtype=np.uint8)
    decoder = BitDecoder(mirror_light)
    assert decoder.decode(pictures).tolist() == light_by_unpacking(pictures, decoder.mirror_light)


def test_separable_pictures_are_decoded_exactly() -> None:
    mirror_light = np.random.default_rng(1).random((20, 24))
    decoder = BitDecoder(mirror_light)
    pictures = separable_pictures(20, 4, 16, 60, seed=2)
    assert decoder.decode(pictures).tolist() == light_by_unpacking(pictures, decoder.mirror_light)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_decoding_in_parts_gives_the_same_floats(seed: int, cuts: list[int]) -> None:
    random = np.random.default_rng(seed)
    mirror_light = random.random((16, 40)) * 10.0 ** random.integers(-6, 6)
    noisy = random.integers(0, 256, (15, 16, 5), dtype=np.uint8)
    pictures = np.concatenate([separable_pictures(16, 5, 16, 15, seed), noisy])[random.permutation(30)]
    whole = BitDecoder(mirror_light).decode(pictures)
    in_parts = BitDecoder(mirror_light)
    edges = [0, *sorted(cuts), 30]
    parts = [in_parts.decode(pictures[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_a_row_of_the_same_hash_is_not_taken_for_a_known_one() -> None:
    decoder = BitDecoder(np.random.default_rng(3).random((4, 64)))
    decoder._multipliers = np.zeros(1, np.uint64)  # every row now hashes to 0
    pictures = np.random.default_rng(4).integers(0, 256, (6, 4, 8), dtype=np.uint8)
    assert decoder.decode(pictures).tolist() == light_by_unpacking(pictures, decoder.mirror_light)


def test_bit_7_of_the_first_byte_is_the_upper_left_mirror() -> None:
    mirror_light = np.arange(1.0, 33.0).reshape(2, 16)
    picture = np.zeros((1, 2, 2), np.uint8)
    picture[0, 0, 0] = 0b1000_0000
    assert BitDecoder(mirror_light).decode(picture).tolist() == [1.0]
    picture[0, 0, 0] = 0b0000_0001
    assert BitDecoder(mirror_light).decode(picture).tolist() == [8.0]


def test_bits_beyond_the_mirrors_send_nothing() -> None:
    decoder = BitDecoder(np.ones((3, 10)))
    padding = np.zeros((1, 3, 4), np.uint8)
    padding[:, :, 1] = 0b0011_1111
    padding[:, :, 2:] = 0xFF
    assert decoder.decode(padding).tolist() == [0.0]


def test_rounding_the_mirrors_light_changes_it_by_less_than_a_trillionth_of_the_total() -> None:
    mirror_light = np.random.default_rng(5).random((50, 70))
    rounded = BitDecoder(mirror_light).mirror_light
    assert np.abs(rounded - mirror_light).max() < 1e-12 * mirror_light.sum() / mirror_light.size


@pytest.mark.parametrize(
    "mirror_light",
    [np.array([[1.0, -0.5]]), np.array([[np.nan, 1.0]]), np.array([1.0, 2.0])],
    ids=["negative", "not a number", "one-dimensional"],
)
def test_impossible_light_is_refused(mirror_light: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="mirror_light"):
        BitDecoder(mirror_light)


@pytest.mark.parametrize(
    "pictures",
    [np.zeros((1, 3, 2), np.uint8), np.zeros((1, 4, 1), np.uint8), np.zeros((1, 4, 2), np.int16)],
    ids=["rows missing", "bytes missing", "not bytes"],
)
def test_pictures_that_do_not_cover_the_mirrors_are_refused(pictures: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"expected|hold no"):
        BitDecoder(np.ones((4, 16))).decode(pictures)
