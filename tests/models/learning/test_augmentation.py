"""The eight turns of the square: a group, which moves pixels and changes none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from models.learning.augmentation import DIHEDRAL, TurnError, inverse, turned

TURNS = st.sampled_from(DIHEDRAL)
STACKS = st.integers(1, 5).flatmap(lambda n: hnp.arrays(np.int16, st.tuples(st.integers(1, 3), st.just(n), st.just(n))))
MARKED = np.arange(9).reshape(3, 3)


def test_the_turns_are_the_rotations_of_the_image_and_of_its_mirror_image() -> None:
    expected = {np.rot90(image, k).tobytes() for image in (MARKED, MARKED[::-1]) for k in range(4)}
    assert len(expected) == 8
    assert {turned(MARKED, which).tobytes() for which in DIHEDRAL} == expected


def test_turn_0_leaves_the_image_as_it_is() -> None:
    assert turned(MARKED, 0).tolist() == MARKED.tolist()


@given(TURNS, TURNS)
@settings(deadline=None)
def test_two_turns_are_one_of_the_eight(first: int, second: int) -> None:
    both = turned(turned(MARKED, first), second)
    assert [np.array_equal(both, turned(MARKED, which)) for which in DIHEDRAL].count(True) == 1


@given(STACKS, TURNS)
@settings(deadline=None)
def test_every_turn_can_be_undone(images: NDArray[np.int16], which: int) -> None:
    assert turned(turned(images, which), inverse(which)).tolist() == images.tolist()
    assert turned(turned(images, inverse(which)), which).tolist() == images.tolist()


@given(STACKS, TURNS)
@settings(deadline=None)
def test_a_turn_keeps_every_image_s_pixels(images: NDArray[np.int16], which: int) -> None:
    result = turned(images, which)
    assert (result.shape, result.dtype) == (images.shape, images.dtype)
    for before, after in zip(images, result, strict=True):
        assert sorted(before.ravel()) == sorted(after.ravel())


@given(STACKS, TURNS)
@settings(deadline=None)
def test_tensors_turn_as_arrays_do(images: NDArray[np.int16], which: int) -> None:
    result = turned(torch.from_numpy(images), which)
    assert isinstance(result, torch.Tensor)
    assert result.tolist() == turned(images, which).tolist()


@pytest.mark.parametrize("which", [-1, 8])
def test_there_is_no_ninth_turn(which: int) -> None:
    with pytest.raises(TurnError, match=f"turn {which}"):
        turned(MARKED, which)
    with pytest.raises(TurnError, match=f"turn {which}"):
        inverse(which)


@pytest.mark.parametrize("shape", [(9,), (2, 3, 4)])
def test_only_squares_are_turned(shape: tuple[int, ...]) -> None:
    with pytest.raises(TurnError, match="expected 0 to 7 and"):
        turned(np.zeros(shape), 1)
