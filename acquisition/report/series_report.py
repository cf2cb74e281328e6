"""The report of a series of runs: what each of its events came to, with its image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from acquisition.catalogue import Record, record_of
from acquisition.damaged_run import opened_run, readable_facts, readable_image
from acquisition.report import plots
from acquisition.report.markup import (
    badge,
    box,
    bullets,
    folded,
    page,
    paragraph,
    picture,
    section,
    shown_time,
    table,
    title,
)
from acquisition.report.report_facts import REPORT_SCHEMA, said_of_damage
from acquisition.run_layout import NotARunError, RunState

MOST_THUMBNAILS = 400


@dataclass(frozen=True)
class SeriesFacts:
    """What a report says of a series, JSON-able; events: as in a catalogue, by name."""

    report_schema: int
    written: str
    written_by: str
    series: Record
    verdict: list[str]
    damage: list[str]
    events: list[Record]
    versions: dict[str, Any]
    configuration: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def read_series_report(path: Path) -> tuple[SeriesFacts, dict[str, str]]:
    """All that can be said of a series, and a small image (SVG) of each event that has one, by the event's name.

    Raises NotARunError.
    """
    facts, series = readable_facts(path), record_of(path, path)
    folder = path / "events"
    events = [record_of(file.parent, folder) for file in sorted(folder.glob("*/zarr.json"))]
    damage = [f"{event.path}: {event.damage}" for event in events if event.damage]
    thumbnails = {}
    for event in events[:MOST_THUMBNAILS]:
        if event.damage is None and (small := _thumbnail(folder / event.path, damage)):
            thumbnails[event.path] = small
    verdict = [
        f"The series is marked as {series.state}; {series.events_finished} of its {series.events} events finished.",
        *([said_of_damage(damage, "series")] if damage else []),
        *([f"Only the first {MOST_THUMBNAILS} events are shown as images."] if len(events) > MOST_THUMBNAILS else []),
    ]
    return SeriesFacts(
        report_schema=REPORT_SCHEMA,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        written_by=f"hadascope {version('hadascope')}",
        series=series,
        verdict=verdict,
        damage=damage,
        events=events,
        versions=facts.get("versions") or {},
        configuration=facts.get("config") or {},
    ), thumbnails


def series_page(facts: SeriesFacts, thumbnails: dict[str, str]) -> str:
    """The report of a series as one HTML page that needs nothing beside itself."""
    return page(f"{facts.series.path}: Hadascope report", _parts(facts, thumbnails))


def _thumbnail(run: Path, damage: list[str]) -> str | None:
    found: list[str] = []
    try:
        image = readable_image(opened_run(run), "image", found)
    except NotARunError as error:
        image, found = None, [str(error)]
    damage.extend(f"{run.name}: {each}" for each in found)
    return None if image is None else plots.thumbnail(image)


def _parts(facts: SeriesFacts, thumbnails: dict[str, str]) -> Iterator[str]:
    series = facts.series
    yield title(series.path)
    yield badge("SIMULATED") if series.simulated else ""
    yield paragraph(f"Sample: {series.sample or 'not named'}")
    yield paragraph(f"started {shown_time(series.started)}", "quiet")
    yield box(map(paragraph, facts.verdict), attention=bool(facts.damage) or series.state != RunState.FINISHED)
    yield section("Damage", bullets(facts.damage))
    heads = ("Image", "event", "state", "started", "pairs", "dose (mJ)", "forecast (dB)", "split halves (dB)")
    yield section("Events", table(heads, (_row(event, thumbnails) for event in facts.events), numbers_from=4))
    yield section("Versions", paragraph(", ".join(f"{name} {each}" for name, each in facts.versions.items())))
    yield section(
        "Configuration",
        folded(
            "the whole acquisition file, as it was run",
            yaml.safe_dump(facts.configuration, sort_keys=False, allow_unicode=True),
        ),
    )
    yield paragraph(f"Written {shown_time(facts.written)} by {facts.written_by}.", "quiet")


def _row(event: Record, thumbnails: dict[str, str]) -> tuple[object, ...]:
    small = thumbnails.get(event.path)
    psnrs = (event.forecast_psnr_db, event.split_half_psnr_db)
    return (
        "—" if small is None else picture(small, f"the image of {event.path}"),
        event.path,
        event.state or "damaged",
        "—" if event.started is None else shown_time(event.started),
        "—" if event.pairs is None else f"{event.pairs:,}",
        "—" if event.dose_mj is None else f"{event.dose_mj:.4g}",
        *("—" if psnr is None else f"{psnr:.1f}" for psnr in psnrs),
    )
