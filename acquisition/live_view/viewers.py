"""The viewers of a live view: each asks for the next state when it has drawn the last one, and gets the newest then."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from starlette.websockets import WebSocket, WebSocketDisconnect

from acquisition.live_view.state import Feed, ViewState
from acquisition.live_view.update import encode_update, news_of

INTERVAL_S = 0.25
MOST_VIEWERS = 32
NEXT = "next"
ENDED, NOT_UNDERSTOOD = 1000, 1003

_Result = TypeVar("_Result")


class Viewers:
    """Shows the states of a feed to any number of viewers; all of it in one event loop."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._state: ViewState | None = None
        self._looked_s = -math.inf
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._is_over = False
        self._shows: set[asyncio.Task[Any]] = set()
        # What several viewers are sent alike, of one version, by the names of its arrays.
        self._encoded: dict[tuple[str, ...], bytes] = {}
        self._encoded_version = -1

    @property
    def is_full(self) -> bool:
        """Whether there are as many viewers as there may be."""
        return len(self._shows) >= MOST_VIEWERS

    async def look(self) -> None:
        """Look at the feed while there are viewers, and let it keep up while there are none, until ``close``."""
        while not self._closing.is_set():
            if self._shows:
                self._look()
            else:
                self._feed.keep_up()
            await self._unless_closing(asyncio.sleep(INTERVAL_S))
        if self._shows:
            self._look()
        self._is_over = True
        self._tell()

    def close(self) -> None:
        """Show everybody the last state, and send them away."""
        self._closing.set()

    async def show(self, websocket: WebSocket) -> None:
        """Serve one viewer until it leaves, or the view ends."""
        task = asyncio.current_task()
        assert task is not None
        self._shows.add(task)
        try:
            await websocket.accept()
            await self._answer(websocket)
        except WebSocketDisconnect:
            pass  # it has left, which concerns nobody else
        finally:
            self._shows.discard(task)

    async def all_left(self, patience_s: float) -> None:
        """Wait until all have been shown the last state, for so long at most."""
        if self._shows:
            await asyncio.wait(self._shows, timeout=patience_s)

    async def _answer(self, websocket: WebSocket) -> None:
        known: dict[str, int] = {}
        version, sent_s = -1, -math.inf
        while not self._closing.is_set() and await self._is_asked(websocket):
            await self._unless_closing(asyncio.sleep(max(sent_s + INTERVAL_S - time.monotonic(), 0.0)))
            state = await self._newer_than(version)
            await websocket.send_bytes(self._update(state, known))
            version, sent_s = state.version, time.monotonic()
        while not self._is_over:
            await self._news.wait()
        assert self._state is not None
        await websocket.send_bytes(self._update(self._state, known))
        await websocket.close(ENDED, "the live view has ended")

    async def _is_asked(self, websocket: WebSocket) -> bool:
        """True where the viewer asks for an update; False where the view ends."""
        message = await self._unless_closing(websocket.receive())
        if message is None:
            return False
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        if message.get("text") != NEXT:
            await websocket.close(NOT_UNDERSTOOD, f"expected the text '{NEXT}' and nothing else")
            raise WebSocketDisconnect(NOT_UNDERSTOOD)
        return True

    async def _newer_than(self, version: int) -> ViewState:
        """A state after this version, or the last one there is."""
        if time.monotonic() >= self._looked_s + 2 * INTERVAL_S:
            self._look()  # nobody did, because there was no viewer
        while self._state is None or (self._state.version <= version and not self._is_over):
            await self._news.wait()
        return self._state

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        state = self._feed.state()
        if self._state is None or state.version != self._state.version:
            self._state = state
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _update(self, state: ViewState, known: dict[str, int]) -> bytes:
        """The bytes of an update to a viewer who knows these revisions, and now knows the state's."""
        if self._encoded_version != state.version:
            self._encoded, self._encoded_version = {}, state.version
        names = tuple(array.name for array in news_of(state, known))
        if names not in self._encoded:
            self._encoded[names] = encode_update(state, known)
        known.update({array.name: array.revision for array in state.arrays})
        return self._encoded[names]

    async def _unless_closing(self, awaited: Awaitable[_Result]) -> _Result | None:
        """What is awaited, or None where the view ends first."""
        task, closing = asyncio.ensure_future(awaited), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({task, closing}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
