"""The live view in the command line: its options, and the command that shows a stored run."""

from __future__ import annotations

from typing import Annotated

import typer

from acquisition.cli_frame import RunArgument
from acquisition.live_view.address import LOOPBACK, PORT, ViewAddress

ViewOption = Annotated[
    bool, typer.Option("--view", help="Show the run in a browser while the light is on, with a button to stop it.")
]
ViewHostOption = Annotated[
    str | None,
    typer.Option(
        "--view-host",
        help="Address to serve the live view on, with a token in its link; implies --view. "
        f"None: {LOOPBACK}, for viewers on this computer.",
        show_default=False,
    ),
]
ViewPortOption = Annotated[
    int | None,
    typer.Option(
        "--view-port",
        help=f"Port of the live view, or the next free one; implies --view. None: {PORT}.",
        min=0,
        max=65535,
        show_default=False,
    ),
]


def view_address(asked: bool, host: str | None, port: int | None) -> ViewAddress | None:
    """Where the live view is to be served; None where none of its options was given."""
    if not asked and host is None and port is None:
        return None
    return ViewAddress(LOOPBACK if host is None else host, PORT if port is None else port)


def view(
    run: RunArgument,
    host: Annotated[str, typer.Option(help="Address to serve on; beyond this computer with a token.")] = LOOPBACK,
    port: Annotated[int, typer.Option(help="Port, or the next free one.", min=0, max=65535)] = PORT,
) -> None:
    """Show a run in a browser, finished or being written, until Ctrl-C."""
    from acquisition.console_view import show_stored

    show_stored(run, ViewAddress(host, port))
