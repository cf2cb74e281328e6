"""What a live view answers: its page, its colour maps, its updates, and the request to stop."""

from __future__ import annotations

import base64
from importlib.resources import files
from pathlib import PurePath

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from acquisition.live_view.gate import Gate
from acquisition.live_view.state import Feed
from acquisition.live_view.viewers import MOST_VIEWERS, Viewers

COLOUR_MAPS = ("viridis", "magma", "grey")
_MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png"}


def live_view_app(feed: Feed, viewers: Viewers, gate: Gate) -> ASGIApp:
    """The application of one live view. What it serves is read now, and nothing later."""
    page, index = _page_files()
    maps = colour_maps()

    async def front(request: Request) -> Response:
        return _refused(gate, request) or Response(index, media_type="text/html")

    async def page_file(request: Request) -> Response:
        # Parts of the page hold no data: they need no token.
        if (refused := _forbidden(gate.refusal(request.headers.get("host", ""), None, gate.token))) is not None:
            return refused
        found = page.get(request.path_params["name"])
        return PlainTextResponse("not found\n", 404) if found is None else Response(found[0], media_type=found[1])

    async def colours(request: Request) -> Response:
        return _refused(gate, request) or JSONResponse(maps)

    async def stop(request: Request) -> Response:
        if (refused := _refused(gate, request)) is not None:
            return refused
        if (why_not := feed.stop()) is not None:
            return JSONResponse({"stopping": False, "why": why_not}, 409)
        return JSONResponse({"stopping": True})

    async def live(websocket: WebSocket) -> None:
        refused = _refused(gate, websocket)
        if refused is None and viewers.is_full:
            refused = PlainTextResponse(f"{MOST_VIEWERS} viewers look at this already: close one of them.\n", 503)
        if refused is not None:
            await websocket.send_denial_response(refused)
            return
        await viewers.show(websocket)

    routes = [
        Route("/", front),
        Route("/page/{name}", page_file),
        Route("/colour-maps", colours),
        Route("/stop", stop, methods=["POST"]),
        WebSocketRoute("/live", live),
    ]
    return _with_headers(Starlette(routes=routes))


def colour_maps() -> dict[str, str]:
    """256 colours of every map, three bytes each (red, green, blue), as base64."""
    from matplotlib import colormaps

    levels = np.arange(256)
    of_matplotlib = {"grey": "gray"}
    return {
        name: base64.b64encode(
            np.ascontiguousarray(colormaps[of_matplotlib.get(name, name)](levels, bytes=True)[:, :3]).tobytes()
        ).decode()
        for name in COLOUR_MAPS
    }


def _page_files() -> tuple[dict[str, tuple[bytes, str]], bytes]:
    """The page's parts by name, with their media types; and the page itself."""
    folder = files("acquisition.live_view") / "page"
    parts = {
        each.name: (each.read_bytes(), _MEDIA_TYPES[PurePath(each.name).suffix])
        for each in folder.iterdir()
        if PurePath(each.name).suffix in _MEDIA_TYPES
    }
    return parts, (folder / "index.html").read_bytes()


def _refused(gate: Gate, asked: HTTPConnection) -> Response | None:
    headers = asked.headers
    return _forbidden(gate.refusal(headers.get("host", ""), headers.get("origin"), asked.query_params.get("token")))


def _forbidden(why: str | None) -> Response | None:
    return None if why is None else PlainTextResponse(f"{why}\n", 403)


def _with_headers(app: ASGIApp) -> ASGIApp:
    """Answers that no browser keeps, guesses about, or mixes with other servers'; each ends its connection."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.update(_HEADERS)
                headers["content-security-policy"] = _content_policy(scope)
            await send(message)

        await app(scope, receive, send_with_headers)

    return answered


_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "connection": "close",
}


def _content_policy(scope: Scope) -> str:
    """Nothing from other servers, in no frame of theirs; not all browsers count sockets to this one as 'self'."""
    host = dict(scope.get("headers", [])).get(b"host", b"").decode("latin-1")
    is_plain = host != "" and all(each.isalnum() or each in ".-:[]" for each in host)
    sockets = f" ws://{host}" if is_plain else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        f"connect-src 'self'{sockets}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
