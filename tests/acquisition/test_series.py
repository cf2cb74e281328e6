"""A series of images: what it leaves for the field's tools, where the microscope stood, and when there was light."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import yaozarrs
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from scipy.linalg import hadamard

from acquisition import simulated_bench
from acquisition.acquisition_file import dump_acquisition, load_acquisition
from acquisition.check import Verdict, check_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.controller import REPAIRABLE, DoseLimitError
from acquisition.events import Event, EventKind, read_events
from acquisition.observer import Observer, Place
from acquisition.ome_images import plane_of
from acquisition.problems import AcquisitionFileError
from acquisition.run import acquire
from acquisition.run_layout import NotARunError, OutputExistsError, RunState
from acquisition.series import acquire_series, resume_series
from acquisition.series_plan import plan_series
from acquisition.stored_reconstruction import reconstruct_run
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, event_path, is_series
from devices.errors import DeviceSilentError, MicroManagerCallError, PoseMissedError, PoseRefusedError
from devices.micromanager_microscope import MicroManagerMicroscope
from devices.microscope import Pose
from sim_devices.bench import OpticalBench
from sim_devices.faults import LostTrigger
from sim_devices.moving_parts import FOCUS, MovingParts
from tests.acquisition.bench_record import statistics
from tests.acquisition.real_bench import CommandLine, RealBench, SimulatedBenches
from tests.acquisition.series_bench import Moves, StopAt, series_config, watch_moves

TIME_LAPSE = Path(__file__).parents[2] / "examples" / "time_lapse.yaml"
ONE_EXPOSURE_MJ = 1.0 * 90e-6


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    return watch_moves(monkeypatch)


def image_group(path: Path) -> zarr.Group:
    return zarr.open_group(path, mode="r")


# 3 time points × 2 channels × 3 planes


@pytest.fixture(scope="module")
def lapse(tmp_path_factory: pytest.TempPathFactory) -> tuple[AcquisitionConfig, Moves]:
    """The example's series on fewer pixels, without noise and bleaching, so that images are what lies on the stage."""
    folder = tmp_path_factory.mktemp("lapse")
    config = load_acquisition(
        TIME_LAPSE,
        {
            "sensing": {"side": 16, "alpha": 1.0, "repeats": 1, "mask": {"kind": "uniform"}},
            "bench": {"shot_noise": False, "bleaching_per_s": 0.0, "photoelectrons_per_px": 4000.0},
            "noise": {"gain": 2.0, "variance": 0.0},
            "output": {"run": str(folder / "lapse.zarr")},
        },
    )
    with pytest.MonkeyPatch.context() as patched:
        moves = watch_moves(patched)
        acquire_series(config)
    return config, moves


def test_a_series_opens_in_the_fields_reader_with_its_axes_and_sizes(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    location = parse_url(str(lapse[0].output.run / "0"))
    assert location is not None
    (node,) = Reader(location)()
    assert [axis["name"] for axis in node.metadata["axes"]] == ["t", "c", "z", "y", "x"]
    assert [axis.get("unit") for axis in node.metadata["axes"]] == ["second", None, *["micrometer"] * 3]
    assert node.data[0].shape == (3, 2, 3, 16, 16)
    (scale,) = [each for each in node.metadata["coordinateTransformations"][0] if each["type"] == "scale"]
    assert scale["scale"] == pytest.approx([6.0, 1.0, 2.0, 4 * 0.1368, 4 * 0.1368])
    assert node.metadata["channel_names"] == ["FITC", "TRITC"]
    assert np.isfinite(np.asarray(node.data[0])).all()


def test_a_series_is_valid_by_an_independent_validator(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    """The collection, its image, and the run of an event."""
    run = lapse[0].output.run
    for path in (run, run / "0", run / "events" / "t000_p000_c000_z000"):
        yaozarrs.validate_zarr_store(str(path))
    assert image_group(run).attrs["ome"] == {"version": "0.5", "bioformats2raw.layout": 3}
    assert image_group(run / "OME").attrs["ome"] == {"version": "0.5", "series": ["0"]}


def test_every_plane_is_its_events_image(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    run = lapse[0].output.run
    image = image_group(run / "0")
    for event in StoredSeries(run).planned_events:
        t, _, c, z = event.index
        stored = StoredRun(event_path(run, event)).image("image")
        assert np.array_equal(plane_of(image, (t, c, z)), stored.astype(np.float32))


def test_every_event_measured_what_lies_at_its_pose(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    """The coefficients against the dense matrix on the sample that the stage's own rule gives."""
    config = lapse[0]
    matrix = hadamard(256).astype(np.float64)
    seen: set[bytes] = set()
    for event in StoredSeries(config.output.run).planned_events:
        run = StoredRun(event_path(config.output.run, event))
        sample = sample_on_stage(config, event.pose)
        assert sample is not None
        assert run.facts["event"]["read_back"]["z_um"] == event.pose.z_um
        assert np.allclose(run.image("sample"), sample, rtol=1e-12)
        differences = statistics(run)["mean"] - matrix @ sample.ravel()
        assert np.abs(differences[1:]).max() < 1.0  # readings are whole detector units, two a coefficient
        seen.add(np.round(sample, 6).tobytes())
    assert len(seen) == 4  # two channels, in focus and as far above as below it


def test_the_microscope_goes_to_every_pose_once_in_order_and_in_the_dark(
    lapse: tuple[AcquisitionConfig, Moves],
) -> None:
    config, moves = lapse
    events = StoredSeries(config.output.run).planned_events
    assert moves.asked == [event.pose for event in events]
    channels = [pose.channel[1] for pose in moves.asked if pose.channel is not None]
    assert channels == (["FITC"] * 3 + ["TRITC"] * 3) * 3
    assert [pose.z_um for pose in moves.asked] == [-2.0, 0.0, 2.0] * 6
    assert not any(moves.lit)


def test_time_points_begin_when_they_are_due_and_not_before(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    config = lapse[0]
    stage = config.devices.stage
    for event in StoredSeries(config.output.run).planned_events:
        facts = StoredRun(event_path(config.output.run, event)).facts["event"]
        if event.interval_s is not None:
            assert event.min_start_s is not None
            assert facts["begun_s"] == pytest.approx(event.min_start_s + 2 * stage.move_ms * 1e-3)
            assert facts["late_s"] == pytest.approx(2 * stage.move_ms * 1e-3)
    assert StoredSeries(config.output.run).facts["warnings"] == []


def test_the_plan_tells_when_events_begin(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    config = lapse[0]
    begun = [
        StoredRun(event_path(config.output.run, event)).facts["event"]["begun_s"]
        for event in StoredSeries(config.output.run).planned_events
    ]
    assert [begin_s for _, begin_s, _ in plan_series(config).timeline()] == pytest.approx(begun, abs=0.02)


def test_what_is_on_record_of_a_series(lapse: tuple[AcquisitionConfig, Moves]) -> None:
    config = lapse[0]
    stored = StoredSeries(config.output.run)
    assert stored.state is RunState.FINISHED
    assert [state for _, state in stored.events] == [RunState.FINISHED] * 18
    assert stored.config.mda == config.mda
    assert stored.facts["simulated"] is True
    assert stored.start_pose == Pose(0.0, 0.0, 0.0)
    assert stored.facts["lit_by_place"] == {"0": plan_series(config).exposures}
    kinds = [event.kind for event in read_events(config.output.run)]
    assert kinds == [EventKind.STARTED, *[EventKind.IMAGE] * 18, EventKind.FINISHED]
    event = StoredRun(event_path(config.output.run, stored.planned_events[4])).facts["event"]
    assert (event["number"], event["index"], event["words"]) == (4, [0, 0, 1, 1], "t 1/3, TRITC, z 2/3")
    assert StoredRun(event_path(config.output.run, stored.planned_events[4])).facts["config"]["mda"] is None


def test_a_series_is_told_from_a_run(lapse: tuple[AcquisitionConfig, Moves], tmp_path: Path) -> None:
    run = lapse[0].output.run
    event = run / "events" / "t000_p000_c000_z000"
    assert is_series(run)
    assert not is_series(event)
    assert not is_series(tmp_path)
    assert not is_series(tmp_path / "nothing")
    for use in (StoredRun, reconstruct_run):
        with pytest.raises(NotARunError, match=r"holds a series of images.*events"):
            use(run)
    with pytest.raises(NotARunError, match="holds one run, expected a series"):
        StoredSeries(event)


def test_one_image_of_a_series_is_reconstructed_as_any_run(
    lapse: tuple[AcquisitionConfig, Moves], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquisition.stored_reconstruction.draw_result", lambda *_: None)
    event = lapse[0].output.run / "events" / "t000_p000_c000_z001"
    made = reconstruct_run(event, overwrite=True)
    assert np.allclose(made.reconstruction.image, StoredRun(event).image("image"))


# Positions, and images with an uncertainty of their own


def test_every_position_has_an_image_of_its_own(tmp_path: Path, moves: Moves) -> None:
    positions = [{"x": 0, "y": 0, "name": "left"}, {"x": 3, "y": 0}]
    config = series_config(tmp_path, {"stage_positions": positions})
    acquire_series(config)
    run = config.output.run
    yaozarrs.validate_zarr_store(str(run))
    assert image_group(run / "OME").attrs["ome"] == {"version": "0.5", "series": ["0", "1"]}
    left, right = (plane_of(image_group(run / str(number)), (0, 0, 0)) for number in (0, 1))
    assert image_group(run / "0").attrs["ome"]["multiscales"][0]["name"] == "left"  # type: ignore[index, call-overload]
    assert not np.allclose(left, right)
    assert [pose.x_um for pose in moves.asked] == [0.0, 3.0]


def test_uncertainties_have_images_beside_them(tmp_path: Path, moves: Moves) -> None:
    """A network gives them; what the store is told is what it holds."""
    from acquisition.mda import series_events
    from acquisition.series_store import SeriesStore

    config = series_config(tmp_path, {"channels": ["A", "B"]}, reconstruction={"method": "network", "model": "any"})
    assert config.mda is not None
    store = SeriesStore.create(config.output.run, config, {"state": "running"})
    image, uncertainty = np.random.default_rng(0).random((2, 8, 8))
    store.write_event(series_events(config.mda)[1], image, uncertainty)
    store.close()
    yaozarrs.validate_zarr_store(str(config.output.run))
    for name, plane in (("0", image), ("uncertainty/0", uncertainty)):
        found = image_group(config.output.run / name)
        assert np.array_equal(plane_of(found, (0, 1, 0)), plane.astype(np.float32))
        assert np.isnan(plane_of(found, (0, 0, 0))).all()


# What ends a series


def test_stopping_ends_the_series_and_everything_is_let_go_of(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = series_config(tmp_path, {"channels": ["A", "B", "C"]})

    def stop(place: Place) -> None:
        if place.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=Observer(on_place=stop))
    stored = StoredSeries(config.output.run)
    assert stored.state is RunState.STOPPED
    assert [state for _, state in stored.events] == [RunState.FINISHED, None, None]
    benches.must_be_let_go_of()


def test_stopping_while_it_waits_ends_the_series(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = series_config(tmp_path, {"time_plan": {"interval": 3600, "loops": 2}})
    waited = []

    def watch_waiting(stand_ins: Any) -> None:
        spend = stand_ins.bench.spend

        def then_stop(duration_us: float) -> None:
            spend(duration_us)
            if duration_us == 250_000:
                waited.append(stand_ins.bench.light_on)
                if len(waited) == 100:
                    raise KeyboardInterrupt

        stand_ins.bench.spend = then_stop

    benches.prepare = watch_waiting
    with pytest.raises(KeyboardInterrupt):
        acquire_series(config)
    assert waited == [False] * 100
    assert [state for _, state in StoredSeries(config.output.run).events] == [RunState.FINISHED, None]
    benches.must_be_let_go_of()


def test_a_move_that_does_not_arrive_ends_the_series_in_the_dark(
    tmp_path: Path, benches: SimulatedBenches, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = series_config(tmp_path, {"z_plan": {"absolute": [0, 5, 10]}})
    move_to = MicroManagerMicroscope.move_to

    def misses(microscope: MicroManagerMicroscope, pose: Pose) -> Pose:
        reached = move_to(microscope, pose)
        if pose.z_um == 5.0:
            raise PoseMissedError("z = 5 µm was asked for, 7 µm was reached")
        return reached

    monkeypatch.setattr(MicroManagerMicroscope, "move_to", misses)
    with pytest.raises(PoseMissedError) as error:
        acquire_series(config)
    assert any("hadascope resume" in note for note in error.value.__notes__)
    stored = StoredSeries(config.output.run)
    assert stored.state is RunState.FAILED
    assert "7 µm was reached" in stored.facts["cause"]
    assert [state for _, state in stored.events] == [RunState.FINISHED, None, None]
    benches.must_be_let_go_of()


@pytest.fixture
def light_meanwhile(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bool]]:
    """Whether there was light whenever a stage, a focus or a preset moved, and whenever the bench was told to wait."""
    seen: dict[str, list[bool]] = {"moves": [], "waits": []}
    move, wait_on = MovingParts._move, simulated_bench._wait_on

    def watch_move(parts: MovingParts, *arguments: Any) -> None:
        move(parts, *arguments)
        seen["moves"].append(parts._bench.light_on)

    def watch_waits(bench: OpticalBench) -> Callable[[float], None]:
        wait = wait_on(bench)

        def then_look(duration_s: float) -> None:
            wait(duration_s)
            seen["waits"].append(bench.light_on)

        return then_look

    monkeypatch.setattr(MovingParts, "_move", watch_move)
    monkeypatch.setattr(simulated_bench, "_wait_on", watch_waits)
    return seen


@pytest.mark.parametrize("fault", ["none", "stuck", "off", "preset gone"])
def test_the_light_is_off_whenever_anything_moves_or_waits_also_when_a_move_fails(
    tmp_path: Path, benches: SimulatedBenches, light_meanwhile: dict[str, list[bool]], fault: str
) -> None:
    mda = {
        "time_plan": {"interval": 3, "loops": 2},
        "channels": ["A", "B"],
        "stage_positions": [{"x": 3, "y": 0, "z": 1}],
    }
    config = series_config(tmp_path, mda, devices={"stage": {"settle_ms": 10, "move_timeout_s": 0.05}})
    fails_at = 2
    failures = {"stuck": DeviceSilentError, "off": PoseMissedError, "preset gone": MicroManagerCallError}

    def break_the_stage(place: Place) -> None:
        if place.number == fails_at:
            moving = benches.latest.core.moving
            if fault == "stuck":
                moving.stuck.add(FOCUS)
            elif fault == "off":
                moving.off_by_um = (0.0, 5.0, 0.0)
            elif fault == "preset gone":
                moving.groups["Channel"] = ()

    observer = Observer(on_place=break_the_stage)
    if fault == "none":
        acquire_series(config, observer=observer)
    else:
        with pytest.raises(failures[fault]):
            acquire_series(config, observer=observer)
        assert [state for _, state in StoredSeries(config.output.run).events][fails_at:] == [None, None]
    assert len(light_meanwhile["moves"]) >= 3 * fails_at
    assert len(light_meanwhile["waits"]) > fails_at
    assert not any(light_meanwhile["moves"] + light_meanwhile["waits"])
    assert benches.bench.was_lit
    benches.must_be_let_go_of()


def test_light_that_is_switched_by_hand_is_said_to_stay_on_between_the_images(
    tmp_path: Path, moves: Moves, hadascope: CommandLine
) -> None:
    config = series_config(tmp_path, {"channels": ["A", "B"]}, devices={"light_source": {"kind": "none"}})
    assert "warning the light is switched by hand" in hadascope("plan", written(config, tmp_path)).out
    result = acquire_series(config)
    assert moves.lit[-2:] == [True, True]
    assert sum("stays on between the images" in warning for warning in result.warnings) == 1
    assert StoredSeries(config.output.run).facts["warnings"] == list(result.warnings)


def test_an_event_that_fails_marks_itself_and_the_series(tmp_path: Path, benches: SimulatedBenches) -> None:
    def on_event(event: Event) -> None:
        if event.kind is EventKind.IMAGE and event.facts["number"] == 1:
            bench = benches.latest.bench
            bench.inject(*(LostTrigger(bench.n_projections + each, 3) for each in range(1, 12)))

    blocks = {"guard_interval": 4, "longest_block_s": 0.004, "timeout_margin_s": 0.02}
    config = series_config(tmp_path, {"channels": ["A", "B"]}, blocks=blocks)
    with pytest.raises(REPAIRABLE) as error:
        acquire_series(config, observer=Observer(on_event=on_event))
    assert any("image 2 of 2" in note for note in error.value.__notes__)
    stored = StoredSeries(config.output.run)
    assert [state for _, state in stored.events] == [RunState.FINISHED, RunState.FAILED]
    assert stored.state is RunState.FAILED
    benches.must_be_let_go_of()


def test_a_pose_that_cannot_be_asked_for_is_refused_before_any_light_and_anything_is_written(
    tmp_path: Path, benches: SimulatedBenches, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = series_config(tmp_path, {"z_plan": {"absolute": [0, 5]}})
    check = MicroManagerMicroscope.check

    def refuses(microscope: MicroManagerMicroscope, pose: Pose) -> None:
        check(microscope, pose)
        if pose.z_um == 5.0:
            raise PoseRefusedError("the focus ends at 4 µm")

    monkeypatch.setattr(MicroManagerMicroscope, "check", refuses)
    with pytest.raises(PoseRefusedError):
        acquire_series(config)
    assert not benches.bench.was_lit
    assert not config.output.run.exists()


def test_a_time_point_that_begins_late_is_played_and_its_lateness_is_on_record(tmp_path: Path, moves: Moves) -> None:
    told: list[Event] = []
    mda = {"axis_order": "tc", "time_plan": {"interval": 0.5, "loops": 3}, "channels": ["A", "B"]}
    config = series_config(tmp_path, mda)
    result = acquire_series(config, observer=Observer(on_event=told.append))
    stored = StoredSeries(config.output.run)
    facts = [StoredRun(event_path(config.output.run, event)).facts["event"] for event in stored.planned_events]
    for time_point, first in enumerate(facts[::2]):
        assert first["late_s"] == pytest.approx(first["begun_s"] - 0.5 * time_point)
    assert facts[2]["late_s"] > 0.25
    warned = [event.text for event in told if event.kind is EventKind.WARNING and "late" in event.text]
    assert len(warned) == 2
    assert stored.facts["warnings"] == list(result.warnings)
    assert set(warned) <= set(result.warnings)
    assert {event.words for event, _ in plan_series(config).late_events} == {"t 2/3, A", "t 3/3, A"}


# Dose


def limited(folder: Path, mj: float, **blocks: Any) -> AcquisitionConfig:
    """Two images at one place, one at another."""
    positions = [{"x": 0, "y": 0, "z": 0}, {"x": 9, "y": 0, "z": 0}, {"x": 0, "y": 0, "z": 1}]
    short = {"guard_interval": 4, "longest_block_s": 0.004, "timeout_margin_s": 0.02}
    return series_config(
        folder, {"stage_positions": positions}, sample={"dose_limit_mj": mj}, blocks={**short, **blocks}
    )


def test_the_light_of_all_events_at_one_place_is_held_against_the_limit(tmp_path: Path, moves: Moves) -> None:
    exposures = plan_series(limited(tmp_path, 1e6)).exposures_by_place
    assert set(exposures) == {0, 1}
    assert exposures[0] == 2 * exposures[1]
    with pytest.raises(AcquisitionFileError, match="2 images at one place"):
        acquire_series(limited(tmp_path, (exposures[0] - 1) * ONE_EXPOSURE_MJ))
    assert not moves.poses
    acquire_series(limited(tmp_path, exposures[0] * ONE_EXPOSURE_MJ))
    assert StoredSeries(tmp_path / "series.zarr").facts["lit_by_place"] == {"0": exposures[0], "1": exposures[1]}


def test_repeated_blocks_end_a_series_before_its_place_gets_more_than_the_limit(
    tmp_path: Path, benches: SimulatedBenches
) -> None:
    """A block of the first image is played twice, so that the last one at the same place has too little left."""
    exposures = plan_series(limited(tmp_path, 1e6)).exposures_by_place
    config = limited(tmp_path, exposures[0] * ONE_EXPOSURE_MJ)
    # Projection 0 is the trial's dark level, 1 the first image's own.
    benches.prepare = lambda stand_ins: stand_ins.bench.inject(LostTrigger(3, 3))
    with pytest.raises(DoseLimitError):
        acquire_series(config)
    stored = StoredSeries(config.output.run)
    assert [state for _, state in stored.events] == [RunState.FINISHED, RunState.FINISHED, None]
    lit = {int(place): had for place, had in stored.facts["lit_by_place"].items()}
    assert lit[0] > exposures[0] // 2
    assert lit[1] == exposures[1]
    benches.must_be_let_go_of()


def small_buffer(folder: Path, mj: float) -> AcquisitionConfig:
    """A camera whose buffer holds 64 frames of the blocks of some hundred exposures that are asked for."""
    camera = {"kind": "simulated", "width_px": 64, "height_px": 64, "bytes_per_px": 4, "buffer_mb": 1}
    return series_config(
        folder,
        {"channels": ["A", "B"]},
        sample={"dose_limit_mj": mj},
        blocks={"guard_interval": 4, "longest_block_s": 0.05},
        devices={"detector": {**camera, "arming_ms": 2.0, "offset_per_px": 10.0}},
    )


def test_guards_of_blocks_that_a_small_buffer_shortens_count_before_the_first_light(
    tmp_path: Path, benches: SimulatedBenches
) -> None:
    expected = plan_series(small_buffer(tmp_path, 1e6)).exposures
    too_much = small_buffer(tmp_path, (expected + 0.5) * ONE_EXPOSURE_MJ)
    checked = {finding.what: finding for finding in check_acquisition(too_much)}
    assert checked["dose"].verdict is Verdict.REFUSED
    with pytest.raises(AcquisitionFileError, match="2 images at one place"):
        acquire_series(too_much)
    assert not benches.bench.was_lit
    assert not too_much.output.run.exists()
    told: list[Event] = []
    config = small_buffer(tmp_path, 1e6)
    acquire_series(config, observer=Observer(on_event=told.append))
    stored = StoredSeries(config.output.run)
    assert stored.facts["lit_by_place"]["0"] == benches.bench.lit_exposures > expected
    assert max(projection.n_exposures for projection in benches.bench.record[1:] if projection.light_on) <= 64
    assert sum("blocks are shortened" in event.text for event in told) == 1


# Outputs that are there


def test_a_series_is_overwritten_when_asked_and_only_by_a_series(tmp_path: Path, moves: Moves) -> None:
    config = series_config(tmp_path, {"channels": ["A"]})
    acquire_series(config)
    with pytest.raises(OutputExistsError):
        acquire_series(config)
    single = config.replace(mda=None)
    with pytest.raises(OutputExistsError, match="a series of images, which is not what would replace it"):
        acquire(single, overwrite=True)
    first = StoredSeries(config.output.run).facts["started"]
    marker = config.output.run / "note.txt"
    marker.write_text("of the first series", encoding="utf-8")
    acquire_series(config, overwrite=True)
    assert not marker.exists()
    assert StoredSeries(config.output.run).facts["started"] >= first
    other = single.replace(output=single.output.model_copy(update={"run": tmp_path / "run.zarr"}))
    acquire(other)
    with pytest.raises(OutputExistsError):
        acquire_series(
            config.replace(output=config.output.model_copy(update={"run": tmp_path / "run.zarr"})), overwrite=True
        )
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED


def test_one_run_is_not_asked_for_a_series(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionFileError, match="mda"):
        acquire(series_config(tmp_path, {"channels": ["A"]}))
    with pytest.raises(ValueError, match="without a sequence"):
        acquire_series(series_config(tmp_path, {"channels": ["A"]}).replace(mda=None))


# The command line


def written(config: AcquisitionConfig, folder: Path) -> Path:
    file = folder / "series.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    return file


def test_the_command_line_plans_checks_rehearses_and_resumes_a_series(
    tmp_path: Path, moves: Moves, hadascope: CommandLine
) -> None:
    file = written(series_config(tmp_path, {"channels": ["A", "B"]}), tmp_path)
    planned = hadascope("plan", file)
    assert planned.code == 0
    assert "2: 1 time points, 2 channels (A, B), 1 planes, 1 positions" in planned.out
    checked = hadascope("check", file)
    assert checked.code == 0, checked.out
    assert "ok poses: 2 images, each can be asked for (XY SimulatedXYStage, focus SimulatedFocus)" in checked.out
    assert moves.asked == []
    played = hadascope("dry-run", file)
    assert played.code == 0, played.err
    assert str(tmp_path / "series.zarr") in played.out
    assert hadascope("dry-run", file).code == 2
    again = hadascope("resume", tmp_path / "series.zarr")
    assert again.code == 2
    assert "nothing to resume" in again.err


def test_the_command_line_refuses_what_a_sequence_cannot_ask_for(tmp_path: Path, hadascope: CommandLine) -> None:
    file = written(series_config(tmp_path, {"channels": ["A"]}), tmp_path)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["mda"]["channels"][0]["exposure"] = 20
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    for command in ("plan", "check", "dry-run"):
        done = hadascope(command, file)
        assert done.code == 2
        assert "mda.channels.0.exposure: found 20.0 ms" in done.err


def test_the_plan_warns_of_an_interval_that_is_too_short(tmp_path: Path, hadascope: CommandLine) -> None:
    file = written(series_config(tmp_path, {"time_plan": {"interval": 0.1, "loops": 3}}), tmp_path)
    assert "take longer than the interval of 0.1 s" in hadascope("plan", file).out


@pytest.fixture
def real_file(tmp_path: Path, lab: RealBench) -> Callable[[dict[str, Any]], Path]:
    def make(mda: dict[str, Any]) -> Path:
        file = lab.file(tmp_path)
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["mda"] = mda
        document["output"]["snapshots"] = 0
        file.write_text(json.dumps(document), encoding="utf-8")
        return file

    return make


def test_on_a_real_bench_somebody_is_asked_once_for_the_light_of_all_events(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, real_file: Callable[[dict[str, Any]], Path]
) -> None:
    file = real_file({"z_plan": {"absolute": [1.0, 2.0]}, "stage_positions": [{"x": 4, "y": 5}]})
    hadascope.person, hadascope.answer = True, "y"
    done = hadascope("acquire", file)
    assert done.code == 0, done.err
    assert hadascope.asked == 1
    assert f"{lab.bench.lit_exposures:,} exposures" in done.out
    stored = StoredSeries(tmp_path / "run.zarr")
    assert stored.state is RunState.FINISHED
    assert (lab.core.get_position(), lab.core.get_x_position(), lab.core.get_y_position()) == (2.0, 4.0, 5.0)
    assert not any(lab.log.lit("set_position") + lab.log.lit("set_xy_position"))
    lab.must_be_let_go_of()


def test_a_series_on_a_real_bench_goes_on_with_the_intervals_that_are_left(tmp_path: Path, lab: RealBench) -> None:
    """The time in which it was broken off does not count: the next image is due as long after the one before."""
    document = lab.config(tmp_path / "run.zarr", output={"run": str(tmp_path / "run.zarr"), "snapshots": 0})
    mda = {"time_plan": {"interval": 1.0, "loops": 3}, "z_plan": {"absolute": [2.0]}}
    config = AcquisitionConfig.model_validate({**document.model_dump(mode="json"), "mda": mda})
    confirmed: list[int] = []

    def confirm(n_exposures: int) -> bool:
        confirmed.append(n_exposures)
        return True

    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=replace(StopAt(1, 0).observer, confirm=confirm))
    lab.must_be_let_go_of()
    began = json.loads((tmp_path / "run.zarr" / "zarr.json").read_text(encoding="utf-8"))["attributes"]["hadascope"]
    assert began["zero_us"] is None
    resume_series(tmp_path / "run.zarr", observer=Observer(confirm=confirm))
    stored = StoredSeries(tmp_path / "run.zarr")
    assert stored.state is RunState.FINISHED
    begun_s = [StoredRun(event_path(stored.path, event)).facts["event"]["begun_s"] for event in stored.planned_events]
    assert begun_s[0] == 0
    assert begun_s[1] >= 1.0
    assert begun_s[2] >= 2.0
    first, then = confirmed
    assert first == plan_series(config).exposures
    assert 0 < then < first
    assert stored.facts["lit_by_place"]["0"] == lab.bench.lit_exposures == first
    lab.must_be_let_go_of()


def test_a_no_leaves_a_real_bench_unlit_and_nothing_written(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, real_file: Callable[[dict[str, Any]], Path]
) -> None:
    file = real_file({"z_plan": {"absolute": [1.0, 2.0]}})
    hadascope.person, hadascope.answer = True, "n"
    assert hadascope("acquire", file).code == 1
    assert not lab.bench.was_lit
    assert not lab.log.lit("set_position")
    assert not (tmp_path / "run.zarr").exists()


def test_a_preset_that_micro_manager_does_not_know_is_refused_before_any_light(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, real_file: Callable[[dict[str, Any]], Path]
) -> None:
    file = real_file({"channels": ["FITC"]})
    done = hadascope("acquire", file, "--yes")
    assert done.code == 2
    assert "'Channel' was asked for" in done.err
    assert not lab.bench.was_lit
    assert not (tmp_path / "run.zarr").exists()
    assert "refused poses: the config group 'Channel' was asked for" in hadascope("check", file).out


def test_the_example_is_a_series_that_can_be_rehearsed() -> None:
    config = load_acquisition(TIME_LAPSE)
    plan = plan_series(config)
    assert len(plan.events) == 18
    assert plan.late_events == []
    assert config.bench.pace == 0


def test_what_a_series_holds_is_told_by_the_names_of_its_positions_and_damage_is_not_absence(
    tmp_path: Path, moves: Moves, hadascope: CommandLine
) -> None:
    positions = [{"x": 0, "y": 0, "name": "left"}, {"x": 9, "y": 0, "name": "right"}]
    config = series_config(tmp_path, {"stage_positions": positions})
    with pytest.raises(KeyboardInterrupt):
        acquire_series(config, observer=StopAt(1).observer)
    event = event_path(config.output.run, StoredSeries(config.output.run).planned_events[0])
    told = hadascope("info", config.output.run).out
    assert "light at position left" in told
    assert "position right not there" in told
    (event / "zarr.json").write_text("{", encoding="utf-8")
    assert "position left cannot be read: delete it" in hadascope("info", config.output.run).out
