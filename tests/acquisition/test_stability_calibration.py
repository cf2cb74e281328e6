"""How steady the light is, and how fast pictures can follow each other, measured on the bench, whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from acquisition import play_recipe as play_module
from acquisition.acquisition_file import dump_acquisition
from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.fit_again import fit_again
from acquisition.observer import Observer
from acquisition.run_layout import OutputExistsError
from acquisition.stability_calibration import StabilityResult, calibrate_stability
from acquisition.stored_recipe import stored_exposures
from acquisition.stored_run import StoredRun
from calibration.readout import read_readout_calibration
from calibration.verdict import NoSignalError
from sim_devices.bench import OpticalBench
from tests.acquisition.bench_record import at_rest, watch
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.test_noise_calibration import config_with, noisy_config

BLEACHING, FADING, SOURCE_NOISE, CONTRAST = 0.01, 0.004, 0.002, 400.0


def unsteady_config(folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    bench = {
        "bleaching_per_s": BLEACHING,
        "lamp_fading_per_s": FADING,
        "source_noise": SOURCE_NOISE,
        "lamp_drift": 0.0,
        "dmd_contrast": CONTRAST,
        "photoelectrons_per_px": 2e4,
    }
    asked = {"timing": {"picture_time_us": 400, "illumination_time_us": 360}, **changes}
    return noisy_config(folder, bench=bench, detector={"readout_us": 13.0}, **asked)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[AcquisitionConfig, StabilityResult]:
    folder = tmp_path_factory.mktemp("stability")
    config = unsteady_config(folder)
    return config, calibrate_stability(config, CalibrationOutput(folder / "light.json"), seconds=6.0)


def test_bleaching_and_lamp_drift_are_told_apart(made: tuple[AcquisitionConfig, StabilityResult]) -> None:
    """Bleaching counts the time under light, of which the illumination is nine tenths; fading the clock's."""
    calibration = made[1].calibration
    assert calibration.bleaching is not None
    assert calibration.lamp_drift is not None
    assert calibration.bleaching.value == pytest.approx(BLEACHING, abs=0.003)
    assert calibration.lamp_drift.value == pytest.approx(FADING, abs=0.003)


def test_source_noise_and_contrast_are_those_of_the_bench(made: tuple[AcquisitionConfig, StabilityResult]) -> None:
    calibration = made[1].calibration
    assert calibration.inside.value**0.5 == pytest.approx(SOURCE_NOISE, rel=0.1)
    assert calibration.contrast is not None
    assert calibration.contrast.value == pytest.approx(CONTRAST, rel=0.05)


def test_total_and_background_are_said_apart_and_in_units(made: tuple[AcquisitionConfig, StabilityResult]) -> None:
    result = made[1]
    assert result.calibration.background is not None
    rows = dict(result.rows())
    assert rows["total light T"].startswith(f"{result.calibration.total:.5g} detector units")
    assert rows["background B"].startswith(f"{result.calibration.background:.3g} detector units beside T")


def test_light_that_cannot_be_switched_off_leaves_the_background_unknown(tmp_path: Path) -> None:
    document = unsteady_config(tmp_path).model_dump(mode="json")
    document["devices"]["light_source"] = {"kind": "none"}
    config = AcquisitionConfig.model_validate(document)
    result = calibrate_stability(config, CalibrationOutput(tmp_path / "light.json"), seconds=2.0, search=False)
    assert result.calibration.background is None
    assert json.loads(result.output.file.read_text(encoding="utf-8"))["background"] is None
    assert result.calibration.inside.value**0.5 == pytest.approx(SOURCE_NOISE, rel=0.2)
    assert dict(result.rows())["background B"].startswith("unknown")
    assert any("could not be switched off" in note for note in result.notes)


def test_the_shortest_picture_time_is_exposure_and_readout_with_a_margin(
    made: tuple[AcquisitionConfig, StabilityResult], tmp_path: Path
) -> None:
    """The readout comes out within the 2 % of a picture time that the search resolves, and acquisitions can name it."""
    config, result = made
    times = result.calibration.picture_time
    assert times is not None
    assert 373 <= times.shortest_working_us <= 1.02 * 373
    assert times.shortest_working_us < times.safe_us <= 400
    assert times.longest_failing_us is not None
    assert times.longest_failing_us < 373
    readout = read_readout_calibration(result.output.readout)
    assert readout.readout_us == times.shortest_working_us - 360
    named = config_with(
        config, tmp_path, detector={"readout_us": None, "readout_calibration": str(result.output.readout)}
    )
    assert named.devices.detector.readout_calibration == result.output.readout


def test_the_light_rested_in_the_dark_between_stretches(made: tuple[AcquisitionConfig, StabilityResult]) -> None:
    exposures = stored_exposures(StoredRun(made[1].output.raw))
    gaps_s = (exposures.time_us[1:] - exposures.time_us[:-1]) * 1e-6
    assert gaps_s[gaps_s > 0.5].sum() == pytest.approx(6.0, abs=1.0)
    assert exposures.lit_s[-1] == pytest.approx(0.9 * 6.0, abs=0.3)


def test_the_same_readings_give_the_same_calibration_again(made: tuple[AcquisitionConfig, StabilityResult]) -> None:
    output = made[1].output
    before = output.file.read_bytes(), output.readout.read_bytes()
    fit_again(output.raw)
    assert (output.file.read_bytes(), output.readout.read_bytes()) == before


def test_without_a_search_nothing_is_said_of_picture_times(tmp_path: Path) -> None:
    output = CalibrationOutput(tmp_path / "light.json")
    result = calibrate_stability(unsteady_config(tmp_path), output, seconds=2.0, search=False)
    assert result.calibration.picture_time is None
    assert not output.readout.exists()


def test_light_that_does_not_arrive_gives_a_verdict_and_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    decode = OpticalBench.decode
    monkeypatch.setattr(OpticalBench, "decode", lambda bench, pictures: 0 * decode(bench, pictures))
    with pytest.raises(NoSignalError):
        calibrate_stability(unsteady_config(tmp_path), CalibrationOutput(tmp_path / "light.json"), seconds=2.0)
    assert not list(tmp_path.glob("light*.json"))


def test_exposures_of_the_search_count_as_dose_and_everything_is_put_to_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watched = watch(monkeypatch)
    monkeypatch.setattr(play_module, "connected_devices", watched.connected)
    config = unsteady_config(tmp_path)
    result = calibrate_stability(config, CalibrationOutput(tmp_path / "light.json"), seconds=2.0)
    lit = sum(each.n_exposures for each in watched.bench.bench.record if each.light_on)
    assert StoredRun(result.output.raw).facts["lit_exposures"] == lit
    at_rest(watched, memory_pictures=config.memory_pictures)


def test_a_search_that_the_dose_limit_ends_leaves_the_readings_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the recipe takes is within the limit, and what the search would add is not."""
    watched = watch(monkeypatch)
    monkeypatch.setattr(play_module, "connected_devices", watched.connected)
    planned = calibrate_stability(
        unsteady_config(tmp_path), CalibrationOutput(tmp_path / "planned.json"), seconds=2.0, search=False
    )
    lit = StoredRun(planned.output.raw).facts["lit_exposures"]
    limited = unsteady_config(tmp_path, sample={"dose_limit_mj": (lit + 300) * 360e-6})
    result = calibrate_stability(limited, CalibrationOutput(tmp_path / "light.json"), seconds=2.0)
    assert result.calibration.picture_time is None
    assert any("dose_limit_mj" in note for note in result.notes)
    assert sum(each.n_exposures for each in watched.bench.bench.record if each.light_on) <= lit + 300
    at_rest(watched, memory_pictures=limited.memory_pictures)
    assert not result.output.readout.exists()


def test_a_sensor_that_saturates_below_its_stated_full_scale_is_found_out(tmp_path: Path) -> None:
    """The driver knows of no saturation; all mirrors together read less than their two halves do."""
    config = unsteady_config(tmp_path)
    document = config.model_dump(mode="json")
    sample = sample_on_stage(config)
    assert sample is not None
    document["bench"]["saturation"] = 0.8 * float(sample.sum())
    clipped = AcquisitionConfig.model_validate(document)
    result = calibrate_stability(clipped, CalibrationOutput(tmp_path / "light.json"), seconds=2.0, search=False)
    assert any("saturates" in reason for reason in result.reasons)
    steady = calibrate_stability(config, CalibrationOutput(tmp_path / "whole.json"), seconds=2.0, search=False)
    assert not any("saturates" in reason for reason in steady.reasons)


def test_a_readout_time_that_stands_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    output = CalibrationOutput(tmp_path / "light.json")
    output.readout.write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError):
        calibrate_stability(unsteady_config(tmp_path), output, seconds=2.0)
    assert output.readout.read_text(encoding="utf-8") == "mine"
    calibrate_stability(unsteady_config(tmp_path), output, seconds=2.0, search=False, overwrite=True)
    assert not output.readout.exists()


def test_the_light_of_the_search_is_asked_for_too(tmp_path: Path) -> None:
    config = unsteady_config(tmp_path)
    asked: list[int] = []
    confirm = Observer.confirm_light

    def note(observer: Observer, simulated: bool, n_exposures: int) -> None:
        asked.append(n_exposures)
        confirm(observer, simulated, n_exposures)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Observer, "confirm_light", note)
        result = calibrate_stability(config, CalibrationOutput(tmp_path / "light.json"), seconds=2.0)
    assert asked[0] >= StoredRun(result.output.raw).facts["lit_exposures"]


def test_the_command_says_what_was_found(hadascope: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "bench.yaml"
    steady = {"bleaching_per_s": 0.001, "lamp_fading_per_s": 0.0, "source_noise": 0.0005}
    document = yaml.safe_load(dump_acquisition(unsteady_config(tmp_path)))
    file.write_text(yaml.safe_dump({**document, "bench": {**document["bench"], **steady}}), encoding="utf-8")
    said = hadascope("calibrate", "stability", file, "--seconds", "4")
    assert said.code == 0, said.out + said.err
    for what in ("bleaching", "lamp drift", "inside pairs", "between pairs", "contrast", "shortest safe picture time"):
        assert what in said.out
    assert json.loads((tmp_path / "run.stability.json").read_text(encoding="utf-8"))["kind"] == "stability"
    assert hadascope("calibrate", "stability", file, "--seconds", "0.01", "--overwrite").code == 2
