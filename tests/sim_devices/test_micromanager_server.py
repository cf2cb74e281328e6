"""The server stand-in, spoken to by an unmodified pycromanager and by hand."""

from __future__ import annotations

import json
import socket as sockets
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from pycromanager import Core

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.java_api import CMM_CORE, snake_case
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import Failure, MicroManagerServer

SILENT = BenchSettings(gain=1.0, variance=0.0, shot_noise=False)


def a_bench(settings: BenchSettings = SILENT) -> OpticalBench:
    return OpticalBench(settings, np.ones((8, 8)), light_on=True)


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench()


@pytest.fixture
def server(bench: OpticalBench) -> Iterator[MicroManagerServer]:
    core = SimulatedCore(bench, width_px=3, height_px=2)
    core.set_auto_shutter(False)
    with MicroManagerServer(core) as running:
        yield running


@pytest.fixture
def remote(server: MicroManagerServer) -> Iterator[Any]:
    core = Core(port=server.port)
    yield core
    core._close()


def test_every_described_method_exists_on_the_core() -> None:
    for method in CMM_CORE.methods:
        assert callable(getattr(SimulatedCore, snake_case(method.name)))


def test_calls_go_through_with_their_arguments_and_results(remote: Any) -> None:
    assert "stand-in" in remote.get_version_info()
    assert remote.get_camera_device() == "SimulatedCamera"
    assert (remote.get_image_width(), remote.get_image_height(), remote.get_bytes_per_pixel()) == (3, 2, 2)
    remote.set_exposure(2.5)
    assert remote.get_exposure() == 2.5
    remote.set_exposure("SimulatedCamera", 4)
    assert remote.get_exposure("SimulatedCamera") == 4.0
    remote.set_property("SimulatedCamera", "Gain", 8)
    assert remote.get_property("SimulatedCamera", "Gain") == "8"
    assert remote.get_auto_shutter() is False
    remote.set_roi(1, 0, 2, 2)
    region = remote.get_roi()
    assert (region.x, region.y, region.width, region.height) == (1, 0, 2, 2)
    labels = remote.get_loaded_devices()
    assert [labels.get(i) for i in range(labels.size())] == [
        "SimulatedCamera",
        "SimulatedShutter",
        "SimulatedXYStage",
        "SimulatedFocus",
        "Core",
    ]


def test_a_devices_listing_comes_through(remote: Any) -> None:
    def texts(names: Any) -> list[str]:
        return [names.get(i) for i in range(names.size())]

    kinds = {label: remote.get_device_type(label) for label in texts(remote.get_loaded_devices())}
    assert [(kind.swig_value(), kind.to_string()) for kind in kinds.values()] == [
        (2, "CameraDevice"),
        (3, "ShutterDevice"),
        (6, "XYStageDevice"),
        (5, "StageDevice"),
        (10, "CoreDevice"),
    ]
    camera = "SimulatedCamera"
    assert (remote.get_device_library(camera), remote.get_device_name("Core")) == ("HadascopeSimulation", "Core")
    assert "Binning" in texts(remote.get_device_property_names(camera))
    assert texts(remote.get_allowed_property_values(camera, "Binning")) == ["1", "2"]
    assert texts(remote.get_allowed_property_values(camera, "Gain")) == []
    assert remote.is_property_read_only(camera, "Binning") is False


def test_binning_and_region_come_through(remote: Any, bench: OpticalBench) -> None:
    remote.set_property("SimulatedCamera", "Binning", "2")
    assert (remote.get_image_width(), remote.get_image_height()) == (1, 1)
    remote.start_sequence_acquisition(1, 0.0, True)
    bench.display(np.full(1, 60.0), 100, 100)
    assert remote.pop_next_image().tolist() == [40]
    remote.set_property("SimulatedCamera", "Binning", 1)
    remote.clear_roi()
    assert remote.get_image_width() == 3


def test_images_arrive_flat(remote: Any, bench: OpticalBench) -> None:
    remote.start_sequence_acquisition(2, 0.0, True)
    bench.display(np.array([15.0, 6.0 * 40_000]), 100, 100)
    assert remote.get_remaining_image_count() == 2
    image = remote.pop_next_image()
    assert (image.tolist(), image.dtype) == ([3, 3, 3, 2, 2, 2], np.uint16)
    assert remote.pop_next_image().tolist() == [40_000] * 6


@pytest.mark.parametrize(("bytes_per_px", "dtype"), [(1, np.uint8), (2, np.uint16), (4, np.uint32)])
def test_every_pixel_type_keeps_its_bits(bytes_per_px: int, dtype: type) -> None:
    bench = a_bench()
    core = SimulatedCore(bench, width_px=2, height_px=1, bytes_per_px=bytes_per_px)
    core.set_auto_shutter(False)
    largest = 256**bytes_per_px - 1
    with MicroManagerServer(core) as server:
        remote = Core(port=server.port)
        remote.start_sequence_acquisition(1, 0.0, True)
        bench.display(np.array([2.0 * largest - 1]), 100, 100)
        image = remote.pop_next_image()
        remote._close()
    assert (image.tolist(), image.dtype) == ([largest, largest - 1], dtype)


def test_tagged_images_carry_pixels_and_tags_and_are_let_go_of(
    remote: Any, bench: OpticalBench, server: MicroManagerServer
) -> None:
    remote.start_sequence_acquisition(2, 0.0, True)
    bench.display(np.array([12.0, 18.0]), 100, 100)
    for number, pixel in ((0, 2), (1, 3)):
        tagged = remote.pop_next_tagged_image()
        assert tagged.pix.tolist() == [pixel] * 6
        assert tagged.tags["ImageNumber"] == str(number)
        assert float(tagged.tags["ElapsedTime-ms"]) == pytest.approx(0.1 * number)
        tagged._close()
    assert server.n_objects == 1  # the core itself


def test_exceptions_raise_in_the_client_and_the_server_goes_on(remote: Any) -> None:
    with pytest.raises(Exception, match="Circular buffer is empty"):
        remote.pop_next_image()
    with pytest.raises(Exception, match='No device with label "Elsewhere"'):
        remote.set_camera_device("Elsewhere")
    assert remote.get_camera_device() == "SimulatedCamera"


def test_clients_come_and_go_and_come_again(server: MicroManagerServer) -> None:
    for _ in range(3):
        remote = Core(port=server.port)
        assert remote.get_image_width() == 3
        remote._close()
        assert server.n_objects == 0


def test_an_object_on_its_own_port_is_the_same_core(remote: Any, server: MicroManagerServer) -> None:
    other = Core(port=server.port, new_socket=True)
    other.set_exposure(7.0)
    assert other._creation_port != server.port
    other._close()
    assert remote.get_exposure() == 7.0


def test_readings_are_the_same_through_the_wire_and_directly() -> None:
    settings = BenchSettings(gain=2.0, variance=30.0, offset=500.0, seed=9)
    light = np.random.default_rng(0).exponential(4000.0, 40)

    def read(bench: OpticalBench, core: Any) -> list[int]:
        core.set_auto_shutter(False)
        core.start_sequence_acquisition(40, 0.0, True)
        bench.display(light, 100, 100)
        return [int(core.pop_next_image().astype(np.int64).sum()) for _ in range(40)]

    direct_bench, wire_bench = a_bench(settings), a_bench(settings)
    directly = read(direct_bench, SimulatedCore(direct_bench))
    with MicroManagerServer(SimulatedCore(wire_bench)) as server:
        remote = Core(port=server.port)
        through_the_wire = read(wire_bench, remote)
        remote._close()
    assert through_the_wire == directly


def test_nothing_is_left_behind_after_stopping() -> None:
    before = set(threading.enumerate())
    server = MicroManagerServer(SimulatedCore(a_bench())).start()
    port = server.port
    remote = Core(port=port)
    remote._close()
    server.stop()
    server.stop()
    assert set(threading.enumerate()) <= before
    with MicroManagerServer(SimulatedCore(a_bench()), port) as again:  # the port is free again
        assert again.port == port


def test_stopping_while_a_client_opens_a_port_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    server = MicroManagerServer(SimulatedCore(a_bench())).start()
    opening, listen = threading.Event(), server._listen

    def listen_late(port: int) -> int:
        opening.set()
        assert server._stopping.wait(10)
        return listen(port)

    monkeypatch.setattr(server, "_listen", listen_late)
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(f"tcp://127.0.0.1:{server.port}")
        request = {"command": "constructor", "classpath": "mmcorej.CMMCore", "arguments": [], "new-port": True}
        socket.send(json.dumps(request).encode("iso-8859-1"))
        assert opening.wait(10)
        server.stop()
    assert set(threading.enumerate()) <= before


def test_a_port_that_is_taken_is_an_error(server: MicroManagerServer) -> None:
    other = MicroManagerServer(SimulatedCore(a_bench()), server.port)
    with pytest.raises(zmq.ZMQError, match="in use"):
        other.start()
    with pytest.raises(RuntimeError, match="listens already"):
        server.start()


class TestByHand:
    """The protocol without pyjavaz."""

    @pytest.fixture
    def ask(self, server: MicroManagerServer) -> Iterator[Any]:
        with zmq.Context() as context, context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.rcvtimeo = 5000
            socket.connect(f"tcp://127.0.0.1:{server.port}")

            def request(**message: Any) -> tuple[dict[str, Any], list[bytes]]:
                socket.send(json.dumps(message).encode("iso-8859-1"))
                reply, *parts = socket.recv_multipart()
                return json.loads(reply), parts

            yield request

    def run(self, ask: Any, hash_code: str, name: str, types: list[str], arguments: list[Any]) -> Any:
        types_twice = {"argument-types": types, "argument-deserialization-types": types}
        return ask(command="run-method", **{"hash-code": hash_code}, name=name, arguments=arguments, **types_twice)

    def test_connecting_tells_the_version(self, ask: Any) -> None:
        assert ask(command="connect", debug=False) == ({"type": "none", "version": "5.1.0"}, [])

    def test_constructors_and_objects_are_described(self, ask: Any) -> None:
        reply, _ = ask(command="get-constructors", classpath="mmcorej.CMMCore")
        assert reply["api"] == [{"name": "mmcorej.CMMCore", "arguments": []}]
        shadow, _ = ask(command="constructor", classpath="mmcorej.CMMCore", arguments=[])
        assert shadow["type"] == "unserialized-object"
        assert shadow["class"] == "mmcorej.CMMCore"
        overloads = [each["arguments"] for each in shadow["api"] if each["name"] == "setExposure"]
        assert overloads == [["double"], ["java.lang.String", "double"]]

    def test_arrays_follow_as_parts_named_in_hexadecimal(self, ask: Any, bench: OpticalBench) -> None:
        shadow, _ = ask(command="constructor", classpath="mmcorej.CMMCore", arguments=[])
        types = ["int", "double", "boolean"]
        self.run(ask, shadow["hash-code"], "startSequenceAcquisition", types, [1, 0.0, True])
        bench.display(np.array([60.0]), 100, 100)
        reply, (identity, pixels) = self.run(ask, shadow["hash-code"], "popNextImage", [], [])
        assert reply["type"] == "short-array"
        assert int(reply["value"].removeprefix("@"), 16) == int(np.frombuffer(identity, np.uint32)[0])
        assert np.frombuffer(pixels, np.uint16).tolist() == [10] * 6

    def test_what_java_does_not_know_is_an_exception(self, ask: Any) -> None:
        shadow, _ = ask(command="constructor", classpath="mmcorej.CMMCore", arguments=[])
        for message in (
            {"command": "get-constructors", "classpath": "org.nowhere.Thing"},
            {"command": "get-class", "classpath": "mmcorej.CMMCore"},
            {"command": "dance"},
            {"command": "get-field", "hash-code": shadow["hash-code"], "name": "secret"},
            {"command": "get-field", "hash-code": "gone", "name": "pix"},
        ):
            reply, _ = ask(**message)
            assert reply["type"] == "exception"
        reply, _ = self.run(ask, shadow["hash-code"], "setExposure", ["boolean"], [True])
        assert "No Matching method" in reply["value"]

    def test_a_destroyed_object_is_gone(self, ask: Any, server: MicroManagerServer) -> None:
        shadow, _ = ask(command="constructor", classpath="mmcorej.CMMCore", arguments=[])
        ask(command="destructor", **{"hash-code": shadow["hash-code"]})
        assert server.n_objects == 0
        reply, _ = self.run(ask, shadow["hash-code"], "getImageWidth", [], [])
        assert reply["type"] == "exception"


class TestFailing:
    """Servers that vanish, hang, or answer nonsense, at the request that was named."""

    class Client:
        """A socket that waits for an answer so long and no longer."""

        def __init__(self, port: int) -> None:
            self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            self.socket = self.context.socket(zmq.REQ)
            self.socket.linger = 0
            self.socket.connect(f"tcp://127.0.0.1:{port}")

        def send(self, **message: Any) -> None:
            self.socket.send(json.dumps(message).encode("iso-8859-1"))

        def receive(self, within_ms: int = 5000) -> bytes | None:
            return self.socket.recv_multipart()[0] if self.socket.poll(within_ms) else None

        def ask(self, **message: Any) -> dict[str, Any]:
            self.send(**message)
            reply = self.receive()
            assert reply is not None
            answer: dict[str, Any] = json.loads(reply)
            return answer

        def core(self) -> str:
            return str(self.ask(command="constructor", classpath="mmcorej.CMMCore", arguments=[])["hash-code"])

        def call(self, hash_code: str, name: str) -> dict[str, Any]:
            return {
                "command": "run-method",
                "hash-code": hash_code,
                "name": name,
                "argument-types": [],
                "arguments": [],
            }

    @pytest.fixture
    def client(self, server: MicroManagerServer) -> Iterator[Client]:
        client = self.Client(server.port)
        yield client
        client.context.destroy(linger=0)

    def listens(self, port: int) -> bool:
        try:
            sockets.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    def wait_until_gone(self, port: int) -> None:
        deadline = time.monotonic() + 10
        while self.listens(port):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def threads_of(self, port: int) -> list[threading.Thread]:
        return [each for each in threading.enumerate() if each.name == f"MicroManagerServer:{port}"]

    def test_a_vanished_server_closes_all_its_ports_and_comes_again(self, bench: OpticalBench) -> None:
        core = SimulatedCore(bench)
        server = MicroManagerServer(core).start()
        first = self.Client(server.port)
        other_port = first.ask(
            **{"command": "constructor", "classpath": "mmcorej.CMMCore", "arguments": [], "new-port": True}
        )["port"]
        port = server.port
        server.fail("getImageWidth", 1, "vanish")
        first.send(**first.call(first.core(), "getImageWidth"))
        self.wait_until_gone(port)
        self.wait_until_gone(other_port)
        assert first.receive(within_ms=0) is None
        core.set_exposure(3.0)  # what it drove stays as it was
        server.start()
        assert server.port == port
        assert len(self.threads_of(port)) == 1
        second = self.Client(port)
        assert second.ask(**second.call(second.core(), "getExposure"))["value"] == 3.0
        server.stop()
        assert self.threads_of(port) == self.threads_of(other_port) == []
        assert not self.listens(port)
        for each in (first, second):
            each.context.destroy(linger=0)

    def test_a_hanging_server_keeps_its_port_and_answers_nobody(
        self, client: Client, server: MicroManagerServer
    ) -> None:
        hash_code = client.core()
        server.fail(None, 1, "hang")
        client.send(**client.call(hash_code, "getImageWidth"))
        assert client.receive(within_ms=100) is None
        newcomer = self.Client(server.port)
        newcomer.send(command="connect")
        assert newcomer.receive(within_ms=100) is None
        newcomer.context.destroy(linger=0)
        assert self.listens(server.port)
        port = server.port
        server.stop()
        assert self.threads_of(port) == []
        with server:
            again = self.Client(server.port)
            assert again.ask(command="connect")["version"] == "5.1.0"
            again.context.destroy(linger=0)

    def test_an_exception_or_garbage_is_one_answer_and_the_request_is_not_carried_out(
        self, client: Client, server: MicroManagerServer, bench: OpticalBench
    ) -> None:
        hash_code = client.core()
        server.fail("stopSequenceAcquisition", 2, "exception")
        server.fail("stop_sequence_acquisition", 4, "garbage")
        call = client.call(hash_code, "stopSequenceAcquisition")
        server._core.start_sequence_acquisition(5, 0.0, True)
        kinds = []
        for _ in range(5):
            client.send(**call)
            reply = client.receive()
            assert reply is not None
            try:
                kinds.append(json.loads(reply.decode("iso-8859-1"))["type"])
            except json.JSONDecodeError:
                kinds.append("no JSON")
            if len(kinds) == 1:
                assert not server._core.is_sequence_running()
                server._core.start_sequence_acquisition(5, 0.0, True)
            if len(kinds) == 2:
                assert server._core.is_sequence_running()
        assert kinds == ["null", "exception", "null", "no JSON", "null"]

    @pytest.mark.parametrize(
        ("method", "nth", "failing"),
        [(None, 1, 0), (None, 4, 3), ("connect", 1, 0), ("getImageWidth", 2, 3), ("get_image_height", 1, 2)],
    )
    def test_requests_that_match_are_counted_from_one(
        self, client: Client, server: MicroManagerServer, method: str | None, nth: int, failing: int
    ) -> None:
        hash_code = client.core()
        calls = [client.call(hash_code, name) for name in ("getImageWidth", "getImageHeight", "getImageWidth")]
        server.fail(method, nth, "exception")
        kinds = [client.ask(**each)["type"] for each in [{"command": "connect"}, *calls]]
        assert [index for index, kind in enumerate(kinds) if kind == "exception"] == [failing]

    def test_pycromanager_sees_exception_and_garbage_as_exceptions_and_goes_on(
        self, remote: Any, server: MicroManagerServer
    ) -> None:
        for how in ("exception", "garbage"):
            server.fail("getImageWidth", 1, how)
            with pytest.raises(Exception, match=r"getImageWidth failed|Expecting value"):
                remote.get_image_width()
            assert remote.get_image_width() == 3

    def test_stopping_forgets_failures_to_come(self, server: MicroManagerServer) -> None:
        server.fail(None, 1, "vanish")
        server.stop()
        server.start()
        client = self.Client(server.port)
        assert client.ask(command="connect")["type"] == "none"
        client.context.destroy(linger=0)

    @pytest.mark.parametrize("how", ["vanish", "hang"])
    def test_nothing_is_left_behind_by_servers_that_failed(self, how: Failure) -> None:
        before = set(threading.enumerate())
        for _ in range(5):
            with MicroManagerServer(SimulatedCore(a_bench())) as server:
                client = self.Client(server.port)
                server.fail("connect", 1, how)
                client.send(command="connect")
                assert client.receive(within_ms=30) is None
                client.context.destroy(linger=0)
        assert set(threading.enumerate()) <= before

    @pytest.mark.parametrize(("nth", "how"), [(0, "hang"), (-1, "vanish"), (1, "sulk")])
    def test_impossible_failures_are_refused(self, server: MicroManagerServer, nth: int, how: Any) -> None:
        with pytest.raises(ValueError, match="counted from 1"):
            server.fail(None, nth, how)
