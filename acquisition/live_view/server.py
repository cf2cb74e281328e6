"""The server of a live view: one thread that answers viewers, whatever they do, and never the run's business."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from acquisition.live_view.address import ViewAddress, listen
from acquisition.live_view.app import live_view_app
from acquisition.live_view.connections import RequestConnection, ViewerConnection
from acquisition.live_view.gate import Gate
from acquisition.live_view.state import Feed
from acquisition.live_view.viewers import Viewers

LONGEST_MESSAGE = 1024
# Until the last state has reached those who take it, and until connections have ended.
_LAST_STATE_S = 0.7
_GOODBYES_S = 0.5
_START_S = 10.0
_JOIN_S = 5.0


class LiveViewServer:
    """Serves a feed at an address, as a context manager; everything it needs is loaded and bound when it is made.

    ``link``: what a browser opens; ``port``: the address's own, or the next one that was free; ``failure``: what ended
    the view early, None where nothing did. Closing takes two seconds at most, whatever viewers do. Raises
    ViewAddressError.
    """

    def __init__(self, feed: Feed, address: ViewAddress) -> None:
        self._feed = feed
        self._socket = listen(address)
        gate = Gate.of(self._socket, address)
        self.link = gate.link
        self.port = gate.port
        self.failure: BaseException | None = None
        self._viewers = Viewers(feed)
        # What viewers send is theirs to answer for, and no news for the run's terminal.
        config = uvicorn.Config(
            self._noticed(live_view_app(feed, self._viewers, gate)),
            loop="asyncio",
            http=RequestConnection,
            ws=ViewerConnection,
            ws_max_size=LONGEST_MESSAGE,
            ws_per_message_deflate=False,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_up.wait(_START_S)
        if self.failure is not None:
            raise LiveViewError(f"the live view did not start: {self.failure!r}") from self.failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> None:
        """Return when the view has ended by itself, which it does where it fails."""
        while self._thread.is_alive():
            self._thread.join(_GOODBYES_S)

    def close(self) -> None:
        """Show everybody the last state and end. Idempotent."""
        loop = self._loop
        if loop is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # it may just have ended by itself
                loop.call_soon_threadsafe(self._viewers.close)
            self._thread.join(_JOIN_S)
        self._socket.close()
        self._feed.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            self._feed.close()
            self._socket.close()
            self._is_up.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note_failure)
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        looking = asyncio.create_task(self._viewers.look())
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.001)
        self._is_up.set()
        await asyncio.wait({serving, looking}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done() and looking.exception() is None:
            await self._viewers.all_left(_LAST_STATE_S)
            await self._goodbyes()
        self._server.should_exit = self._server.force_exit = True
        self._cut_off()
        for task in (serving, looking):
            try:
                await task
            except Exception as error:
                self.failure = self.failure or error
        self._cut_off()
        await asyncio.sleep(0)  # in which connections that were cut off are let go of

    async def _goodbyes(self) -> None:
        """Wait until viewers have taken what was sent and said goodbye, for a while."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + _GOODBYES_S
        while self._server.server_state.connections and loop.time() < until_s:
            await asyncio.sleep(0.01)

    def _cut_off(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def _noticed(self, app: ASGIApp) -> ASGIApp:
        """The same application, what goes wrong in it noted; viewers that left are nothing that goes wrong."""

        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await app(scope, receive, send)
            except OSError:
                return
            except Exception as error:
                self.failure = self.failure or error
                raise

        return call

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, OSError):
            self.failure = self.failure or error


class LiveViewError(RuntimeError):
    """The live view did not start."""
