"""A real browser, and a live view whose every update a test writes: what the tests of the page look through."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PAGE = Path(__file__).parents[3] / "acquisition" / "live_view" / "page"
LONGEST_WAIT_S = 60.0
CHROMIUM_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
_CONTENT_SECURITY_POLICY = "default-src 'self'; connect-src 'self' ws: wss:"


def must_have_chromium() -> tuple[str, str]:
    """Paths of Chromium and of its driver; where one is missing, the tests are skipped and say so."""
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    driver = shutil.which("chromedriver")
    missing = [what for what, path in (("Chromium", browser), ("chromedriver", driver)) if path is None]
    if browser is None or driver is None:
        pytest.skip(
            f"THE LIVE VIEW WAS NOT TESTED IN A BROWSER: {' and '.join(missing)} not found on the PATH; "
            "install both (Debian: apt-get install chromium chromium-driver)"
        )
    return browser, driver


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A Chromium of its own, with a new profile in an empty folder. Skips the test where there is none."""
    browser, driver = must_have_chromium()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in (*CHROMIUM_OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(window)
    finally:
        window.quit()


class Browser:
    """The page as a person sees it and a program asks it."""

    def __init__(self, window: webdriver.Chrome) -> None:
        self.window: Any = window

    def open(self, link: str) -> None:
        """Open a page, and forget what was logged before."""
        self.window.get("about:blank")
        self.log()
        self.window.get(link)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds, and return it. Raises TimeoutException that says ``what`` was waited for."""
        return WebDriverWait(self.window, LONGEST_WAIT_S, poll_frequency=0.05).until(lambda _: condition(), what)

    def wait_for_text(self, element: str, text: str) -> None:
        """Wait until an element's text holds ``text``."""
        self.wait(lambda: text in self.text(element), f"#{element} never said {text!r}")

    def wait_for_version(self, version: int) -> None:
        """Wait until the page has drawn an update, or a newer one."""
        self.wait(lambda: self.version >= version, f"version {version} was never drawn")

    @property
    def version(self) -> int:
        """Version of the update that was drawn last; -1 before the first."""
        return int(self.run("return document.body.dataset.version ?? -1"))

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns in the page."""
        return self.window.execute_script(script, *arguments)

    def find(self, element: str) -> Any:
        """An element by its id."""
        return self.window.find_element(By.ID, element)

    def text(self, element: str) -> str:
        """Text of an element, seen or not."""
        return str(self.run("return document.getElementById(arguments[0]).textContent", element))

    def data(self, element: str, name: str) -> str:
        """A data attribute of an element."""
        return str(self.run("return document.getElementById(arguments[0]).dataset[arguments[1]]", element, name))

    def box(self, element: str) -> dict[str, float]:
        """Where an element is in the window, CSS pixels: left, top, width, height."""
        found: dict[str, float] = self.run(
            "return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", element
        )
        return found

    def pixels(self, canvas: str) -> NDArray[np.uint8]:
        """What is painted on a canvas, uint8 [rows, columns, 3]."""
        rows, columns, values = self.run(
            """
            const canvas = document.getElementById(arguments[0]);
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.height, canvas.width, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
            """,
            canvas,
        )
        rgba = np.frombuffer(base64.b64decode(values), dtype=np.uint8).reshape(rows, columns, 4)
        return np.asarray(rgba[..., :3])

    def type_into(self, element: str, text: str) -> None:
        """Type into a field, instead of what is there."""
        self.find(element).send_keys(Keys.CONTROL, "a")
        self.find(element).send_keys(text)

    def set_field(self, element: str, value: object) -> None:
        """Give a number field, a slider, a box or a choice a value, as somebody who chooses it does."""
        self.run(
            """
            const element = document.getElementById(arguments[0]);
            if (element.type === "checkbox") element.checked = arguments[1];
            else element.value = arguments[1];
            for (const kind of ["input", "change"]) element.dispatchEvent(new Event(kind, { bubbles: true }));
            """,
            element,
            value,
        )

    def press_stop_twice(self) -> None:
        """Stop, and confirm it once the page has asked."""
        self.find("stop").click()
        self.wait(lambda: self.data("stop", "asked") == "true", "the page never asked whether to stop")
        self.find("stop").click()

    @contextmanager
    def sized(self, width: int, height: int) -> Iterator[None]:
        """The page in a window of so many CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self.window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def log(self) -> list[str]:
        """What the browser complained of since this was called last."""
        return [entry["message"] for entry in self.window.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def hosts(self) -> set[str]:
        """Hosts and ports that the page was given anything by, or asked for it."""
        asked: list[str] = self.run("return performance.getEntries().map((entry) => entry.name)")
        return {url.split("/")[2] for url in asked if "://" in url}


def painted(image: NDArray[Any], low: float, high: float, name: str) -> NDArray[np.uint8]:
    """An image through matplotlib's colour map between two limits, uint8 [n, n, 3]."""
    norm = mpl.colors.Normalize(low, high, clip=True)
    colour_map = mpl.colormaps["gray" if name == "grey" else name]
    return np.asarray(colour_map(np.asarray(norm(image.astype(np.float64))), bytes=True)[..., :3])


def levels_of(pixels: NDArray[np.uint8], name: str) -> NDArray[np.int64]:
    """The levels 0 to 255 of a colour map that pixels were painted with, int64 [rows, columns].

    Raises KeyError where a colour is not in the map.
    """
    colours = painted(np.arange(256.0), 0.0, 256.0, name)
    level = {tuple(colour): number for number, colour in enumerate(colours.tolist())}
    flat = [level[tuple(colour)] for colour in pixels.reshape(-1, 3).tolist()]
    return np.array(flat, dtype=np.int64).reshape(pixels.shape[:2])


def encoded(header: dict[str, Any], arrays: dict[str, tuple[NDArray[Any], str]]) -> bytes:
    """An update as it is agreed to be: a header in JSON, and arrays, each at a multiple of 8 bytes."""
    listed, parts, offset = [], [], 0
    for name, (array, unit) in arrays.items():
        part = array.tobytes()
        listed.append(
            {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "offset": offset, "unit": unit}
        )
        parts.append(part + bytes(-len(part) % 8))
        offset += len(parts[-1])
    text = json.dumps({**header, "arrays": listed}, ensure_ascii=False).encode()
    text += b" " * (-(4 + len(text)) % 8)
    return struct.pack("<I", len(text)) + text + b"".join(parts)


def some_header(**changes: Any) -> dict[str, Any]:
    """What a run says of itself; ``changes`` replace it."""
    return {
        "version": 1,
        "run": "cells.zarr",
        "title": "some cells",
        "simulated": True,
        "state": "running",
        "cause": None,
        "can_stop": True,
        "stopping": False,
        "place": None,
        "side": 8,
        "px_um": 0.5,
        "sensing": "8 × 8 px, α = 0.5, S = 2, learned mask",
        "pairs": 16,
        "pairs_total": 64,
        "blocks": 2,
        "blocks_total": 8,
        "repeated": 0,
        "elapsed_s": 1.5,
        "left_s": 4.5,
        "dose_mj": 0.25,
        "dose_limit_mj": None,
        "lit_exposures": 40,
        "quality": "linear forecast 21.3 dB",
        "image_age_s": 0.1,
        "warnings": [],
        **changes,
    }


class WrittenView:
    """A live view whose updates are written by a test, on a port of its own.

    It keeps what was asked of it: ``stops``, how often to stop; ``asked``, the messages of viewers. refusal: why it
    does not stop; silent: whether it leaves viewers without an answer, as a machine that sleeps.
    """

    def __init__(self, port: int = 0, *, token: str | None = None) -> None:
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self.token = token
        self.stops = 0
        self.asked: list[str] = []
        self.silent = False
        self.refusal: str | None = None
        self._news: list[bytes | str] = []
        config = uvicorn.Config(
            Starlette(
                routes=[
                    Route("/", self._page),
                    Route("/page/{name}", self._page),
                    Route("/colour-maps", self._colour_maps),
                    Route("/stop", self._stop, methods=["POST"]),
                    WebSocketRoute("/live", self._live),
                ]
            ),
            log_level="critical",
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def link(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/" + ("" if self.token is None else f"?token={self.token}")

    def say(self, arrays: dict[str, tuple[NDArray[Any], str]] | None = None, **changes: Any) -> int:
        """One more update, its version, given to every viewer."""
        version = len(self._news) + 1
        self._news.append(encoded(some_header(**{"version": version, **changes}), arrays or {}))
        return version

    def say_raw(self, message: bytes | str) -> None:
        """Send something that is no update."""
        self._news.append(message)

    def forget(self) -> None:
        """Begin anew, with nothing said and nothing asked."""
        self._news.clear()
        self.asked.clear()
        self.stops, self.refusal, self.silent = 0, None, False

    def close(self) -> None:
        """End at once, as a process that is killed: open connections are cut."""
        self._server.force_exit = self._server.should_exit = True
        self._thread.join(LONGEST_WAIT_S)
        self._socket.close()

    def __enter__(self) -> WrittenView:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))

    async def _page(self, request: Request) -> Response:
        path = PAGE / request.path_params.get("name", "index.html")
        headers = {"Content-Security-Policy": _CONTENT_SECURITY_POLICY, "Cache-Control": "no-store"}
        return FileResponse(path, headers=headers) if path.is_file() else Response(status_code=404)

    async def _colour_maps(self, request: Request) -> Response:
        if not self._may(request.query_params):
            return Response("the link's token is not this run's", status_code=403)
        maps = {name: painted(np.arange(256.0), 0.0, 256.0, name) for name in ("viridis", "magma", "grey")}
        return JSONResponse({name: base64.b64encode(each.tobytes()).decode() for name, each in maps.items()})

    async def _stop(self, request: Request) -> Response:
        self.stops += 1
        if self.refusal is not None:
            return JSONResponse({"stopping": False, "why": self.refusal}, status_code=409)
        return JSONResponse({"stopping": True})

    async def _live(self, viewer: WebSocket) -> None:
        if not self._may(viewer.query_params):
            await viewer.close()
            return
        await viewer.accept()
        sent = max(0, len(self._news) - 1)
        with suppress(WebSocketDisconnect):
            while True:
                self.asked.append(await viewer.receive_text())
                until = time.monotonic() + 1.0
                while self.silent or (sent >= len(self._news) and (not self._news or time.monotonic() < until)):
                    await asyncio.sleep(0.01)
                update = self._news[min(sent, len(self._news) - 1)]
                await (viewer.send_text(update) if isinstance(update, str) else viewer.send_bytes(update))
                sent += 1 if sent < len(self._news) else 0

    def _may(self, query: Any) -> bool:
        return self.token is None or query.get("token") == self.token
