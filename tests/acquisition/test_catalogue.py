"""The runs of a folder in one table: whatever state they are in, and however broken one of them is."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from rich.console import Console

from acquisition import run as run_module
from acquisition.catalogue import EmptyCatalogueError, Record, catalogue
from acquisition.console_catalogue import print_catalogue
from acquisition.reconstruction import psnr_of
from acquisition.run import acquire
from acquisition.run_layout import RunState
from acquisition.run_lock import lock_run, unlock_run
from acquisition.stored_run import StoredRun
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.test_self_check import bench_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that finished; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "draw_result", lambda *_: None)
        return acquire(bench_config(folder)).run


@pytest.fixture
def runs(tmp_path: Path, finished: Path) -> Path:
    """A folder with three runs: the later one first by name, one in a folder of its own, one that was interrupted."""
    folder = tmp_path / "runs"
    for name, started in (("a.zarr", "2026-03-03"), ("day/b.zarr", "2026-01-01"), ("c.zarr", "2026-02-02")):
        shutil.copytree(finished, folder / name)
        change(folder / name, started=f"{started}T10:00:00+00:00")
    forget_the_end(folder / "c.zarr", blocks=3)
    return folder


def facts_in(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run / "zarr.json").read_text(encoding="utf-8"))["attributes"]["hadascope"]
    return facts


def change(run: Path, *, forget: tuple[str, ...] = (), **facts: Any) -> None:
    """Other facts on record, some of them forgotten."""
    document = json.loads((run / "zarr.json").read_text(encoding="utf-8"))
    on_record = document["attributes"]["hadascope"]
    on_record.update(facts)
    for fact in forget:
        on_record.pop(fact, None)
    (run / "zarr.json").write_text(json.dumps(document), encoding="utf-8")


AT_THE_END = ("ended", "warnings", "self_check", "split_half", "image_peak", "pairs", "lit_exposures", "forecast_mse")


def forget_the_end(run: Path, *, blocks: int) -> None:
    """What a run looks like that was killed after so many blocks."""
    commits = zarr.open_array(run / "readings" / "commits", mode="r+")
    commits[blocks:] = -1
    for part in ("images", "statistics", "live"):
        shutil.rmtree(run / part, ignore_errors=True)
    change(run, forget=AT_THE_END, state="running")


def test_runs_are_listed_by_when_they_started_at_any_depth(runs: Path) -> None:
    assert [record.path for record in catalogue(runs)] == ["day/b.zarr", "c.zarr", "a.zarr"]


def test_a_finished_run_is_told_from_its_attributes_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, facts = StoredRun(runs / "a.zarr"), facts_in(runs / "a.zarr")
    expected = Record(
        path="a.zarr",
        holds="an acquisition",
        state="finished",
        simulated=True,
        started="2026-03-03T10:00:00+00:00",
        sample=facts["config"]["sample"]["name"],
        side=32,
        alpha=0.75,
        repeats=4,
        pairs=run.n_pairs,
        pairs_scheduled=int(run.repeats.sum()),
        dose_mj=run.dose_mj,
        forecast_psnr_db=psnr_of(facts["forecast_mse"], float(run.image("image").max())),
        split_half_psnr_db=facts["split_half"]["psnr_db"],
    )
    shutil.rmtree(runs / "a.zarr" / "readings")
    assert expected in catalogue(runs)


def test_of_a_run_that_was_interrupted_the_commit_records_tell_how_far_it_came(runs: Path) -> None:
    (record,) = [each for each in catalogue(runs) if each.path == "c.zarr"]
    run = StoredRun(runs / "c.zarr")
    assert record.state == "interrupted"
    assert (record.pairs, record.pairs_scheduled) == (run.n_pairs, int(run.repeats.sum()))
    assert 0 < run.n_pairs < run.repeats.sum()
    assert (record.forecast_psnr_db, record.split_half_psnr_db) == (None, None)


def test_a_run_that_somebody_writes_is_running(runs: Path) -> None:
    lock = lock_run(runs / "c.zarr")
    try:
        assert {record.path: record.state for record in catalogue(runs)}["c.zarr"] == "running"
    finally:
        unlock_run(lock)


def tear(run: Path) -> None:
    text = (run / "zarr.json").read_text(encoding="utf-8")
    (run / "zarr.json").write_text(text[: len(text) // 2], encoding="utf-8")


def without_state(run: Path) -> None:
    change(run, forget=("state",))


def with_a_list_for_facts(run: Path) -> None:
    document = json.loads((run / "zarr.json").read_text(encoding="utf-8"))
    document["attributes"]["hadascope"] = [1, 2]
    (run / "zarr.json").write_text(json.dumps(document), encoding="utf-8")


def with_text_for_a_mapping(run: Path) -> None:
    change(run, config="lost")


def unfinished_without_commits(run: Path) -> None:
    change(run, state="failed")
    shutil.rmtree(run / "readings" / "commits")


def of_another_layout(run: Path) -> None:
    change(run, state="failed", layout=1)


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (tear, "zarr.json cannot be read"),
        (without_state, "its attributes lack 'state'"),
        (with_a_list_for_facts, "expected a mapping"),
        (with_text_for_a_mapping, "its attributes lack 'config'"),
        (unfinished_without_commits, "is a damaged run"),
        (of_another_layout, "was written in layout 1"),
    ],
)
def test_a_damaged_run_is_listed_as_such_and_breaks_nothing(
    runs: Path, damaged: Any, why: str, hadascope: CommandLine
) -> None:
    damaged(runs / "a.zarr")
    records = catalogue(runs)
    assert [record.path for record in records if record.damage is None] == ["day/b.zarr", "c.zarr"]
    (record,) = [record for record in records if record.damage is not None]
    assert record.path == "a.zarr"
    assert why in str(record.damage)
    done = hadascope("info", runs)
    assert done.code == 0
    assert "a.zarr damaged" in done.out
    assert "damaged: a.zarr: " in done.out
    assert "Traceback" not in done.err
    alone = hadascope("info", runs / "a.zarr")
    assert alone.code == 2
    assert why in alone.err


def test_a_copy_of_a_run_that_was_not_finished_is_listed_as_damaged(runs: Path, hadascope: CommandLine) -> None:
    (runs / "a.zarr" / "zarr.json").unlink()  # copied last by whatever copies in the order of names
    records = {record.path: record.damage for record in catalogue(runs)}
    assert records.keys() == {"day/b.zarr", "c.zarr", "a.zarr"}
    assert "zarr.json is missing" in str(records["a.zarr"])
    report = hadascope("report", runs / "a.zarr")
    assert (report.code, "zarr.json is missing" in report.err) == (2, True)


def test_a_folder_that_must_not_be_looked_into_breaks_nothing(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "gone"):
        (runs / name).mkdir()
    really = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        if Path(path).name == "gone":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [(record.path, record.damage) for record in catalogue(runs)] == [
        ("day/b.zarr", None),
        ("c.zarr", None),
        ("a.zarr", None),
        ("closed", "cannot be looked into: Permission denied"),
    ]


def test_what_lies_inside_of_a_run_or_is_no_run_of_ours_is_not_listed(runs: Path) -> None:
    shutil.copytree(runs / "a.zarr", runs / "a.zarr" / "inside.zarr")
    shutil.copytree(runs / "a.zarr", runs / ".a.zarr.replaced")
    zarr.create_group(runs / "others.zarr").create_array("data", data=np.zeros(3))
    (runs / "notes.txt").write_text("nothing", encoding="utf-8")
    assert [record.path for record in catalogue(runs)] == ["day/b.zarr", "c.zarr", "a.zarr"]


def test_a_series_counts_as_one_with_its_events_counted(runs: Path, finished: Path) -> None:
    series = runs / "series.zarr"
    facts: dict[str, Any] = {
        "series": 1,
        "state": "stopped",
        "simulated": True,
        "started": "2026-04-04T10:00:00+00:00",
        "config": facts_in(finished)["config"],
        "lit_by_place": {"0": 1000, "1": 3000},
    }
    facts["config"]["devices"]["light_source"]["power_mw"] = 2.0
    zarr.create_group(series, attributes={"hadascope": facts})
    shutil.copytree(finished, series / "events" / "t000_p000_c000_z000")
    shutil.copytree(runs / "c.zarr", series / "events" / "t001_p000_c000_z000")
    record = catalogue(runs)[-1]
    assert (record.path, record.holds, record.state) == ("series.zarr", "a series of images", "stopped")
    assert (record.events, record.events_finished) == (2, 1)
    assert record.side == 32
    assert record.dose_mj == pytest.approx(3000 * 90e-6 * 2.0)


def test_json_says_the_same_as_the_table(runs: Path, hadascope: CommandLine) -> None:
    done = hadascope("info", runs, "--json")
    assert done.code == 0
    said = json.loads(done.out)
    assert said["catalogue_schema"] == 1
    assert [Record(**record) for record in said["records"]] == catalogue(runs)


def test_json_of_one_run_is_a_list_of_that_run(runs: Path, hadascope: CommandLine) -> None:
    (record,) = json.loads(hadascope("info", runs / "a.zarr", "--json").out)["records"]
    assert (record["path"], record["pairs"]) == ("a.zarr", StoredRun(runs / "a.zarr").n_pairs)


@pytest.mark.parametrize("kind", ["empty", "missing", "file"])
def test_a_folder_without_runs_says_so(tmp_path: Path, kind: str, hadascope: CommandLine) -> None:
    path = tmp_path / kind
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("not a folder", encoding="utf-8")
    with pytest.raises(EmptyCatalogueError):
        catalogue(path)
    done = hadascope("info", path)
    assert done.code == 2
    assert "is no run of Hadascope" in done.err
    assert "dry-run, acquire or calibrate" in done.err


def shown(records: list[Record], width: int, monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True) -> list[str]:
    monkeypatch.setattr("acquisition.console_catalogue.at_a_terminal", lambda _: terminal)
    stream = io.StringIO()
    print_catalogue(Path("runs"), records, Console(file=stream, width=width))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 110, 80, 60, 40])
def test_the_table_fits_the_terminal_and_keeps_names_and_states(
    runs: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(catalogue(runs), width, monkeypatch)
    table = [line for line in lines if "no room for" not in line]
    assert max(map(len, table)) <= width
    text = "\n".join(lines)
    for word in ("a.zarr", "day/b.zarr", "c.zarr", "finished", "interrupted"):
        assert word in text
    assert ("no room for" in text) == (width < 120)
    assert "…" not in text


def test_at_80_columns_the_figures_that_tell_most_are_there(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = " ".join(shown(catalogue(runs), 80, monkeypatch)[1:3]).split()
    for head in ("run", "state", "n", "α", "S", "pairs", "dose", "mJ", "forecast", "split"):
        assert head in heads


def test_a_long_name_is_folded_and_nothing_of_it_is_lost(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a_very_long_name_of_a_run_that_" * 3 + "ends_here.zarr"
    (runs / "a.zarr").rename(runs / name)
    lines = shown(catalogue(runs), 80, monkeypatch)
    assert max(len(line) for line in lines if "no room for" not in line) <= 80
    # The name goes on below, in its own column.
    narrow = "".join(line.split("  ")[0].strip() for line in lines)
    assert name in narrow


def test_in_a_log_every_column_is_there_whatever_the_width(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(catalogue(runs), 40, monkeypatch, terminal=False)
    assert len(lines) == 1 + 1 + 3
    assert lines[1].split("  ")[0] == "run"
    for head in ("holds", "dose mJ", "forecast dB", "split half dB", "started"):
        assert head in lines[1]
    assert len({len(line) for line in lines[2:]}) == 1


def test_a_name_with_markup_is_only_text(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runs / "a.zarr").rename(runs / "[bold]a[red].zarr")
    assert "[bold]a[red].zarr" in "\n".join(shown(catalogue(runs), 200, monkeypatch))


def test_a_folder_of_many_runs_is_read_without_opening_one(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (tmp_path / f"{number}.zarr").mkdir()
        shutil.copy(finished / "zarr.json", tmp_path / f"{number}.zarr" / "zarr.json")

    def refuse(*_: object) -> None:
        raise AssertionError("a finished run was opened")

    monkeypatch.setattr("acquisition.catalogue.opened_run", refuse)
    records = catalogue(tmp_path)
    assert [record.damage for record in records] == [None] * 30


def test_info_of_one_run_tells_forecast_and_split_half(runs: Path, hadascope: CommandLine) -> None:
    said = hadascope("info", runs / "a.zarr").out
    split = facts_in(runs / "a.zarr")["split_half"]
    assert f"split-half PSNR {split['psnr_db']:.1f} dB, linear image: {split['said']}" in said
    assert "forecast PSNR" in said
    assert StoredRun(runs / "a.zarr").state is RunState.FINISHED


@pytest.mark.parametrize(
    ("lost", "what"),
    [
        ("live", "the record of live images cannot be read"),
        ("schedule/repeats", "the schedule's repeats cannot be read"),
        ("images/uncertainty", "the image cannot be read: images/uncertainty/zarr.json is damaged"),
    ],
)
def test_info_of_a_damaged_run_tells_what_cannot_be_read_and_all_the_rest(
    runs: Path, lost: str, what: str, hadascope: CommandLine
) -> None:
    change(runs / "a.zarr", predicted_mse=1.0)
    (runs / "a.zarr" / lost).mkdir(exist_ok=True)
    (runs / "a.zarr" / lost / "zarr.json").write_text("null", encoding="utf-8")
    done = hadascope("info", runs / "a.zarr")
    assert done.code == 0
    assert f"damaged {what}" in done.out
    assert "split-half PSNR" in done.out
    assert "versions" in done.out
