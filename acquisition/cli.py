"""The command line: plan, dry-run, acquire, reconstruct, schema, info."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from acquisition.config import AcquisitionConfig

BAD_INPUT = 2
RUN_FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="hadascope",
    help="Compressed-sensing fluorescence microscopy with a DMD: plan, rehearse, acquire, reconstruct.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AcquisitionFile = Annotated[Path, typer.Argument(help="Acquisition file (YAML).", show_default=False)]
OptionalAcquisitionFile = Annotated[
    Path | None,
    typer.Argument(help="Acquisition file (YAML); none: the example 128 × 128 dry run.", show_default=False),
]
SampleOption = Annotated[Path | None, typer.Option("--sample", help="TIFF or PNG to put on the simulated stage.")]
OutputOption = Annotated[
    Path | None, typer.Option("--output", help="Folder of the run, instead of the file's output.run.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a run and a picture that exist.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]


@app.command()
def plan(file: OptionalAcquisitionFile = None, sample: SampleOption = None) -> None:
    """Say what an acquisition would do: pairs, light, memory, disk, dose, forecast. Touches no device."""
    from acquisition.connect import sample_on_stage
    from acquisition.console import print_plan
    from acquisition.plan import summarize
    from acquisition.sensing_plan import plan_sensing

    config = _load(file, sample, None)
    stage = sample_on_stage(config)
    print_plan(config, summarize(config, plan_sensing(config, stage), stage))


@app.command("dry-run")
def dry_run(
    file: OptionalAcquisitionFile = None,
    sample: SampleOption = None,
    output: OutputOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Rehearse an acquisition on simulated devices, whatever devices the file names."""
    from acquisition.rehearsal import rehearsal_of

    _acquire(rehearsal_of(_load(file, sample, output)), overwrite=overwrite)


@app.command()
def acquire(file: AcquisitionFile, output: OutputOption = None, overwrite: OverwriteOption = False) -> None:
    """Acquire on the devices the file names."""
    _acquire(_load(file, None, output), overwrite=overwrite)


@app.command()
def reconstruct(
    run: RunArgument,
    picture: Annotated[Path | None, typer.Option(help="PNG to write; none: beside the run.")] = None,
    estimator: Annotated[str | None, typer.Option(help="difference or pair-ratio; none: as acquired.")] = None,
    tv_weight: Annotated[float | None, typer.Option(help="Strength of total variation; none: as acquired.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Reconstruct a run again from its raw readings, finished or not."""
    from acquisition.console import print_reconstruction
    from acquisition.stored_reconstruction import reconstruct_run

    print_reconstruction(reconstruct_run(run, picture, estimator=estimator, tv_weight=tv_weight, overwrite=overwrite))


@app.command()
def info(run: RunArgument) -> None:
    """Tell what a run holds."""
    from acquisition.console import print_info
    from acquisition.run_store import StoredRun

    print_info(StoredRun(run))


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


def _acquire(config: AcquisitionConfig, *, overwrite: bool) -> None:
    from acquisition.console import watched_acquisition

    try:
        with _termination_as_interrupt():
            watched_acquisition(config, overwrite=overwrite)
    except KeyboardInterrupt:
        typer.echo("interrupted: the devices are let go of, every committed block is kept", err=True)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let a request to terminate end a run as Ctrl-C does: light off first, not at once."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _load(file: Path | None, sample: Path | None, output: Path | None) -> AcquisitionConfig:
    from acquisition.acquisition_file import example_dry_run, load_acquisition

    changes: dict[str, dict[str, object]] = {}
    if sample is not None:
        changes["sample"] = {"image": str(sample), "name": sample.name}
    if output is not None:
        changes["output"] = {"run": str(output), "picture": None}
    return load_acquisition(example_dry_run() if file is None else file, changes)


if __name__ == "__main__":
    main()
