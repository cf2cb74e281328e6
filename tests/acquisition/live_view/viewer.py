"""A viewer of a live view that a test holds in its hands; it decodes updates by struct, json and numpy alone."""

from __future__ import annotations

import http.client
import json
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import connect

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Update:
    """One update: everything that its header says, and the arrays that came with it."""

    header: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def decoded(message: bytes) -> Update:
    """An update from its bytes; fails where anything in it is not as it was agreed."""
    (length,) = struct.unpack_from("<I", message)
    assert (4 + length) % 8 == 0
    header = json.loads(message[4 : 4 + length].decode("utf-8"), parse_constant=_refuse)
    data, arrays, end = message[4 + length :], {}, 0
    for described in header["arrays"]:
        shape, offset = tuple(described["shape"]), described["offset"]
        assert offset % 8 == 0
        assert offset >= end
        dtype = np.dtype(described["dtype"]).newbyteorder("<")
        count = int(np.prod(shape))
        arrays[described["name"]] = np.frombuffer(data, dtype, count, offset).reshape(shape)
        end = offset + count * dtype.itemsize
    assert 0 <= len(data) - end < 8
    return Update(header, arrays)


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


class Viewer:
    """A well-behaved viewer: keeps the newest array of every name, as the page does."""

    def __init__(self, link: str, **options: Any) -> None:
        found = urlsplit(link)
        query = f"?{found.query}" if found.query else ""
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(
            connect(f"ws://{found.netloc}/live{query}", max_size=None, open_timeout=TIMEOUT_S, **options)
        )
        self.updates: list[Update] = []
        self.arrays: dict[str, NDArray[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def look(self) -> Update:
        """Ask for the next update. Raises ConnectionClosed where there is none any more."""
        self.socket.send("next")
        return self.receive()

    def receive(self) -> Update:
        """The next message, asked for or not."""
        message = self.socket.recv(timeout=TIMEOUT_S)
        assert isinstance(message, bytes)
        update = decoded(message)
        self.updates.append(update)
        self.arrays |= update.arrays
        return update

    def look_until(self, **wanted: Any) -> Update:
        """Look until the header says all of this."""
        while True:
            update = self.look()
            if all(update.header[name] == value for name, value in wanted.items()):
                return update


@dataclass(frozen=True)
class Answer:
    """What a request was answered."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def said(self) -> Any:
        return json.loads(self.body)


def ask(link: str, path: str = "/", method: str = "GET", query: str | None = None, **headers: str) -> Answer:
    """One HTTP request to the server of a link, with the link's token unless another query is given."""
    found = urlsplit(link)
    query = found.query if query is None else query
    assert found.hostname is not None
    connection = http.client.HTTPConnection(found.hostname, found.port, timeout=TIMEOUT_S)
    try:
        connection.putrequest(method, path + (f"?{query}" if query else ""), skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, named, answer.read().decode())
    finally:
        connection.close()
