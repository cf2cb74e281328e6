"""The server stand-in, spoken to by an unmodified pycromanager and by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zmq
from pycromanager import Core

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.java_api import CMM_CORE, snake_case
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer

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
    assert [labels.get(i) for i in range(labels.size())] == ["SimulatedCamera", "SimulatedShutter", "Core"]


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
