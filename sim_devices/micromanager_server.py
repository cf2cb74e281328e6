"""A Micro-Manager server on a loopback port, with the simulated core behind it.

It speaks the request and reply protocol of Micro-Manager's Java server (pyjavaz, server version 5.1.0), so that an
unmodified ``pycromanager.Core(port=…)`` connects to it. A message is JSON; arrays are sent as further parts, two for
each: its identity (4 bytes) and its bytes, and the JSON holds ``@`` and the identity in hexadecimal in their place.
Objects stay here; the client holds a shadow that carries an object's hash code, and says when it lets go of it.
Static classes (the request get-class, pycromanager's JavaClass) are not offered: asking for one is an exception.

It can be told to fail at a request to come: to vanish, to hang, or to answer nonsense (MicroManagerServer.fail).
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import uuid
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import zmq

from sim_devices.java_api import (
    CMM_CORE,
    DEVICE_TYPE,
    RECTANGLE,
    STR_VECTOR,
    TAGGED_IMAGE,
    DeviceType,
    JavaClass,
    Rectangle,
    StrVector,
    snake_case,
)
from sim_devices.micromanager_core import SimulatedCore, TaggedImage

_VERSION: Final = "5.1.0"
_POLL_MS: Final = 20
_JAVA_CLASSES: Final[dict[type, JavaClass]] = {
    SimulatedCore: CMM_CORE,
    TaggedImage: TAGGED_IMAGE,
    Rectangle: RECTANGLE,
    StrVector: STR_VECTOR,
    DeviceType: DEVICE_TYPE,
}
_ARRAY_TYPES: Final = {1: "byte-array", 2: "short-array", 4: "int-array"}

_GARBAGE: Final = b"\xff\x00 this is no JSON {"

Message = dict[str, Any]
Failure = Literal["vanish", "hang", "exception", "garbage"]


@dataclass
class _Failing:
    """A failure to come: at the ``remaining``-th matching request."""

    method: str | None
    remaining: int
    how: Failure

    def is_due(self, request: Message) -> bool:
        """Whether this request is the one; counts it where it matches."""
        names = (request.get("command"), request.get("name"))
        if self.method is None or snake_case(self.method) in [snake_case(str(each)) for each in names]:
            self.remaining -= 1
        return self.remaining == 0


class MicroManagerServer:
    """Serves one core on 127.0.0.1, from one thread per port, until it is stopped.

    ``port`` 0 takes a free one; the port in use is ``port`` after ``start``, which takes the same one when it is
    called again. Any number of clients may connect, one after the other or side by side, and connect again.
    """

    def __init__(self, core: SimulatedCore, port: int = 0) -> None:
        self._core = core
        self._objects: dict[str, Any] = {}
        self._identities = itertools.count(1)
        self._stopping = threading.Event()
        self._hanging = threading.Event()
        self._failures: list[_Failing] = []
        self._failures_lock = threading.Lock()
        self._threads: deque[threading.Thread] = deque()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self.port = port

    def start(self) -> Self:
        """Listen, perhaps again: after it was stopped, or has vanished.

        Raises RuntimeError where it listens already, zmq.ZMQError where the port is taken.
        """
        if self._context is not None:
            if not self._stopping.is_set():
                raise RuntimeError(f"the server listens already, on port {self.port}")
            self.stop()  # what is left of one that has vanished
        self._stopping.clear()
        self._context = zmq.Context()
        try:
            self.port = self._listen(self.port)
        except zmq.ZMQError:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Answer no more, end all threads, free the ports, forget failures to come. Stopping twice is stopping once."""
        if self._context is None:
            return
        self._stopping.set()
        # A thread that is still answering may add one for a new port, always before it ends itself.
        while self._threads:
            self._threads.popleft().join()
        self._objects.clear()
        self._failures.clear()
        self._hanging.clear()
        self._context.term()
        self._context = None

    def fail(self, method: str | None, nth: int, how: Failure) -> None:
        """Fail at the ``nth`` matching request from now, 1 being the next one, instead of carrying it out.

        method: a Java method in either spelling (popNextImage, pop_next_image), or a command of the protocol (connect,
        constructor, get-field, destructor …); None: any request, ``connect`` included. how: ``vanish`` closes all ports
        without an answer, as a process does that dies; ``hang`` keeps them open and answers nothing any more, until the
        server is stopped; ``exception`` and ``garbage`` answer this one request with an exception, or with bytes that
        are no JSON. The core and what it drives stay as they are. Raises ValueError.
        """
        if nth < 1 or how not in get_args(Failure):
            raise ValueError(f"no failure: request {nth} (counted from 1), {how!r} (allowed: {get_args(Failure)})")
        with self._failures_lock:
            self._failures.append(_Failing(method, nth, how))

    @property
    def n_objects(self) -> int:
        """How many objects clients hold shadows of."""
        return len(self._objects)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _listen(self, wanted_port: int) -> int:
        assert self._context is not None
        socket = self._context.socket(zmq.REP)
        socket.linger = 0
        try:
            socket.bind(f"tcp://127.0.0.1:{wanted_port or '*'}")
        except zmq.ZMQError:
            socket.close()
            raise
        port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        thread = threading.Thread(
            target=self._serve, args=(socket, port), name=f"MicroManagerServer:{port}", daemon=True
        )
        thread.start()  # before it is listed, because only a thread that was started can be waited for
        self._threads.append(thread)
        return port

    def _serve(self, socket: zmq.Socket[bytes], port: int) -> None:
        with socket:
            while not self._stopping.is_set():
                if self._hanging.is_set():
                    self._stopping.wait()
                elif socket.poll(_POLL_MS):
                    answer = self._answer(socket.recv_multipart()[0], port)
                    if answer:
                        socket.send_multipart(answer)

    def _answer(self, message: bytes, port: int) -> list[bytes]:
        """The parts of the answer; none where the server fails at this request."""
        try:
            request = json.loads(message.decode("iso-8859-1"))
            failure = self._failure(request)
            if failure == "garbage":
                return [_GARBAGE]
            if failure == "vanish":
                self._stopping.set()
            if failure == "hang":
                self._hanging.set()
            # What one port does all of them do, with requests that they have received already, too.
            if self._stopping.is_set() or self._hanging.is_set():
                return []
            if failure == "exception":
                raise RuntimeError(f"{request.get('name', request['command'])} failed")
            reply, arrays = self._reply(request, port)
        except Exception as error:  # whatever a call raises is the client's to see, as in Java
            reply, arrays = {"type": "exception", "value": _java_text(error)}, []
        return [json.dumps(reply).encode("iso-8859-1"), *arrays]

    def _failure(self, request: Message) -> Failure | None:
        with self._failures_lock:
            due = [each for each in self._failures if each.is_due(request)]
            self._failures = [each for each in self._failures if each.remaining > 0]
        return due[0].how if due else None

    def _reply(self, request: Message, port: int) -> tuple[Message, list[bytes]]:
        command = request["command"]
        if command == "connect":
            return {"type": "none", "version": _VERSION}, []
        if command == "get-constructors":
            return {"type": "none", "api": [{"name": _constructible(request), "arguments": []}]}, []
        if command == "constructor":
            _constructible(request)
            object_port = self._listen(0) if request.get("new-port") else port
            return self._shadow(self._core, object_port), []
        if command == "destructor":
            self._objects.pop(request["hash-code"], None)
            return {"type": "none"}, []
        if command == "run-method":
            return self._serialised(self._run(request), port)
        if command == "get-field":
            target, name = self._field(request)
            return self._serialised(getattr(target, name), port)
        if command == "set-field":
            target, name = self._field(request)
            setattr(target, name, request["value"])
            return {"type": "none"}, []
        raise ValueError(f"Unknown command: {command}")

    def _run(self, request: Message) -> Any:
        target = self._object(request)
        name, types = request["name"], tuple(request["argument-types"])
        described = _JAVA_CLASSES[type(target)]
        matching = [method for method in described.methods if method.name == name and method.arguments == types]
        if not matching:
            raise LookupError("No Matching method found with argument types")
        result = getattr(target, snake_case(name))(*request["arguments"])
        if matching[0].returns == "java.awt.Rectangle":
            return Rectangle(*result)
        if matching[0].returns == "mmcorej.StrVector":
            return StrVector(result)
        if matching[0].returns == "mmcorej.DeviceType":
            return DeviceType(result)
        return result

    def _object(self, request: Message) -> Any:
        if request["hash-code"] not in self._objects:
            raise LookupError(f"No object with hash code {request['hash-code']}")
        return self._objects[request["hash-code"]]

    def _field(self, request: Message) -> tuple[Any, str]:
        target = self._object(request)
        name = request["name"]
        if name not in _JAVA_CLASSES[type(target)].fields:
            raise AttributeError(f"No such field: {name}")
        return target, name

    def _serialised(self, value: Any, port: int) -> tuple[Message, list[bytes]]:
        if value is None:
            return {"type": "null"}, []
        if isinstance(value, str):
            return {"type": "string", "value": value}, []
        if isinstance(value, bool | int | float):
            return {"type": "primitive", "value": value}, []
        if isinstance(value, dict):
            return {"type": "object", "class": "JSONObject", "value": json.dumps(value)}, []
        if isinstance(value, np.ndarray):
            # Java arrays have one dimension, and its short and int have the pixels' bits in the machine's own order.
            identity = next(self._identities) & 0x7FFFFFFF
            parts = [identity.to_bytes(4, sys.byteorder), value.tobytes()]
            return {"type": _ARRAY_TYPES[value.dtype.itemsize], "value": f"@{identity:x}"}, parts
        return self._shadow(value, port), []

    def _shadow(self, value: Any, port: int) -> Message:
        """Keep an object, and describe it well enough for the client to build its shadow."""
        hash_code = f"{id(value):x}{uuid.uuid4()}"
        self._objects[hash_code] = value
        described = _JAVA_CLASSES[type(value)].described()
        return {"type": "unserialized-object", "hash-code": hash_code, "port": port, **described}


def _constructible(request: Message) -> str:
    """The class that clients may ask for; for any other one, what Java says of a class it does not find."""
    classpath: str = request["classpath"]
    if classpath != CMM_CORE.name:
        raise LookupError(f"java.lang.ClassNotFoundException: {classpath}")
    return classpath


def _java_text(error: Exception) -> str:
    """An exception as Java prints it."""
    text = str(error.args[0]) if error.args else type(error).__name__
    return text if text.startswith("java.") else f"java.lang.Exception: {text}"
