"""A camera that images the mirrors: where their light falls, its noise, and which exposure a frame belongs to."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import block_reduce

from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.faults import (
    DoubledTrigger,
    EarlyEnd,
    Fault,
    LateStart,
    LateTrigger,
    LostTrigger,
    MissingFrame,
    Saturation,
    StaleFrames,
)
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.sensor_images import SensorImages, View, mirrors_to_sensor

MIRRORS = HEIGHT, WIDTH, ROW_BYTES = 24, 40, 6
LIGHT = np.random.default_rng(0).uniform(0.0, 800.0, (HEIGHT, WIDTH))
SENSOR = SENSOR_HEIGHT, SENSOR_WIDTH = 20, 28
VIEW = View(scale=0.45, rotation_deg=11.0, x_px=6.3, y_px=3.6)
SILENT = BenchSettings(gain=1.0, variance=0.0, nominal_illumination_us=80, shot_noise=False)
SEQ_REPEAT, FIRST_FRAME, LAST_FRAME, INVERSION = 2100, 2101, 2102, 2306
DATA_FORMAT, MSB_ALIGN, TOPDOWN, BOTTOMUP = 2110, 0, 2, 3
# A pixel is rounded to whole units, and its image is a float32.
ROUNDED = 0.5 + 1e-2


def some_bits(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 2, (n, HEIGHT, WIDTH), dtype=np.uint8)


def packed(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = np.zeros((len(bits), HEIGHT, ROW_BYTES), np.uint8)
    rows[:, :, : WIDTH // 8] = np.packbits(bits, axis=2)
    return rows


def scattered(view: View, light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image of mirrors as points, scattered with np.add.at on a sensor with a wide margin, then blurred and cut."""
    margin = 200
    wide = np.zeros((SENSOR_HEIGHT + 2 * margin, SENSOR_WIDTH + 2 * margin))
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].reshape(2, -1)
    angle = np.deg2rad(view.rotation_deg)
    along = -columns if view.mirrored else columns
    place = view.x_px + 1j * view.y_px + view.scale * np.exp(1j * angle) * (along + 1j * rows)
    x, y = place.real + margin, place.imag + margin
    for to_right in (0, 1):
        for down in (0, 1):
            share_x = x % 1 if to_right else 1 - x % 1
            share_y = y % 1 if down else 1 - y % 1
            where = np.floor(y).astype(int) + down, np.floor(x).astype(int) + to_right
            np.add.at(wide, where, share_x * share_y * light.ravel())
    cut = wide[margin:-margin, margin:-margin]
    return gaussian_filter(cut, view.blur_px, mode="constant") if view.blur_px else cut


def imaging(
    made_of: BenchSettings = SILENT,
    view: View = VIEW,
    light: NDArray[np.float64] = LIGHT,
    faults: Sequence[Fault] = (),
    **options: Any,
) -> tuple[OpticalBench, SimulatedAlpLibrary, SimulatedCore]:
    images = SensorImages(view, light, *SENSOR)
    bench = OpticalBench(made_of, images.arriving, light_on=True, sensor_images=images)
    core = SimulatedCore(bench, width_px=SENSOR_WIDTH, height_px=SENSOR_HEIGHT, bytes_per_px=4, **options)
    core.set_auto_shutter(False)
    bench.inject(*faults)
    return bench, SimulatedAlpLibrary(bench, ROW_BYTES, 0, 50, 44), core


def opened(library: SimulatedAlpLibrary, n_pictures: int) -> tuple[Any, Any]:
    """The unmodified ALP4lib on the board, and a sequence of so many pictures, 80 of 100 µs each."""
    alp = alp4_on(library)
    assert library.AlpDevAlloc(ctypes.c_long(0), ctypes.c_long(0), ctypes.byref(alp.ALP_ID)) == 0
    sequence = alp.SeqAlloc(n_pictures, 1)
    alp.SetTiming(sequence, 80, 100)
    return alp, sequence


def project(
    library: SimulatedAlpLibrary, pictures: NDArray[np.uint8], data_format: int = TOPDOWN, inverted: bool = False
) -> None:
    """Load pictures, display each once, and free the board."""
    alp, sequence = opened(library, len(pictures))
    alp.SeqControl(DATA_FORMAT, data_format, sequence)
    alp.SeqPut(np.ascontiguousarray(pictures).ravel(), sequence)
    if inverted:
        alp.ProjControl(INVERSION, 1)
    alp.Run(sequence, loop=False)
    assert library.AlpDevFree(alp.ALP_ID) == 0


def frames_of(core: SimulatedCore) -> NDArray[np.int64]:
    n = core.get_remaining_image_count()
    return np.stack([core.pop_next_image() for _ in range(n)]).astype(np.int64)


def frames_under(faults: Sequence[Fault], made_of: BenchSettings = SILENT, n: int = 4) -> NDArray[np.int64]:
    _, library, core = imaging(made_of, faults=faults)
    core.start_sequence_acquisition(n, 0.0, True)
    project(library, packed(some_bits(n)))
    return frames_of(core)


class TestWhereLightFalls:
    """The map, against one written otherwise."""

    @settings(max_examples=50, deadline=None)
    @given(
        scale=st.floats(0.1, 3.0),
        rotation=st.floats(-180, 180),
        mirrored=st.booleans(),
        column=st.integers(0, 1000),
        row=st.integers(0, 1000),
    )
    def test_the_map_turns_scales_and_mirrors(
        self, scale: float, rotation: float, mirrored: bool, column: int, row: int
    ) -> None:
        view = View(scale, rotation, 12.5, -3.0, mirrored)
        along = -column if mirrored else column
        place = 12.5 - 3j + scale * np.exp(1j * np.deg2rad(rotation)) * (along + 1j * row)
        x, y, one = mirrors_to_sensor(view) @ [column, row, 1.0]
        assert (x, y, one) == (pytest.approx(place.real, abs=1e-9), pytest.approx(place.imag, abs=1e-9), 1.0)

    @settings(max_examples=25, deadline=None)
    @given(
        scale=st.floats(0.1, 0.5),
        rotation=st.floats(-180, 180),
        x_px=st.floats(-5, 30),
        y_px=st.floats(-5, 25),
        mirrored=st.booleans(),
        blur_px=st.sampled_from([0.0, 0.8, 2.5]),
    )
    def test_an_image_is_the_scatter_of_the_lit_mirrors(
        self, scale: float, rotation: float, x_px: float, y_px: float, mirrored: bool, blur_px: float
    ) -> None:
        view = View(scale, rotation, x_px, y_px, mirrored, blur_px)
        bits = some_bits(2)
        images = SensorImages(view, LIGHT, *SENSOR).of(packed(bits))
        for image, lit in zip(images, bits, strict=True):
            np.testing.assert_allclose(image, scattered(view, LIGHT * lit), rtol=1e-5, atol=1e-3)

    def test_a_mirror_on_a_pixel_lights_that_pixel_alone(self) -> None:
        light = np.zeros((HEIGHT, WIDTH))
        light[3, 5] = 77.0
        image = SensorImages(View(0.5, 0.0, 4.5, 6.5), light, *SENSOR).all_on
        assert (image[8, 7], image.sum()) == (77.0, 77.0)

    def test_mirrors_larger_than_a_pixel_leave_no_holes(self) -> None:
        image = SensorImages(View(3.0, 0.0, 1.0, 1.0), np.full((HEIGHT, WIDTH), 9.0), *SENSOR).all_on
        np.testing.assert_allclose(image[2:, 2:], 1.0, rtol=1e-6)

    @pytest.mark.parametrize("view", [VIEW, replace(VIEW, blur_px=1.5), replace(VIEW, x_px=20.0, blur_px=3.0)])
    def test_light_that_arrives_is_what_images_add_up_to(self, view: View) -> None:
        images, bits = SensorImages(view, LIGHT, *SENSOR), some_bits(3)
        for image, lit in zip(images.of(packed(bits)), bits, strict=True):
            assert image.sum(dtype=np.float64) == pytest.approx((images.arriving * lit).sum(), rel=1e-6)
        assert (images.arriving <= LIGHT).all()

    def test_light_beside_the_sensor_is_lost(self) -> None:
        whole, shifted = (SensorImages(replace(VIEW, x_px=x), LIGHT, *SENSOR) for x in (6.3, 500.0))
        assert whole.arriving.sum() == pytest.approx(LIGHT.sum())
        assert (shifted.arriving.sum(), shifted.all_on.max()) == (0.0, 0.0)

    @pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"scale": -1.0}, {"blur_px": -0.1}])
    def test_an_impossible_view_is_refused(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=r"scale .* blur_px"):
            replace(VIEW, **wrong)  # type: ignore[arg-type]

    def test_images_of_another_size_than_the_sensors_are_refused(self) -> None:
        bench, _, _ = imaging()
        with pytest.raises(ValueError, match=r"sensor of 8 × 9 px .* images of 20 × 28 px"):
            SimulatedCore(bench, width_px=9, height_px=8)

    def test_pictures_without_their_images_are_refused(self) -> None:
        bench, _, _ = imaging()
        with pytest.raises(ValueError, match="found none images of 2"):
            bench.display(np.ones(2), 100, 80)


class TestFrames:
    """From the bits that were uploaded to the frames that are popped."""

    @pytest.mark.parametrize("data_format", [TOPDOWN, BOTTOMUP, MSB_ALIGN])
    @pytest.mark.parametrize("inverted", [False, True])
    def test_frames_are_images_of_the_uploaded_bits(self, data_format: int, inverted: bool) -> None:
        _, library, core = imaging()
        bits = some_bits(3)
        uploaded = {TOPDOWN: packed(bits), BOTTOMUP: packed(bits)[:, ::-1], MSB_ALIGN: bits * np.uint8(255)}[
            data_format
        ]
        core.start_sequence_acquisition(3, 0.0, True)
        project(library, uploaded, data_format, inverted)
        for frame, lit in zip(frames_of(core), 1 - bits if inverted else bits, strict=True):
            assert np.abs(frame - scattered(VIEW, LIGHT * lit)).max() <= ROUNDED

    def test_offset_and_background_fall_evenly_and_the_lamp_and_the_sample_change_all_light(self) -> None:
        n_px = SENSOR_HEIGHT * SENSOR_WIDTH
        made_of = replace(
            SILENT, offset=50.0 * n_px, background=200.0 * n_px, lamp_drift=0.5, lamp_drift_period_s=400e-6,
            bleaching_per_s=900.0, nominal_illumination_us=40, dmd_contrast=10.0,
        )  # fmt: skip
        bits = some_bits(4)
        for exposure, (frame, lit) in enumerate(zip(frames_under((), made_of), bits, strict=True)):
            seen_s = 80e-6 * exposure + np.linspace(0, 80e-6, 1001)
            decay = np.exp(-900.0 * seen_s).mean()
            light = scattered(VIEW, LIGHT * (0.1 + 0.9 * lit)) * decay
            expected = 50.0 + 2.0 * (light + 200.0) * (1 + 0.5 * np.sin(np.pi / 2 * exposure))
            np.testing.assert_allclose(frame, expected, rtol=1e-5, atol=0.5 + 0.1)

    def test_with_the_light_off_frames_hold_the_offset(self) -> None:
        bench, library, core = imaging(replace(SILENT, offset=3.0 * SENSOR_HEIGHT * SENSOR_WIDTH, background=1e6))
        bench.set_light(False)
        core.start_sequence_acquisition(1, 0.0, True)
        project(library, packed(some_bits(1)))
        assert (frames_of(core) == 3).all()

    def test_a_picture_that_was_never_loaded_shows_all_mirrors(self) -> None:
        _, library, core = imaging()
        alp, sequence = opened(library, 1)
        core.start_sequence_acquisition(1, 0.0, True)
        alp.Run(sequence, loop=False)
        assert np.abs(frames_of(core)[0] - scattered(VIEW, LIGHT)).max() <= ROUNDED

    def test_frames_keep_their_picture_when_its_memory_is_loaded_anew(self) -> None:
        _, library, core = imaging()
        bits = some_bits(2)
        core.start_sequence_acquisition(2, 0.0, True)
        project(library, packed(bits[:1]))
        project(library, packed(bits[1:]))
        for frame, lit in zip(frames_of(core), bits, strict=True):
            assert np.abs(frame - scattered(VIEW, LIGHT * lit)).max() <= ROUNDED

    def test_repeats_of_a_sequence_show_its_pictures_again(self) -> None:
        _, library, core = imaging()
        alp, sequence = opened(library, 3)
        alp.SeqControl(DATA_FORMAT, TOPDOWN, sequence)
        alp.SeqPut(packed(some_bits(3)).ravel(), sequence)
        for control, value in ((FIRST_FRAME, 1), (LAST_FRAME, 2), (SEQ_REPEAT, 2)):
            alp.SeqControl(control, value, sequence)
        core.start_sequence_acquisition(4, 0.0, True)
        alp.Run(sequence, loop=False)
        frames = frames_of(core)
        for frame, picture in zip(frames, (1, 2, 1, 2), strict=True):
            assert np.abs(frame - scattered(VIEW, LIGHT * some_bits(3)[picture])).max() <= ROUNDED

    def test_binning_sums_and_a_region_shows_a_part(self) -> None:
        frames = []
        for region in (None, (2, 1, 5, 4)):
            _, library, core = imaging()
            if region is not None:
                core.set_property("SimulatedCamera", "Binning", "2")
                core.set_roi(*region)
            core.start_sequence_acquisition(2, 0.0, True)
            project(library, packed(some_bits(2)))
            frames.append(frames_of(core))
        binned = block_reduce(frames[0], (1, 2, 2), np.sum)
        assert (frames[1] == binned[:, 1:5, 2:7]).all()

    def test_pixels_saturate_where_the_sensor_does(self) -> None:
        unclipped = frames_under(())
        saturation = int(unclipped.max()) // 2
        _, library, core = imaging(saturation=saturation)
        core.start_sequence_acquisition(4, 0.0, True)
        project(library, packed(some_bits(4)))
        assert np.array_equal(frames_of(core), np.minimum(unclipped, saturation))


class TestNoise:
    """Each pixel has its own, and together they have what a reading has."""

    n_px = SENSOR_HEIGHT * SENSOR_WIDTH
    noisy = BenchSettings(gain=2.0, variance=4.0 * n_px, offset=100.0 * n_px, nominal_illumination_us=80, seed=5)

    def frames(self, n: int, made_of: BenchSettings) -> NDArray[np.int64]:
        _, library, core = imaging(made_of)
        core.start_sequence_acquisition(n, 0.0, True)
        for _ in range(n // 40):
            project(library, packed(np.ones((40, HEIGHT, WIDTH), np.uint8)))
        return frames_of(core)

    def test_pixels_have_shot_noise_of_their_own_light_and_an_equal_part_of_the_variance(self) -> None:
        n = 1200
        frames = self.frames(n, self.noisy)
        light = scattered(VIEW, LIGHT)
        variance = 2.0 * light + 4.0 + 1 / 12
        bright = light > 100.0
        assert bright.sum() > 100
        dark = light < 1e-6
        assert dark.sum() > 100
        pulls = (frames.mean(axis=0) - 100.0 - light) / np.sqrt(variance / n)
        assert np.abs(pulls).max() < 5.0
        assert (pulls**2).mean() == pytest.approx(1.0, abs=5 * (2 / self.n_px) ** 0.5)
        ratios = frames.var(axis=0) / variance
        for some in (bright, dark):
            assert ratios[some].mean() == pytest.approx(1.0, abs=5 * (2 / n / some.sum()) ** 0.5)

    def test_neighbouring_pixels_and_frames_are_independent(self) -> None:
        frames = self.frames(400, self.noisy)
        pulls = (frames - frames.mean(axis=0)) / frames.std(axis=0)
        limit = 5 / pulls.size**0.5
        assert abs((pulls[1:] * pulls[:-1]).mean()) < limit + 1 / 400
        assert abs((pulls[:, :, 1:] * pulls[:, :, :-1]).mean()) < limit

    def test_a_quarter_of_a_unit_squared_is_the_least_that_rounding_to_whole_units_leaves_be(self) -> None:
        """Dim light and an offset of no whole units: a sum has b and a twelfth for each pixel, or neither of them."""
        n, dim = 1200, LIGHT / 100.0
        for part, holds in ((0.25, True), (0.01, False)):
            made_of = replace(self.noisy, gain=0.01, variance=part * self.n_px, offset=100.2 * self.n_px)
            _, library, core = imaging(made_of, light=dim)
            core.start_sequence_acquisition(n, 0.0, True)
            for _ in range(n // 40):
                project(library, packed(np.ones((40, HEIGHT, WIDTH), np.uint8)))
            sums = frames_of(core).sum(axis=(1, 2)) - 100.2 * self.n_px
            variance = 0.01 * dim.sum() + (part + 1 / 12) * self.n_px
            as_stated = (
                abs(sums.mean() - dim.sum()) < 5 * (variance / n) ** 0.5,
                abs(sums.var() / variance - 1) < 5 * (2 / n) ** 0.5,
            )
            assert as_stated == (holds, holds)

    @pytest.mark.parametrize("source_noise", [0.0, 0.01])
    def test_the_sum_of_a_frame_has_the_mean_and_variance_of_a_reading(self, source_noise: float) -> None:
        n = 1200
        sums = self.frames(n, replace(self.noisy, source_noise=source_noise)).sum(axis=(1, 2)) - 100.0 * self.n_px
        total = LIGHT.sum()
        variance = 2.0 * total + 4.0 * self.n_px + self.n_px / 12 + (source_noise * total) ** 2
        assert sums.mean() == pytest.approx(total, abs=5 * (variance / n) ** 0.5)
        assert sums.var() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)

    def test_the_source_noise_is_common_to_a_frame_and_its_reading(self) -> None:
        made_of = replace(self.noisy, gain=1e-6, variance=0.0, source_noise=0.1)
        bench, library, core = imaging(made_of)
        readings: list[float] = []

        class Watching:
            def expose(self, times_us: object, values: NDArray[np.float64], exposures: object) -> None:
                readings.extend(values.tolist())

        bench.attach(Watching())
        core.start_sequence_acquisition(30, 0.0, True)
        project(library, packed(np.ones((30, HEIGHT, WIDTH), np.uint8)))
        # A pixel's rounding, 1/2 at most, and as many of them as there are.
        np.testing.assert_allclose(frames_of(core).sum(axis=(1, 2)), readings, atol=5 * (self.n_px / 12) ** 0.5)

    def test_a_frame_depends_on_seed_and_exposure_alone_not_on_when_it_is_popped(self) -> None:
        frames = []
        for late in (False, True):
            _, library, core = imaging(self.noisy)
            core.start_sequence_acquisition(6, 0.0, True)
            popped = []
            for start in (0, 3):
                project(library, packed(some_bits(6)[start : start + 3]))
                popped += [] if late else list(frames_of(core))
            frames.append(list(frames_of(core)) if late else popped)
        assert np.array_equal(frames[0], frames[1])
        assert not np.array_equal(frames[0][0], frames[0][1])

    def test_a_restored_bench_goes_on_with_the_same_frames(self) -> None:
        made_of = replace(self.noisy, source_noise=0.05, lamp_drift=0.2, lamp_drift_period_s=1e-3)
        whole = frames_under((), made_of)
        first, library, _ = imaging(made_of)
        project(library, packed(some_bits(2)))
        second, library, core = imaging(made_of)
        second.restore(first.state)
        core.start_sequence_acquisition(2, 0.0, True)
        project(library, packed(some_bits(4)[2:]))
        assert np.array_equal(frames_of(core), whole[2:])


class TestFaults:
    """A frame shows what was really displayed when it was triggered."""

    noisy = TestNoise.noisy

    def test_lost_missing_and_ended_exposures_leave_the_others_as_they_are(self) -> None:
        clean = frames_under((), self.noisy)
        assert np.array_equal(frames_under([LostTrigger(0, 1)], self.noisy), clean[[0, 2, 3]])
        assert np.array_equal(frames_under([MissingFrame(0, 2)], self.noisy), clean[[0, 1, 3]])
        assert np.array_equal(frames_under([EarlyEnd(0, 2)], self.noisy), clean[:2])

    def test_a_doubled_trigger_gives_the_same_frame_twice(self) -> None:
        assert np.array_equal(
            frames_under([DoubledTrigger(0, 1)], self.noisy), frames_under((), self.noisy)[[0, 1, 1, 2]]
        )

    def test_a_late_start_shows_dark_mirrors_first(self) -> None:
        clean, late = frames_under(()), frames_under([LateStart(0, 1)])
        assert late[0].max() == 0
        assert np.array_equal(late[1:], clean[:3])

    def test_a_late_frame_collects_of_what_is_displayed_meanwhile(self) -> None:
        """60 µs late: the last 20 µs of its own 80 µs, and after a dark phase of 20 µs the first 40 of the next one."""
        late, bits = frames_under([LateTrigger(0, 1, 60.0)]), some_bits(4)
        expected = 0.25 * scattered(VIEW, LIGHT * bits[1]) + 0.5 * scattered(VIEW, LIGHT * bits[2])
        assert np.abs(late[1] - expected).max() <= ROUNDED
        assert np.array_equal(late[[0, 2, 3]], frames_under(())[[0, 2, 3]])

    def test_flooded_frames_are_at_full_scale(self) -> None:
        flooded = frames_under([Saturation(0, 2)], self.noisy)
        assert (flooded[:2] == 2**32 - 1).all()
        assert np.array_equal(flooded[2:], frames_under((), self.noisy)[2:])

    def test_stale_frames_are_those_of_before(self) -> None:
        _, library, core = imaging(self.noisy, faults=[StaleFrames(0, 1), StaleFrames(1, 2)])
        frames = []
        for _ in range(2):
            core.start_sequence_acquisition(3, 0.0, True)
            project(library, packed(some_bits(3)))
            frames.append(frames_of(core))
        assert (frames[0][0] == 0).all()
        assert np.array_equal(frames[1][:2], frames[0][2:])
