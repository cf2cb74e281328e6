"""What can be made to go wrong on the simulated ALP board: codes that its functions return when they are told to."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, Protocol, TypeVar

_NOT_READY = 1004
# These end a transfer; a board must take them at any time.
_HALTS = ("AlpDevHalt", "AlpProjHalt")


@dataclass
class _Injected:
    call: str
    calls_left: int
    code: int


class AlpFaults:
    """Codes to return in place of what a function would do, and how often each function was called.

    ``exclusive_transfers``: while pictures are being loaded the board takes no other call and answers ALP_NOT_READY,
    its halts excepted. Safe to use from several threads.
    """

    def __init__(self, exclusive_transfers: bool = False) -> None:
        self.exclusive_transfers = exclusive_transfers
        self.transfers = 0
        self.calls: Counter[str] = Counter()
        self._injected: list[_Injected] = []
        self._lock = threading.Lock()

    def inject(self, call: str, nth: int, code: int) -> None:
        """Let the ``nth`` call from now (1: the next one) of a C function return ``code`` and do nothing."""
        if nth < 1:
            raise ValueError(f"call number {nth} of {call} cannot be made to fail; the next one is number 1")
        with self._lock:
            self._injected.append(_Injected(call, nth, code))

    def withdraw(self) -> None:
        """Let everything that was injected and has not happened yet not happen."""
        with self._lock:
            self._injected.clear()

    def code_for(self, call: str) -> int | None:
        """What this call of a function has to return without doing anything; None: nothing stands in its way."""
        with self._lock:
            self.calls[call] += 1
            if self.exclusive_transfers and self.transfers and call not in _HALTS:
                return _NOT_READY
            code = None
            for injected in [each for each in self._injected if each.call == call]:
                injected.calls_left -= 1
                if injected.calls_left == 0:
                    self._injected.remove(injected)
                    code = injected.code
            return code


class HasFaults(Protocol):
    """A library whose functions can be made to fail."""

    faults: AlpFaults


_Library = TypeVar("_Library", bound=HasFaults)
_Arguments = ParamSpec("_Arguments")


def can_fail(
    function: Callable[Concatenate[_Library, _Arguments], int],
) -> Callable[Concatenate[_Library, _Arguments], int]:
    """A C function that returns an injected code, where there is one, instead of doing its work."""

    @functools.wraps(function)
    def call(library: _Library, /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> int:
        code = library.faults.code_for(function.__name__)
        return function(library, *arguments, **named) if code is None else code

    return call
