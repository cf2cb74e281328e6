"""The server answers viewers, whatever they do: hang, leave, send garbage, or come from somewhere else."""

from __future__ import annotations

import base64
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from acquisition.live_view import connections
from acquisition.live_view.address import ViewAddress
from acquisition.live_view.server import LiveViewServer
from acquisition.live_view.state import ViewArray, ViewedState, ViewState
from acquisition.live_view.update import encode_update
from acquisition.live_view.viewers import MOST_VIEWERS
from tests.acquisition.bench_record import no_thread_left
from tests.acquisition.live_view.feeds import HandFeed, a_state
from tests.acquisition.live_view.viewer import TIMEOUT_S, Viewer, ask

PAGE = Path(__file__).parents[3] / "acquisition" / "live_view" / "page"


@pytest.fixture
def feed() -> HandFeed:
    return HandFeed()


@pytest.fixture
def server(feed: HandFeed) -> Iterator[LiveViewServer]:
    with no_thread_left(), LiveViewServer(feed, ViewAddress(port=0)) as served:
        yield served
    assert served.failure is None
    assert feed.is_closed


@pytest.fixture
def guarded(feed: HandFeed) -> Iterator[str]:
    """The link of a server on all addresses, as it is on this computer."""
    with no_thread_left(), LiveViewServer(feed, ViewAddress("0.0.0.0", 0)) as served:
        yield f"http://127.0.0.1:{served.port}/?{served.link.partition('?')[2]}"
    assert served.failure is None


def raw(server: LiveViewServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S)


def answers(server: LiveViewServer) -> None:
    """It still does what it is there for."""
    with Viewer(server.link) as viewer:
        assert viewer.look().header["title"] == "HeLa, µ-dish"


def test_every_request_for_the_next_state_gets_a_newer_one(server: LiveViewServer) -> None:
    with Viewer(server.link) as viewer:
        versions = [viewer.look().header["version"] for _ in range(4)]
    assert versions == sorted(set(versions))


def test_the_first_update_has_everything_and_later_ones_what_changed(server: LiveViewServer, feed: HandFeed) -> None:
    with Viewer(server.link) as viewer:
        assert set(viewer.look().arrays) == {"image", "counts", "pair_sums"}
        viewer.look_until(pairs=120)
        changed = ViewArray("counts", np.full((4, 4), 9, dtype=np.uint16), "pairs", 77)
        feed.shown = replace(feed.shown, pairs=121, arrays=(feed.shown.arrays[0], changed, feed.shown.arrays[2]))
        assert set(viewer.look_until(pairs=121).arrays) == {"counts"}
        assert (viewer.arrays["counts"] == 9).all()
        with Viewer(server.link) as newcomer:
            assert set(newcomer.look().arrays) == {"image", "counts", "pair_sums"}


def test_several_viewers_see_the_same_and_one_that_leaves_changes_nothing(server: LiveViewServer) -> None:
    with Viewer(server.link) as stays, ExitStack() as others:
        leaving = [others.enter_context(Viewer(server.link)) for _ in range(5)]
        images = [viewer.look().arrays["image"] for viewer in (stays, *leaving)]
        others.close()
        assert all(np.array_equal(image, images[0]) for image in images)
        assert stays.look().header["version"] > 1


def test_a_viewer_that_asks_for_nothing_gets_nothing(server: LiveViewServer) -> None:
    with Viewer(server.link) as silent, Viewer(server.link) as busy:
        for _ in range(3):
            busy.look()
        with pytest.raises(TimeoutError):
            silent.socket.recv(timeout=0)


def test_a_viewer_that_does_not_take_what_it_asked_for_is_let_go_of(
    server: LiveViewServer, feed: HandFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_TIMEOUT_S", 2.0)
    image = np.random.default_rng(0).random((2048, 2048)).astype(np.float32)
    feed.shown = replace(feed.shown, arrays=(ViewArray("image", image, "detector units", 9),))
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that the system takes little in its place
        stuck.connect(("127.0.0.1", server.port))
        stuck.sendall(handshake(server))
        assert stuck.recv(12) == b"HTTP/1.1 101"
        stuck.sendall(text_frame(b"next"))  # and nothing is ever read of it
        with Viewer(server.link) as viewer:
            for _ in range(3):
                viewer.look()
            while server._server.server_state.connections and len(server._viewers._shows) > 1:
                viewer.look()
        assert np.array_equal(viewer.arrays["image"], image)


def handshake(server: LiveViewServer, path: str = "/live") -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def text_frame(payload: bytes) -> bytes:
    """A short text frame as a browser sends it, masked with zeros."""
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


@pytest.mark.parametrize("message", ["", "NEXT", "next ", "stop", "{}", b"next", b"\x00\xff", "x" * 1000])
def test_anything_but_next_ends_that_viewer_alone(server: LiveViewServer, message: str | bytes) -> None:
    with Viewer(server.link) as other:
        other.look()
        with Viewer(server.link) as viewer:
            viewer.socket.send(message)
            with pytest.raises(ConnectionClosedError) as ended:
                viewer.receive()
        assert ended.value.rcvd is not None
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1003, "expected the text 'next' and nothing else")
        other.look()


def test_a_message_that_is_too_long_ends_that_viewer_alone(server: LiveViewServer) -> None:
    with Viewer(server.link) as viewer:
        viewer.socket.send("next" * 1000)
        with pytest.raises(ConnectionClosedError) as ended:
            viewer.receive()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1009
    answers(server)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 4096,
        os.urandom(4096),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /live HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /stop HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"A" * 200_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["zeros", "noise", "version", "handshake", "body", "hosts", "endless", "tls"],
)
def test_garbage_on_the_socket_changes_nothing(server: LiveViewServer, garbage: bytes) -> None:
    with raw(server) as garbler:
        try:
            garbler.sendall(garbage)
            garbler.shutdown(socket.SHUT_WR)
            while garbler.recv(65536):
                pass
        except OSError:
            pass  # cut off, which is as good
    answers(server)


@pytest.mark.parametrize(
    "frame", [b"\xff\xff\xff\xff", b"\x81\x04next", b"\x81\x82\0\0\0\0\xc3\x28", b"\x88\x81\0\0\0\0x"]
)
def test_garbage_after_the_handshake_changes_nothing(server: LiveViewServer, frame: bytes) -> None:
    with raw(server) as garbler:
        garbler.sendall(handshake(server))
        assert b"101 Switching Protocols" in garbler.recv(4096)
        garbler.sendall(frame)
        garbler.shutdown(socket.SHUT_WR)
        try:
            while garbler.recv(65536):
                pass
        except OSError:
            pass
    answers(server)


def test_connections_that_say_nothing_lock_nobody_out(server: LiveViewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_TIMEOUT_S", 0.05)
    with ExitStack() as stack:
        silent = [stack.enter_context(raw(server)) for _ in range(connections.MOST_CONNECTIONS + 20)]
        for each in silent[::2]:
            with suppress(OSError):  # one too many, cut off already
                each.sendall(b"GET / HT")
        for each in silent:
            with suppress(ConnectionError):
                assert each.recv(1) == b""  # all of them are ended by the server
        answers(server)


def test_there_is_room_for_so_many_viewers_and_no_more(server: LiveViewServer) -> None:
    with ExitStack() as stack:
        for _ in range(MOST_VIEWERS):
            stack.enter_context(Viewer(server.link)).look()
        with pytest.raises(InvalidStatus) as refused:
            Viewer(server.link)
        assert refused.value.response.status_code == 503
    while True:  # those that left make room, as soon as that is noticed
        try:
            answers(server)
            break
        except InvalidStatus:
            continue


def test_the_page_and_its_parts_are_served_and_stay_with_this_server(server: LiveViewServer) -> None:
    front = ask(server.link)
    assert (front.status, front.body) == (200, (PAGE / "index.html").read_text(encoding="utf-8"))
    assert front.headers["content-type"].startswith("text/html")
    scripts = sorted(path for path in PAGE.iterdir() if path.suffix in (".js", ".css", ".svg"))
    assert scripts
    for path in scripts:
        found = ask(server.link, f"/page/{path.name}")
        assert (found.status, found.body) == (200, path.read_text(encoding="utf-8"))
    for answer in (front, ask(server.link, "/colour-maps"), ask(server.link, "/nowhere"), ask(server.link, "/stop")):
        policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["connect-src"] == f"'self' ws://127.0.0.1:{server.port}"
        assert policy["frame-ancestors"] == "'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/page/", "/page/../server.py", "/page/%2e%2e/server.py", "/page/index.html", "/x"])
def test_nothing_but_the_page_is_served(server: LiveViewServer, path: str) -> None:
    assert ask(server.link, path).status == 404


def test_the_colour_maps_are_matplotlibs(server: LiveViewServer) -> None:
    import matplotlib as mpl

    maps = ask(server.link, "/colour-maps").said
    assert set(maps) == {"viridis", "magma", "grey"}
    for name, encoded in maps.items():
        colours = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(256, 3)
        map_of = mpl.colormaps["gray" if name == "grey" else name]
        expected = np.array([map_of(level / 255)[:3] for level in range(256)])
        assert np.abs(colours - 255 * expected).max() <= 1.0


def test_stop_is_asked_by_post_and_answered_in_json(server: LiveViewServer, feed: HandFeed) -> None:
    assert ask(server.link, "/stop").status == 405
    assert feed.stops == 0
    stopped = ask(server.link, "/stop", "POST")
    assert (stopped.status, stopped.said, feed.stops) == (200, {"stopping": True}, 1)
    feed.why_not = "this view only reads the run"
    refused = ask(server.link, "/stop", "POST")
    assert (refused.status, refused.said) == (409, {"stopping": False, "why": "this view only reads the run"})


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example:80"}]
)
def test_a_page_of_somebody_else_can_neither_stop_nor_look(
    server: LiveViewServer, feed: HandFeed, headers: dict[str, str]
) -> None:
    assert ask(server.link, "/stop", "POST", **headers).status == 403
    assert feed.stops == 0
    for path in ("/", "/colour-maps"):
        assert ask(server.link, path, **headers).status == 403
    with raw(server) as stranger:
        lines = handshake(server).decode().split("\r\n")
        kept = [line for line in lines[1:-2] if not any(line.startswith(f"{name}:") for name in headers)]
        added = [f"{name}: {value}" for name, value in headers.items()]
        stranger.sendall("\r\n".join([lines[0], *kept, *added, "", ""]).encode())
        answer = stranger.recv(4096)
    assert answer.startswith(b"HTTP/1.1 403")


def test_the_pages_own_requests_are_let_in(server: LiveViewServer, feed: HandFeed) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert ask(server.link, "/stop", "POST", Origin=own).status == 200
    assert feed.stops == 1
    with Viewer(server.link, origin=own) as viewer:
        viewer.look()


def test_beyond_loopback_nothing_is_shown_or_stopped_without_the_token(guarded: str, feed: HandFeed) -> None:
    link = guarded
    for query in ("x=1", "token=", "token=wrong", "token=%00%ff", link.partition("?")[2] + "x"):
        for method, path in (("GET", "/"), ("GET", "/colour-maps"), ("POST", "/stop")):
            refused = ask(link, path, method, query)
            assert refused.status == 403
            assert "token" in refused.body
        with pytest.raises(InvalidStatus) as closed:
            Viewer(link.partition("?")[0] + f"?{query}")
        assert closed.value.response.status_code == 403
        assert closed.value.response.body is not None
        assert b"token" in closed.value.response.body
    assert feed.stops == 0
    assert ask(link).status == ask(link, "/colour-maps").status == 200
    assert ask(link, "/page/page.js", query="x=1").status == 200
    with Viewer(link) as viewer:
        viewer.look()
    assert ask(link, "/stop", "POST").said == {"stopping": True}


def test_on_closing_every_viewer_is_shown_the_last_state_and_sent_away_with_1000(feed: HandFeed) -> None:
    with no_thread_left():
        server = LiveViewServer(feed, ViewAddress(port=0))
        with ExitStack() as stack:
            with server:
                viewers = [stack.enter_context(Viewer(server.link)) for _ in range(3)]
                for viewer in viewers:
                    viewer.look()
                feed.shown = a_state(state=ViewedState.FINISHED, can_stop=False)
            for viewer in viewers:
                assert viewer.receive().header["state"] == "finished"
                with pytest.raises(ConnectionClosedOK):
                    viewer.receive()


def test_closing_waits_for_nobody_who_hangs(feed: HandFeed) -> None:
    image = np.zeros((2048, 2048), dtype=np.float32)
    feed.shown = replace(feed.shown, arrays=(ViewArray("image", image, "detector units", 9),))
    before = len(psutil.Process().net_connections())
    with ExitStack() as stack:
        with no_thread_left(), LiveViewServer(feed, ViewAddress(port=0)) as server:
            hanging = [stack.enter_context(raw(server)) for _ in range(4)]
            for each in hanging[:3]:
                each.sendall(handshake(server))
            for each in hanging[:2]:
                each.sendall(text_frame(b"next"))
        port = server.port
        with socket.create_server(("127.0.0.1", port)):
            pass  # the port is free again
    assert len(psutil.Process().net_connections()) <= before


def test_a_feed_that_breaks_ends_the_view_and_says_why(feed: HandFeed) -> None:
    with no_thread_left(), LiveViewServer(feed, ViewAddress(port=0)) as server, Viewer(server.link) as viewer:
        viewer.look()
        feed.failure = ArithmeticError("no state today")
        with pytest.raises(ConnectionClosed):
            while True:
                viewer.look()
        server.wait()
        assert isinstance(server.failure, ArithmeticError)
        assert feed.is_closed


def test_signals_stay_with_who_had_them(feed: HandFeed) -> None:
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    with LiveViewServer(feed, ViewAddress(port=0)) as server:
        answers(server)
        assert [signal.getsignal(kind) for kind in kinds] == before
    assert [signal.getsignal(kind) for kind in kinds] == before


def test_while_nobody_looks_the_feed_keeps_up(feed: HandFeed) -> None:
    kept_up = threading.Event()
    keep_up = feed.keep_up

    def noted() -> None:
        keep_up()
        kept_up.set()

    feed.keep_up = noted  # type: ignore[method-assign]
    with LiveViewServer(feed, ViewAddress(port=0)):
        assert kept_up.wait(TIMEOUT_S)
    assert feed.version == 0


def test_an_update_is_made_once_for_all_who_need_the_same(
    server: LiveViewServer, feed: HandFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, tuple[str, ...]]] = []

    def counted(state: ViewState, known: dict[str, int]) -> bytes:
        made.append((state.version, tuple(sorted(known))))
        return encode_update(state, known)

    monkeypatch.setattr("acquisition.live_view.viewers.encode_update", counted)
    with ExitStack() as stack:
        for viewer in [stack.enter_context(Viewer(server.link)) for _ in range(6)]:
            viewer.look()
    assert len(made) == len(set(made))
