"""What the mirrors see where the stage stands: held against scipy's shift and blur, and against the image itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from sim_devices.sample import fluorescent_cells
from sim_devices.specimen import Channel, Specimen, brightness, generated_structures, turned_structures

IMAGE = np.random.default_rng(3).random((16, 16))
CHANNELS: list[Channel] = [("Channel", name) for name in ("DAPI", "FITC", "Cy3", "Cy5")]
POSITION = st.floats(-1e4, 1e4, allow_nan=False)


def flat_in_depth(px_um: float = 1.0, **options: float) -> Specimen:
    return Specimen(turned_structures(IMAGE), px_um, **options)


def test_where_it_stands_at_first_it_is_the_image_itself() -> None:
    specimen = flat_in_depth(0.65, focus_um=12.0)
    for light in (specimen.light(), specimen.light(0.0, 0.0, 12.0, None)):
        assert light.tolist() == IMAGE.tolist()


def test_generated_cells_without_a_channel_are_those_of_the_seed() -> None:
    assert (generated_structures(32, 7)(None) == fluorescent_cells(32, 7)).all()


def test_the_field_moves_over_the_specimen_by_whole_pixels_bit_for_bit_and_repeats_itself() -> None:
    specimen = flat_in_depth(0.5)
    light = specimen.light(x_um=1.5, y_um=-1.0)
    rows, columns = np.mgrid[0:16, 0:16]
    assert (light == IMAGE[(rows - 2) % 16, (columns + 3) % 16]).all()
    assert (specimen.light(x_um=8.0, y_um=-16.0) == IMAGE).all()


@pytest.mark.parametrize(("x_um", "y_um"), [(0.3, 0.0), (0.0, -0.45), (2.6, 7.1), (-30.3, 12.9)])
def test_between_pixels_it_is_interpolated(x_um: float, y_um: float) -> None:
    expected = shift(IMAGE, (-y_um / 0.8, -x_um / 0.8), order=1, mode="grid-wrap")
    np.testing.assert_allclose(flat_in_depth(0.8).light(x_um, y_um), expected, atol=1e-12)


@pytest.mark.parametrize("away_um", [-3.0, 0.4, 6.0])
def test_away_from_the_focus_it_blurs_round_its_edges(away_um: float) -> None:
    light = flat_in_depth(focus_um=100.0, blur_px_per_um=0.7).light(z_um=100.0 + away_um)
    np.testing.assert_allclose(light, gaussian_filter(IMAGE, 0.7 * abs(away_um), mode="wrap", truncate=9), atol=1e-12)


def test_far_from_the_focus_it_is_even() -> None:
    np.testing.assert_allclose(flat_in_depth().light(z_um=1e7), IMAGE.mean(), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(x_um=POSITION, y_um=POSITION, z_um=POSITION, px_um=st.floats(0.01, 100.0))
def test_wherever_it_stands_the_total_light_is_the_same_and_none_is_negative(
    x_um: float, y_um: float, z_um: float, px_um: float
) -> None:
    light = flat_in_depth(px_um).light(x_um, y_um, z_um)
    assert light.sum() == pytest.approx(IMAGE.sum())
    assert light.min() >= 0


def ways_to_lay(image: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [np.rot90(each, k) for each in (image, image.T) for k in range(4)]


def test_in_a_channel_an_image_is_laid_otherwise() -> None:
    structures = turned_structures(IMAGE)
    for channel in CHANNELS:
        light = structures(channel)
        found = [k for k, laid in enumerate(ways_to_lay(IMAGE)) if (laid == light).all()]
        assert len(found) == 1
        assert found != [0]


def test_in_a_channel_generated_cells_are_others() -> None:
    seen = [generated_structures(32, 0)(channel) for channel in (None, *CHANNELS)]
    for one, other in itertools.combinations(seen, 2):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.95


def test_no_two_channels_are_alike_in_brightness_and_none_is_darker_than_half() -> None:
    values = [brightness(channel) for channel in CHANNELS]
    assert len(set(values)) == len(CHANNELS)
    assert all(0.5 <= value <= 1.0 for value in values)
    assert brightness(None) == 1.0


def test_a_channel_shows_the_same_whenever_it_is_looked_at() -> None:
    for structures in (generated_structures(16, 2), turned_structures(IMAGE)):
        assert (structures(CHANNELS[0]) == structures(CHANNELS[0])).all()


def test_the_same_preset_of_another_group_shows_something_else() -> None:
    structures = generated_structures(16, 2)
    assert not (structures(("Channel", "FITC")) == structures(("Filters", "FITC"))).all()


@pytest.mark.parametrize("wrong", [{"px_um": 0.0}, {"px_um": float("nan")}, {"blur_px_per_um": -1.0}])
def test_an_impossible_specimen_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0, and 0 or more"):
        Specimen(turned_structures(IMAGE), **wrong)


def test_a_position_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        flat_in_depth().light(x_um=float("nan"))
