"""How much of the image region lies beside the camera's frame: counted mirror by mirror, and in words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.beside_frame import BesideFrame

FRAME = (60, 40)


def outline(left: float, top: float, width: float, height: float) -> NDArray[np.float64]:
    """Corners of an upright rectangle whose edges these are."""
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])


@settings(deadline=None, max_examples=20)
@given(st.floats(0.05, 2), st.floats(-180, 180), st.booleans(), st.floats(-30, 90), st.floats(-30, 70))
def test_the_share_is_that_of_the_mirrors_and_the_distance_that_of_the_farthest(
    scale: float, rotation_deg: float, mirrored: bool, x: float, y: float
) -> None:
    """64 × 64 mirrors in sixteen parts each, on pixels whose outermost edges are the frame's."""
    # Nothing lies right on an edge.
    x, y = x + 1e-3 * np.pi, y + 1e-3 * np.e
    turn = scale * np.exp(1j * np.deg2rad(rotation_deg))
    parts = (np.arange(256) + 0.5) / 4 - 0.5
    edges = np.linspace(-0.5, 63.5, 257)

    def land(column: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.complex128]:
        return np.asarray(turn * ((-column if mirrored else column) + 1j * row) + x + 1j * y)

    seen = land(parts, parts[:, None])
    pixel_x, pixel_y = np.rint(seen.real), np.rint(seen.imag)
    lost = (pixel_x < 0) | (pixel_x > FRAME[0] - 1) | (pixel_y < 0) | (pixel_y > FRAME[1] - 1)
    ends = np.concatenate([land(edges, np.full(257, end)) for end in (-0.5, 63.5)])
    ends = np.concatenate([ends, *(land(np.full(257, end), edges) for end in (-0.5, 63.5))])
    beyond = max(*(-0.5 - ends.real), *(ends.real - 59.5), *(-0.5 - ends.imag), *(ends.imag - 39.5))
    corners = land(np.array([-0.5, 63.5, 63.5, -0.5]), np.array([-0.5, -0.5, 63.5, 63.5]))
    beside = BesideFrame.of(np.column_stack([corners.real, corners.imag]), FRAME)
    assert beside.share == pytest.approx(lost.mean(), abs=5e-3)
    assert beside.beyond_px == pytest.approx(beyond, abs=1e-9)
    assert beside.is_too_much == (beyond > 0.5)


def test_a_region_that_fills_the_frame_lies_on_it() -> None:
    beside = BesideFrame.of(outline(-0.5, -0.5, 60, 40), FRAME)
    assert (beside.share, beside.beyond_px) == (0.0, 0.0)
    assert not beside.is_too_much


@pytest.mark.parametrize(
    ("corners", "said"),
    [
        (
            outline(-20.5, 0, 40, 20),
            "50 % of the image region's mirrors lie beside the frame of 60 × 40 px, up to 20.0",
        ),
        (
            outline(0, 38.5, 10, 4),
            "75 % of the image region's mirrors lie beside the frame of 60 × 40 px, up to 3.0 px",
        ),
        (outline(-1.5, 0, 40, 20), "2.5 % of the"),
        (outline(-500, -300, 40, 20), "100 % of the"),
        (np.array([[-1.2, 20.0], [20.0, 0.0], [40.0, 20.0], [18.8, 40.0]]), "less than 0.1 % of the"),
    ],
)
def test_what_is_lost_is_said(corners: NDArray[np.float64], said: str) -> None:
    beside = BesideFrame.of(corners, FRAME)
    assert said in str(beside)
    assert beside.is_too_much


@pytest.mark.parametrize(("left", "too_much"), [(-0.9, False), (-1.1, True)])
def test_half_a_pixel_beyond_the_edge_is_granted(left: float, too_much: bool) -> None:
    assert BesideFrame.of(outline(left, 0, 40, 20), FRAME).is_too_much is too_much


def test_a_region_that_lies_nowhere_is_not_on_the_frame() -> None:
    assert BesideFrame.of(np.full((4, 2), np.nan), FRAME).is_too_much
