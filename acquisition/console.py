"""What a run looks like in the terminal: tables, and a progress bar while the light is on."""

from __future__ import annotations

from contextlib import suppress

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from acquisition.config import AcquisitionConfig
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK
from acquisition.live import LiveImage
from acquisition.plan import PlanSummary
from acquisition.readings import Readings
from acquisition.run import Observer, RunResult, acquire
from acquisition.run_store import RunState, StoredRun
from acquisition.sensing_plan import SensingPlan
from acquisition.stored_reconstruction import StoredReconstruction


def print_plan(config: AcquisitionConfig, summary: PlanSummary) -> None:
    """Print the figures of a planned acquisition."""
    table = _table("Plan")
    sensing = config.sensing
    dose = "unknown: give the light source's power_mw" if summary.dose_mj is None else f"{summary.dose_mj:.4g} mJ"
    forecast = (
        "unknown: give sample.expected_total and sample.expected_peak"
        if summary.forecast_psnr is None
        else f"{summary.forecast_psnr:.1f} dB under the prior (linear reconstruction)"
    )
    for what, figure in (
        (
            "image",
            f"{sensing.side} × {sensing.side} px, α = {sensing.alpha:g}, S = {sensing.repeats}, {sensing.mask.kind}",
        ),
        ("pairs", f"{summary.pairs:,}"),
        ("exposures", f"{summary.exposures:,}, {summary.guard_exposures:,} of them guards"),
        ("banks, blocks", f"{summary.banks}, {summary.blocks}"),
        ("light time", f"{summary.light_s:.1f} s at {config.timing.picture_time_us} µs per picture"),
        ("upload time", f"{summary.upload_s:.1f} s for {summary.pictures:,} pictures"),
        ("detector arming", f"{summary.arming_s:.1f} s"),
        ("whole run", f"{summary.duration_s:.1f} s"),
        (
            "DMD memory",
            f"{summary.largest_bank_pictures:,} of {summary.memory_pictures:,} pictures in the largest bank",
        ),
        ("disk", f"{summary.disk_bytes / 1e6:.1f} MB at most"),
        ("dose", dose),
        ("forecast PSNR", forecast),
        ("alignment", _alignment(summary.false_alarms)),
        ("brightest reading", _brightest(summary)),
        ("devices", "simulated" if config.simulated else "real"),
    ):
        table.add_row(what, figure)
    Console().print(table)


def _brightest(summary: PlanSummary) -> str:
    if summary.brightest_reading is None:
        return "unknown: give sample.expected_total"
    said = f"{summary.brightest_reading:.4g} detector units"
    if summary.detector_full_scale is None:
        return said
    verdict = "SATURATED" if summary.brightest_reading > summary.detector_full_scale else "within range"
    return f"{said}, full scale {summary.detector_full_scale:.4g}: {verdict}"


def _alignment(false_alarms: float | None) -> str:
    if false_alarms is None:
        return "unknown: give sample.expected_total"
    if false_alarms > FALSE_ALARMS_PER_BLOCK:
        return f"too dim: {false_alarms:.1e} false alarms a block, the run would be refused"
    rate = f"{false_alarms:.0e}" if false_alarms >= 1e-15 else "less than 1e-15"
    return f"provable, {rate} false alarms a block"


def watched_acquisition(config: AcquisitionConfig, *, overwrite: bool) -> RunResult:
    """Acquire under a progress bar and say where the results are. Raises what acquisition.run.acquire raises."""
    console = Console()
    if config.simulated:
        console.print("Simulated devices: a rehearsal, no hardware is touched.")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pairs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[image]}"),
    )
    with Progress(*columns, console=console) as progress:
        result = acquire(config, overwrite=overwrite, observer=_on_bar(progress))
    refreshes, ages = len(result.live_record), result.live_record[:, 2]
    table = _table("Run")
    if result.psnr is not None:
        table.add_row("PSNR", f"{result.psnr:.2f} dB against the sample")
    if refreshes:
        table.add_row(
            "live images",
            f"{refreshes}, newest state {ages.mean() * 1e3:.0f} ms old on average, {ages.max() * 1e3:.0f} ms at most",
        )
    table.add_row("run", str(result.run))
    table.add_row("picture", str(result.picture))
    console.print(table)
    for warning in result.warnings:
        console.print(f"warning: {warning}")
    return result


def print_reconstruction(made: StoredReconstruction) -> None:
    """Say what was reconstructed and where it is."""
    table = _table("Reconstruction")
    table.add_row("pairs", f"{made.evidence.n_pairs:,} in {made.evidence.n_blocks} blocks")
    table.add_row("total light", f"{made.reconstruction.estimate.total:.5g} detector units per exposure")
    table.add_row(
        "forecast error",
        f"{made.reconstruction.forecast_mse**0.5:.4g} detector units per pixel (root mean square, linear image)",
    )
    table.add_row("image", str(made.run.path / "images" / "reconstructed"))
    table.add_row("picture", str(made.picture))
    Console().print(table)


def print_info(run: StoredRun) -> None:
    """Print what a run holds."""
    facts = run.facts
    sensing = facts["config"]["sensing"]
    table = _table(str(run.path))
    table.add_row("state", "running, or ended without a mark" if run.state is RunState.RUNNING else run.state)
    with suppress(KeyError):
        table.add_row("cause", str(facts["cause"]))
    table.add_row("devices", "simulated" if facts["simulated"] else "real")
    table.add_row("started, ended", f"{facts['started']}, {facts.get('ended', '—')}")
    table.add_row(
        "sensing",
        f"{sensing['side']} × {sensing['side']} px, α = {sensing['alpha']:g}, S = {sensing['repeats']}, "
        f"{sensing['mask']['kind']} mask, {sensing['draw']} draw, seed {sensing['seed']}",
    )
    table.add_row("blocks", f"{len(run.committed)} of {run.n_blocks} committed")
    table.add_row("pairs", f"{run.n_pairs:,} of {int(run.repeats.sum()):,}")
    table.add_row("exposures", f"{run.n_exposures:,}" + ("" if run.dose_mj is None else f", dose {run.dose_mj:.4g} mJ"))
    table.add_row("saturated exposures", str(run.n_saturated))
    live = run.live_record
    if len(live):
        table.add_row("live images", f"{len(live)}, newest state {live[:, 2].mean() * 1e3:.0f} ms old on average")
    for kind, device in facts.get("devices", {}).items():
        table.add_row(kind.replace("_", " "), str(device["name"]))
    table.add_row("versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
    for warning in facts.get("warnings", []):
        table.add_row("warning", warning)
    Console().print(table)


def _on_bar(progress: Progress) -> Observer:
    bars: list[TaskID] = []

    def on_plan(plan: SensingPlan) -> None:
        bars.append(progress.add_task("acquiring", total=plan.schedule.n_pairs, image=""))

    def on_block(readings: Readings) -> None:
        progress.advance(bars[0], readings.n_pairs)

    def on_image(image: LiveImage) -> None:
        peak = float(image.reconstruction.image.max()) or 1.0
        progress.update(bars[0], image=f"forecast {image.reconstruction.forecast_psnr(peak):.1f} dB")

    return Observer(on_plan, on_block, on_image)


def _table(title: str) -> Table:
    """A table of two columns, what and figure."""
    return Table("what", "figure", title=title, title_justify="left", show_header=False)
