"""What a series of images looks like in the terminal: its plan, its progress, and what a stored one holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from acquisition.config import AcquisitionConfig
from acquisition.console_view import viewed
from acquisition.events import LOG_FILE
from acquisition.figures import Figures, print_warnings
from acquisition.live_view.address import ViewAddress
from acquisition.mda import described, series_axes
from acquisition.observer import Observer, together
from acquisition.plan import dose_mj
from acquisition.progress import watched
from acquisition.run_layout import RunState
from acquisition.series import acquire_series, resume_series
from acquisition.series_in_progress import SeriesResult
from acquisition.series_plan import SeriesPlan, check_series_dose, light_between_images, plan_series
from acquisition.stored_series import StoredSeries, event_path


def print_series_plan(config: AcquisitionConfig) -> None:
    """Print the figures of a planned series. Raises what plan_series and check_series_dose raise."""
    plan = plan_series(config)
    check_series_dose(config, plan)
    assert config.mda is not None
    axes, sensing, n_events = series_axes(config.mda), config.sensing, len(plan.events)
    table = Figures("Plan of a series")
    table.add_row(
        "images",
        f"{n_events}: {axes.n_times} time points, {len(axes.channels)} channels ({', '.join(axes.channels)}), "
        f"{axes.n_planes} planes, {len(axes.positions)} positions",
    )
    table.add_row(
        "each image",
        f"{sensing.side} × {sensing.side} px, α = {sensing.alpha:g}, S = {sensing.repeats}, {sensing.mask.kind}, "
        f"{_range([each.pairs for each in plan.events])} pairs, {_range([each.exposures for each in plan.events])} "
        f"exposures, {max(each.duration_s for each in plan.events):.1f} s",
    )
    table.add_row("exposures", f"{plan.exposures:,} in all")
    table.add_row("light time", f"{plan.light_s:.1f} s at {config.timing.picture_time_us} µs per picture")
    table.add_row("whole series", f"{plan.total_s:.1f} s, with its waiting and the microscope's moves")
    table.add_row("dose", _dose(config, plan))
    table.add_row("disk", f"{plan.disk_bytes / 1e6:.1f} MB at most")
    table.add_row("reconstruction", config.reconstruction.method)
    table.add_row("devices", "simulated" if config.simulated else "real")
    if (light := light_between_images(config)) is not None:
        table.add_row("warning", light)
    for event, late_s in plan.late_events[:1]:
        table.add_row(
            "warning",
            f"{event.words} would begin {late_s:.1f} s late: the images before it take longer than the interval of "
            f"{event.interval_s:g} s; {len(plan.late_events)} time points would be late",
        )
    table.print_to(Console())


def watched_series(
    config: AcquisitionConfig, *, overwrite: bool, ask: bool, view: ViewAddress | None = None
) -> SeriesResult:
    """Acquire a series under one progress display and say where the results are; ask: before the first light.

    Raises what acquisition.series.acquire_series raises, and ViewAddressError.
    """
    return _watched(config, ask, view, lambda observer: acquire_series(config, overwrite=overwrite, observer=observer))


def watched_series_resumption(
    path: Path, asked: AcquisitionConfig | None, *, ask: bool, view: ViewAddress | None = None
) -> SeriesResult:
    """Resume a series in the same way. Raises what acquisition.series.resume_series raises, and ViewAddressError."""
    config = StoredSeries(path).config
    return _watched(config, ask, view, lambda observer: resume_series(path, asked, observer=observer))


def print_series_info(series: StoredSeries) -> None:
    """Print what a series holds, an event a row."""
    config, facts, events = series.config, series.facts, series.events
    finished = sum(state is RunState.FINISHED for _, state in events)
    table = Figures(str(series.path))
    table.add_row("state", series.state)
    if facts.get("cause"):
        table.add_row("cause", facts["cause"])
    table.add_row("devices", "simulated" if facts["simulated"] else "real")
    table.add_row("started, ended", f"{facts['started']}, {facts.get('ended', '—')}")
    table.add_row("images", f"{finished} of {len(events)} finished")
    assert config.mda is not None
    positions = series_axes(config.mda).positions
    for place, lit in facts["lit_by_place"].items():
        dose = dose_mj(config, lit)
        table.add_row(
            f"light at position {positions[int(place)]}",
            f"{lit:,} exposures" + ("" if dose is None else f", {dose:.4g} mJ"),
        )
    for event, state in events:
        run = None if state is None else series.run_of(event)
        path = event_path(series.path, event)
        absent = "cannot be read: delete it to acquire this image again" if path.exists() else "not there"
        said = absent if run is None or state is None else str(state)
        if run is not None:
            seen = run.facts["event"]
            late = f", {seen['late_s']:.1f} s after its time" if event.interval_s and seen["late_s"] > 0 else ""
            said += f", at {seen['begun_s']:.1f} s{late}"
        table.add_row(event.words, f"{said}; {described(event.pose)}; {path}")
    for warning in facts["warnings"]:
        table.add_row("warning", warning)
    table.print_to(Console())


def _watched(
    config: AcquisitionConfig, ask: bool, view: ViewAddress | None, play: Callable[[Observer], SeriesResult]
) -> SeriesResult:
    console = Console()
    with viewed(console, config, view) as viewer:
        result = watched(console, config, "acquiring", lambda progress: play(together(progress, viewer)), ask=ask)
    table = Figures("Series")
    before = result.n_events - result.n_played
    table.add_row("images", f"{result.n_events}" + (f", {before} of them from before" if before else ""))
    if result.psnr:
        table.add_row("PSNR", f"{min(result.psnr):.2f} to {max(result.psnr):.2f} dB against the sample")
    if result.repeated:
        table.add_row("repeated blocks", f"{result.repeated}, see {LOG_FILE} of the images' runs")
    table.add_row("series", str(result.series))
    table.add_row("runs", str(result.series / "events"))
    table.print_to(console)
    print_warnings(console, result.warnings)
    return result


def _dose(config: AcquisitionConfig, plan: SeriesPlan) -> str:
    most = max(plan.exposures_by_place.values())
    dose, limit = dose_mj(config, most), config.sample.dose_limit_mj
    if dose is None:
        return "unknown: give the light source's power_mw"
    said = f"{dose:.4g} mJ at one position, from all its images"
    return said if limit is None else f"{said}; at most {limit:g} mJ allowed"


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
