"""A hard limit of the dose: no plan beyond it is played, and no run exceeds it, whatever it has to repeat.

A dose is counted here on the bench's own record: exposures that had light × illumination time × power.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from acquisition.acquisition_file import dump_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.controller import DoseLimitError
from acquisition.observer import Observer
from acquisition.problems import AcquisitionFileError
from acquisition.resumption import Resumption
from acquisition.run import acquire, resume
from acquisition.run_layout import RunState
from acquisition.sensing_plan import plan_sensing
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from devices.errors import DeviceNotFoundError
from sim_devices.faults import LostTrigger
from tests.acquisition.real_bench import CommandLine, RealBench, SimulatedBenches
from tests.acquisition.rehearsal import small_config

POWER_MW, ILLUMINATION_S = 1.0, 90e-6
ONE_MJ = POWER_MW * ILLUMINATION_S
BLOCKS = {"guard_interval": 4, "longest_block_s": 0.004, "timeout_margin_s": 0.02}


def limited(folder: Path, allowed_exposures: float, **sections: dict[str, Any]) -> AcquisitionConfig:
    """A run whose dose limit lies at so many exposures."""
    document: dict[str, dict[str, Any]] = {
        "sample": {"dose_limit_mj": allowed_exposures * ONE_MJ},
        "blocks": BLOCKS,
        "output": {"run": str(folder / "run.zarr")},
        **sections,
    }
    return small_config(**document)


def planned_exposures(folder: Path) -> int:
    config = limited(folder, 10**6)
    return plan_sensing(config, sample_on_stage(config)).schedule.n_exposures


def lit_exposures(benches: SimulatedBenches) -> int:
    """Exposures under light on all benches of the test."""
    records = [stand_ins.bench.record for stand_ins in benches.all]
    return sum(each.n_exposures for record in records for each in record if each.light_on)


def test_a_plan_beyond_the_limit_is_refused_by_every_command_before_any_device(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    planned = planned_exposures(tmp_path)
    file = lab.file(tmp_path, blocks=BLOCKS, sample={"dose_limit_mj": (planned - 1) * 2 * ONE_MJ})
    for command in ("plan", "acquire"):
        done = hadascope(command, file, *(["--yes"] if command == "acquire" else []))
        assert done.code == 2
        assert "sample.dose_limit_mj" in done.err
        assert f"the plan gives the sample {planned * 2 * ONE_MJ:.4g} mJ" in done.err
    assert not lab.was_touched
    done = hadascope("check", file)
    assert done.code == 2
    assert "refused dose: " in done.out
    assert not lab.bench.was_lit
    assert not (tmp_path / "run.zarr").exists()


def test_a_plan_at_the_limit_is_played(tmp_path: Path, benches: SimulatedBenches) -> None:
    planned = planned_exposures(tmp_path)
    acquire(limited(tmp_path, planned))
    assert lit_exposures(benches) == planned
    assert StoredRun(tmp_path / "run.zarr").dose_mj == pytest.approx(planned * ONE_MJ)


@pytest.mark.parametrize("spare", [0, 39, 100])
def test_repeated_blocks_end_a_run_before_the_limit_and_a_resumed_one_too(
    tmp_path: Path, benches: SimulatedBenches, spare: int
) -> None:
    """The camera misses a trigger in every second projection, so that every block is played twice."""
    benches.prepare = lambda stand_ins: stand_ins.bench.inject(*(LostTrigger(each, 3) for each in range(1, 60, 2)))
    allowed = planned_exposures(tmp_path) + spare
    config = limited(tmp_path, allowed)
    with pytest.raises(DoseLimitError, match="repeated blocks included"):
        acquire(config)
    run = StoredRun(tmp_path / "run.zarr")
    first = lit_exposures(benches)
    longest = max(each.n_exposures for each in benches.bench.record)
    assert allowed - longest < first <= allowed
    assert run.state is RunState.FAILED
    assert run.facts["lit_exposures"] == first
    assert run.dose_mj == pytest.approx(first * ONE_MJ)
    assert 0 < len(run.committed) < run.n_blocks
    benches.must_be_let_go_of()
    benches.prepare = None
    with pytest.raises(DoseLimitError):
        resume(tmp_path / "run.zarr")
    assert lit_exposures(benches) == first
    again = StoredRun(tmp_path / "run.zarr")
    assert again.dose_mj == pytest.approx(first * ONE_MJ)
    assert again.committed.tolist() == run.committed.tolist()
    benches.must_be_let_go_of()


def test_what_a_run_had_before_it_was_stopped_counts_when_it_goes_on(tmp_path: Path, benches: SimulatedBenches) -> None:
    planned = planned_exposures(tmp_path)
    longest = 40

    def stop(readings: Any) -> None:
        if readings.block_number == 1:
            raise KeyboardInterrupt

    benches.prepare = lambda stand_ins: stand_ins.bench.inject(LostTrigger(1, 3))
    config = limited(tmp_path, planned + longest)
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    assert StoredRun(tmp_path / "run.zarr").facts["lit_exposures"] == lit_exposures(benches)
    benches.prepare = lambda stand_ins: stand_ins.bench.inject(*(LostTrigger(each, 3) for each in range(1, 60, 2)))
    with pytest.raises(DoseLimitError):
        resume(tmp_path / "run.zarr")
    assert planned < lit_exposures(benches) <= planned + longest


def test_a_run_at_its_limit_goes_on_once_nothing_has_to_be_repeated(tmp_path: Path, benches: SimulatedBenches) -> None:
    planned = planned_exposures(tmp_path)

    def stop(readings: Any) -> None:
        if readings.block_number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(limited(tmp_path, planned), observer=Observer(on_block=stop))
    resume(tmp_path / "run.zarr")
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED
    assert lit_exposures(benches) == planned


def test_what_a_killed_run_may_have_had_is_not_forgotten_when_its_resumption_fails(
    tmp_path: Path, benches: SimulatedBenches
) -> None:
    """A killed process leaves no word of the block it was playing, so all that may have been played of it counts."""

    def stop(readings: Any) -> None:
        if readings.block_number == 1:
            raise KeyboardInterrupt

    path = tmp_path / "run.zarr"
    with pytest.raises(KeyboardInterrupt):
        acquire(limited(tmp_path, 10**6), observer=Observer(on_block=stop))
    document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    facts = document["attributes"]["hadascope"]
    facts["state"] = "running"
    del facts["lit_exposures"]
    (path / "zarr.json").write_text(json.dumps(document), encoding="utf-8")
    counted = Resumption.of(path).lit_exposures
    assert counted > StoredRun(path).lit_exposures

    def unplugged(_: StandIns) -> None:
        raise DeviceNotFoundError("no ALP board answers")

    benches.prepare = unplugged
    with pytest.raises(DeviceNotFoundError):
        resume(path)
    assert Resumption.of(path).lit_exposures >= counted


def test_the_command_line_says_that_the_limit_ended_the_run(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine
) -> None:
    benches.prepare = lambda stand_ins: stand_ins.bench.inject(*(LostTrigger(each, 3) for each in range(1, 60, 2)))
    file = tmp_path / "bench.yaml"
    file.write_text(dump_acquisition(limited(tmp_path, planned_exposures(tmp_path))), encoding="utf-8")
    done = hadascope("acquire", file)
    assert done.code == 1
    assert "sample.dose_limit_mj allows" in done.err
    info = hadascope("info", tmp_path / "run.zarr")
    assert "cause DoseLimitError" in info.out


def test_a_limit_needs_a_known_power(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    file = lab.file(tmp_path, sample={"dose_limit_mj": 1.0})
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    del document["devices"]["light_source"]["power_mw"]
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    for command in ("plan", "check", "acquire"):
        done = hadascope(command, file)
        assert done.code == 2
        assert "devices.light_source.power_mw" in done.err
        assert "sample.dose_limit_mj" in done.err
    assert not lab.was_touched


@pytest.mark.parametrize("limit", [0, -1, float("inf")])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(AcquisitionFileError, match=r"sample\.dose_limit_mj"):
        limited(tmp_path, limit)
