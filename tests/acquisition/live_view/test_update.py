"""An update is what was agreed: a padded header in JSON, then arrays at multiples of eight bytes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from acquisition.live_view.state import Remark, ViewArray
from acquisition.live_view.update import encode_update
from acquisition.observer import Place
from tests.acquisition.live_view.feeds import a_state
from tests.acquisition.live_view.viewer import decoded

FLOATS = arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=2, max_side=9), elements=st.floats(width=32))
COUNTS = arrays_of.arrays(np.uint16, arrays_of.array_shapes(max_dims=2, max_side=9))


def test_a_header_says_everything_in_plain_json() -> None:
    remark = Remark("2026-11-21T10:00:00.000+00:00", "block-repeated", "block 3: a trigger was lost")
    state = a_state(7, place=Place(3, 18, "t=0 c=FITC"), warnings=(remark,), cause="DiskFullError: µ")
    header = decoded(encode_update(state, {})).header
    described = header.pop("arrays")
    assert header == {
        "version": 7,
        "run": "hela.zarr",
        "title": "HeLa, µ-dish",
        "simulated": True,
        "state": "running",
        "cause": "DiskFullError: µ",
        "can_stop": True,
        "stopping": False,
        "place": {"number": 3, "total": 18, "name": "t=0 c=FITC"},
        "side": 4,
        "px_um": 0.5472,
        "sensing": "4 × 4 px, α = 0.25, S = 8, learned mask",
        "pairs": 120,
        "pairs_total": 400,
        "blocks": 12,
        "blocks_total": 40,
        "repeated": 1,
        "elapsed_s": 3.25,
        "left_s": 8.5,
        "dose_mj": 1.5,
        "dose_limit_mj": None,
        "lit_exposures": 260,
        "quality": "linear forecast 31.2 dB",
        "image_age_s": 0.125,
        "warnings": [
            {"time": "2026-11-21T10:00:00.000+00:00", "kind": "block-repeated", "text": "block 3: a trigger was lost"}
        ],
    }
    assert [(each["name"], each["dtype"], each["shape"], each["unit"]) for each in described] == [
        ("image", "float32", [4, 4], "detector units"),
        ("counts", "uint16", [4, 4], "pairs"),
        ("pair_sums", "float32", [3, 3], "detector units"),
    ]


@given(st.lists(st.one_of(FLOATS, COUNTS), max_size=4), st.text(max_size=20))
def test_arrays_of_any_size_come_back_value_by_value(values: list[NDArray[Any]], title: str) -> None:
    arrays = tuple(ViewArray(f"array {number}", each, "u", number) for number, each in enumerate(values))
    update = decoded(encode_update(a_state(title=title, arrays=arrays), {}))
    assert update.header["title"] == title
    assert list(update.arrays) == [array.name for array in arrays]
    for array in arrays:
        assert np.array_equal(update.arrays[array.name], array.values, equal_nan=array.values.dtype.kind == "f")


def test_arrays_that_the_viewer_has_are_left_out() -> None:
    assert list(decoded(encode_update(a_state(), {"image": 1, "counts": 1})).arrays) == ["counts", "pair_sums"]
    assert decoded(encode_update(a_state(), {"image": 1, "counts": 2, "pair_sums": 3})).arrays == {}


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_are_unknown(number: float) -> None:
    assert decoded(encode_update(a_state(left_s=number), {})).header["left_s"] is None
