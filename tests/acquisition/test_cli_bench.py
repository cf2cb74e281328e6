"""The commands that light a real bench: who is asked before the first light, and what is told afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from acquisition.acquisition_file import dump_acquisition
from acquisition.events import EventKind, read_events
from acquisition.run_layout import RunState
from acquisition.simulated_bench import StandIns
from acquisition.stored_run import StoredRun
from sim_devices.faults import DoubledTrigger, LostTrigger, Saturation
from tests.acquisition.real_bench import (
    SWITCHED_LIGHTS,
    CommandLine,
    RealBench,
    SimulatedBenches,
    files_in,
)
from tests.acquisition.rehearsal import small_config
from tests.devices.serial_ports import _no_pause_after_closing

__all__ = ["_no_pause_after_closing"]

SHORT_BLOCKS = {"guard_interval": 4, "longest_block_s": 0.004, "timeout_margin_s": 0.02}


def simulated_file(folder: Path, **sections: dict[str, Any]) -> Path:
    file = folder / "simulated.yaml"
    document: dict[str, dict[str, Any]] = {
        "output": {"run": str(folder / "run.zarr")},
        "blocks": SHORT_BLOCKS,
        **sections,
    }
    file.write_text(dump_acquisition(small_config(**document)), encoding="utf-8")
    return file


def break_off_at(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when this block is stored; once."""
    from acquisition.store_writer import StoreWriter

    put = StoreWriter.put
    pending = [block]

    def interrupted(writer: StoreWriter, readings: Any) -> None:
        put(writer, readings)
        if pending and readings.block_number == pending[0]:
            pending.clear()
            raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "put", interrupted)


@pytest.mark.parametrize("light", SWITCHED_LIGHTS)
def test_the_first_light_comes_after_the_yes(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, light: str
) -> None:
    seen = []

    def look() -> None:
        seen.append((lab.bench.was_lit, (tmp_path / "run.zarr").exists(), len(lab.bench.record)))

    hadascope.person, hadascope.answer, hadascope.when_asked = True, "y", look
    done = hadascope("acquire", lab.file(tmp_path, light))
    assert done.code == 0, done
    # Asked once, when the devices have accepted everything and the dark level was measured, and all was dark.
    assert seen == [(False, False, 1)]
    n_exposures = StoredRun(tmp_path / "run.zarr").n_exposures
    assert lab.bench.lit_exposures == n_exposures
    dose_mj = n_exposures * 90e-6 * 2.0
    assert f"First light on real devices: {n_exposures} exposures, {dose_mj:.4g} mJ on the sample" in done.out
    lab.must_be_let_go_of()


@pytest.mark.parametrize("answer", ["n", "", "perhaps", None])
def test_anything_but_a_yes_means_no_light_and_nothing_written(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine, answer: str | None
) -> None:
    file = lab.file(tmp_path)
    before = files_in(tmp_path)
    hadascope.person, hadascope.answer = True, answer
    done = hadascope("acquire", file)
    assert (done.code, hadascope.asked) == (1, 1)
    assert "Traceback" not in done.err
    assert not lab.bench.was_lit
    assert files_in(tmp_path) == before
    lab.must_be_let_go_of()


def test_a_no_is_said_back(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    hadascope.person, hadascope.answer = True, "no"
    assert "not confirmed: nothing was lit, and everything is as it was" in hadascope("acquire", lab.file(tmp_path)).err


def test_a_no_leaves_the_run_that_was_to_be_replaced(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    file = lab.file(tmp_path)
    assert hadascope("acquire", file, "--yes").code == 0
    before = files_in(tmp_path)
    hadascope.person, hadascope.answer = True, "n"
    assert hadascope("acquire", file, "--overwrite").code == 1
    assert files_in(tmp_path) == before


def test_a_script_that_does_not_say_yes_is_refused_before_any_device(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    file = lab.file(tmp_path)
    before = files_in(tmp_path)
    hadascope.answer = "y"  # something stands in the pipe
    done = hadascope("acquire", file)
    assert (done.code, hadascope.asked) == (2, 0)
    assert "add --yes" in done.err
    assert not lab.was_touched
    assert files_in(tmp_path) == before


def test_a_script_that_says_yes_is_not_asked(tmp_path: Path, lab: RealBench, hadascope: CommandLine) -> None:
    done = hadascope("acquire", lab.file(tmp_path), "--yes")
    assert (done.code, hadascope.asked) == (0, 0), done
    assert StoredRun(tmp_path / "run.zarr").state is RunState.FINISHED


def test_simulated_devices_never_ask(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = simulated_file(tmp_path)
    break_off_at(1, monkeypatch)
    assert hadascope("acquire", file).code == 130
    assert hadascope("resume", tmp_path / "run.zarr").code == 0
    assert hadascope("acquire", file, "--overwrite").code == 0
    assert hadascope("dry-run", file, "--overwrite").code == 0
    assert hadascope.asked == 0


def test_a_rehearsal_of_a_real_bench_touches_none_of_it_and_asks_nobody(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    assert hadascope("dry-run", lab.file(tmp_path)).code == 0
    assert hadascope.asked == 0
    assert not lab.was_touched


@pytest.fixture
def broken_off(tmp_path: Path, lab: RealBench, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on the real bench that Ctrl-C ended after its second block."""
    file = lab.file(tmp_path, "obis", blocks=SHORT_BLOCKS, sample={"dose_limit_mj": 1.0})
    break_off_at(1, monkeypatch)
    assert hadascope("acquire", file, "--yes").code == 130
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.STOPPED
    assert run.committed.tolist() == [0, 1]
    lab.must_be_let_go_of()
    lab.bench.orders.clear()
    lab.laser._record.clear()
    lab.allocations.clear()
    lab.log.calls.clear()
    return tmp_path / "run.zarr"


def test_a_resumed_run_asks_again_before_its_first_light(
    broken_off: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    lit_before = lab.bench.lit_exposures
    ordered: list[bool] = []
    hadascope.person, hadascope.answer = True, "yes"
    hadascope.when_asked = lambda: ordered.extend(on for on, _ in lab.bench.orders)
    done = hadascope("resume", broken_off)
    assert (done.code, hadascope.asked) == (0, 1), done
    assert not any(ordered)
    run = StoredRun(broken_off)
    assert run.state is RunState.FINISHED
    assert run.committed.tolist() == list(range(run.n_blocks))
    left = lab.bench.lit_exposures - lit_before
    assert f"First light on real devices: {left} exposures" in done.out
    assert lab.bench.lit_exposures == run.n_exposures
    lab.must_be_let_go_of()


def test_a_no_leaves_a_run_that_was_to_be_resumed_as_it_was(
    broken_off: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    before = files_in(broken_off)
    hadascope.person, hadascope.answer = True, "n"
    done = hadascope("resume", broken_off)
    assert (done.code, hadascope.asked) == (1, 1)
    assert not any(on for on, _ in lab.bench.orders)
    assert files_in(broken_off) == before
    lab.must_be_let_go_of()


def test_a_script_that_does_not_say_yes_cannot_resume(broken_off: Path, lab: RealBench, hadascope: CommandLine) -> None:
    before = files_in(broken_off)
    done = hadascope("resume", broken_off)
    assert (done.code, hadascope.asked) == (2, 0)
    assert not lab.was_touched
    assert files_in(broken_off) == before
    assert hadascope("resume", broken_off, "--yes").code == 0
    assert hadascope.asked == 0


def test_info_tells_how_far_a_run_came_and_why_it_ended(broken_off: Path, hadascope: CommandLine) -> None:
    done = hadascope("info", broken_off)
    run = StoredRun(broken_off)
    assert done.code == 0
    assert "state stopped" in done.out
    assert f"blocks 2 of {run.n_blocks} committed" in done.out
    assert "devices real" in done.out
    assert "light source OBIS 488-100 LS" in done.out


def inject(*faults: Any) -> Callable[[StandIns], None]:
    return lambda stand_ins: stand_ins.bench.inject(*faults)


@pytest.fixture
def repaired(tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine) -> Path:
    """A run in which block 0 was played three times and block 1 twice, its camera being flooded the first time.

    Projection 0 is the dark level.
    """
    benches.prepare = inject(LostTrigger(1, 9), DoubledTrigger(2, 5), Saturation(4, 3))
    file = simulated_file(tmp_path)
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["devices"]["detector"].update({"bytes_per_px": 2, "width_px": 16, "height_px": 16})
    document["devices"]["light_source"].update({"wire": "obis", "laser_power_mw": 12.0})
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    done = hadascope("acquire", file)
    assert done.code == 0, done
    for said in ("block-repeated: block 0 is played again", "repeated blocks 3, see"):
        assert said in done.out
    return tmp_path / "run.zarr"


def test_repeated_blocks_are_on_the_record_with_their_causes(repaired: Path, benches: SimulatedBenches) -> None:
    repeated = [event.facts for event in read_events(repaired) if event.kind is EventKind.BLOCK_REPEATED]
    assert [(each["block"], each["attempt"]) for each in repeated] == [(0, 1), (0, 2), (1, 1)]
    assert [each["cause"] for each in repeated] == ["DetectorTimeoutError", "SurplusFramesError", "AlignmentError"]
    facts = StoredRun(repaired).facts
    assert facts["repeated_blocks"] == {"DetectorTimeoutError": 1, "SurplusFramesError": 1, "AlignmentError": 1}
    assert benches.bench.lit_exposures > StoredRun(repaired).n_exposures
    assert StoredRun(repaired).lit_exposures == benches.bench.lit_exposures


def test_the_log_and_the_events_tell_the_run_from_its_start_to_its_end(repaired: Path) -> None:
    lines = [json.loads(line) for line in (repaired / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds[:2] == ["started", "dark-level"]
    assert kinds[-1] == "finished"
    assert {"bank", "telemetry", "block-repeated"} <= set(kinds)
    log = (repaired / "log.txt").read_text(encoding="utf-8").splitlines()
    assert len(log) == len(lines)
    for written, line in zip(log, lines, strict=True):
        assert written.startswith(line["time"])
        assert line["kind"] in written
        assert line["text"].splitlines()[0] in written
    telemetry = next(line for line in lines if line["kind"] == "telemetry")
    assert telemetry["projector"]["pcb_c"] == 33
    assert telemetry["light_source"]["power_mw"] == 12.0
    assert telemetry["light_source"]["temperature_c"] == 27.5


def test_info_tells_what_was_repeated(repaired: Path, hadascope: CommandLine) -> None:
    done = hadascope("info", repaired)
    assert done.code == 0
    assert "state finished" in done.out
    assert f"repeated blocks 3, see {repaired / 'log.txt'}" in done.out
    run = StoredRun(repaired)
    assert f"exposures {run.n_exposures:,}, dose {run.lit_exposures * 90e-6:.4g} mJ" in done.out
    assert "residual risk" in done.out


def test_a_run_that_cannot_be_repaired_says_why_it_ended(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine
) -> None:
    benches.prepare = inject(*(LostTrigger(projection, 3) for projection in (2, 3, 4, 5)))
    done = hadascope("acquire", simulated_file(tmp_path))
    assert done.code == 1
    assert "block 1 was played 4 times and failed each time" in done.err
    assert "the run can be resumed: hadascope resume" in done.err
    run = StoredRun(tmp_path / "run.zarr")
    assert run.state is RunState.FAILED
    *_, last = read_events(run.path)
    assert last.kind is EventKind.FAILED
    assert "DetectorTimeoutError" in last.text
    info = hadascope("info", run.path)
    assert "state failed" in info.out
    assert "cause DetectorTimeoutError" in info.out
    benches.must_be_let_go_of()


def test_info_tells_that_a_killed_run_was_interrupted(
    tmp_path: Path, benches: SimulatedBenches, hadascope: CommandLine
) -> None:
    assert hadascope("acquire", simulated_file(tmp_path)).code == 0
    path = tmp_path / "run.zarr" / "zarr.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    # What a run looks like on the disk when nobody could mark it: running, and no process holds its lock.
    document["attributes"]["hadascope"]["state"] = "running"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert "state interrupted" in hadascope("info", tmp_path / "run.zarr").out


def test_warnings_are_told_at_the_end_in_the_log_and_by_info(
    tmp_path: Path, lab: RealBench, hadascope: CommandLine
) -> None:
    lab.bench.set_light(True)
    done = hadascope("acquire", lab.file(tmp_path, "none"), "--yes")
    assert done.code == 0
    warning = "the light cannot be switched off"
    assert f"warning: {warning}" in done.out
    assert warning in hadascope("info", tmp_path / "run.zarr").out
    assert warning in (tmp_path / "run.zarr" / "log.txt").read_text(encoding="utf-8")
    events = [event for event in read_events(tmp_path / "run.zarr") if event.kind is EventKind.WARNING]
    assert any(warning in event.text for event in events)
