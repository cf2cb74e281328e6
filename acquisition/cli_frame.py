"""What all commands have in common: their arguments, their exit codes, and how they end."""

from __future__ import annotations

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
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before the first light on real devices.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)]


def load_file(file: Path | None, sample: Path | None, output: Path | None) -> AcquisitionConfig:
    """An acquisition file, the example where there is none, with what the command line says instead."""
    from acquisition.acquisition_file import example_dry_run, load_acquisition

    changes: dict[str, dict[str, object]] = {}
    if sample is not None:
        changes["sample"] = {"image": str(sample), "name": sample.name}
    if output is not None:
        changes["output"] = {"run": str(output), "picture": None}
    return load_acquisition(example_dry_run() if file is None else file, changes)


def must_be_confirmable(simulated: bool, *, yes: bool) -> None:
    """See early that somebody can be asked before the first light on real devices."""
    if simulated or yes or sys.stdin.isatty():
        return
    typer.echo("error: nobody can be asked before the first light on real devices: add --yes", err=True)
    raise typer.Exit(BAD_INPUT)


@contextmanager
def interrupted(kept: str = "the devices are let go of, every committed block is kept") -> Iterator[None]:
    """Let Ctrl-C and requests to terminate end what is under way in order, light off first; then exit 130.

    kept: what becomes of what was done so far, for people.
    """
    from acquisition.interrupts import orderly_interrupts

    try:
        with orderly_interrupts():
            yield
    except KeyboardInterrupt as stop:
        if failures := getattr(stop, "__notes__", []):
            typer.echo("\n".join(["error: interrupted, and not everything ended as it should:", *failures]), err=True)
            raise typer.Exit(RUN_FAILED) from None
        said = str(stop) or "interrupted"
        typer.echo(f"{said}: {kept}", err=True)
        raise typer.Exit(INTERRUPTED) from None
