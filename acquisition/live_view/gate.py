"""Who may look, and who may stop: pages of this server only, and beyond loopback only those with the link's token."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from acquisition.live_view.address import ViewAddress

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_TOKEN_BYTES = 24
# Of a network that exists in documents only; nothing is sent there.
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


@dataclass(frozen=True)
class Gate:
    """names: of this server in requests, None: any; shown_host: in its link; token: None where none is needed."""

    names: frozenset[str] | None
    shown_host: str
    port: int
    token: str | None

    @classmethod
    def of(cls, listening: socket.socket, address: ViewAddress) -> Gate:
        """The gate of a listening socket; address: as it was asked for."""
        host, port = listening.getsockname()[:2]
        bound = ipaddress.ip_address(host.partition("%")[0])
        if bound.is_loopback:
            return cls(_LOOPBACK_NAMES | {host, address.host.lower()}, host, port, None)
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        if bound.is_unspecified:
            return cls(None, _own_address(listening.family), port, token)
        return cls(frozenset({host.lower(), address.host.lower()}), host, port, token)

    @property
    def link(self) -> str:
        """What a browser opens."""
        host = f"[{self.shown_host}]" if ":" in self.shown_host else self.shown_host
        return f"http://{host}:{self.port}/" + ("" if self.token is None else f"?token={self.token}")

    def refusal(self, host: str, origin: str | None, token: str | None) -> str | None:
        """Why a request is refused, for people; None where it is not.

        host, origin: its headers; an origin is sent by browsers, of the page that asks. token: of its query.
        """
        if not self._is_own(host):
            return f"This live view is not served as '{host}': open its link as it was printed."
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            return "A page of another server asked for this: only the live view's own page may."
        if self.token is not None and not secrets.compare_digest((token or "").encode(), self.token.encode()):
            return "The token is missing or wrong: open the live view's link as it was printed, with its token."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            found = urlsplit(f"//{host}")
            name, port = found.hostname, found.port or 80
        except ValueError:
            return False
        if name is None or found.netloc != host or "@" in host:
            return False
        return port == self.port and (self.names is None or name in self.names)


def _own_address(family: int) -> str:
    """The address under which this computer sends to others, or its name where it has no network."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[socket.AddressFamily(family)], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
