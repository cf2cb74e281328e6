"""``hadascope export``: a stored image for programs that read TIFF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acquisition.cli_frame import interrupted


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a series.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="OME-TIFF to write: NAME.ome.tif.", show_default=False)],
    image: Annotated[
        str | None,
        typer.Option(help="Which image of a run, for example wiener or snapshots; none: its image and uncertainty."),
    ] = None,
    position: Annotated[
        str | None, typer.Option(help="Which position of a series, by name or number; none: the only one.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
) -> None:
    """Write a run's image as OME-TIFF, for Fiji and whatever else reads TIFF."""
    from acquisition.export import export_image

    with interrupted("nothing was written"):
        done = export_image(run, file, image=image, position=position, overwrite=overwrite)
    sizes = " × ".join(str(length) for length in done.shape.values())
    typer.echo(f"written: {done.path}, {''.join(done.shape)} {sizes}: {'; '.join(done.channels)}")
    if done.missing_planes:
        typer.echo(f"{done.missing_planes} planes are empty (NaN): their events are still to come, see hadascope info")
