"""The command line: plan, check, acquire, watch, resume, reconstruct, report; calibrate, train, evaluate."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acquisition.cli_calibrate import calibrate
from acquisition.cli_evaluate import evaluate
from acquisition.cli_export import export
from acquisition.cli_frame import (
    BAD_INPUT,
    RUN_FAILED,
    AcquisitionFile,
    OptionalAcquisitionFile,
    OutputOption,
    OverwriteOption,
    RunArgument,
    SampleOption,
    YesOption,
    interrupted,
    load_file,
    must_be_confirmable,
)
from acquisition.cli_records import info, report
from acquisition.cli_train import train
from acquisition.cli_view import ViewHostOption, ViewOption, ViewPortOption, view, view_address

if TYPE_CHECKING:
    from acquisition.config import AcquisitionConfig
    from acquisition.live_view.address import ViewAddress

app = typer.Typer(
    name="hadascope",
    help="Compressed-sensing fluorescence microscopy with a DMD: plan, rehearse, acquire, reconstruct.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(calibrate, name="calibrate")
app.add_typer(train, name="train")
app.command()(evaluate)
app.command()(export)
app.command()(info)
app.command()(report)
app.command()(view)


@app.command()
def plan(file: OptionalAcquisitionFile = None, sample: SampleOption = None) -> None:
    """Say what an acquisition would do: pairs, light, memory, disk, dose, forecast. Touches no device."""
    from acquisition.connect import sample_on_stage
    from acquisition.console import print_plan
    from acquisition.plan import summarize
    from acquisition.preflight import check_dose
    from acquisition.sensing_plan import plan_sensing

    config = load_file(file, sample, None)
    if config.mda is not None:
        from acquisition.console_series import print_series_plan

        print_series_plan(config)
        return
    stage = sample_on_stage(config)
    planned = plan_sensing(config, stage)
    check_dose(config, planned)
    print_plan(config, summarize(config, planned, stage))


@app.command()
def check(
    file: OptionalAcquisitionFile = None, output: OutputOption = None, overwrite: OverwriteOption = False
) -> None:
    """Say whether an acquisition can run on the connected bench: everything is asked and tried, without any light."""
    from acquisition.check import Verdict, check_acquisition
    from acquisition.console import print_findings

    config = load_file(file, None, output)
    with interrupted(), closing(check_acquisition(config, overwrite=overwrite)) as found:
        findings = print_findings(found)
    if any(finding.verdict is Verdict.REFUSED for finding in findings):
        raise typer.Exit(BAD_INPUT)


@app.command()
def devices(
    file: Annotated[
        Path | None, typer.Argument(help="Acquisition file (YAML); none: what answers here.", show_default=False)
    ] = None,
) -> None:
    """List what is connected, and everything it says of itself. Lights nothing."""
    from acquisition.console import print_devices
    from acquisition.device_list import devices_found, devices_of

    with interrupted(), closing(devices_found() if file is None else devices_of(load_file(file, None, None))) as found:
        print_devices(found)


@app.command()
def align(
    file: AcquisitionFile,
    picture: Annotated[str, typer.Option(help="full, dark, grid, region (its outline), or coefficient.")] = "grid",
    index: Annotated[int, typer.Option(help="Pattern i of the coefficient.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long; at most 600.")] = 10.0,
    power_mw: Annotated[
        float, typer.Option(help="Power of a laser that can be told; other light stays as it is.")
    ] = 1.0,
    yes: YesOption = False,
) -> None:
    """Show a test picture under light for some seconds, for adjusting the optics; the camera is left alone."""
    from acquisition.alignment import show_alignment_picture

    config = load_file(file, None, None)
    said = f"{picture} picture for {seconds:g} s"
    must_be_confirmable(config.simulated, yes=yes)
    if not config.simulated and not yes:
        typer.confirm(f"Light on the sample: {said}. Go on?", abort=True)
    with interrupted():
        show_alignment_picture(config, picture, seconds, index=index, laser_power_mw=power_mw)
    typer.echo(f"shown: {said}; the light is off")


@app.command("dry-run")
def dry_run(
    file: OptionalAcquisitionFile = None,
    sample: SampleOption = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    view: ViewOption = False,
    view_host: ViewHostOption = None,
    view_port: ViewPortOption = None,
) -> None:
    """Rehearse an acquisition on simulated devices, whatever devices the file names."""
    from acquisition.rehearsal import rehearsal_of

    seen_at = view_address(view, view_host, view_port)
    _acquire(rehearsal_of(load_file(file, sample, output)), overwrite=overwrite, yes=True, view=seen_at)


@app.command()
def acquire(
    file: AcquisitionFile,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
    yes: YesOption = False,
    view: ViewOption = False,
    view_host: ViewHostOption = None,
    view_port: ViewPortOption = None,
) -> None:
    """Acquire on the devices the file names."""
    seen_at = view_address(view, view_host, view_port)
    _acquire(load_file(file, None, output), overwrite=overwrite, yes=yes, view=seen_at)


@app.command()
def resume(
    run: RunArgument,
    file: Annotated[
        Path | None,
        typer.Argument(help="Acquisition file, to be held against the run's own.", show_default=False),
    ] = None,
    yes: YesOption = False,
    view: ViewOption = False,
    view_host: ViewHostOption = None,
    view_port: ViewPortOption = None,
) -> None:
    """Go on with a run that did not finish, from the block after the last committed one."""
    from acquisition.console import watched_resumption
    from acquisition.stored_run import StoredRun
    from acquisition.stored_series import StoredSeries, is_series

    stored = StoredSeries(run) if is_series(run) else StoredRun(run)
    must_be_confirmable(stored.facts["simulated"], yes=yes)
    asked = None if file is None else load_file(file, None, None)
    with interrupted():
        watched_resumption(run, asked, ask=not yes, view=view_address(view, view_host, view_port))


@app.command()
def reconstruct(
    run: RunArgument,
    picture: Annotated[Path | None, typer.Option(help="PNG to write; none: beside the run.")] = None,
    estimator: Annotated[str | None, typer.Option(help="difference or pair-ratio; none: as acquired.")] = None,
    method: Annotated[
        str | None, typer.Option(help="wiener-tv, weighted-tv or network; none: as acquired, or --model's.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Trained model, by name or path; none: as acquired, or the shipped one.")
    ] = None,
    tv_weight: Annotated[
        float | None, typer.Option(help="Strength of wiener-tv's total variation; none: as acquired.")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Reconstruct a run again from its raw readings, finished or not."""
    from acquisition.console import print_reconstruction
    from acquisition.stored_reconstruction import reconstruct_run

    print_reconstruction(
        reconstruct_run(
            run,
            picture,
            estimator=estimator,
            method=method,
            model=model,
            tv_weight=tv_weight,
            overwrite=overwrite,
        )
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of acquisition files."""
    import json

    from acquisition.config import AcquisitionConfig

    typer.echo(json.dumps(AcquisitionConfig.model_json_schema(), indent=2, ensure_ascii=False))


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 the run failed, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # consoles that cannot show µ or α still show the rest
    try:
        app()
    except (ValueError, FileExistsError) as error:
        typer.echo(f"error: {_said(error)}", err=True)
        raise SystemExit(BAD_INPUT) from None
    except (OSError, RuntimeError) as error:
        typer.echo(f"error: {_said(error)}", err=True)
        raise SystemExit(RUN_FAILED) from None


def _said(error: Exception) -> str:
    """An error for people: files first, without the operating system's number, and what was noted beside it."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return "\n".join([text, *getattr(error, "__notes__", [])])


def _acquire(config: AcquisitionConfig, *, overwrite: bool, yes: bool, view: ViewAddress | None) -> None:
    from acquisition.console import watched_acquisition

    must_be_confirmable(config.simulated, yes=yes)
    with interrupted():
        watched_acquisition(config, overwrite=overwrite, ask=not yes, view=view)


if __name__ == "__main__":
    main()
