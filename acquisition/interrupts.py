"""Ctrl-C and requests to terminate: they end what is under way in order, and never the ending itself."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

# What asks a process to end, of what this system has: Ctrl-C, kill, Ctrl-Break, a terminal that was closed.
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_REQUESTS: Final = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")


class _Requests:
    """What was asked so far. Signals reach the main thread only, and only there is anything counted.

    handled: signals that end what is under way now; reason: why another thread asked, for people; lock: held while
    either changes, so that no signal is sent when nobody takes it any more.
    """

    def __init__(self) -> None:
        self.held_back = 0
        self.came = False
        self.is_ending = False
        self.handled: list[signal.Signals] = []
        self.reason: str | None = None
        self.lock = threading.Lock()


_requests = _Requests()


@contextmanager
def orderly_interrupts() -> Iterator[None]:
    """Let the first request to end raise KeyboardInterrupt, when no ending is under way; further ones change nothing.

    Requests that this process was told to ignore, as under nohup, are ignored. Outside of the main thread signals are
    left to whoever handles them there. May be nested.
    """
    if not _in_main_thread() or _requests.is_ending:
        yield
        return
    numbers = [getattr(signal, name) for name in _REQUESTS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    is_outermost = _interrupt not in before.values()
    for number in handled:
        signal.signal(number, _interrupt)
    if is_outermost:
        with _requests.lock:
            _requests.handled = handled
    try:
        yield
    finally:
        # What is asked from here on comes too late: nothing is under way any more.
        with _held_back():
            if is_outermost:
                with _requests.lock:
                    _requests.handled, _requests.reason = [], None
            for number in handled:
                signal.signal(number, before[number])
        if is_outermost:
            _requests.came = _requests.is_ending = False


def request_end(reason: str) -> bool:
    """From any thread: end what is under way in the main thread in order, as Ctrl-C does; ``reason``: why, for people.

    False where nothing orderly is under way there, or all that could ask was told to be ignored. The KeyboardInterrupt
    carries the reason. A request during an ending changes nothing.
    """
    with _requests.lock:
        if not _requests.handled:
            return False
        if not (_requests.came or _requests.is_ending):
            _requests.reason = reason
        number = _requests.handled[0]
        main = threading.main_thread().ident
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, number)  # it wakes a sleeping thread, too
        else:
            _thread.interrupt_main(number)
    return True


class Ending(ExitStack[None]):
    """An ExitStack whose callbacks are all taken, and not interrupted: a request that comes meanwhile counts later.

    The error that ends the block goes on, and what callbacks raise is noted on it; without one the first callback's is
    raised, with notes of the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._failures: list[BaseException] = []

    def callback(
        self, callback: Callable[_Arguments, _Result], /, *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> Callable[_Arguments, _Result]:
        """Register a step; the last one registered is taken first."""

        def step() -> None:
            try:
                callback(*arguments, **named)
            except BaseException as failure:
                self._failures.append(failure)

        super().callback(step)
        return callback

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with _held_back():
            try:
                super().__exit__(kind, error, traceback)
            except BaseException as failure:
                if failure is not error:
                    self._failures.append(failure)
        failures, self._failures = self._failures, []
        # A generator that is closed shows nobody what is noted on that.
        first = None if isinstance(error, GeneratorExit) else error
        if first is None and failures:
            first = failures.pop(0)
        for further in failures:
            for text in (f"while ending, also: {further}", *getattr(further, "__notes__", ())):
                first.add_note(text)  # type: ignore[union-attr]
        if first is not None and first is not error:
            raise first
        if error is None and _in_main_thread() and _requests.came and not _requests.held_back:
            if _requests.is_ending:
                return
            _requests.is_ending = True
            raise _asked_to_end()


@contextmanager
def _held_back() -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    _requests.held_back += 1
    try:
        yield
    finally:
        _requests.held_back -= 1


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _interrupt(*_: Any) -> None:
    if _requests.is_ending:
        return
    _requests.came = True
    if not _requests.held_back:
        _requests.is_ending = True
        raise _asked_to_end()


def _asked_to_end() -> KeyboardInterrupt:
    return KeyboardInterrupt() if _requests.reason is None else KeyboardInterrupt(_requests.reason)
