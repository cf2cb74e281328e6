"""Writes the report of a run, or of a series of runs: one HTML file, and the same as JSON beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acquisition.config import picture_beside
from acquisition.damaged_run import readable_facts
from acquisition.report.page import report_page
from acquisition.report.report_facts import read_report
from acquisition.report.series_report import read_series_report, series_page
from acquisition.run_layout import existing_output


class ReportNameError(ValueError):
    """A report's file is not named as one."""


@dataclass(frozen=True)
class WrittenReport:
    """Where a report is, and what should be seen first, in sentences."""

    page: Path
    data: Path
    verdict: tuple[str, ...]


def write_report(path: Path, output: Path | None = None, *, overwrite: bool = False) -> WrittenReport:
    """Write the report of an acquisition in whatever state it is, or of a series.

    output: the HTML file, by default ``<run>.report.html`` beside the run; the JSON has the same stem. Raises
    NotARunError, ReportNameError, OutputExistsError.
    """
    target = picture_beside(path.resolve(), ".report.html") if output is None else output
    if target.suffix.lower() not in (".html", ".htm"):
        raise ReportNameError(f"found {target} as the report's name; expected one that ends in .html")
    if not target.absolute().parent.is_dir():
        raise ReportNameError(f"{target} lies in a folder that does not exist: make it, or choose another one")
    data = target.with_suffix(".json")
    for file, what in ((target, "the report"), (data, "the report's JSON")):
        if file.is_dir():
            raise ReportNameError(f"{file} is a folder: choose another name for {what}")
        if file.exists() and not overwrite:
            raise existing_output(file, what)
    made, verdict, html = _read_series(path) if "series" in readable_facts(path) else _read_run(path)
    _replace(data, json.dumps(made, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _replace(target, html)
    return WrittenReport(target, data, tuple(verdict))


def _read_run(path: Path) -> tuple[dict[str, Any], list[str], str]:
    facts, arrays = read_report(path)
    return facts.as_json(), facts.verdict, report_page(facts, arrays)


def _read_series(path: Path) -> tuple[dict[str, Any], list[str], str]:
    facts, thumbnails = read_series_report(path)
    return facts.as_json(), facts.verdict, series_page(facts, thumbnails)


def _replace(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
