"""What a run looks like in the terminal: tables, and a progress bar while the light is on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from rich.console import Console

from acquisition.check import Finding, Verdict
from acquisition.config import AcquisitionConfig
from acquisition.console_series import watched_series, watched_series_resumption
from acquisition.console_view import viewed
from acquisition.damaged_run import tried
from acquisition.device_list import FoundDevice
from acquisition.events import LOG_FILE, EventKind, read_events
from acquisition.figures import Figures, print_warnings
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK
from acquisition.live_view.address import ViewAddress
from acquisition.observer import Observer, together
from acquisition.plan import PlanSummary
from acquisition.progress import watched
from acquisition.reconstruction import psnr_of
from acquisition.run import RunResult, acquire, resume
from acquisition.run_layout import RECIPES
from acquisition.series_in_progress import SeriesResult
from acquisition.stored_models import recorded_model
from acquisition.stored_reconstruction import StoredReconstruction, stored_config
from acquisition.stored_run import StoredRun
from acquisition.stored_series import is_series


def print_plan(config: AcquisitionConfig, summary: PlanSummary) -> None:
    """Print the figures of a planned acquisition."""
    table = Figures("Plan")
    sensing, time = config.sensing, summary.time
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
        ("light time", f"{time.light_s:.1f} s at {config.timing.picture_time_us} µs per picture"),
        (
            "upload time",
            f"{time.upload_s:.1f} s for {summary.pictures:,} pictures, {time.waiting_s:.1f} s of it waited for",
        ),
        ("detector arming", f"{time.arming_s:.1f} s"),
        ("whole run", f"{time.total_s:.1f} s, {100 * time.light_share:.0f} % of it light on the sample"),
        (
            "DMD memory",
            f"{summary.largest_bank_pictures:,} of {summary.memory_pictures:,} pictures in the largest bank",
        ),
        ("disk", f"{summary.disk_bytes / 1e6:.1f} MB at most"),
        ("dose", dose),
        ("forecast PSNR", forecast),
        ("reconstruction", config.reconstruction.method),
        ("alignment", _alignment(summary.false_alarms, summary.guard_codes)),
        ("unseen", _unseen(config, summary)),
        ("noise", _noise(config)),
        ("camera readout", f"{summary.readout.readout_us:g} µs ({summary.readout.source})"),
        ("brightest reading", _brightest(summary)),
        ("devices", "simulated" if config.simulated else "real"),
    ):
        table.add_row(what, figure)
    for warning in summary.beyond_training:
        table.add_row("warning", warning)
    table.print_to(Console())


def _noise(config: AcquisitionConfig) -> str:
    noise = config.noise
    source = "as stated" if noise.calibration is None else str(noise.calibration)
    return f"a = {noise.gain:.4g} detector units, b = {noise.variance:.4g} detector units² ({source})"


def _brightest(summary: PlanSummary) -> str:
    brightest = summary.brightest_reading
    if brightest is None:
        return "unknown: give sample.expected_total"
    said = [f"{brightest:.4g} detector units"]
    for what, limit, beyond in (
        ("full scale", summary.detector_full_scale, "SATURATED"),
        ("calibrated up to", summary.linear_up_to, "BEYOND IT"),
    ):
        if limit is not None:
            said.append(f"{what} {limit:.4g}: {beyond if brightest > limit else 'within range'}")
    return ", ".join(said)


def _alignment(false_alarms: float | None, guard_codes: int) -> str:
    if false_alarms is None:
        return "unknown: give sample.expected_total"
    if false_alarms > FALSE_ALARMS_PER_BLOCK:
        return f"too dim: {false_alarms:.1e} false alarms a block, the run would be refused"
    longer = "" if guard_codes == 1 else f", guards {guard_codes} codes long because the sample is dim"
    return f"provable, {false_alarms:.0e} false alarms a block{longer}"


def _unseen(config: AcquisitionConfig, summary: PlanSummary) -> str:
    if config.devices.detector.time_tolerance_us is not None:
        return "nothing: frame times tell lost and doubled triggers apart"
    return (
        f"{100 * summary.unseen_faults:.2g} % of the blocks in which a trigger is lost and another one doubled: both "
        "between the same two guards"
    )


def watched_acquisition(
    config: AcquisitionConfig, *, overwrite: bool, ask: bool, view: ViewAddress | None = None
) -> RunResult | SeriesResult:
    """Acquire under a progress bar and say where the results are; ask: before the first light on real devices.

    view: where a live view is served. Raises what acquisition.run.acquire raises, and ViewAddressError.
    """
    if config.mda is not None:
        return watched_series(config, overwrite=overwrite, ask=ask, view=view)
    return _watched(config, ask, view, lambda observer: acquire(config, overwrite=overwrite, observer=observer))


def watched_resumption(
    run: Path, asked: AcquisitionConfig | None, *, ask: bool, view: ViewAddress | None = None
) -> RunResult | SeriesResult:
    """Resume a run in the same way. Raises what acquisition.run.resume raises, and ViewAddressError."""
    if is_series(run):
        return watched_series_resumption(run, asked, ask=ask, view=view)
    config = stored_config(StoredRun(run))
    return _watched(config, ask, view, lambda observer: resume(run, asked, observer=observer))


def _watched(
    config: AcquisitionConfig, ask: bool, view: ViewAddress | None, play: Callable[[Observer], RunResult]
) -> RunResult:
    console = Console()
    with viewed(console, config, view) as viewer:
        result = watched(console, config, "acquiring", lambda progress: play(together(progress, viewer)), ask=ask)
        if viewer.on_image is not None:
            viewer.on_image(result.last_image)
    refreshes, ages = len(result.live_record), result.live_record[:, 2]
    table = Figures("Run")
    if result.psnr is not None:
        table.add_row("PSNR", f"{result.psnr:.2f} dB against the sample")
    predicted = result.reconstruction.predicted_psnr(float(result.reconstruction.image.max()) or 1.0)
    if predicted is not None:
        table.add_row("predicted PSNR", f"{predicted:.1f} dB, by the network")
    if refreshes:
        table.add_row(
            "live images",
            f"{refreshes}, newest state {ages.mean() * 1e3:.0f} ms old on average, {ages.max() * 1e3:.0f} ms at most",
        )
    if result.repeated:
        table.add_row("repeated blocks", f"{result.repeated}, see {result.run / LOG_FILE}")
    table.add_row("run", str(result.run))
    table.add_row("picture", str(result.picture))
    table.print_to(console)
    print_warnings(console, result.warnings)
    return result


def print_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Print what a check found, as it is found, and whether the file can run; all of them again."""
    console = Console()
    all_of_them = []
    for finding in findings:
        all_of_them.append(finding)
        said = f"{finding.verdict:<8} {finding.what}: {finding.found}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    refused = any(finding.verdict is Verdict.REFUSED for finding in all_of_them)
    console.print("This file cannot run on this bench." if refused else "This file can run on this bench.")
    return all_of_them


def print_devices(found: Iterable[FoundDevice]) -> None:
    """Print devices and what they say of themselves."""
    console = Console()
    for device in found:
        if device.failure:
            console.print(f"{device.name}: not there: {device.failure}", highlight=False, markup=False, soft_wrap=True)
            continue
        table = Figures(device.name)
        for name, value in device.facts.items():
            table.add_row(name, "" if value is None else str(value))
        table.print_to(console)


def print_reconstruction(made: StoredReconstruction) -> None:
    """Say what was reconstructed and where it is."""
    table = Figures("Reconstruction")
    table.add_row("pairs", f"{made.evidence.n_pairs:,} in {made.evidence.n_blocks} blocks")
    table.add_row("total light", f"{made.reconstruction.estimate.total:.5g} detector units per exposure")
    table.add_row(
        "forecast error",
        f"{made.reconstruction.forecast_mse**0.5:.4g} detector units per pixel (root mean square, linear image)",
    )
    predicted = made.reconstruction.predicted_psnr(float(made.reconstruction.image.max()) or 1.0)
    if predicted is not None:
        table.add_row("predicted PSNR", f"{predicted:.1f} dB, by the network, the data range being the image's maximum")
    table.add_row("image", str(made.run.path / "images" / "reconstructed"))
    table.add_row("picture", str(made.picture))
    console = Console()
    table.print_to(console)
    print_warnings(console, made.warnings)


def print_info(run: StoredRun) -> None:
    """Print what a run holds, and what of it cannot be read."""
    facts, damage = run.facts, list[str]()
    sensing = facts["config"]["sensing"]
    table = Figures(str(run.path))
    table.add_row("state", run.state)
    if facts.get("cause"):
        table.add_row("cause", facts["cause"])
    table.add_row("devices", "simulated" if facts["simulated"] else "real")
    table.add_row("started, ended", f"{facts['started']}, {facts.get('ended', '—')}")
    recipe = facts.get("recipe")
    table.add_row("holds", RECIPES.get(str(recipe), "something else"))
    if recipe == "hadamard":
        table.add_row(
            "sensing",
            f"{sensing['side']} × {sensing['side']} px, α = {sensing['alpha']:g}, S = {sensing['repeats']}, "
            f"{sensing['mask']['kind']} mask, {sensing['draw']} draw, seed {sensing['seed']}",
        )
    table.add_row("blocks", f"{len(run.committed)} of {run.n_blocks} committed")
    scheduled = tried("the schedule's repeats", lambda: int(run.repeats.sum()), damage)
    table.add_row("pairs", f"{run.n_pairs:,}" + ("" if scheduled is None else f" of {scheduled:,}"))
    table.add_row("exposures", f"{run.n_exposures:,}" + ("" if run.dose_mj is None else f", dose {run.dose_mj:.4g} mJ"))
    table.add_row("saturated exposures", str(run.n_saturated))
    repeated = [event for event in read_events(run.path) if event.kind is EventKind.BLOCK_REPEATED]
    table.add_row("repeated blocks", f"{len(repeated)}" + (f", see {run.path / LOG_FILE}" if repeated else ""))
    with suppress(KeyError):
        bound = facts["residual_risk_bound"]
        table.add_row("residual risk", f"below {bound:.1g} blocks with shifted readings that nothing shows")
    if recipe == "hadamard":
        learned = tried("the image", lambda: list(_learned(run)), damage) or []
        for what, figure in (*learned, *_expected(run)):
            table.add_row(what, figure)
    live = tried("the record of live images", lambda: run.live_record, damage)
    if live is not None and len(live):
        table.add_row("live images", f"{len(live)}, newest state {live[:, 2].mean() * 1e3:.0f} ms old on average")
    accepted, readout = facts.get("accepted_timing"), facts.get("readout")
    if accepted and readout:
        table.add_row(
            "timing",
            f"picture {accepted['picture_time_us']} µs, illumination {accepted['illumination_time_us']} µs "
            f"(as accepted), camera readout {readout['readout_us']:g} µs ({readout['source']})",
        )
    if check := facts.get("self_check"):
        table.add_row("self-check", check["verdict"])
        table.add_row("it would notice", check["power"])
        table.add_row("the run's own noise", check["own_estimate"])
        table.add_row("first minus second", check["spike"])
    for kind, device in facts.get("devices", {}).items():
        table.add_row(kind.replace("_", " "), str(device["name"]))
    table.add_row("versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items()))
    for warning in facts.get("warnings", []):
        table.add_row("warning", warning)
    for each in damage:
        table.add_row("damaged", each)
    table.print_to(Console())


def _expected(run: StoredRun) -> Iterator[tuple[str, str]]:
    """How good the linear image should be, and how good its own readings say it is."""
    mse, peak, split = (run.facts.get(fact) for fact in ("forecast_mse", "image_peak", "split_half"))
    if mse and peak:
        yield "forecast PSNR", f"{psnr_of(mse, peak):.1f} dB, linear image, the data range being the image's maximum"
    if split:
        measured = "" if split["psnr_db"] is None else f"{split['psnr_db']:.1f} dB, linear image: "
        yield "split-half PSNR", f"{measured}{split['said']}"


def _learned(run: StoredRun) -> Iterator[tuple[str, str]]:
    """The trained models of a run, how its image was made, and what the network says of it."""
    yield "reconstruction", run.facts["config"]["reconstruction"].get("method", "wiener-tv")
    for use, what in (("sensing", "model of the mask"), ("network", "model of the image")):
        if recorded := recorded_model(run, use):
            yield what, f"{recorded['model']}, SHA-256 {recorded['sha256'][:12]}…"
    predicted_mse = run.facts.get("predicted_mse")
    if predicted_mse is None or not run.has_image("uncertainty"):
        return
    peak, median = float(run.image("image").max()), float(np.median(run.image("uncertainty")))
    yield "predicted PSNR", f"{psnr_of(predicted_mse, peak):.1f} dB, the data range being the image's maximum"
    yield "uncertainty", f"± {median:.4g} detector units at the median pixel (90 % interval), all in images/uncertainty"
