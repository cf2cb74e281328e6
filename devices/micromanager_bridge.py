"""pyjavaz's bridge to Micro-Manager's server, with an end to every wait.

pyjavaz 1.2.8 waits for ever for a server that has gone or hangs: in a call, when a shadow of one of its objects is
collected, and while the interpreter exits. Its shadows are used as they are; what they send goes through a bridge of
ours, which gives every message a deadline, and lets go of objects without waiting.

Imported only where a core is connected, because it imports pyjavaz.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import zmq
from numpy.typing import NDArray
from pyjavaz.bridge import Bridge, _DataSocket, deserialize_array

from devices.errors import DeviceError, DeviceNotFoundError, DeviceReplyError, DeviceSilentError, MicroManagerCallError

# A server that was silent gets a little time in later calls: it may turn the light off, but an ending must not wait.
_SECOND_CHANCE_S: Final = 1.0
_RELEASE_S: Final = 1.0
_FIRST_PROBE_S: Final = 0.2
_PROBE_S: Final = 3.0  # Windows takes 2 s to say that nothing listens

_WHAT_TO_DO: Final = "look at the devices, and connect again, after restarting Micro-Manager where it stays so"

Message = dict[str, Any]


@dataclass(frozen=True)
class TaggedImage:
    """A frame and what the camera says of it."""

    tags: dict[str, Any]
    pix: NDArray[Any]


class BoundedBridge(Bridge):  # type: ignore[misc]
    """A bridge to the server on ``port`` of this computer, in which no message waits longer than ``call_timeout_s``.

    It stands beside other bridges to the same port, and has no thread of its own: a message is sent and answered in
    the thread that calls, one at a time. Objects that are only read come back as plain values: a TaggedImage as
    ours, a StrVector as a list, a Rectangle as [x, y, width, height], as from a core in this process; pyjavaz would
    keep a function for each of them until the interpreter exits.

    ``gone`` is the error of a server that has gone, which every further call raises at once; ``is_silent`` tells that
    the last call was not answered in time.

    Raises DeviceNotFoundError where no Micro-Manager answers within ``connect_timeout_s``.
    """

    def __init__(self, port: int, connect_timeout_s: float, call_timeout_s: float) -> None:
        self.call_timeout_s = call_timeout_s
        self._socket: _DataSocket | None = None
        self._to_release: deque[Message] = deque()
        self.gone: DeviceNotFoundError | None = None
        self.is_silent = False
        with Bridge._bridge_creation_lock:
            others = Bridge._cached_bridges_by_port
            other = others.get(port)
            super().__init__(port, timeout=int(connect_timeout_s * 1000))
            self._cached = False
            del others[port]
            if other is not None:
                others[port] = other
        if (idle := self._socket_thread_wr()) is not None:
            idle.join()
        try:
            version = self._exchange({"command": "connect", "debug": False}, connect_timeout_s).get("version", "2.0.0")
        except DeviceError as error:
            self.abandon()
            raise DeviceNotFoundError(
                f"what listens on port {port} did not answer as Micro-Manager does within {connect_timeout_s:g} s "
                f"({error}); in Micro-Manager, tick Tools › Options › Run server on port, and restart it"
            ) from error
        if version != self._EXPECTED_ZMQ_SERVER_VERSION:
            warnings.warn(
                f"Micro-Manager's server on port {port} speaks version {version} of its protocol, pyjavaz version "
                f"{self._EXPECTED_ZMQ_SERVER_VERSION}; calls may fail: update the older one of the two",
                stacklevel=2,
            )

    def send_and_receive(
        self,
        message: Message,
        timeout: float | None = None,
        give_up_condition: object = None,  # noqa: ARG002  pyjavaz names it, for waits that have no end otherwise
    ) -> Message:
        """The server's answer to a message, within ``timeout`` (s; None: as the bridge was told).

        What lets go of an object is put by and sent with the next message, because it may come from the garbage
        collector in the middle of another one. Raises DeviceNotFoundError, DeviceSilentError, DeviceReplyError, and
        MicroManagerCallError with the words of an exception on the server's side.
        """
        if message["command"] == "destructor":
            if self.gone is None and not self._closed:
                self._to_release.append(message)
            return {"type": "none"}
        allowed_s = self.call_timeout_s if timeout is None else timeout
        if self.is_silent:
            allowed_s = min(allowed_s, _SECOND_CHANCE_S)
        if not self._communication_lock.acquire(timeout=self.call_timeout_s + allowed_s):
            raise DeviceSilentError(f"{self._server} is still busy with another thread's call; {_WHAT_TO_DO}")
        try:
            self._must_be_open()
            self._release(allowed_s)
            return self._exchange(message, allowed_s)
        finally:
            if self._closed:
                self._drop_socket()  # left meanwhile, by another thread
            self._communication_lock.release()

    def java_object_removed(self, obj: Any) -> None:
        """A shadow has let go of its object; with the last one the bridge closes."""
        self._java_objects.discard(obj)
        if not self._java_objects:
            self.close()

    def close(self) -> None:
        """Let go of what there is on the server's side, waiting a second at most, and close the socket."""
        if getattr(self, "_closed", True) or not self._communication_lock.acquire(timeout=_RELEASE_S):
            return
        try:
            if self.gone is None and not self.is_silent:
                self._release(_RELEASE_S)
        except DeviceError:
            self._to_release.clear()
        finally:
            self._communication_lock.release()
            self.abandon()

    def abandon(self) -> None:
        """Close the socket; nobody waits for anything after this, and no call is possible.

        Where another thread is in the middle of a call, the socket is closed when that call ends.
        """
        self._closed = True
        self._to_release.clear()
        for shadow in list(self._java_objects):
            shadow._closed = True
        if self._communication_lock.acquire(blocking=False):
            self._drop_socket()
            self._communication_lock.release()

    def _run_socket_thread(self) -> None:
        """What pyjavaz's thread would do is done in the threads that call."""

    def _deserialize_object(self, serialized_object: Message) -> Callable[..., Any]:
        """How to make a value of an object that the server describes."""
        plain = _PLAIN.get(serialized_object["class"])
        if plain is None:
            shadow: Callable[..., Any] = super()._deserialize_object(serialized_object)
            return shadow

        def read(serialized_object: Message, bridge: BoundedBridge) -> Any:
            try:
                return plain(bridge, serialized_object)
            finally:
                bridge.send_and_receive({"command": "destructor", "hash-code": serialized_object["hash-code"]})

        return read

    @property
    def _server(self) -> str:
        return f"the Micro-Manager server on port {self.port}"

    def _must_be_open(self) -> None:
        if self.gone is not None:
            raise DeviceNotFoundError(str(self.gone)) from self.gone
        if self._closed:
            raise DeviceNotFoundError(f"{self._server} was left; connect to it again")
        if self.port in Bridge._ports_with_terminated_servers:
            raise self._has_gone("pycromanager ended it")

    def _release(self, allowed_s: float) -> None:
        """Send what was put by; an object that the server does not know has been let go of already."""
        while self._to_release:
            with suppress(MicroManagerCallError):
                self._exchange(self._to_release.popleft(), allowed_s)

    def _exchange(self, message: Message, allowed_s: float) -> Message:
        if self._socket is None:
            self._socket = _DataSocket(zmq.Context.instance(), self.port, zmq.REQ)
            self._socket._socket.linger = 0
            self._socket._socket.sndtimeo = int(allowed_s * 1000)
        try:
            self._socket.send(message)
            self._wait_for_answer(message, allowed_s)
            reply = self._received()
        except zmq.Again as error:
            self._drop_socket()
            raise self._is_silent(message, allowed_s) from error
        except BaseException:
            # Whoever broke it off (Ctrl-C), an answer that comes now must not be taken for that of the next message.
            self._drop_socket()
            raise
        self.is_silent = False
        if reply["type"] == "exception":
            asked = message.get("name", message["command"])
            raise MicroManagerCallError(f"Micro-Manager refused {asked}: {reply['value']}")
        return reply

    def _received(self) -> Message:
        """One message, its arrays in their places: after the JSON come pairs of an array's identity and its bytes."""
        assert self._socket is not None
        text, *arrays = self._socket._socket.recv_multipart(zmq.NOBLOCK)
        try:
            message: Message = json.loads(text.decode("iso-8859-1"))
            for identity, values in zip(arrays[::2], arrays[1::2], strict=True):
                self._socket._replace_bytes(message, int.from_bytes(identity, sys.byteorder), values)
            message["type"]
        except (ValueError, LookupError, TypeError) as error:
            raise DeviceReplyError(
                f"{self._server} answered what cannot be understood ({error}); {_WHAT_TO_DO}"
            ) from error
        return message

    def _wait_for_answer(self, message: Message, allowed_s: float) -> None:
        """Return when an answer is there; look now and then whether anything listens still."""
        assert self._socket is not None
        started, probe_s = time.monotonic(), _FIRST_PROBE_S
        while True:
            left_s = allowed_s - (time.monotonic() - started)
            if self._socket._socket.poll(max(0, int(1000 * min(left_s, probe_s)))):
                return
            try:
                socket.create_connection((self._ip_address, self.port), _PROBE_S).close()
            except ConnectionRefusedError as error:
                raise self._has_gone(str(error)) from error
            except OSError:
                pass  # a server that hangs does not take connections for ever
            if left_s <= probe_s:
                raise self._is_silent(message, allowed_s)
            probe_s *= 2

    def _is_silent(self, message: Message, allowed_s: float) -> DeviceSilentError:
        self.is_silent = True
        asked = message.get("name", message["command"])
        return DeviceSilentError(
            f"{self._server} listens, and did not answer {asked!r} within {allowed_s:g} s; what it drives is as it "
            f"was, a shutter perhaps open and a camera perhaps armed; {_WHAT_TO_DO}"
        )

    def _has_gone(self, why: str) -> DeviceNotFoundError:
        self.gone = DeviceNotFoundError(
            f"{self._server} has gone ({why}): what it drove is as it was, a shutter perhaps open and a camera perhaps "
            "armed; look at them, and start Micro-Manager again"
        )
        return self.gone

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket._socket.close(linger=0)
            self._socket = None


def _field(bridge: BoundedBridge, described: Message, name: str) -> Any:
    return _value(bridge.send_and_receive({"command": "get-field", "hash-code": described["hash-code"], "name": name}))


def _method(bridge: BoundedBridge, described: Message, name: str, *arguments: Any) -> Any:
    types = next(
        each["arguments"]
        for each in described["api"]
        if each["name"] == name and len(each["arguments"]) == len(arguments)
    )
    message = {
        "command": "run-method",
        "static": False,
        "hash-code": described["hash-code"],
        "java_class_name": described["class"],
        "name": name,
        "argument-types": types,
        "argument-deserialization-types": types,
        "arguments": list(arguments),
    }
    return _value(bridge.send_and_receive(message))


def _value(reply: Message) -> Any:
    if reply["type"] in ("primitive", "string"):
        return reply["value"]
    if reply["type"] == "object":
        return json.loads(reply["value"])
    return deserialize_array(reply)


def _tagged_image(bridge: BoundedBridge, described: Message) -> TaggedImage:
    return TaggedImage(_field(bridge, described, "tags"), _field(bridge, described, "pix"))


def _names(bridge: BoundedBridge, described: Message) -> list[str]:
    return [_method(bridge, described, "get", index) for index in range(_method(bridge, described, "size"))]


def _rectangle(bridge: BoundedBridge, described: Message) -> list[int]:
    return [int(_field(bridge, described, name)) for name in ("x", "y", "width", "height")]


_PLAIN: Final[dict[str, Callable[[BoundedBridge, Message], Any]]] = {
    "mmcorej.TaggedImage": _tagged_image,
    "mmcorej.StrVector": _names,
    "java.awt.Rectangle": _rectangle,
}
