"""How to get at a Micro-Manager core through pycromanager, and how to leave it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from devices.errors import DeviceNotFoundError, DeviceStateError

DEFAULT_PORT = 4827


def connect_core(port: int = DEFAULT_PORT, timeout_s: float = 2.0) -> Any:
    """The core of a Micro-Manager that runs on this computer with its server on ``port``; leave it by ``close_core``.

    Raises DeviceNotFoundError where nothing listens or what listens is no Micro-Manager, and DeviceStateError where a
    core in this process is in pycromanager's way (it would be returned instead).
    """
    _must_listen(port, timeout_s)
    from pycromanager import Core

    try:
        core = Core(port=port, timeout=int(timeout_s * 1000))
    except Exception as error:  # pycromanager raises plain Exception for every cause
        raise DeviceNotFoundError(
            f"what listens on port {port} did not answer as Micro-Manager does within {timeout_s:g} s ({error}); "
            "in Micro-Manager, tick Tools › Options › Run server on port, and restart it"
        ) from error
    if not hasattr(core, "_java_class"):
        raise DeviceStateError(
            "pycromanager returned the core in this process instead of the one on the port; "
            "close the core that start_core made first"
        )
    return core


def start_core(app_path: str | Path, config_file: str | Path | None, buffer_mb: int = 1024) -> Any:
    """MMCore in this process, with the devices of Micro-Manager's ``config_file``; leave it by ``close_core``.

    ``app_path`` is Micro-Manager's folder, where the device adapters lie; ``buffer_mb`` the circular buffer's size.
    """
    from pycromanager import Core, start_headless

    config = "" if config_file is None else str(config_file)
    start_headless(str(app_path), config, python_backend=True, buffer_size_mb=buffer_mb)
    return Core()


def close_core(core: Any) -> None:
    """Let go of a core. The devices of a core in this process are unloaded; a remote one goes on running.

    A remote core has to be let go of while its server lives: pycromanager waits for an answer.
    """
    if hasattr(core, "_java_class"):
        core._close()
    elif hasattr(core, "unload_all_devices"):
        from pycromanager import stop_headless

        stop_headless()


def _must_listen(port: int, timeout_s: float) -> None:
    """Look with a plain connection first: the bridge itself fails slowly and leaves a thread behind."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout_s).close()
    except OSError as error:
        raise DeviceNotFoundError(
            f"nothing listens on port {port} of this computer ({error}); start Micro-Manager and tick "
            "Tools › Options › Run server on port, or correct the port in the acquisition file"
        ) from error
