"""``hadascope check``: says whether a file can run on this bench, and lights nothing to find that out."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mmpycorex import is_pymmcore_active

from acquisition import check
from acquisition.acquisition_file import dump_acquisition
from acquisition.check import Finding, Verdict, check_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.controller import Controller
from acquisition.device_sections import Devices
from acquisition.run import acquire
from devices.alp_codes import PICTURE_TIME
from devices.alp_library import open_alp
from sim_devices.faults import DoubledTrigger, LostTrigger
from tests.acquisition.real_bench import (
    SIMULATED_WIRES,
    SWITCHED_LIGHTS,
    CommandLine,
    RealBench,
    SimulatedBenches,
    files_in,
    real_bench,
)
from tests.acquisition.rehearsal import small_config
from tests.devices.demo_camera import CONFIGURATION, adapters
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

LOOKED_AT = [
    "output",
    "dose",
    "guards",
    "projector",
    "detector",
    "light source",
    "timing",
    "frame buffer",
    "trigger mode",
    "accepted timing",
    "triggers",
    "dark level",
]
SILENCE_S = check._SILENCE_S
QUICK = {"timeout_margin_s": 0.02}


@pytest.fixture(autouse=True)
def _short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins need not be listened to for long: a frame that comes is there at once."""
    monkeypatch.setattr(check, "_SILENCE_S", 0.0)


def simulated(folder: Path, wire: str = "shutter", **sections: dict[str, Any]) -> AcquisitionConfig:
    """A simulated acquisition whose every finding is good; ``detector`` and ``projector`` go into the devices."""
    detector, projector = sections.pop("detector", {}), sections.pop("projector", {})
    document: dict[str, dict[str, Any]] = {"output": {"run": str(folder / "run.zarr")}, "blocks": QUICK, **sections}
    config = small_config(**document)
    devices = config.devices.model_dump(mode="json")
    devices["detector"].update({"readout_us": 0, **detector})
    devices["projector"].update(projector)
    devices["light_source"].update({"wire": wire})
    return config.replace(devices=Devices.model_validate(devices))


def written(config: AcquisitionConfig) -> Path:
    file = config.output.run.parent / "bench.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    return file


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.what: finding.verdict for finding in findings}


def only_refusal(findings: list[Finding]) -> Finding:
    """The one thing that is refused."""
    refused = [finding for finding in findings if finding.verdict is Verdict.REFUSED]
    assert len(refused) == 1, findings
    return refused[0]


@pytest.mark.parametrize("wire", SIMULATED_WIRES)
def test_a_simulated_acquisition_that_can_run_is_all_right(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine, wire: str
) -> None:
    file = written(simulated(tmp_path, wire))
    before = files_in(tmp_path)
    done = hadascope("check", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("This file can run on this bench.")
    for what in LOOKED_AT:
        assert f"ok {what}: " in done.out
    assert "warning" not in done.out
    assert not benches.bench.was_lit
    assert sum(each.n_exposures for each in benches.bench.record) == 8
    benches.must_be_let_go_of()
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_real_devices_that_can_run_are_all_right(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, light: str
) -> None:
    file = lab.file(tmp_path, light)
    before = files_in(tmp_path)
    done = hadascope("check", file)
    assert done.code == 0, done
    assert done.out.endswith("This file can run on this bench.")
    # Frames come over the port more slowly than pictures, which is said.
    assert done.out.count("warning ") == 1
    assert "warning frame buffer: " in done.out
    assert "reading takes 6.7 times as long as exposing" in done.out
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()
    assert files_in(tmp_path) == before
    assert hadascope.asked == 0


def test_light_that_is_switched_by_hand_sees_dark_pictures_only(tmp_path: Path, lab: RealBench) -> None:
    lab.bench.set_light(True)
    findings = list(check_acquisition(lab.config(tmp_path / "run.zarr", "none")))
    assert verdicts(findings)["dark level"] is Verdict.WARNING
    assert Verdict.REFUSED not in verdicts(findings).values()
    light = np.concatenate([projection.light for projection in lab.bench.record])
    assert len(light) == 8
    assert not light.any()


def test_what_devices_say_of_themselves_is_told(tmp_path: Path, lab: RealBench) -> None:
    findings = {each.what: each.found for each in check_acquisition(lab.config(tmp_path / "run.zarr", "obis"))}
    assert list(findings) == LOOKED_AT
    assert "serial 12345" in findings["projector"]
    assert findings["detector"] == "SimulatedCamera, 4 × 4 px of 4 bytes"
    assert "27.5" in findings["light source"]
    assert findings["triggers"].startswith("8 dark pictures displayed, 8 frames came")


def test_a_run_that_exists_is_refused_and_one_that_may_be_replaced_is_not(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine
) -> None:
    file = written(simulated(tmp_path))
    assert hadascope("acquire", file).code == 0
    before = files_in(tmp_path)
    done = hadascope("check", file)
    assert done.code == 2
    assert "refused output: " in done.out
    assert "--overwrite" in done.out
    assert done.out.count("refused ") == 1
    assert done.out.endswith("This file cannot run on this bench.")
    assert hadascope("check", file, "--overwrite").code == 0
    assert files_in(tmp_path) == before
    assert hadascope("check", file, "--output", tmp_path / "other.zarr").code == 0
    assert files_in(tmp_path) == before


def test_a_disk_without_room_is_refused(
    tmp_path: Path, benches: SimulatedBenches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    findings = list(check_acquisition(simulated(tmp_path)))
    refused = only_refusal(findings)
    assert refused.what == "output"
    assert "1 MB are free" in refused.found
    assert [finding.what for finding in findings] == LOOKED_AT


def test_a_plan_beyond_the_dose_limit_is_refused(tmp_path: Path, benches: SimulatedBenches) -> None:
    refused = only_refusal(list(check_acquisition(simulated(tmp_path, sample={"dose_limit_mj": 0.01}))))
    assert refused.what == "dose"
    assert "sample.dose_limit_mj" in refused.found
    within = verdicts(list(check_acquisition(simulated(tmp_path, sample={"dose_limit_mj": 0.02}))))
    assert within["dose"] is Verdict.OK


def test_light_too_dim_to_prove_anything_is_refused(tmp_path: Path, benches: SimulatedBenches) -> None:
    dim = simulated(
        tmp_path, bench={"photoelectrons_per_px": 0.01, "shot_noise": True}, noise={"gain": 1.0, "variance": 4.0}
    )
    refused = only_refusal(list(check_acquisition(dim)))
    assert refused.what == "guards"
    assert "too dim" in refused.found


def test_another_chip_than_the_file_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hadascope: CommandLine
) -> None:
    with real_bench(monkeypatch, chip="1080p") as lab:
        done = hadascope("check", lab.file(tmp_path))
        assert done.code == 2
        assert done.out.count("refused ") == 1
        assert "has 1080 mirror rows, XGA has 768: correct devices.projector.dmd" in done.out
        assert not lab.bench.record
        assert not lab.bench.was_lit
        lab.must_be_let_go_of()


def test_a_board_with_less_memory_than_planned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_bench(monkeypatch, memory_pictures=100) as lab:
        refused = only_refusal(list(check_acquisition(lab.config(tmp_path / "run.zarr"))))
        assert "has room for 100 pictures" in refused.found
        assert "devices.projector.memory_pictures" in refused.found
        lab.must_be_let_go_of()
        smaller = lab.config(tmp_path / "run.zarr", projector={"memory_pictures": 100})
        assert Verdict.REFUSED not in verdicts(list(check_acquisition(smaller))).values()


NAMED_PROPERTY = {"device": "SimulatedCamera", "name": "ReadoutTime-ms", "unit": "ms"}


def test_a_camera_whose_own_readout_does_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_bench(monkeypatch, readout_us=11.0) as lab:
        named = {"readout_property": NAMED_PROPERTY}
        refused = only_refusal(list(check_acquisition(lab.config(tmp_path / "run.zarr", detector=named))))
        assert "the camera takes 101 µs a frame" in refused.found
        assert "(camera property SimulatedCamera.ReadoutTime-ms)" in refused.found
        assert not lab.bench.record
        lab.must_be_let_go_of()


def test_a_camera_whose_own_readout_just_fits_is_all_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with real_bench(monkeypatch, readout_us=10.0) as lab:
        named = {"readout_property": NAMED_PROPERTY}
        findings = {each.what: each for each in check_acquisition(lab.config(tmp_path / "run.zarr", detector=named))}
        assert findings["timing"].verdict is Verdict.OK
        assert findings["timing"].found == (
            "camera readout 10 µs (camera property SimulatedCamera.ReadoutTime-ms) fits"
        )


def test_a_camera_that_is_slower_than_its_file_says_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with real_bench(monkeypatch, readout_us=30.0) as lab:
        findings = list(check_acquisition(lab.config(tmp_path / "run.zarr", blocks=QUICK)))
        refused = only_refusal(findings)
        assert "delivered 4 of 8 frames" in refused.found
        assert not lab.bench.was_lit
        lab.must_be_let_go_of()


def test_a_readout_that_nobody_states_is_a_warning(tmp_path: Path, benches: SimulatedBenches) -> None:
    findings = {each.what: each for each in check_acquisition(simulated(tmp_path, detector={"readout_us": None}))}
    assert findings["timing"].verdict is Verdict.WARNING
    assert "not stated, taken as 0" in findings["timing"].found


def test_a_readout_from_a_calibration_names_it(tmp_path: Path, benches: SimulatedBenches) -> None:
    file = tmp_path / "readout.json"
    file.write_text(json.dumps({"version": 1, "camera": "SimulatedCamera", "readout_us": 9, "measured": "2026-11-01"}))
    stated = {"readout_us": None, "readout_calibration": str(file)}
    findings = {each.what: each for each in check_acquisition(simulated(tmp_path, detector=stated))}
    assert findings["timing"].verdict is Verdict.OK
    assert findings["timing"].found == f"camera readout 9 µs ({file}, measured 2026-11-01) fits"


def impossible_files(folder: Path) -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """Keys of the detector that the file alone shows to be impossible, and what is said of them."""
    calibration = folder / "slow.json"
    calibration.write_text(json.dumps({"version": 1, "camera": "C", "readout_us": 11, "measured": "2026-11-01"}))
    return {
        "file": ({"readout_us": 11}, ("timing.picture_time_us", "11 µs readout (the acquisition file)")),
        "calibration": (
            {"readout_us": None, "readout_calibration": str(calibration)},
            ("timing.picture_time_us", f"({calibration}, measured 2026-11-01)"),
        ),
        "rolling shutter": (
            {"shutter": "rolling", "rolling_us": 30},
            ("timing.sync_delay_us", "whose last row begins 30 µs after its first one"),
        ),
    }


@pytest.mark.parametrize("name", ["file", "calibration", "rolling shutter"])
def test_what_the_file_shows_to_be_impossible_is_refused_before_any_device(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, name: str
) -> None:
    keys, said = impossible_files(tmp_path)[name]
    file = lab.file(tmp_path)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["devices"]["detector"].update(keys)
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    for command in ("check", "plan", "acquire"):
        done = hadascope(command, file)
        assert done.code == 2
        for part in said:
            assert part in done.err
    assert not lab.was_touched


def small_buffer(folder: Path, **sections: Any) -> AcquisitionConfig:
    """Frames of 16 KiB, 64 of which fill the buffer; 0.9 · 64 - 16 = 41 of them are planned with."""
    camera = {"width_px": 64, "height_px": 64, "bytes_per_px": 4, "buffer_mb": 1}
    return simulated(folder, detector=camera, **sections)


def test_blocks_are_shortened_to_a_small_frame_buffer(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = small_buffer(tmp_path, blocks={**QUICK, "guard_interval": 4})
    findings = {each.what: each for each in check_acquisition(config)}
    assert findings["frame buffer"].verdict is Verdict.WARNING
    said = re.fullmatch(
        r"the buffer holds 64 frames: blocks are shortened from (\d+) to (\d+) exposures",
        findings["frame buffer"].found,
    )
    assert said is not None
    assert int(said[1]) > 41 >= int(said[2])
    assert Verdict.REFUSED not in verdicts(list(findings.values())).values()


def test_blocks_of_a_run_are_as_short_as_its_check_has_said(tmp_path: Path, benches: SimulatedBenches) -> None:
    config = small_buffer(tmp_path, blocks={**QUICK, "guard_interval": 4})
    found = next(each.found for each in check_acquisition(config) if each.what == "frame buffer")
    acquire(config)
    longest = max(projection.n_exposures for projection in benches.bench.record[1:])
    assert found.endswith(f" to {longest} exposures")


def test_a_frame_buffer_too_small_for_any_block_is_refused(tmp_path: Path, benches: SimulatedBenches) -> None:
    camera = {"width_px": 116, "height_px": 112, "bytes_per_px": 4, "buffer_mb": 1}  # 20 frames
    refused = only_refusal(list(check_acquisition(simulated(tmp_path, detector=camera))))
    assert refused.what == "frame buffer"
    assert refused.found.startswith("the buffer holds 20 frames, too few for any block")
    benches.must_be_let_go_of()


def test_a_board_that_another_program_holds_is_refused(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    lab.library.hold()
    done = hadascope("check", lab.file(tmp_path))
    assert done.code == 2
    assert done.out.count("refused ") == 1
    assert "held by another program or by one that crashed" in done.out
    assert not lab.core.is_sequence_running()
    lab.library.release()
    lab.must_be_let_go_of()


def test_a_port_where_nothing_listens_is_refused(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = hadascope("check", lab.file(tmp_path, detector={"port": port}))
    assert done.code == 2
    assert done.out.count("refused ") == 1
    assert f"nothing listens on port {port}" in done.out
    assert "Traceback" not in done.err
    lab.must_be_let_go_of()


@pytest.mark.parametrize("light", ["obis", "sc10"])
def test_a_serial_port_where_nothing_answers_is_refused(tmp_path: Path, lab: RealBench, light: str) -> None:
    silent = lab.laser if light == "obis" else lab.shutter
    config = lab.config(tmp_path / "run.zarr", light)
    silent.stop()
    refused = only_refusal(list(check_acquisition(config)))
    assert "socket://" in refused.found
    lab.must_be_let_go_of()


def test_a_laser_with_a_fault_is_refused(tmp_path: Path, lab: RealBench) -> None:
    lab.laser.fault("interlock")
    refused = only_refusal(list(check_acquisition(lab.config(tmp_path / "run.zarr", "obis"))))
    assert "interlock open" in refused.found
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()


def test_a_power_that_the_laser_does_not_give_is_refused(tmp_path: Path, lab: RealBench) -> None:
    too_strong = lab.config(tmp_path / "run.zarr", "obis", light_source={"laser_power_mw": 500})
    refused = only_refusal(list(check_acquisition(too_strong)))
    assert "1 to 110 mW, not 500 mW" in refused.found


def test_a_missing_library_is_refused_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lab: RealBench
) -> None:
    monkeypatch.setattr("devices.alp_library.open_alp", open_alp)
    missing = lab.config(tmp_path / "run.zarr", projector={"library_dir": str(tmp_path / "not_here")})
    refused = only_refusal(list(check_acquisition(missing)))
    assert str(tmp_path / "not_here") in refused.found
    assert not lab.bench.was_lit
    assert not lab.core.is_sequence_running()


def test_a_property_that_the_camera_has_not_is_refused_with_those_it_has(tmp_path: Path, lab: RealBench) -> None:
    wrong = {"when_armed": [{"device": "SimulatedCamera", "name": "Trigger", "value": "External"}]}
    refused = only_refusal(list(check_acquisition(lab.config(tmp_path / "run.zarr", detector=wrong))))
    assert "has no property 'Trigger'" in refused.found
    assert "TriggerMode" in refused.found
    lab.must_be_let_go_of()


@pytest.mark.parametrize(
    ("fault", "said"),
    [(LostTrigger(0, 3), "delivered 7 of 8 frames"), (DoubledTrigger(0, 3), "1 frames more than the 8 exposures")],
)
def test_triggers_that_do_not_arrive_one_to_one_are_refused(
    tmp_path: Path, benches: SimulatedBenches, fault: LostTrigger | DoubledTrigger, said: str
) -> None:
    benches.prepare = lambda stand_ins: stand_ins.bench.inject(fault)
    refused = only_refusal(list(check_acquisition(simulated(tmp_path))))
    assert said in refused.found
    assert not benches.bench.was_lit
    benches.must_be_let_go_of()


@pytest.mark.parametrize(
    ("true", "stated", "verdict"),
    [(400.0, 400.0, Verdict.OK), (400.0, 40.0, Verdict.WARNING), (400.0, 4000.0, Verdict.WARNING)],
)
def test_a_read_noise_other_than_stated_is_a_warning(
    tmp_path: Path, benches: SimulatedBenches, true: float, stated: float, verdict: Verdict
) -> None:
    config = simulated(
        tmp_path,
        detector={"offset_per_px": 1000.0},
        blocks={**QUICK, "dark_exposures": 64},
        bench={"shot_noise": True, "variance": true, "photoelectrons_per_px": 1000},
        noise={"gain": 1.0, "variance": stated},
    )
    findings = list(check_acquisition(config))
    found = {each.what: each for each in findings}["dark level"]
    assert found.verdict is verdict
    assert f"noise.variance says {stated:g}" in found.found
    assert Verdict.REFUSED not in verdicts(findings).values()


def test_a_timing_that_the_board_rounds_is_a_warning(
    tmp_path: Path, lab: RealBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = lab.library.AlpSeqInquire

    def round_up(device: Any, sequence: Any, inquiry: Any, answer: Any) -> int:
        returned: int = ask(device, sequence, inquiry, answer)
        answer._obj.value += getattr(inquiry, "value", inquiry) == PICTURE_TIME
        return returned

    monkeypatch.setattr(lab.library, "AlpSeqInquire", round_up)
    findings = {each.what: each for each in check_acquisition(lab.config(tmp_path / "run.zarr"))}
    assert findings["accepted timing"].verdict is Verdict.WARNING
    assert findings["accepted timing"].found.startswith("picture 101 µs, illumination 90 µs")


def test_a_camera_that_runs_freely_is_refused(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real MMCore: its DemoCamera sends as many frames as it was asked for, whatever is displayed."""
    monkeypatch.setattr(check, "_SILENCE_S", SILENCE_S)
    configuration = tmp_path / "demo.cfg"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    core = {"app_path": str(adapters()), "config_file": str(configuration)}
    done = hadascope("check", lab.file(tmp_path, "obis", detector=core, blocks=QUICK))
    assert done.code == 2, done
    assert "ok detector: Camera, 512 × 512 px of 1 bytes" in done.out
    assert done.out.count("refused ") == 1
    assert re.search(r"refused trigger mode: \d+ frames came while nothing was displayed", done.out)
    assert not lab.bench.record
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()
    assert not is_pymmcore_active()


def test_a_check_that_is_broken_off_lets_go_of_everything(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Controller, "measure_dark_level", break_off)
    done = hadascope("check", lab.file(tmp_path))
    assert done.code != 0
    assert "This file can run" not in done.out
    assert not lab.bench.was_lit
    lab.must_be_let_go_of()
