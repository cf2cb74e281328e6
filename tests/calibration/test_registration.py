"""The map from mirrors to pixels: recovered whatever it is, with its error, or refused with the reason."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.dot_frames import DotFrames, SeenDots
from calibration.fiducials import FiducialPictures
from calibration.registration import (
    NoImageError,
    Orientation,
    Registration,
    TooFewDotsError,
    fit_registration,
    to_pixels,
)
from calibration.verdict import NoSignalError, SaturatedThroughoutError
from tests.calibration.registration_scene import (
    CORNERS,
    FRAME,
    OFFSET,
    PICTURES,
    REGION,
    bits,
    even_sample,
    exposed,
    lights,
    map_of,
    mapped,
    noisy,
    seen,
    structured_sample,
)

VIEWS = [
    {"scale": 1.0},
    {"scale": 0.7, "rotation_deg": 33.0, "mirrored": True},
    {"scale": 1.2, "rotation_deg": 90.0},
    {"scale": 0.4, "rotation_deg": -155.0, "shear_deg": 2.0},
    {"scale": 1.1, "rotation_deg": 178.0, "mirrored": True, "shear_deg": -1.5},
    {"scale": 0.25, "rotation_deg": 5.0, "blur_px": 0.7},
]


def off(found: Registration, truth: NDArray[np.float64]) -> float:
    """Largest distance, px, between the region's corners by the fitted and by the true map."""
    return float(np.hypot(*(mapped(found.matrix, CORNERS) - mapped(truth, CORNERS)).T).max())


def viewed(view: dict[str, Any], sample: NDArray[np.float64], **options: Any) -> tuple[SeenDots, NDArray[np.float64]]:
    """What was seen through a view, and the true map."""
    lies = {key: value for key, value in view.items() if key != "blur_px"}
    matrix = map_of(**lies)
    return seen(sample, matrix, blur_px=view.get("blur_px", 1.0), **options), matrix


@pytest.mark.parametrize("view", VIEWS)
def test_an_even_samples_map_is_recovered(view: dict[str, Any]) -> None:
    dots, truth = viewed(view, even_sample())
    found = fit_registration(dots, PICTURES)
    assert off(found, truth) < 0.1
    assert found.usable
    assert found.n_used == found.n_found == 25
    assert found.rms_px < 0.12


@pytest.mark.parametrize("view", VIEWS)
def test_a_structured_samples_map_is_recovered(view: dict[str, Any]) -> None:
    for seed in (1, 2):
        dots, truth = viewed(view, structured_sample(seed), seed=seed)
        found = fit_registration(dots, PICTURES)
        assert off(found, truth) < 0.3
        assert found.usable


def test_light_is_expected_where_the_sample_is_bright_and_not_in_the_middle_of_a_dot() -> None:
    sample = structured_sample(4)
    dots, _ = viewed({"scale": 1.2}, sample)
    found = fit_registration(dots, PICTURES)
    row, column = np.mgrid[: sample.shape[0], : sample.shape[1]]
    true = []
    for k in range(1, 26):
        light = np.where(bits(k, 1), sample, 0.0)
        true.append([(light * column).sum() / light.sum(), (light * row).sum() / light.sum()])
    error = np.hypot(*(found.expected - true).T)
    uncorrected = np.hypot(*(PICTURES.positions - true).T)
    assert error.mean() < 0.4 * uncorrected.mean()
    assert uncorrected.mean() > 0.3


def test_dots_on_dark_parts_of_the_sample_are_left_out() -> None:
    dots, truth = viewed({"scale": 0.9, "rotation_deg": 12.0}, structured_sample(), without=(1, 8, 13, 25), repeats=4)
    found = fit_registration(dots, PICTURES)
    assert found.n_found == found.n_used == 21
    assert np.flatnonzero(~found.used).tolist() == [0, 7, 12, 24]
    assert np.isnan(found.found[[0, 7, 12, 24]]).all()
    assert off(found, truth) < 0.3
    assert found.usable


def test_a_sample_that_covers_a_part_of_the_region_suffices() -> None:
    sample = even_sample(60.0)
    sample[:, :95] = 0.0
    dots, truth = viewed({"scale": 1.0, "rotation_deg": -40.0}, sample)
    found = fit_registration(dots, PICTURES)
    assert 10 <= found.n_used <= 15
    # The dots that the sample's edge cuts are off by what the optics blur, and half of the region is extrapolated.
    assert off(found, truth) < 1.0
    assert found.usable


@pytest.mark.parametrize("glitches", [1, 4])
def test_glitches_do_not_matter_and_are_counted(glitches: int) -> None:
    dots, truth = viewed({"scale": 1.0, "rotation_deg": 20.0}, structured_sample())
    for k in range(glitches):
        dots.mean[3 + 5 * k] = np.roll(dots.mean[3 + 5 * k], (50 - 20 * k, -35), axis=(0, 1))
    found = fit_registration(dots, PICTURES)
    assert found.n_used == 25 - glitches
    assert found.n_found == 25
    assert off(found, truth) < 0.3
    assert found.usable


def test_a_reflection_brighter_than_a_dot_does_not_matter() -> None:
    dots, truth = viewed({"scale": 1.0}, even_sample())
    dots.mean[11, 5:12, 150:158] += 3000.0
    found = fit_registration(dots, PICTURES)
    assert off(found, truth) < 0.1
    # With the map known, the dot is found beside its reflection.
    assert found.used[11]


def test_residuals_are_those_of_the_dots_to_the_map() -> None:
    dots, _ = viewed({"scale": 1.0}, structured_sample())
    dots.mean[6] = np.roll(dots.mean[6], 40, axis=0)
    found = fit_registration(dots, PICTURES)
    distance = np.hypot(*(found.found - mapped(found.matrix, found.expected)).T)
    assert not found.used[6]
    assert np.isclose(found.rms_px, np.sqrt((np.delete(distance, 6) ** 2).mean()))
    assert np.isclose(found.largest_px, np.delete(distance, 6).max())
    assert distance[6] > 30


def test_the_stated_error_is_that_of_the_corners() -> None:
    """Of dim dots, so that noise is nearly all of it, on a quarter of the region, which takes less time."""
    pictures = FiducialPictures(replace(REGION, side=16, top=52, left=63), grid=4)
    truth = map_of(scale=0.6, rotation_deg=30.0, x=25.0, y=24.0)
    light = lights(even_sample(10.0), truth, pictures, shape=(50, 51))
    errors, stated = [], []
    for seed in range(24):
        found = fit_registration(exposed(light, seed), pictures)
        away = mapped(found.matrix, pictures.corners) - mapped(truth, pictures.corners)
        errors.append((away**2).sum(axis=1))
        stated.append(found.corner_error_px**2)
    # 24 maps of 6 numbers: their root mean square is known to a tenth; a jackknife over 16 dots says a little much.
    assert 0.7 < (np.mean(errors) / np.mean(stated)) ** 0.5 < 1.2


def test_dots_that_jump_are_reported_as_a_residual() -> None:
    dots, _ = viewed({"scale": 1.2}, even_sample())
    rng = np.random.default_rng(3)
    for k in range(25):
        dots.mean[k] = np.roll(dots.mean[k], rng.integers(-3, 4, 2), axis=(0, 1))
    found = fit_registration(dots, PICTURES)
    assert not found.usable
    assert any("off the map" in reason or "lie elsewhere" in reason for reason in found.reasons)


def test_a_map_from_few_dots_is_not_usable() -> None:
    dots, _ = viewed({"scale": 1.0}, even_sample(), without=tuple(range(6, 26)))
    with pytest.raises(TooFewDotsError, match="3 that do not lie on a line"):
        fit_registration(dots, PICTURES)
    dots, truth = viewed({"scale": 1.0}, even_sample(), without=tuple({*range(1, 26)} - {1, 5, 21, 25}))
    found = fit_registration(dots, PICTURES)
    assert off(found, truth) < 0.3
    assert not found.usable
    assert "4 of 25 dots can be used, at least 6 are needed" in found.reasons[0]
    dots, _ = viewed({"scale": 1.0}, even_sample(), without=tuple({*range(1, 26)} - {1, 5}))
    with pytest.raises(TooFewDotsError, match="2 of 25 dots were seen"):
        fit_registration(dots, PICTURES)


def test_dots_cut_off_by_the_frame_do_not_bend_the_map() -> None:
    truth = map_of(scale=1.8, rotation_deg=10.0)
    found = fit_registration(seen(even_sample(), truth), PICTURES)
    assert 9 <= found.n_used < 25
    assert off(found, truth) < 0.3
    on_frame = to_pixels(truth, PICTURES.positions)
    cut = (on_frame < 1).any(axis=1) | (on_frame > np.array(FRAME[::-1]) - 2).any(axis=1)
    assert cut.any()
    assert not found.used[cut].any()


@pytest.mark.parametrize(("x", "share"), [(-0.5, 0.5), (31.5, 0.25), (62.5, 1 / 128)])
def test_a_region_that_lies_beside_the_frame_in_part_is_not_usable(x: float, share: float) -> None:
    truth = map_of(scale=1.0, x=x)
    found = fit_registration(seen(even_sample(), truth), PICTURES)
    assert off(found, truth) < 0.5
    assert not found.usable
    (reason,) = found.reasons
    said = re.match(
        r"(\S+) % of the image region's mirrors lie beside the frame of 200 × 190 px, up to (\S+) px", reason
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(100 * share, abs=0.25)
    assert float(said[2]) == pytest.approx(63.5 - x, abs=0.5)


def test_a_region_that_reaches_to_the_frames_edges_is_usable() -> None:
    truth = map_of(scale=190 / 128, x=200 - 95.5)
    found = fit_registration(seen(even_sample(), truth), PICTURES)
    assert found.usable, found.reasons


def bright_under(*dots: int, light: float = 400.0) -> NDArray[np.float64]:
    """A sample that is brighter on the squares of mirrors about some dots."""
    sample = even_sample()
    for k in dots:
        column, row = np.rint(PICTURES.positions[k - 1]).astype(int)
        sample[row - 8 : row + 9, column - 8 : column + 9] = light
    return sample


def test_dots_that_saturate_are_left_out_and_counted() -> None:
    truth = map_of(scale=1.0, rotation_deg=12.0)
    dots = seen(bright_under(7, 13, 24), truth, full_scale=300)
    found = fit_registration(dots, PICTURES)
    assert np.flatnonzero(found.saturated).tolist() == np.flatnonzero(~found.used).tolist() == [6, 12, 23]
    assert (found.n_found, found.n_used, found.n_saturated) == (25, 22, 3)
    assert off(found, truth) < 0.1
    assert found.usable
    assert found.notes == ("3 of 25 dots were left out because they bring pixels to full scale: lower the light",)
    assert fit_registration(seen(bright_under(7, 13, 24), truth), PICTURES).n_used == 25


def test_where_few_dots_do_not_saturate_a_lower_light_is_asked_for() -> None:
    bright = bright_under(*range(2, 26))
    for spared in (5, 21, 25, 13):
        column, row = np.rint(PICTURES.positions[spared - 1]).astype(int)
        bright[row - 8 : row + 9, column - 8 : column + 9] = 40.0
    found = fit_registration(seen(bright, map_of(scale=1.0), full_scale=300), PICTURES)
    assert found.n_used == 5
    assert len(found.reasons) == 1
    assert "5 of 25 dots can be used, at least 6 are needed: lower the light" in found.reasons[0]


def test_a_detector_that_every_dot_saturates_is_refused() -> None:
    dots = seen(even_sample(400.0), map_of(scale=1.0), full_scale=300)
    with pytest.raises(SaturatedThroughoutError, match=r"25 of 25 dots bring pixels to full scale.*lower the light"):
        fit_registration(dots, PICTURES)


def test_a_detector_that_is_flooded_in_the_dark_is_refused() -> None:
    dots = seen(even_sample(), map_of(scale=1.0), background=1000.0, full_scale=300)
    with pytest.raises(SaturatedThroughoutError, match="100 % of the pixels stand at full scale in the dark pictures"):
        fit_registration(dots, PICTURES)


def test_hot_pixels_and_far_reflections_saturate_no_dot() -> None:
    truth = map_of(scale=1.0)
    dots = seen(even_sample(), truth)
    x, y = np.rint(mapped(truth, PICTURES.positions[[8]])[0]).astype(int)
    dots.clipped_dark[y, x] = dots.clipped_full[y, x] = dots.clipped[:, y, x] = True
    dots.clipped[11, 5:12, 150:158] = True
    found = fit_registration(dots, PICTURES)
    assert found.n_used == 25
    assert not found.saturated.any()
    assert not found.notes


def test_a_full_picture_that_saturates_under_dots_is_said() -> None:
    """Dots that are small beside the blur stay far below the full picture."""
    truth = map_of(scale=0.4)
    dots = seen(bright_under(7, 13, light=200.0), truth, blur_px=2.0, full_scale=900)
    assert dots.saturated_sample.any()
    found = fit_registration(dots, PICTURES)
    assert found.usable
    assert not found.saturated.any()
    (note,) = found.notes
    assert "with all mirrors on, pixels under 2 of the 25 dots that were used stand at full scale" in note


def test_a_closed_shutter_is_no_signal() -> None:
    for seed in range(2):
        dots, _ = viewed({"scale": 1.0}, even_sample(0.0), seed=seed)
        with pytest.raises(NoSignalError, match="open the shutter"):
            fit_registration(dots, PICTURES)


def test_frames_without_any_noise_or_light_are_no_signal() -> None:
    frames = np.full((25, *FRAME), 100.0, dtype=np.float32)
    dark = np.full(FRAME, 100.0)
    none = np.zeros(FRAME, dtype=bool)
    with pytest.raises(NoSignalError):
        fit_registration(SeenDots(frames, np.full(25, 4), dark, dark, 0.0, frames > 100, none, none), PICTURES)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (16, 16), (60, 80)])
@pytest.mark.parametrize("total", [5e3, 2e6])
def test_a_detector_that_reads_the_sample_as_a_whole_is_recognised(shape: tuple[int, int], total: float) -> None:
    rng = np.random.default_rng(6)
    frames = DotFrames(25)
    brightness = rng.uniform(0.5, 1.5, 26) * total
    brightness[0] = 20 * total
    for pair, sign in [(0, 1), (0, -1), *((k, 1) for k in range(1, 26))]:
        light = np.full(shape, 0.0 if sign < 0 else brightness[pair] / (shape[0] * shape[1]))
        n = 4 if pair else 12
        counted = rng.poisson(light, (n, *shape)) + rng.normal(OFFSET, 2.0, (n, *shape))
        frames.add(np.full(n, pair), np.full(n, sign), np.rint(counted).astype(np.uint32))
    with pytest.raises(NoImageError, match="reads the sample as a whole, and frames carry no position"):
        fit_registration(frames.seen(), PICTURES)


def test_a_camera_far_out_of_focus_does_not_image() -> None:
    dots, _ = viewed({"scale": 0.5, "blur_px": 60.0}, even_sample(2000.0))
    with pytest.raises(NoImageError):
        fit_registration(dots, PICTURES)


def test_a_map_onto_a_line_is_not_usable() -> None:
    """A cylinder lens, say: rows of mirrors fall together."""
    truth = map_of(scale=1.0)
    truth[1] = [0.0, 0.1, 80.0]
    found = fit_registration(seen(even_sample(), truth), PICTURES)
    assert any("singular" in reason for reason in found.reasons)


@given(
    st.floats(0.05, 20),
    st.floats(0.4, 2.5),
    st.floats(-179.9, 179.9),
    st.floats(-40, 40),
    st.booleans(),
)
def test_an_orientation_is_taken_apart_as_it_was_put_together(
    scale: float, ratio: float, rotation_deg: float, shear_deg: float, mirrored: bool
) -> None:
    angle, shear = np.deg2rad(rotation_deg), np.deg2rad(shear_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sheared = np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
    linear = turn @ sheared @ np.diag([scale, scale * ratio]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    lies = Orientation.of(np.column_stack([linear, [3.0, 4.0]]))
    assert np.isclose(lies.scale_x, scale)
    assert np.isclose(lies.scale_y, scale * ratio)
    assert np.isclose(lies.rotation_deg, rotation_deg, atol=1e-6)
    assert np.isclose(lies.shear_deg, shear_deg, atol=1e-6)
    assert lies.mirrored is mirrored


def test_a_map_onto_a_large_frame_is_recovered() -> None:
    truth = map_of(scale=1.3, rotation_deg=-25.0, mirrored=True, x=330.0, y=400.0)
    found = fit_registration(seen(even_sample(), truth, shape=(640, 520), repeats=1), PICTURES)
    assert off(found, truth) < 0.2
    assert found.n_used == 25


def test_the_same_frames_give_the_same_map() -> None:
    dots, _ = viewed({"scale": 1.0}, structured_sample())
    one, other = (fit_registration(dots, PICTURES) for _ in range(2))
    assert (one.matrix == other.matrix).all()
    assert (one.corners == CORNERS).all()


def test_noise_that_is_known_keeps_dark_frames_dark() -> None:
    """A frame of noise alone has bright pixels, too: they are no dot."""
    rng = np.random.default_rng(11)
    dots, _ = viewed({"scale": 1.0}, even_sample())
    for k in (2, 9, 20):
        dots.mean[k] = noisy(np.full(FRAME, 5.0), 4, rng).mean(axis=0)
    found = fit_registration(dots, PICTURES)
    assert np.flatnonzero(~np.isfinite(found.found[:, 0])).tolist() == [2, 9, 20]
