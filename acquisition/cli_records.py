"""``hadascope info`` and ``hadascope report``: what runs hold, in the terminal and as a file to keep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def info(
    path: Annotated[Path, typer.Argument(help="Folder of a run, or one that holds runs.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of runs as JSON.")] = False,
) -> None:
    """Tell what a run holds, or list the runs in a folder."""
    from acquisition.catalogue import catalogue, catalogue_json
    from acquisition.console import print_info
    from acquisition.console_catalogue import print_catalogue
    from acquisition.damaged_run import opened_run, readable_facts

    if as_json:
        import json

        typer.echo(json.dumps(catalogue_json(path, catalogue(path)), indent=2, ensure_ascii=False))
    elif not (path / "zarr.json").exists():
        print_catalogue(path, catalogue(path))
    elif "series" in readable_facts(path):
        from acquisition.console_series import print_series_info
        from acquisition.stored_series import StoredSeries

        print_series_info(StoredSeries(path))
    else:
        print_info(opened_run(path))


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a series.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="HTML file to write; none: beside the run. Its JSON has the same name.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that exists.")] = False,
) -> None:
    """Write what there is to say of a run as one HTML file, and the same as JSON beside it."""
    from acquisition.report.written_report import write_report

    written = write_report(run, output, overwrite=overwrite)
    for said in written.verdict:
        typer.echo(said)
    typer.echo(f"report: {written.page}")
    typer.echo(f"data: {written.data}")
