"""a and b are measured on the bench, whole: projected, played, stored, fitted, written, and read by acquisitions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from acquisition import play_recipe as play_module
from acquisition.acquisition_file import (
    dump_acquisition,
    example_dry_run,
    load_to_calibrate,
    validate_acquisition,
)
from acquisition.calibration_identity import CalibrationMismatchError
from acquisition.calibration_output import CalibrationOutput
from acquisition.check import Verdict, check_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.fit_again import fit_again
from acquisition.integrity import AlignmentError
from acquisition.noise_calibration import NoiseResult, calibrate_noise
from acquisition.observer import Observer
from acquisition.plan import summarize
from acquisition.problems import AcquisitionFileError
from acquisition.rehearsal import rehearsal_of
from acquisition.run import acquire
from acquisition.run_layout import CorruptBlockError, NotARunError, OutputExistsError, RunState
from acquisition.run_store import RunStore
from acquisition.sensing_plan import plan_sensing
from acquisition.stored_recipe import UnfinishedCalibrationError, stored_exposures
from acquisition.stored_reconstruction import reconstruct_run
from acquisition.stored_run import StoredRun
from calibration.estimate import Estimate
from calibration.level_pictures import LevelPictures
from calibration.noise_file import read_noise_calibration
from calibration.verdict import (
    ConstantReadingsError,
    NoSignalError,
    NotCalibratableError,
    SaturatedThroughoutError,
    TooFewLevelsError,
)
from sim_devices.bench import OpticalBench
from sim_devices.faults import LostTrigger
from tests.acquisition.rehearsal import asymmetric_sample, small_config

GAIN, VARIANCE, OFFSET = 2.0, 400.0, 100.0
GAIN_4 = {"device": "SimulatedCamera", "name": "Gain", "value": "4"}


def noisy_config(folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    """A bench with noise, drift and source noise, a detector of one 4-byte pixel, a structured sample."""
    tifffile.imwrite(folder / "sample.tif", asymmetric_sample(8))
    sections: dict[str, dict[str, Any]] = {
        "sample": {"image": str(folder / "sample.tif")},
        "blocks": {"longest_block_s": 0.1},
        "noise": {"gain": GAIN, "variance": VARIANCE},
        "bench": {
            "shot_noise": True,
            "photoelectrons_per_px": 400.0,
            "source_noise": 0.001,
            "lamp_drift": 0.01,
            "lamp_drift_period_s": 2.0,
        },
        "output": {"run": str(folder / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    detector = {"offset_per_px": OFFSET, **sections.pop("detector", {})}
    config = small_config(**sections)
    document = config.model_dump(mode="json")
    document["devices"]["detector"].update(detector)
    return AcquisitionConfig.model_validate(document)


def calibrated(config: AcquisitionConfig, folder: Path, **options: Any) -> NoiseResult:
    asked = {"exposures_per_level": 200, **options}
    return calibrate_noise(config, CalibrationOutput(folder / "bench.json"), **asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[AcquisitionConfig, NoiseResult]:
    folder = tmp_path_factory.mktemp("calibration")
    config = noisy_config(folder)
    return config, calibrated(config, folder)


def test_gain_variance_and_offset_are_those_of_the_bench(made: tuple[AcquisitionConfig, NoiseResult]) -> None:
    calibration = made[1].calibration
    assert calibration.usable, calibration.reasons
    error = np.sqrt(np.diag(calibration.covariance))
    assert abs(calibration.gain.value - GAIN) < 4 * error[0] < 0.6
    assert abs(calibration.variance - VARIANCE) < 4 * error[1]
    assert abs(calibration.offset.value - OFFSET) < 4 * (VARIANCE / 1000) ** 0.5


def test_every_exposure_is_filed_under_the_picture_that_was_displayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without noise a reading is its picture's light, which the bench computed from the bits."""
    benches: list[OpticalBench] = []

    def seen(config: AcquisitionConfig, sample: Any) -> Any:
        connected = connected_devices(config, sample)

        class Seen:
            def __enter__(self) -> Any:
                devices = connected.__enter__()
                benches.append(devices.stand_ins.bench)
                return devices

            def __exit__(self, *error: Any) -> Any:
                return connected.__exit__(*error)

        return Seen()

    monkeypatch.setattr(play_module, "connected_devices", seen)
    quiet = {"shot_noise": False, "lamp_drift": 0.0, "source_noise": 0.0}
    config = noisy_config(tmp_path, bench=quiet)
    with pytest.raises(ConstantReadingsError):
        calibrated(config, tmp_path, exposures_per_level=50)
    exposures = stored_exposures(StoredRun(tmp_path / "bench.zarr"))
    lit = [projection for projection in benches[0].record if projection.light_on]
    assert exposures.value == pytest.approx(np.rint(np.concatenate([each.light for each in lit])), abs=1)
    starts = np.concatenate([each.start_us + each.picture_time_us * np.arange(each.n_exposures) for each in lit])
    assert np.diff(exposures.time_us) == pytest.approx(np.diff(starts))
    before = np.concatenate([each.lit_before_us + 90 * np.arange(each.n_exposures) for each in lit])
    assert exposures.lit_s * 1e6 == pytest.approx(before)
    total = asymmetric_sample(8).sum() * 800 / asymmetric_sample(8).mean()
    assert exposures.value[exposures.pair == 0].max() == pytest.approx(total / 1, rel=1e-6)
    for pair in range(1, 9):
        sums = {exposures.value[(exposures.pair == pair) & (exposures.sign == sign)][0] for sign in (1, -1)}
        assert sum(sums) == pytest.approx(total, rel=1e-6)


def test_the_same_readings_give_the_same_calibration_again(made: tuple[AcquisitionConfig, NoiseResult]) -> None:
    _, result = made
    before = result.output.file.read_bytes()
    result.output.picture.unlink()
    assert fit_again(result.output.raw).reasons == ()
    assert result.output.file.read_bytes() == before
    assert result.output.picture.is_file()


def test_a_block_with_a_lost_trigger_is_played_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.acquisition.bench_record import watch

    watched = watch(monkeypatch, lambda stand_ins: stand_ins.bench.inject(LostTrigger(3, 5)))
    monkeypatch.setattr(play_module, "connected_devices", watched.connected)
    events: list[Any] = []
    result = calibrated(noisy_config(tmp_path), tmp_path, observer=Observer(on_event=events.append))
    assert [event.kind for event in events].count("block-repeated") == 1
    assert result.calibration.usable


def test_an_acquisition_takes_a_and_b_from_the_file_and_keeps_it(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    named = config_with(config, tmp_path, noise={"calibration": str(result.output.file)})
    assert named.noise.gain == result.calibration.gain.value
    assert named.noise.variance == result.calibration.variance
    acquire(named)
    facts = StoredRun(named.output.run).facts
    assert facts["noise_calibration"] == json.loads(result.output.file.read_text(encoding="utf-8"))
    assert facts["config"]["noise"] == {
        "gain": named.noise.gain,
        "variance": named.noise.variance,
        "calibration": None,
    }


def config_with(config: AcquisitionConfig, folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    """The same with a run in a folder; a section that is named replaces the file's, ``detector`` adds to it."""
    document = config.model_dump(mode="json")
    document["output"]["run"] = str(folder / "run.zarr")
    document["devices"]["detector"].update(changes.pop("detector", {}))
    for name in ("timing",):
        document[name].update(changes.pop(name, {}))
    document.update(changes)
    return AcquisitionConfig.model_validate(document)


def test_light_beyond_the_calibrated_range_is_foretold_and_warned_of(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    document = config.model_dump(mode="json")
    brighter = {**document["bench"], "photoelectrons_per_px": 1.2 * document["bench"]["photoelectrons_per_px"]}
    for folder, bench, beyond in (("same", document["bench"], False), ("brighter", brighter, True)):
        (tmp_path / folder).mkdir()
        noise = {"calibration": str(result.output.file)}
        named = config_with(config, tmp_path / folder, noise=noise, bench=bench)
        sample = sample_on_stage(named)
        summary = summarize(named, plan_sensing(named, sample), sample)
        assert summary.linear_up_to is not None
        assert summary.brightest_reading is not None
        assert (summary.brightest_reading > 1.05 * summary.linear_up_to) is beyond
        assert any("linear up to" in warning for warning in acquire(named).warnings) is beyond


def test_a_rehearsal_flickers_as_the_calibration_says(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    """Of a real bench; one that is simulated already stays as the file describes it."""
    _, result = made
    example = yaml.safe_load(example_dry_run().read_text(encoding="utf-8"))
    real = {
        "projector": {"kind": "alp"},
        "detector": {"kind": "micro-manager"},
        "light_source": {"kind": "none"},
    }
    flickering = result.calibration.model_copy(update={"source_noise": Estimate(value=4e-6, low=3e-6, high=5e-6)})
    (tmp_path / "flickering.json").write_text(flickering.model_dump_json(), encoding="utf-8")
    document = {**example, "devices": real, "noise": {"calibration": str(tmp_path / "flickering.json")}}
    rehearsed = rehearsal_of(validate_acquisition(document, "the test"))
    assert rehearsed.bench.source_noise == pytest.approx(0.002)
    assert rehearsed.bench_gain == result.calibration.gain.value


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"timing": {"illumination_time_us": 80}}, "exposure"),
        ({"detector": {"offset_per_px": 90.0}}, "offset"),
        ({"detector": {"region": {"x": 0, "y": 0, "width": 1, "height": 1}}}, "region"),
        ({"detector": {"bytes_per_px": 2}}, "bytes of a pixel"),
        (
            {"detector": {"when_armed": [{"device": "SimulatedCamera", "name": "Gain", "value": "4"}]}},
            "SimulatedCamera.Gain was 1",
        ),
    ],
)
def test_a_calibration_of_another_setting_is_refused_with_the_reason(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    config, result = made
    bench = {**config.model_dump(mode="json")["bench"], "gain": GAIN, "variance": VARIANCE}
    named = config_with(config, tmp_path, noise={"calibration": str(result.output.file)}, bench=bench, **changes)
    with pytest.raises(CalibrationMismatchError, match=what):
        acquire(named)
    assert not named.output.run.exists()
    refused = [each for each in check_acquisition(named) if each.verdict is Verdict.REFUSED]
    assert any(what in each.found for each in refused)


def test_a_file_that_is_not_usable_is_refused_where_it_is_named(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    bad = json.loads(result.output.file.read_text(encoding="utf-8")) | {"usable": False, "reasons": ["too dim"]}
    (tmp_path / "bad.json").write_text(json.dumps(bad), encoding="utf-8")
    for path, why in ((tmp_path / "bad.json", "too dim"), (tmp_path / "none.json", "cannot be read")):
        with pytest.raises(ValueError, match=why):
            config_with(config, tmp_path, noise={"calibration": str(path)})


def test_a_gain_beside_a_calibration_must_be_the_same(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    with pytest.raises(ValueError, match=r"noise\.gain: found 3"):
        config_with(config, tmp_path, noise={"calibration": str(result.output.file), "gain": 3.0, "variance": 1.0})


def blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something stands in the light that no driver knows of."""
    decode = OpticalBench.decode
    monkeypatch.setattr(OpticalBench, "decode", lambda bench, pictures: 0 * decode(bench, pictures))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"bench": {"photoelectrons_per_px": 1e9}, "detector": {"bytes_per_px": 2}}, SaturatedThroughoutError),
        ({"detector": {"bytes_per_px": 1, "offset_per_px": 300.0}}, SaturatedThroughoutError),
        ({"bench": {"shot_noise": False, "lamp_drift": 0.0, "source_noise": 0.0}}, ConstantReadingsError),
    ],
)
def test_readings_that_say_nothing_give_a_verdict_and_no_file(
    tmp_path: Path, changes: dict[str, Any], error: type[NotCalibratableError]
) -> None:
    with pytest.raises(error):
        calibrated(noisy_config(tmp_path, **changes), tmp_path)
    assert not (tmp_path / "bench.json").exists()
    assert not (tmp_path / "bench.png").exists()


def test_light_that_does_not_arrive_gives_a_verdict_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked(monkeypatch)
    with pytest.raises(NoSignalError, match="open the shutter"):
        calibrated(noisy_config(tmp_path), tmp_path)
    assert not (tmp_path / "bench.json").exists()
    run = StoredRun(tmp_path / "bench.zarr")
    assert run.state is RunState.FAILED
    with pytest.raises(UnfinishedCalibrationError, match="calibrate again"):
        fit_again(run.path)


def test_too_few_levels_are_refused_before_any_light(tmp_path: Path) -> None:
    with pytest.raises(TooFewLevelsError):
        calibrated(noisy_config(tmp_path), tmp_path, levels=4)
    assert list(tmp_path.glob("bench*")) == []


def test_what_an_earlier_calibration_left_goes_when_new_light_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = noisy_config(tmp_path)
    result = calibrated(config, tmp_path, exposures_per_level=60)
    with pytest.raises(OutputExistsError):
        calibrated(config, tmp_path)
    with pytest.raises(TooFewLevelsError):
        calibrated(config, tmp_path, levels=4, overwrite=True)
    assert result.output.file.exists()
    blocked(monkeypatch)
    with pytest.raises(NoSignalError):
        calibrated(config, tmp_path, overwrite=True)
    assert not result.output.file.exists()
    assert not result.output.picture.exists()


def test_what_goes_wrong_ends_it_with_the_light_off_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.acquisition.bench_record import at_rest, watch

    watched = watch(monkeypatch)
    monkeypatch.setattr(play_module, "connected_devices", watched.connected)

    def interrupt(readings: Any) -> None:
        if readings.block_number == 1:
            raise KeyboardInterrupt

    config = noisy_config(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        calibrated(config, tmp_path, observer=Observer(on_block=interrupt))
    assert StoredRun(tmp_path / "bench.zarr").state is RunState.STOPPED
    at_rest(watched, memory_pictures=config.memory_pictures)


def test_pictures_that_are_not_those_of_the_guards_are_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A sequence that begins one picture late, every time, is found out although no noise is known."""
    shown = LevelPictures.render

    def late(self: LevelPictures, indices: Any, signs: Any, out: Any = None) -> Any:
        return shown(self, np.roll(indices, 1), np.roll(signs, 1), out)

    monkeypatch.setattr(LevelPictures, "render", late)
    config = noisy_config(tmp_path, blocks={"most_repeats": 0, "longest_block_s": 0.1})
    with pytest.raises(AlignmentError):
        calibrated(config, tmp_path)
    assert not (tmp_path / "bench.json").exists()


def test_the_limit_of_the_dose_holds_for_calibrations_too(tmp_path: Path) -> None:
    from acquisition.controller import DoseLimitError

    limited = noisy_config(tmp_path, sample={"dose_limit_mj": 1e-4})
    with pytest.raises(DoseLimitError):
        calibrated(limited, tmp_path)
    assert not (tmp_path / "bench.zarr").exists()


def test_a_calibration_is_no_acquisition_and_an_acquisition_none(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    with pytest.raises(NotARunError, match="noise calibration"):
        reconstruct_run(result.output.raw)
    run = acquire(config_with(config, tmp_path)).run
    with pytest.raises(NotARunError, match="no calibration"):
        fit_again(run)


def test_real_devices_refuse_a_calibration_of_simulated_ones(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    from acquisition.calibration_identity import camera_identity, check_noise_calibration

    config, result = made
    calibration = read_noise_calibration(result.output.file)
    named = config_with(config, tmp_path, noise={"calibration": str(result.output.file)})
    with connected_devices(config, np.ones((8, 8))) as devices:
        info = devices.detector.info
    assert list(calibration.identity.differences(camera_identity(named, info))) == []
    check_noise_calibration(named, info)
    real = calibration.model_copy(update={"identity": calibration.identity.model_copy(update={"simulated": False})})
    other = replace(info, name="Another camera")
    with pytest.raises(CalibrationMismatchError, match="Another camera"):
        check_noise_calibration(named, other)
    path = tmp_path / "real.json"
    path.write_text(real.model_dump_json(), encoding="utf-8")
    check_noise_calibration(config_with(config, tmp_path, noise={"calibration": str(path)}), other)


def test_outputs_that_are_no_json_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionFileError, match=r"\.json"):
        CalibrationOutput.of(noisy_config(tmp_path), "noise", tmp_path / "noise.zarr", rehearsed=False)


def test_what_stood_there_is_gone_before_the_new_readings_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However early it ends: a file of earlier readings never lies beside others."""
    config = noisy_config(tmp_path)
    result = calibrated(config, tmp_path, exposures_per_level=60)
    create = RunStore.create

    def interrupted(*arguments: Any, **named: Any) -> Any:
        store = create(*arguments, **named)
        store.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrated(config, tmp_path, overwrite=True)
    assert not result.output.file.exists()
    assert not result.output.picture.exists()


def test_a_calibration_replaces_nothing_but_calibrations_of_its_kind(tmp_path: Path) -> None:
    config = noisy_config(tmp_path)
    acquire(config_with(config, tmp_path))
    before = StoredRun(tmp_path / "run.zarr").facts
    with pytest.raises(OutputExistsError, match="an acquisition"):
        calibrate_noise(config, CalibrationOutput(tmp_path / "run.json"), overwrite=True)
    assert StoredRun(tmp_path / "run.zarr").facts == before


def test_an_acquisition_does_not_replace_a_calibration(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    document = config.model_dump(mode="json")
    document["output"] = {"run": str(result.output.raw), "picture": str(tmp_path / "picture.png")}
    with pytest.raises(OutputExistsError, match="a noise calibration"):
        acquire(AcquisitionConfig.model_validate(document), overwrite=True)


def test_a_rehearsal_does_not_replace_a_calibration_of_real_devices(tmp_path: Path) -> None:
    config = noisy_config(tmp_path)
    result = calibrated(config, tmp_path, exposures_per_level=60)
    document = json.loads(result.output.file.read_text(encoding="utf-8"))
    document["identity"]["simulated"] = False
    result.output.file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(OutputExistsError, match="real devices"):
        calibrated(config, tmp_path, overwrite=True)
    assert json.loads(result.output.file.read_text(encoding="utf-8")) == document


def test_readings_that_were_damaged_leave_the_calibration_as_it_is(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    _, result = made
    output = CalibrationOutput(tmp_path / "copy.json")
    shutil.copytree(result.output.raw, output.raw)
    shutil.copy(result.output.file, output.file)
    chunk = next(path for path in sorted((output.raw / "readings" / "plus" / "c").rglob("*")) if path.is_file())
    damaged = bytearray(chunk.read_bytes())
    damaged[7] ^= 1
    chunk.write_bytes(bytes(damaged))
    with pytest.raises(CorruptBlockError):
        fit_again(output.raw)
    assert output.file.read_bytes() == result.output.file.read_bytes()


def test_fitting_again_touches_the_folder_that_was_named_and_no_other(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result = made
    shutil.copytree(result.output.raw, tmp_path / "old.noise")
    (tmp_path / "old.json").write_text("mine", encoding="utf-8")
    with pytest.raises(AcquisitionFileError, match=r"\.zarr"):
        fit_again(tmp_path / "old.noise")
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "mine"
    monkeypatch.chdir(result.output.raw)
    assert fit_again(Path()).output.file == result.output.file.resolve()


def test_a_region_of_a_simulated_frame_needs_the_benchs_own_numbers(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    """A calibration tells of the region; naming it must not change the bench that it was measured on."""
    config, result = made
    region = {"region": {"x": 0, "y": 0, "width": 1, "height": 1}}
    with pytest.raises(ValueError, match=r"bench\.gain"):
        config_with(config, tmp_path, noise={"calibration": str(result.output.file)}, detector=region)


def test_an_earlier_calibration_tells_a_rehearsal_what_to_find(
    made: tuple[AcquisitionConfig, NoiseResult], tmp_path: Path
) -> None:
    config, result = made
    document = yaml.safe_load(dump_acquisition(config))
    for named, gain in ((str(result.output.file), result.calibration.gain.value), (str(tmp_path / "none.json"), 1.0)):
        file = tmp_path / "bench.yaml"
        file.write_text(yaml.safe_dump({**document, "noise": {"calibration": named}}), encoding="utf-8")
        assert load_to_calibrate(file, noise=True).bench_gain == gain
    file.write_text(yaml.safe_dump({**document, "noise": {"calibration": "none.json", "gian": 2.0}}), encoding="utf-8")
    with pytest.raises(AcquisitionFileError, match="gian"):
        load_to_calibrate(file, noise=True)
