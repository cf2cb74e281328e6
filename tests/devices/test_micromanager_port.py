"""Cores behind a port: how they are reached and left, and that nothing waits for a server that has gone or hangs."""

from __future__ import annotations

import atexit
import gc
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import psutil
import pytest
import zmq

from devices.errors import DeviceError, DeviceNotFoundError, DeviceReplyError, DeviceSilentError, MicroManagerCallError
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import close_core, connect_core
from devices.micromanager_shutter import MicroManagerShutter
from sim_devices.bench import OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from tests.devices.benches import a_bench, a_core

Failure = Literal["vanish", "hang", "exception", "garbage"]
SHORT_S = 0.15
ERRORS: dict[Failure, type[DeviceError]] = {
    "vanish": DeviceNotFoundError,
    "hang": DeviceSilentError,
    "exception": MicroManagerCallError,
    "garbage": DeviceReplyError,
}
BUILTINS: dict[Failure, type[Exception]] = {
    "vanish": ConnectionError,
    "hang": TimeoutError,
    "exception": RuntimeError,
    "garbage": ValueError,
}


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench()


@pytest.fixture
def server(bench: OpticalBench) -> Iterator[MicroManagerServer]:
    with MicroManagerServer(a_core(bench)) as running:
        yield running


def arm(detector: MicroManagerDetector) -> None:
    detector.arm(5, 90)


def read(detector: MicroManagerDetector) -> None:
    detector.read(5, timeout_s=5.0)


def read_and_look_for_more(detector: MicroManagerDetector) -> None:
    read(detector)
    detector.surplus_frames()


STEPS: list[tuple[str, int, Callable[[MicroManagerDetector], None]]] = [
    ("setExposure", 1, arm),
    ("clearCircularBuffer", 1, arm),
    ("startSequenceAcquisition", 1, arm),
    ("getRemainingImageCount", 1, read),
    ("popNextTaggedImage", 1, read),
    ("get-field", 3, read),
    ("destructor", 2, read),
    ("popNextTaggedImage", 5, read),
    ("isBufferOverflowed", 1, read),
    ("getRemainingImageCount", 2, read_and_look_for_more),
    ("stopSequenceAcquisition", 1, MicroManagerDetector.disarm),
    ("stopSequenceAcquisition", 1, MicroManagerDetector.close),
]


@pytest.mark.parametrize("how", ["vanish", "hang", "exception", "garbage"])
@pytest.mark.parametrize(("method", "nth", "step"), STEPS, ids=[f"{name} {nth}" for name, nth, _ in STEPS])
def test_a_server_that_fails_in_the_middle_of_a_call_is_an_error_by_name_and_can_be_left(
    method: str, nth: int, step: Callable[[MicroManagerDetector], None], how: Failure
) -> None:
    bench = a_bench()
    with MicroManagerServer(a_core(bench)) as server:
        core = connect_core(server.port, call_timeout_s=SHORT_S)
        detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
        if step is not arm:
            detector.arm(5, 90)
            bench.display(np.ones(5), 100, 100)
        server.fail(method, nth, how)
        if how == "exception" and method == "destructor":
            step(detector)  # an object that is unknown there has been let go of already
        else:
            with pytest.raises(ERRORS[how]) as caught:
                step(detector)
            assert isinstance(caught.value, BUILTINS[how])
            if how in ("vanish", "hang"):
                assert f"port {server.port}" in str(caught.value)
                for leave in (detector.close, lambda: close_core(core)):
                    with pytest.raises(ERRORS[how], match=r"camera perhaps armed|did not answer its last call"):
                        leave()
            else:
                detector.close()
        close_core(core)


def test_many_failures_leave_no_thread_and_no_socket() -> None:
    def fail_and_leave(how: Failure) -> None:
        with MicroManagerServer(a_core(a_bench())) as server:
            core = connect_core(server.port, call_timeout_s=0.05)
            server.fail("getExposure", 1, how)
            with pytest.raises(ERRORS[how]):
                MicroManagerDetector(core)
            if how == "garbage":
                close_core(core)
            else:
                with pytest.raises(ERRORS[how]):
                    close_core(core)

    hows: list[Failure] = ["vanish", "hang", "garbage"]
    process = psutil.Process()

    def left_over() -> tuple[set[threading.Thread], int]:
        gc.collect()
        return set(threading.enumerate()), process.num_fds() if hasattr(process, "num_fds") else process.num_handles()

    for how in hows:
        fail_and_leave(how)
    before = left_over()
    for how in 5 * hows:
        fail_and_leave(how)
    threads, files = left_over()
    assert threads <= before[0]
    assert files <= before[1]


def test_a_silent_server_that_answers_again_can_turn_the_light_off(
    bench: OpticalBench, server: MicroManagerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = connect_core(server.port, call_timeout_s=SHORT_S)
    shutter = MicroManagerShutter(core, "SimulatedShutter")
    shutter.on()
    going_on = threading.Event()
    width = SimulatedCore.get_image_width

    def slow(self: SimulatedCore) -> int:
        going_on.wait(10)
        return width(self)

    monkeypatch.setattr(SimulatedCore, "get_image_width", slow)
    with pytest.raises(DeviceSilentError, match=r"'getImageWidth' within 0\.15 s"):
        core.get_image_width()
    going_on.set()
    shutter.off()
    assert not bench.light_on
    shutter.close()
    assert core.get_image_height() == 8  # its own answer, not the one that came late
    close_core(core)
    assert server.n_objects == 0


def test_the_answer_to_a_call_that_was_broken_off_is_not_taken_for_the_next_ones(
    server: MicroManagerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = connect_core(server.port)

    def interrupted(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as ctrl_c:
        ctrl_c.setattr(core._bridge, "_wait_for_answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            core.get_camera_device()
    assert core.get_image_width() == 8
    close_core(core)
    assert server.n_objects == 0


def test_calls_of_several_threads_get_their_own_answers(server: MicroManagerServer) -> None:
    core = connect_core(server.port)
    asked = {"Gain": "1", "TriggerMode": "External"}
    wrong: list[str] = []

    def ask(name: str) -> None:
        wrong.extend(found for _ in range(100) if (found := core.get_property("SimulatedCamera", name)) != asked[name])

    threads = [threading.Thread(target=ask, args=(name,)) for name in 2 * list(asked)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    close_core(core)


def test_a_thread_that_waits_for_anothers_call_waits_no_longer_than_its_own(server: MicroManagerServer) -> None:
    core = connect_core(server.port, call_timeout_s=0.1)
    core._bridge._communication_lock.acquire()
    with pytest.raises(DeviceSilentError, match="busy with another thread's call"):
        core.get_image_width()
    core._bridge._communication_lock.release()
    close_core(core)


def test_leaving_while_another_thread_is_in_a_call_does_not_wait_for_it(
    server: MicroManagerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = connect_core(server.port)
    bridge = core._bridge
    called, going_on = threading.Event(), threading.Event()
    answers: list[int] = []

    def slow(self: SimulatedCore) -> int:
        called.set()
        going_on.wait(10)
        return 8

    monkeypatch.setattr(SimulatedCore, "get_image_width", slow)
    thread = threading.Thread(target=lambda: answers.append(core.get_image_width()))
    thread.start()
    assert called.wait(10)
    bridge.abandon()
    going_on.set()
    thread.join()
    assert answers == [8]
    assert bridge._socket is None


def test_what_is_only_read_comes_as_plain_values_and_leaves_nothing_over(server: MicroManagerServer) -> None:
    """The package pyjavaz keeps a function per Java object until the interpreter exits; the core's one is left."""
    n_functions = atexit._ncallbacks()
    core = connect_core(server.port)
    detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
    assert core.get_roi() == [0, 0, 8, 8]
    assert "SimulatedCamera" in core.get_loaded_devices()
    assert isinstance(core.get_loaded_devices(), list)
    for _ in range(50):
        core.get_loaded_devices()
    core.get_image_width()  # what was put by is sent with the next call
    assert server.n_objects == 1
    assert atexit._ncallbacks() == n_functions + 1
    detector.close()
    close_core(core)
    assert server.n_objects == 0


def test_reading_frame_numbers_over_the_port_leaves_nothing_over(
    bench: OpticalBench, server: MicroManagerServer
) -> None:
    core = connect_core(server.port)
    detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
    n_functions = atexit._ncallbacks()
    detector.arm(200, 90)
    bench.display(np.ones(200), 100, 100)
    burst = detector.read(200, timeout_s=10.0)
    assert burst.frame_numbers is not None
    assert burst.frame_numbers.tolist() == list(range(200))
    assert server.n_objects <= 2
    assert atexit._ncallbacks() == n_functions
    detector.close()
    close_core(core)


def test_a_core_that_is_dropped_without_being_left_lets_go_by_itself(server: MicroManagerServer) -> None:
    core = connect_core(server.port)
    assert server.n_objects == 1
    del core
    gc.collect()
    assert server.n_objects == 0


def test_it_stands_beside_pycromanagers_own_core_on_the_same_port(server: MicroManagerServer) -> None:
    from pycromanager import Core

    theirs = Core(port=server.port)
    ours, another = connect_core(server.port), connect_core(server.port)
    for core in (ours, another):
        assert core.get_image_width() == 8
        close_core(core)
        close_core(core)
    assert theirs.get_image_width() == 8
    theirs._close()
    assert server.n_objects == 0


def test_a_server_that_pycromanager_ended_counts_as_gone(server: MicroManagerServer) -> None:
    from pyjavaz.bridge import Bridge

    core = connect_core(server.port)
    Bridge._ports_with_terminated_servers.add(server.port)
    try:
        with pytest.raises(DeviceNotFoundError, match="pycromanager ended it"):
            core.get_image_width()
    finally:
        Bridge._ports_with_terminated_servers.discard(server.port)
    core._bridge.abandon()


def test_a_core_that_was_left_says_so_when_it_is_called(server: MicroManagerServer) -> None:
    core = connect_core(server.port)
    bridge = core._bridge
    close_core(core)
    with pytest.raises(DeviceNotFoundError, match="was left; connect to it again"):
        bridge.send_and_receive({"command": "connect"})


CHILD = """
import sys
from devices.micromanager import MicroManagerDetector, MicroManagerSettings
from devices.micromanager_core import close_core, connect_core

core = connect_core(int(sys.argv[1]), call_timeout_s=0.5)
detector = MicroManagerDetector(core, MicroManagerSettings(frame_metadata=True))
detector.arm(3, 90)
print("armed", flush=True)
sys.stdin.readline()
if sys.argv[2] == "reads":
    detector.read(3, 60.0)
elif sys.argv[2] == "closes":
    detector.close()
"""


@pytest.mark.parametrize("how", ["vanish", "hang"])
@pytest.mark.parametrize("then", ["exits", "reads", "closes"])
def test_an_interpreter_exits_by_itself_whatever_its_server_does(how: Failure, then: str) -> None:
    with MicroManagerServer(a_core(a_bench())) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(server.port), then],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "armed\n"
            server.fail(None, 1, how)
            _, said = child.communicate("go on\n", timeout=30)
        finally:
            child.kill()
    if then == "exits":
        assert (child.returncode, said) == (0, "")
    else:
        assert child.returncode == 1
        assert ERRORS[how].__name__ in said.splitlines()[-1]


def test_closing_a_camera_whose_server_has_gone_is_an_error_and_does_not_hang() -> None:
    with MicroManagerServer(a_core(a_bench())) as server:
        core = connect_core(server.port)
        detector = MicroManagerDetector(core)
        detector.arm(3, 90)
    for leave in (detector.close, lambda: close_core(core)):
        with pytest.raises(DeviceNotFoundError, match=f"port {server.port} has gone.*camera perhaps armed"):
            leave()
    with MicroManagerServer(a_core(a_bench()), server.port):  # started again: nothing of the old one is in the way
        again = connect_core(server.port)
        assert MicroManagerDetector(again).info.width_px == 8
        close_core(again)


def test_where_nothing_listens_the_error_says_what_to_do_and_leaves_no_thread() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = set(threading.enumerate())
    with pytest.raises(DeviceNotFoundError, match=f"port {port}.*start Micro-Manager"):
        connect_core(port)
    assert set(threading.enumerate()) <= before


def test_a_listener_that_is_no_micro_manager_is_not_found() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(DeviceNotFoundError, match="did not answer as Micro-Manager does"):
            connect_core(mute.getsockname()[1], timeout_s=0.2)


def test_connecting_again_after_leaving_works() -> None:
    with MicroManagerServer(a_core(a_bench())) as server:
        before = set(threading.enumerate())
        for _ in range(3):
            core = connect_core(server.port)
            assert MicroManagerDetector(core).info.width_px == 8
            close_core(core)
        assert set(threading.enumerate()) <= before


def test_a_listener_that_answers_garbage_is_not_found() -> None:
    wire: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
    port = wire.bind_to_random_port("tcp://127.0.0.1")

    def answer() -> None:
        wire.recv_multipart()
        wire.send(b"\x00\xff no JSON")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(DeviceNotFoundError, match=r"did not answer as Micro-Manager does.*cannot be understood"):
        connect_core(port, timeout_s=5.0)
    thread.join()
    wire.close(linger=0)


def test_a_server_without_a_core_is_not_found(server: MicroManagerServer) -> None:
    server.fail("constructor", 1, "exception")
    with pytest.raises(DeviceNotFoundError, match="gives no Micro-Manager core"):
        connect_core(server.port)


def test_a_server_of_another_version_is_warned_of(server: MicroManagerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyjavaz.bridge import Bridge

    monkeypatch.setattr(Bridge, "_EXPECTED_ZMQ_SERVER_VERSION", "6.0.0")
    with pytest.warns(UserWarning, match="speaks version 5.1.0 of its protocol, pyjavaz version 6.0.0"):
        core = connect_core(server.port)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close_core(core)


@pytest.mark.parametrize("timeouts", [{"timeout_s": 0.0}, {"call_timeout_s": -1.0}])
def test_a_time_out_of_nothing_is_refused(timeouts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="more than 0 s"):
        connect_core(1, **timeouts)
