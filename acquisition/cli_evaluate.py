"""The command line of evaluation: masks and methods against each other, on any images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acquisition.cli_frame import INTERRUPTED
from acquisition.cli_train import DataArgument, missing_is_bad_input


def evaluate(
    data: DataArgument,
    output: Annotated[Path, typer.Option(help="Folder for tables, scores and pictures.")],
    gain: Annotated[float, typer.Option(help="a, of images scaled to a maximum of 1.")] = 0.0139,
    variance: Annotated[float, typer.Option(help="b, of images scaled to a maximum of 1.")] = 0.0,
    alpha: Annotated[list[float] | None, typer.Option(help="Compression ratio α; may be given several times.")] = None,
    side: Annotated[int, typer.Option(help="Image side n.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Largest number of repeats S.")] = 50,
    draw: Annotated[list[str] | None, typer.Option(help="bernoulli or systematic; none: both.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Trained models, names or files; none: all that are shipped for this side.")
    ] = None,
    validation: Annotated[
        list[Path] | None, typer.Option(help="Images to choose the weights of TV-W on; none: TV-W is left out.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take every k-th crop only.")] = 1,
    raw_repeats: Annotated[
        bool, typer.Option("--raw-repeats", help="Take the camera's own noise, from raw repeats, instead of a and b.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What the tables call these images.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Hold masks and reconstructions against each other at the same dose; stopped, it goes on where it was."""
    from acquisition.console_training import evaluation_bar, print_results
    from acquisition.evaluation_request import evaluation_request
    from acquisition.interrupts import orderly_interrupts
    from models.learning.evaluation_report import evaluate_all, write_report

    with missing_is_bad_input():
        request = evaluation_request(
            data=data,
            validation=validation or [],
            n=side,
            gain=gain,
            variance=variance,
            alphas=alpha or [0.25, 0.125],
            repeats=repeats,
            draws=draw or ["bernoulli", "systematic"],
            models=model,
            every=every,
            raw_repeats=raw_repeats,
            name=name,
            seed=seed,
        )
    try:
        with orderly_interrupts():
            with evaluation_bar() as on_row:
                scores = evaluate_all(request, output, on_row)
            page, _ = write_report(request, scores, output)
    except KeyboardInterrupt:
        typer.echo(f"interrupted: the same command goes on from the rows in {output}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    print_results(page)
