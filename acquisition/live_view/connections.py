"""Connections that cannot be kept open for nothing: silent ones, slow ones, and ones that take nothing are cut off."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_CONNECTIONS = 128
REQUEST_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 5.0


class RequestConnection(H11Protocol):
    """A request, its answer, and the end within 10 s, unless it becomes a viewer's; one of at most 128."""

    _too_late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Count it, and give it its time."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > MOST_CONNECTIONS:
            self.transport.abort()
        else:
            self._too_late = self.loop.call_later(REQUEST_TIMEOUT_S, self._cut_off)

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended in time."""
        if self._too_late is not None:
            self._too_late.cancel()
        super().connection_lost(exc)

    def _cut_off(self) -> None:
        if self.transport.get_protocol() is self:
            self.transport.abort()


class ViewerConnection(WebSocketsSansIOProtocol):
    """A viewer's; it ends where the viewer does not take within 5 s what it asked for."""

    _too_late: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """What was sent waits for the viewer."""
        super().pause_writing()
        self._too_late = self.loop.call_later(SEND_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The viewer has taken it."""
        self._in_time()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None
