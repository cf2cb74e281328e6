"""How to get at a Micro-Manager core through pycromanager, and how to leave it."""

from __future__ import annotations

import socket
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
    if not _is_remote(core):
        raise DeviceStateError(
            "pycromanager returned the core in this process instead of the one on the port; "
            "end it with pycromanager's stop_headless first"
        )
    return core


def close_core(core: Any) -> None:
    """Let go of a remote core, whose Micro-Manager goes on running; a core in this process is left to who started it.

    Raises DeviceNotFoundError where the server has gone; nothing is left to let go of then.
    """
    if not _is_remote(core):
        return
    try:
        must_be_reachable(core)
    except DeviceNotFoundError:
        # As pycromanager does after the server's answer, for which its destructor would wait for ever. Its own
        # server_terminated would spoil the port for a Micro-Manager that is started again.
        core._closed = True
        core._bridge.java_object_removed(core)
        core._bridge = None
        raise
    core._close()


def must_be_reachable(core: Any, timeout_s: float = 2.0) -> None:
    """Look whether the server of a remote core still listens, for pycromanager waits for ever for one that has gone.

    A core in this process is always reachable; a server that hangs cannot be told from one that works.
    Raises DeviceNotFoundError.
    """
    if not _is_remote(core):
        return
    port = core._creation_port
    try:
        _connect(port, timeout_s)
    except OSError as error:
        raise DeviceNotFoundError(
            f"the Micro-Manager server on port {port} has gone ({error}): what it drove is as it was, a shutter "
            "perhaps open and a camera perhaps armed; look at them, and start Micro-Manager again"
        ) from error


def _is_remote(core: Any) -> bool:
    return hasattr(core, "_java_class")


def _connect(port: int, timeout_s: float) -> None:
    socket.create_connection(("127.0.0.1", port), timeout_s).close()


def _must_listen(port: int, timeout_s: float) -> None:
    """Look with a plain connection first: the bridge itself fails slowly and leaves a thread behind."""
    try:
        _connect(port, timeout_s)
    except OSError as error:
        raise DeviceNotFoundError(
            f"nothing listens on port {port} of this computer ({error}); start Micro-Manager and tick "
            "Tools › Options › Run server on port, or correct the port in the acquisition file"
        ) from error
