"""Where a live view is served, and the socket that listens there."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
PORT = 8642
_MOST_PORTS = 20
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class ViewAddress:
    """A host name or address of this computer, and the port to begin with; port 0: any free one."""

    host: str = LOOPBACK
    port: int = PORT


class ViewAddressError(ValueError):
    """An address on which nothing can be served from this computer."""


def listen(address: ViewAddress) -> socket.socket:
    """A socket that listens at the address, or at the first of the next ports that is free where its own is taken.

    Raises ViewAddressError.
    """
    family, host = _resolved(address)
    ports = range(address.port, min(address.port + _MOST_PORTS, _HIGHEST_PORT + 1)) if address.port else [0]
    for port in ports:
        try:
            return _listening(family, host, port)
        except OSError as error:
            if not _is_taken(error):
                raise ViewAddressError(
                    f"the live view cannot be served on {address.host}, port {port}: {error.strerror or error}; "
                    f"expected an address of this computer, {LOOPBACK} for viewers on it alone"
                ) from error
    raise ViewAddressError(
        f"the ports {ports[0]} to {ports[-1]} of {address.host} are all taken: close what serves there, or choose "
        "another port with --view-port"
    )


def _resolved(address: ViewAddress) -> tuple[socket.AddressFamily, str]:
    if not 0 <= address.port <= _HIGHEST_PORT:
        raise ViewAddressError(f"found port {address.port} for the live view; expected 0 to {_HIGHEST_PORT}")
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ViewAddressError(
            f"the live view cannot be served on '{address.host}', which is no address of this computer ({error}): "
            f"choose one with --view-host, {LOOPBACK} for viewers on it alone"
        ) from error
    # A name may have addresses of both kinds: the older kind is what links and viewers expect.
    family, _, _, _, where = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, str(where[0])


def _listening(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # A view that ended a moment ago must not keep its port from the next one.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            # There the same option would let two servers share a port.
            made.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", -5), 1)
        made.bind((host, port))
        made.listen()
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def _is_taken(error: OSError) -> bool:
    taken_exclusively = os.name == "nt" and error.errno == errno.EACCES
    return error.errno == errno.EADDRINUSE or taken_exclusively
