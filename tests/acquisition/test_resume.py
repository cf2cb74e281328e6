"""A run that was broken off goes on as if nothing had been, or it refuses to go on with anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from acquisition import run as run_module
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.events import Event, EventKind, read_events
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.resumption import NothingToResumeError
from acquisition.run import acquire, resume
from acquisition.run_layout import COMMIT_FIELDS, NotARunError, RunState
from acquisition.run_lock import RunInUseError
from acquisition.run_store import RunStore
from acquisition.schedule import Schedule
from acquisition.sensing_plan import plan_sensing
from acquisition.stored_models import DifferentRunError
from acquisition.stored_run import StoredRun
from sim_devices.alp_library import SimulatedAlpLibrary
from tests.acquisition.rehearsal import asymmetric_sample, small_config

_SERIAL_INQUIRY = 2000


@pytest.fixture(autouse=True)
def no_picture_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "draw_result", lambda *_: None)


def a_config(folder: Path, wire: str = "direct", **changes: dict[str, Any]) -> AcquisitionConfig:
    """All that later readings could depend on: bleaching, shot noise, background, arming, uploads, several banks."""
    sample = folder / "sample.tif"
    if not sample.exists():
        tifffile.imwrite(sample, asymmetric_sample(8))
    sections: dict[str, dict[str, Any]] = {
        "sample": {"image": str(sample)},
        "sensing": {"alpha": 0.5, "repeats": 8, "draw": "systematic"},
        "blocks": {"guard_interval": 8, "first_bank_pictures": 60, "longest_block_s": 0.01},
        "devices": {
            "projector": {"kind": "simulated", "dmd": "xga", "memory_pictures": 160, "upload_mb_per_s": 20.0},
            "detector": {
                "kind": "simulated",
                "wire": wire,
                "width_px": 2,
                "height_px": 2,
                "bytes_per_px": 2,
                "arming_ms": 2.0,
            },
        },
        "noise": {"gain": 2.0, "variance": 50.0},
        "bench": {
            "shot_noise": True,
            "seed": 7,
            "bleaching_per_s": 3.0,
            "background_photoelectrons": 30.0,
            "photoelectrons_per_px": 400.0,
        },
        "reconstruction": {"estimator": "pair-ratio", "tv_weight": 0.5},
        "output": {"run": str(folder / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    return small_config(**sections)


def elsewhere(config: AcquisitionConfig, run: Path) -> AcquisitionConfig:
    return config.replace(output=config.output.model_copy(update={"run": run}))


def schedule_of(config: AcquisitionConfig) -> Schedule:
    return plan_sensing(config, sample_on_stage(config)).schedule


def stop_after(block: int) -> Observer:
    """Ctrl-C when this block has been accepted; -1: when the first bank is there and nothing has been exposed."""

    def on_block(readings: Readings) -> None:
        if readings.block_number == block:
            raise KeyboardInterrupt

    def on_event(event: Event) -> None:
        if block == -1 and event.kind is EventKind.BANK:
            raise KeyboardInterrupt

    return Observer(on_block=on_block, on_event=on_event)


def broken_off(config: AcquisitionConfig, block: int) -> StoredRun:
    """A run that was stopped after a block."""
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=stop_after(block))
    run = StoredRun(config.output.run)
    assert run.state is RunState.STOPPED
    assert run.committed.tolist() == list(range(block + 1))
    return run


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array that a run holds but the one that tells when live images were made, by its place."""
    found = {}
    for metadata in path.rglob("zarr.json"):
        name = metadata.parent.relative_to(path).as_posix()
        if json.loads(metadata.read_text(encoding="utf-8"))["node_type"] == "array" and name != "live":
            found[name] = np.asarray(zarr.open_array(metadata.parent, mode="r")[:])
    return found


def prove_the_same(path: Path, whole: dict[str, NDArray[Any]]) -> None:
    """The run finished, and every number in it is that of the uninterrupted one, bit for bit."""
    assert StoredRun(path).state is RunState.FINISHED
    found = arrays(path)
    assert set(found) == set(whole)
    for name, values in whole.items():
        assert found[name].tobytes() == values.tobytes(), name


@pytest.fixture(scope="module", params=["direct", "zmq"])
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AcquisitionConfig:
    """A whole run on one of the wires."""
    config = a_config(tmp_path_factory.mktemp(request.param), request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_module, "draw_result", lambda *_: None)
        acquire(config)
    return config


def test_wherever_a_run_was_broken_off_it_becomes_the_uninterrupted_one(
    played: AcquisitionConfig, tmp_path: Path
) -> None:
    """After every block; behind a port only before any, at the ends of banks, and after the last one."""
    schedule = schedule_of(played)
    assert len(schedule.banks) >= 3
    last = len(schedule.blocks) - 1
    ends = {block.number - 1 for block in schedule.blocks if block.number and block.first_section == 0}
    banks_begin = {
        next(block.number for block in schedule.blocks if block.bank.number == bank.number) - 1
        for bank in schedule.banks
    }
    assert banks_begin <= ends | {-1}
    places = range(-1, last + 1) if played.devices.detector.wire == "direct" else sorted({*banks_begin, 1, last})  # type: ignore[union-attr]
    whole = arrays(played.output.run)
    assert {"readings/time_us", "readings/bench", "readings/guards", "statistics/mean", "images/image/0"} <= set(whole)
    for place in places:
        path = tmp_path / f"stopped{place}.zarr"
        broken_off(elsewhere(played, path), place)
        resume(path)
        prove_the_same(path, whole)


def test_a_run_that_was_broken_off_twice_becomes_the_uninterrupted_one(
    played: AcquisitionConfig, tmp_path: Path
) -> None:
    path = tmp_path / "run.zarr"
    broken_off(elsewhere(played, path), 1)
    with pytest.raises(KeyboardInterrupt):
        resume(path, observer=stop_after(4))
    run = StoredRun(path)
    assert run.state is RunState.STOPPED
    assert run.committed.tolist() == [0, 1, 2, 3, 4]
    resume(path)
    prove_the_same(path, arrays(played.output.run))
    kinds = [event.kind for event in read_events(path)]
    assert kinds.count(EventKind.RESUMED) == 2
    assert len(StoredRun(path).facts["resumed"]) == 2
    from_blocks = [event.facts["first_block"] for event in read_events(path) if event.kind is EventKind.RESUMED]
    assert from_blocks == [2, 5]


@pytest.fixture
def config(tmp_path: Path) -> AcquisitionConfig:
    return a_config(tmp_path)


def test_a_block_that_was_damaged_meanwhile_is_played_again_with_all_that_follow(
    config: AcquisitionConfig, tmp_path: Path
) -> None:
    acquire(config)
    path = tmp_path / "damaged.zarr"
    broken_off(elsewhere(config, path), 5)
    plus = zarr.open_group(path, mode="r+")["readings/plus"]
    assert isinstance(plus, zarr.Array)
    plus[3, 0] = 12_345.0
    resume(path)
    found, whole = arrays(path), arrays(config.output.run)
    lit = COMMIT_FIELDS.index("lit_exposures")
    played_again = sum(block.n_exposures for block in schedule_of(config).blocks[3:6])
    light = found["readings/commits"][:, lit] - whole["readings/commits"][:, lit]
    assert light.tolist() == [0] * 3 + [played_again] * (len(light) - 3)
    for commits in (found["readings/commits"], whole["readings/commits"]):
        commits[:, lit] = 0
    for name, values in whole.items():
        assert found[name].tobytes() == values.tobytes(), name


def test_whoever_watches_sees_every_block_and_those_of_before_first(config: AcquisitionConfig) -> None:
    broken_off(config, 2)
    seen: list[int] = []
    result = resume(config.output.run, observer=Observer(on_block=lambda readings: seen.append(readings.block_number)))
    assert seen == list(range(len(schedule_of(config).blocks)))
    assert result.psnr is not None


def test_where_only_the_image_is_missing_no_device_is_touched(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(config, len(schedule_of(config).blocks) - 1)

    def never(*_: object) -> None:
        raise AssertionError("a device was touched")

    monkeypatch.setattr(run_module, "connected_devices", never)
    result = resume(config.output.run)
    assert StoredRun(config.output.run).state is RunState.FINISHED
    assert np.array_equal(StoredRun(config.output.run).image("image"), result.reconstruction.image)


def test_light_counts_from_where_the_run_stood(config: AcquisitionConfig) -> None:
    broken_off(config, 3)
    blocks = schedule_of(config).blocks
    assert StoredRun(config.output.run).lit_exposures == sum(block.n_exposures for block in blocks[:4])
    resume(config.output.run)
    assert StoredRun(config.output.run).lit_exposures == sum(block.n_exposures for block in blocks)


def test_a_run_that_was_moved_goes_on_where_it_is(config: AcquisitionConfig, tmp_path: Path) -> None:
    broken_off(config, 2)
    moved = tmp_path / "elsewhere.zarr"
    config.output.run.rename(moved)
    assert resume(moved).run == moved
    assert StoredRun(moved).state is RunState.FINISHED
    assert not config.output.run.exists()


def prove_refused(config: AcquisitionConfig, said: str, asked: AcquisitionConfig | None = None) -> None:
    """Going on is refused in these words, and the run is as it was."""
    run = config.output.run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(DifferentRunError, match=said):
        resume(run, asked)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def changed(config: AcquisitionConfig, *path: str, to: Any) -> AcquisitionConfig:
    document = config.model_dump(mode="json")
    section = document
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = to
    return AcquisitionConfig.model_validate(document)


@pytest.mark.parametrize(
    ("path", "to", "said"),
    [
        (("timing", "picture_time_us"), 120, r"timing\.picture_time_us: then 100, now 120"),
        (("sensing", "seed"), 4, r"sensing\.seed: then 3, now 4"),
        (("sensing", "mask"), {"kind": "low-sequency"}, r"sensing\.mask\.kind: then uniform, now low-sequency"),
        (("blocks", "guard_interval"), 9, r"blocks\.guard_interval: then 8, now 9"),
        (("devices", "detector", "arming_ms"), 3.0, r"devices\.detector\.arming_ms: then 2\.0, now 3\.0"),
        (("noise", "gain"), 2.5, r"noise\.gain: then 2\.0, now 2\.5"),
        (("dmd_region", "flip_vertical"), True, r"dmd_region\.flip_vertical: then False, now True"),
        (("bench", "seed"), 8, r"bench\.seed: then 7, now 8"),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else "",
)
def test_a_changed_file_is_refused_by_its_key(
    config: AcquisitionConfig, path: tuple[str, ...], to: Any, said: str
) -> None:
    broken_off(config, 1)
    prove_refused(config, said, changed(config, *path, to=to))


def test_every_changed_key_is_named(config: AcquisitionConfig) -> None:
    broken_off(config, 1)
    asked = changed(changed(config, "sensing", "seed", to=4), "noise", "gain", to=2.5)
    with pytest.raises(DifferentRunError) as refused:
        resume(config.output.run, asked)
    assert "sensing.seed" in str(refused.value)
    assert "noise.gain" in str(refused.value)


def test_the_same_file_goes_on_whatever_it_says_of_the_image_and_where_it_lies(
    config: AcquisitionConfig, tmp_path: Path
) -> None:
    broken_off(config, 1)
    asked = changed(elsewhere(config, tmp_path / "other.zarr"), "reconstruction", "tv_weight", to=0.1)
    resume(config.output.run, asked)
    assert StoredRun(config.output.run).state is RunState.FINISHED


def test_a_changed_mask_file_is_refused(tmp_path: Path) -> None:
    mask = np.linspace(0.1, 0.9, 64)
    np.save(tmp_path / "mask.npy", mask)
    config = a_config(tmp_path, sensing={"mask": {"kind": "learned", "file": str(tmp_path / "mask.npy")}})
    broken_off(config, 1)
    np.save(tmp_path / "mask.npy", mask[::-1])
    prove_refused(config, "the mask is not the one .* 64 of its 64 probabilities differ")
    mask[[10, 11]] = mask[[11, 10]]
    np.save(tmp_path / "mask.npy", mask)
    prove_refused(config, "2 of its 64 probabilities differ")
    mask[[10, 11]] = mask[[11, 10]]
    np.save(tmp_path / "mask.npy", mask)
    resume(config.output.run)


def test_changed_images_of_the_prior_are_refused_where_they_change_the_schedule(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((5, 8, 8))
    np.save(tmp_path / "images.npy", images)
    prior = {"kind": "images", "file": str(tmp_path / "images.npy")}
    config = a_config(tmp_path, reconstruction={"prior": prior})
    broken_off(config, 1)
    np.save(tmp_path / "images.npy", images[:, ::-1] ** 2)
    prove_refused(config, "the schedule comes out differently")


def test_a_changed_sample_is_refused(config: AcquisitionConfig) -> None:
    broken_off(config, 1)
    assert config.sample.image is not None
    image = tifffile.imread(config.sample.image)
    tifffile.imwrite(config.sample.image, np.flipud(image))
    prove_refused(config, "the simulated sample is not the one")
    tifffile.imwrite(config.sample.image, image)
    resume(config.output.run)


def test_another_board_is_refused_before_any_light_and_the_right_one_goes_on(
    config: AcquisitionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire(elsewhere(config, tmp_path / "whole.zarr"))
    broken_off(config, 3)
    inquire = SimulatedAlpLibrary.AlpDevInquire

    def another_serial(self: SimulatedAlpLibrary, device: Any, inquiry: Any, value: Any) -> int:
        returned = inquire(self, device, inquiry, value)
        if getattr(inquiry, "value", inquiry) == _SERIAL_INQUIRY:
            value._obj.value += 1
        return returned

    with monkeypatch.context() as other:
        other.setattr(SimulatedAlpLibrary, "AlpDevInquire", another_serial)
        with pytest.raises(
            DifferentRunError, match=r"the bench is not what .*\n  projector\.serial: then \w+, now \w+"
        ):
            resume(config.output.run)
    run = StoredRun(config.output.run)
    assert run.committed.tolist() == [0, 1, 2, 3]
    assert run.state is not RunState.RUNNING
    resume(config.output.run)
    prove_the_same(config.output.run, arrays(tmp_path / "whole.zarr"))


def test_another_timing_than_before_is_refused_before_any_light(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_off(config, 1)
    document = zarr.open_group(config.output.run, mode="r+")
    facts = document.attrs["hadascope"]
    assert isinstance(facts, dict)
    accepted = facts["accepted_timing"]
    assert isinstance(accepted, dict)
    document.attrs["hadascope"] = {**facts, "accepted_timing": {**accepted, "illumination_time_us": 89}}
    with pytest.raises(DifferentRunError, match=r"timing is not .*\n  illumination_time_us: then 89, now 90"):
        resume(config.output.run)
    assert StoredRun(config.output.run).committed.tolist() == [0, 1]


def test_a_finished_run_has_nothing_to_resume(config: AcquisitionConfig) -> None:
    acquire(config)
    before = arrays(config.output.run)
    with pytest.raises(NothingToResumeError, match="nothing to resume"):
        resume(config.output.run)
    prove_the_same(config.output.run, before)


def test_a_run_that_is_being_written_is_left_alone(config: AcquisitionConfig) -> None:
    broken_off(config, 1)
    writer = RunStore.reopen(config.output.run)
    with pytest.raises(RunInUseError, match="another process"):
        resume(config.output.run)
    writer.close()
    resume(config.output.run)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch], ids=["nothing", "a folder", "a file"])
def test_what_is_no_run_cannot_be_resumed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "run.zarr"
    make(path)
    with pytest.raises(NotARunError):
        resume(path)
    assert [each.name for each in tmp_path.iterdir() if not each.name.startswith(".")] == (
        ["run.zarr"] if path.exists() else []
    )
    assert os.name == "nt" or not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


def test_a_run_that_failed_goes_on_like_one_that_was_stopped(config: AcquisitionConfig, tmp_path: Path) -> None:
    acquire(elsewhere(config, tmp_path / "whole.zarr"))

    def fail(readings: Readings) -> None:
        if readings.block_number == 2:
            raise OSError("the view crashed")

    with pytest.raises(OSError, match="crashed"):
        acquire(config, observer=Observer(on_block=fail))
    failed = StoredRun(config.output.run)
    assert failed.state is RunState.FAILED
    assert "the view crashed" in failed.facts["cause"]
    resume(config.output.run)
    prove_the_same(config.output.run, arrays(tmp_path / "whole.zarr"))
    assert StoredRun(config.output.run).facts["cause"] is None


def test_a_picture_that_stands_where_the_resumed_one_would_go_is_left_alone(
    config: AcquisitionConfig, tmp_path: Path
) -> None:
    broken_off(config, 2)
    config.output.picture_path.write_bytes(b"somebody else's")
    result = resume(config.output.run)
    assert config.output.picture_path.read_bytes() == b"somebody else's"
    assert result.picture.name == config.output.run.stem + ".resumed.png"
