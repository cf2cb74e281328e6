"""Only pixels on which mirrors lie are read: the region a registration gives, and when it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.bench_check import check_bench
from acquisition.bucket_region import bounding_box, bucket_region, reading_the_whole_frame
from acquisition.calibration_identity import CalibrationMismatchError, camera_identity
from acquisition.config import AcquisitionConfig, on_record
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.device_sections import BucketRegion
from acquisition.dmd_region import dmd_region
from acquisition.plan import planned_frame_bytes
from acquisition.problems import AcquisitionFileError
from acquisition.registration_check import check_registration
from acquisition.rehearsal import rehearsal_of
from acquisition.run import acquire
from acquisition.sensing_plan import plan_sensing
from acquisition.stored_reconstruction import reconstruct_run, stored_config
from acquisition.stored_run import StoredRun
from calibration.calibration_file import write_calibration
from calibration.dot_frames import DotFrames
from calibration.fiducials import FiducialPictures, fiducial_recipe
from calibration.identity import CameraIdentity
from calibration.registration import Registration, fit_registration
from calibration.registration_file import RegistrationCalibration
from calibration.verdict import NotCalibratableError
from devices.detector import DetectorInfo
from devices.errors import FrameShapeError
from devices.projector import Timing
from models.pictures import Region
from tests.acquisition.rehearsal import small_config

# 16 × 16 pixels of 4 mirrors on a camera of 80 × 74 px that sees mirrors as 0.75 px, turned by 25° and mirrored.
SIDE, MIRRORS, TOP, LEFT = 16, 4, 40, 60
FRAME = (80, 74)
VIEW = {"scale": 0.75, "rotation_deg": 25.0, "x_px": 127.0, "y_px": 19.0, "mirrored": True, "blur_px": 0.8}
CAMERA = {"kind": "simulated", "width_px": FRAME[0], "height_px": FRAME[1], "bytes_per_px": 2, "offset_per_px": 20.0}
LIT_FROM_LEFT = np.array([[LEFT, TOP], [LEFT + 63, TOP], [LEFT + 63, TOP + 63], [LEFT, TOP + 63]])


def true_map() -> NDArray[np.float64]:
    """The view's map, written down once more."""
    cosine, sine = 0.75 * np.cos(np.deg2rad(25.0)), 0.75 * np.sin(np.deg2rad(25.0))
    return np.array([[-cosine, -sine, 127.0], [-sine, cosine, 19.0]])


def a_bench(output: str = "unused.zarr", **detector: Any) -> AcquisitionConfig:
    devices = {
        "projector": {"kind": "simulated", "dmd": "xga"},
        "detector": {**CAMERA, **detector},
        "light_source": {"kind": "simulated"},
    }
    return small_config(
        sensing={"side": SIDE, "alpha": 0.25},
        dmd_region={"top": TOP, "left": LEFT, "mirrors_per_px": MIRRORS},
        devices=devices,
        noise={"gain": 1.0, "variance": 1500.0},
        bench={"shot_noise": True, "photoelectrons_per_px": 2000.0, "seed": 4},
        output={"run": output},
    )


def a_file(path: Path, **changes: Any) -> Path:
    """A registration of the bench above, as if it had been fitted without error."""
    config = a_bench()
    fitted = Registration(
        true_map(),
        np.zeros((9, 2)),
        np.zeros((9, 2)),
        np.ones(9, dtype=bool),
        np.zeros(9, dtype=bool),
        LIT_FROM_LEFT.astype(np.float64),
        np.full(4, 0.1),
        tuple(changes.pop("reasons", ())),
    )
    identity = CameraIdentity(
        simulated=True,
        camera="SimulatedCamera",
        exposure_us=90.0,
        region=None,
        roi=(0, 0, *FRAME),
        binning=1,
        bytes_per_px=2,
        offset_per_px=20.0,
        settings={},
    )
    calibration = RegistrationCalibration.of(
        fitted,
        hadascope="0.1.0",
        measured="2026-01-31",
        raw="registration.zarr",
        identity=identity.model_copy(update=changes.pop("identity", {})),
        frame_px=changes.pop("frame_px", FRAME),
        dmd=changes.pop("dmd", "xga"),
        region=replace(dmd_region(config), **changes.pop("region", {})),
    )
    assert not changes
    write_calibration(path, calibration)
    return path


def pixels_of_mirrors(matrix: NDArray[np.float64], left: int, top: int, extent: int) -> tuple[int, int, int, int]:
    """First and last x and y of the pixels that hold a point of a mirror's square, point by point."""
    step = np.linspace(-0.5, 0.5, 21)[:, None] * (1 - 1e-9)
    column = (left + np.arange(extent) + step).ravel()
    row = (top + np.arange(extent) + step).ravel()
    ends = [(c, r) for c in column for r in (row[0], row[-1])] + [(c, r) for c in (column[0], column[-1]) for r in row]
    x, y = np.floor(np.array([matrix @ (c, r, 1.0) for c, r in ends]) + 0.5).astype(int).T
    x, y = np.unique(x), np.unique(y)
    return int(x[0]), int(y[0]), int(x[-1]), int(y[-1])


@given(
    st.floats(0.1, 4),
    st.floats(-180, 180),
    st.booleans(),
    st.floats(-50, 50),
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 12)),
    st.integers(0, 5),
)
def test_the_box_holds_every_mirror_and_is_no_larger(
    scale: float, rotation_deg: float, mirrored: bool, shift: float, mirrors: tuple[int, int, int], margin_px: int
) -> None:
    angle = np.deg2rad(rotation_deg)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turn @ np.diag([-1 if mirrored else 1, 1]), [shift, 2 * shift]])
    x, y, right, bottom = bounding_box(matrix, mirrors, margin_px)
    inner = pixels_of_mirrors(matrix, *mirrors)
    # Edges on pixel borders may go either way by one pixel, when numbers are rounded.
    low, high = np.array([x, y]) + margin_px, np.array([right, bottom]) - margin_px
    assert (np.abs(low - inner[:2]) <= 1).all()
    assert (np.abs(high - inner[2:]) <= 1).all()
    corners = (
        matrix
        @ np.array(
            [[c, r, 1.0] for c in (0, mirrors[2]) for r in (0, mirrors[2])]
            + np.array([mirrors[0] - 0.5, mirrors[1] - 0.5, 0])
        ).T
    )
    assert (corners.min(axis=1) >= low - 0.5 - 1e-5).all()
    assert (corners.max(axis=1) <= high + 0.5 + 1e-5).all()


def test_mirrors_that_are_pixels_are_their_own_box() -> None:
    assert bounding_box(np.array([[1.0, 0, 0], [0, 1.0, 0]]), (3, 5, 10), 0) == (3, 5, 12, 14)
    assert bounding_box(np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]]), (4, 8, 16), 2) == (0, 2, 11, 13)


def test_the_region_is_the_box_within_the_frame(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json")
    inner = pixels_of_mirrors(true_map(), LEFT, TOP, 64)
    for margin_px in (0, 2, 30):
        region = bucket_region(a_bench(registration=str(path), registration_margin_px=margin_px))
        assert region is not None
        assert (margin_px == 30) == ((region.width, region.height) == FRAME)
        x, y = (max(each - margin_px, 0) for each in inner[:2])
        right, bottom = (min(each + margin_px, size - 1) for each, size in zip(inner[2:], FRAME, strict=True))
        assert (region.x, region.y) == (x, y)
        assert (region.x + region.width - 1, region.y + region.height - 1) == (right, bottom)


def test_without_a_registration_the_region_is_the_files() -> None:
    assert bucket_region(a_bench()) is None
    stated = {"x": 1, "y": 2, "width": 3, "height": 4}
    assert bucket_region(a_bench(region=stated)) == BucketRegion(**stated)


def test_a_smaller_image_region_takes_fewer_pixels(tmp_path: Path) -> None:
    whole = a_bench(registration=str(a_file(tmp_path / "registration.json")), keep_frames=True)
    inner = whole.replace(dmd_region=whole.dmd_region.model_copy(update={"top": 60, "left": 70, "mirrors_per_px": 2}))
    one, other = bucket_region(whole), bucket_region(inner)
    assert one is not None
    assert other is not None
    assert other.width * other.height < 0.5 * one.width * one.height
    assert planned_frame_bytes(inner) == 2 * other.width * other.height


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reasons": ["the dots lie 3.00 px off"]}, "not usable .the dots lie 3.00 px off.: register again"),
        ({"dmd": "1080p"}, "made with a DMD of kind 1080p, and devices.projector.dmd is xga"),
        ({"region": {"left": 61}}, "image region takes columns 60 to 123 and rows 40 to 103: register again"),
        ({"region": {"top": 41}}, "made for the mirrors of columns 60 to 123 and rows 41 to 104"),
        ({"region": {"top": 39, "side": 8}}, "made for the mirrors of columns 60 to 91 and rows 39 to 70"),
        ({"frame_px": (4, 5)}, "100 % of the image region's mirrors lie beside the frame of 4 × 5 px"),
        ({"frame_px": (42, 74)}, r"51\.\d % of the image region's mirrors lie beside the frame of 42 × 74 px, up to 3"),
        ({"frame_px": (80, 69)}, "of the image region's mirrors lie beside the frame of 80 × 69 px, up to 2.0 px"),
    ],
)
def test_a_registration_that_does_not_fit_the_file_is_a_problem_in_it(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = a_file(tmp_path / "registration.json", **changes)
    with pytest.raises(AcquisitionFileError, match=said) as caught:
        a_bench(registration=str(path))
    assert [problem.path for problem in caught.value.problems] == ["devices.detector.registration"]


def test_a_registration_serves_a_smaller_region_that_lies_on_the_frame_as_a_whole(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json", frame_px=(60, 74))
    smaller = {"top": 56, "left": 80, "mirrors_per_px": 2}
    config = a_bench().replace(dmd_region=smaller)
    named = config.devices.detector.model_copy(update={"registration": path, "registration_margin_px": 0})
    region = bucket_region(config.replace(devices=config.devices.model_copy(update={"detector": named})))
    assert region is not None
    inner = pixels_of_mirrors(true_map(), 80, 56, 32)
    assert (region.x, region.y, region.width, region.height) == (*inner[:2], *(np.subtract(inner[2:], inner[:2]) + 1))


def test_a_registration_that_cannot_be_read_is_a_problem_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionFileError, match=r"devices\.detector\.registration: .*missing\.json cannot be read"):
        a_bench(registration=str(tmp_path / "missing.json"))
    (tmp_path / "other.json").write_text('{"kind": "noise"}', encoding="utf-8")
    with pytest.raises(AcquisitionFileError, match=r"is no calibration of the DMD's place on the detector"):
        a_bench(registration=str(tmp_path / "other.json"))


def test_a_region_beside_a_registration_is_a_problem(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json")
    with pytest.raises(AcquisitionFileError, match=r"devices\.detector\.region: .*allowed: one of them"):
        a_bench(registration=str(path), region={"x": 0, "y": 0, "width": 3, "height": 3})


@pytest.mark.parametrize(
    ("identity", "now", "said"),
    [
        ({"camera": "Prime BSI"}, {}, "the camera was Prime BSI, and is SimulatedCamera now"),
        ({"binning": 2}, {}, "the binning was 2, and is 1 now"),
        ({}, {"binning": None}, "the binning was 1, and is not known now"),
        ({"roi": (4, 0, *FRAME)}, {}, r"region of interest .* was \(4, 0, 80, 74\), and is \(0, 0, 80, 74\) now"),
        ({}, {"width_px": 90}, r"the frame .* was \(80, 74\), and is \(90, 74\) now"),
        ({"simulated": False}, {}, "it was made on real devices, and these are simulated"),
    ],
)
def test_another_camera_or_another_frame_is_refused(
    tmp_path: Path, identity: dict[str, Any], now: dict[str, Any], said: str
) -> None:
    config = a_bench(registration=str(a_file(tmp_path / "registration.json", identity=identity)))
    info = DetectorInfo("SimulatedCamera", *FRAME, 2, binning=1, roi=(0, 0, *FRAME))
    with pytest.raises(CalibrationMismatchError, match=said):
        check_registration(config, replace(info, **now))


def test_the_connected_camera_is_held_against_the_registration(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json")
    config = a_bench(registration=str(path))
    sample = sample_on_stage(config)
    with connected_devices(config, sample) as devices:
        check_bench(config, plan_sensing(config, sample).schedule, devices)
    wider = a_bench(registration=str(path), width_px=100)
    with (
        connected_devices(wider, sample_on_stage(wider)) as devices,
        pytest.raises(CalibrationMismatchError, match=r"the frame .* was \(80, 74\), and is \(100, 74\) now"),
    ):
        check_bench(wider, plan_sensing(wider, sample).schedule, devices)
    narrower = a_bench(registration=str(path), width_px=20)
    with pytest.raises(FrameShapeError) as caught, connected_devices(narrower, sample_on_stage(narrower)):
        pass
    assert f"what {path} gives" in "".join(caught.value.__notes__)


def test_a_rehearsal_of_a_real_bench_does_without_its_registration(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json", identity={"simulated": False})
    devices = {
        "projector": {"kind": "alp", "dmd": "xga"},
        "detector": {"kind": "micro-manager", "registration": str(path)},
        "light_source": {"kind": "none"},
    }
    real = small_config(dmd_region={"top": TOP, "left": LEFT, "mirrors_per_px": 2}, devices=devices)
    assert bucket_region(real) is not None
    rehearsed = rehearsal_of(real)
    assert rehearsed.devices.detector.registration is None
    assert bucket_region(rehearsed) is None


def test_a_registration_begins_with_the_whole_frame(tmp_path: Path) -> None:
    path = a_file(tmp_path / "registration.json")
    assert bucket_region(reading_the_whole_frame(a_bench(registration=str(path)))) is None
    assert bucket_region(reading_the_whole_frame(a_bench(region={"width": 3, "height": 3}))) is None


def seen_on_the_bench(config: AcquisitionConfig, repeats: int = 3) -> tuple[Registration, CameraIdentity]:
    """Play the dots on the bench, exposure by exposure, and fit the map."""
    config = reading_the_whole_frame(config)
    detector = config.devices.detector.model_copy(update={"keep_frames": True})
    config = config.replace(devices=config.devices.model_copy(update={"detector": detector}))
    region: Region = dmd_region(config)
    pictures, recipe = FiducialPictures(region), fiducial_recipe(region, repeats=repeats)
    pair = np.concatenate([[0] * 4, np.repeat(recipe.pairs, 2), [0] * 4])
    sign = np.concatenate(
        [[1, -1, -1, 1], np.ravel([(s, -s) for s in np.where(recipe.plus_first, 1, -1)]), [1, -1, -1, 1]]
    )
    dots = DotFrames(len(pictures.positions))
    timing = Timing(config.timing.picture_time_us, config.timing.illumination_time_us)
    with connected_devices(config, sample_on_stage(config)) as devices:
        bank = devices.projector.allocate(len(pair))
        devices.projector.load(bank, 0, pictures.render(pair, sign))
        devices.projector.set_timing(bank, timing)
        devices.light_source.on()
        for _ in range(repeats):
            devices.detector.arm(len(pair), timing.illumination_time_us)
            devices.projector.start(bank, 0, len(pair) - 1)
            burst = devices.detector.read(len(pair), 10.0)
            devices.detector.disarm()
            assert burst.frames is not None
            dots.add(pair, sign, burst.frames)
        identity = camera_identity(config, devices.detector.info)
    return fit_registration(dots.seen(), pictures), identity


def test_the_benchs_view_is_found_and_read_through(tmp_path: Path) -> None:
    found, identity = seen_on_the_bench(a_bench(view=VIEW))
    corners = np.column_stack([LIT_FROM_LEFT, np.ones(4)])
    assert np.hypot(*(corners @ (found.matrix - true_map()).T).T).max() < 0.3
    assert found.usable, found.reasons
    assert found.orientation.mirrored
    calibration = RegistrationCalibration.of(
        found,
        hadascope="0.1.0",
        measured="2026-01-31",
        raw="registration.zarr",
        identity=identity,
        frame_px=FRAME,
        dmd="xga",
        region=dmd_region(a_bench()),
    )
    path = tmp_path / "registration.json"
    write_calibration(path, calibration)
    config = a_bench(output=str(tmp_path / "run.zarr"), view=VIEW, registration=str(path), keep_frames=True)
    region = bucket_region(config)
    assert region is not None
    acquire(config)
    run = StoredRun(config.output.run)
    readings = next(iter(run.blocks()))
    assert readings.frames is not None
    assert readings.frames.shape[1:] == (region.height, region.width)
    # The run stands by itself: nothing of it is read from the registration's file again.
    path.unlink()
    assert bucket_region(stored_config(run)) == region
    assert reconstruct_run(config.output.run).reconstruction.image.shape == (SIDE, SIDE)
    assert run.facts["registration"]["matrix"] == np.asarray(found.matrix).tolist()


def test_a_bench_without_a_view_carries_no_position() -> None:
    with pytest.raises(NotCalibratableError, match="the detector reads the sample as a whole"):
        seen_on_the_bench(a_bench(bytes_per_px=4))


def test_what_is_on_record_names_the_region_and_not_the_file(tmp_path: Path) -> None:
    config = a_bench(registration=str(a_file(tmp_path / "registration.json")))
    detector = on_record(config)["devices"]["detector"]
    region = bucket_region(config)
    assert region is not None
    assert detector["region"] == region.model_dump()
    assert detector["registration"] is None
