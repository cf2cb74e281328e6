"""A ViALUX DMD through ALP4lib: the Projector promise on an ``ALP4`` object.

Codes and their meaning: ViALUX, ALP-4 high-speed API description, as far as ALP4lib 1.1.0 and alp.h quote it.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devices import alp_codes as codes
from devices.alp_calls import AlpCalls
from devices.alp_info import ask_board, ask_limits, ask_temperatures, wake_mirrors
from devices.alp_library import library_of, open_alp
from devices.alp_settings import BINARY_MODES, SYNC_LEVELS, AlpSettings
from devices.alp_timing import time_sequence
from devices.dmd_types import DMD_TYPES, DmdType
from devices.errors import (
    AlpCallError,
    DeviceNotFoundError,
    DeviceNotFreeError,
    DeviceStateError,
    PictureMemoryError,
    PictureShapeError,
    UnknownBankError,
)
from devices.projector import ProjectorInfo, Timing

__all__ = ["AlpProjector", "AlpSettings", "open_alp"]

# One transfer is not interrupted, and a board may take no other call meanwhile: so much at a time lasts about 0.2 s
# over USB 3, long enough that starting it costs nothing.
_UPLOAD_BYTES: Final = 64 * 2**20
# A transfer lasts fractions of a second, and halting the board cuts it off; then it is given up.
_TRANSFER_ENDS_S: Final = 5.0


@dataclass(eq=False)
class _Bank:
    """A sequence in the device's memory; ``shown`` are the settings of its next projection that are known.

    ``loading`` is held while a part of it is loaded or while it is freed.
    """

    sequence: Any
    n_pictures: int
    shown: dict[int, int] = field(default_factory=dict)
    loading: threading.Lock = field(default_factory=threading.Lock)


class AlpProjector:
    """The Projector promise (devices/projector.py) kept by an ALP board.

    ``alp`` is an ``ALP4`` object whose library is loaded (``open_alp``). The constructor allocates the device, wakes
    its mirrors, applies ``settings`` and master mode, reads them back, and asks for everything in ``info``. ``chips``
    are the mirror chips whose layout is known.

    Raises DeviceNotFoundError, DeviceNotFreeError, AlpCallError, and DeviceStateError where a setting does not read
    back or the board's chip is not one of ``chips``; the device is free again then, or a note on the error says that
    it is not. Every method raises AlpCallError where the library returns an error that has no name of its own, and
    DeviceVanishedError where that error says that the connection is lost.
    """

    def __init__(self, alp: Any, settings: AlpSettings | None = None, chips: Mapping[str, DmdType] = DMD_TYPES) -> None:
        self._settings = AlpSettings() if settings is None else settings
        self._calls = AlpCalls(alp)
        self._banks: dict[int, _Bank] = {}
        # A number is given out again once it is free: the table must not be a step behind the board.
        self._table = threading.Lock()
        self._closing = False
        self._open = False
        library = library_of(alp)
        _allocate_device(self._calls, self._settings.device_number)
        self._open = True
        atexit.register(self._free_at_exit)
        try:
            wake_mirrors(self._calls, self._settings)
            self._calls.set_device(codes.SYNCH_POLARITY, SYNC_LEVELS[self._settings.sync_polarity])
            self._calls.set_projection(codes.PROJ_MODE, codes.MASTER)
            self._info = ask_board(self._calls, chips, library)
            probe = self.allocate(1)
            limits = ask_limits(self._calls, self._banks[probe].sequence)
            self.free(probe)
            self._info = replace(self._info, **limits)
        except BaseException as error:
            try:
                self.close()
            except Exception as closing:
                error.add_note(str(closing))
            raise

    @property
    def info(self) -> ProjectorInfo:
        """What the device says; its free memory is asked for again each time, and is the last known once closed."""
        if self._open:
            self._info = replace(self._info, free_pictures=self._calls.ask_device(codes.AVAIL_MEMORY))
        return self._info

    def allocate(self, n_pictures: int) -> int:
        """Room for a bank of so many pictures, set to packed bits and the binary mode of the settings; its number.

        Raises ValueError, PictureMemoryError, and DeviceStateError where a setting does not read back.
        """
        self._must_be_open()
        if n_pictures < 1:
            raise ValueError(f"a bank of {n_pictures} pictures was asked for; allowed: 1 or more")
        with self._table:
            try:
                sequence = self._calls.allocate_sequence(n_pictures)
            except AlpCallError as error:
                if error.code != codes.MEMORY_FULL:
                    raise
                raise PictureMemoryError(
                    f"{self._info.name} has no room for {n_pictures} pictures: {self.info.free_pictures} are free; "
                    "free a bank or plan smaller ones"
                ) from error
            number = int(sequence.value)
            self._banks[number] = _Bank(sequence, n_pictures)
        try:
            for control, value in (
                (codes.BITNUM, 1),
                (codes.BIN_MODE, BINARY_MODES[self._settings.binary_mode]),
                (codes.DATA_FORMAT, codes.BINARY_TOPDOWN),  # the default would be one byte a mirror
            ):
                self._calls.set_sequence(sequence, control, value)
        except BaseException as error:
            for failure in _failures([lambda: self.free(number)]):
                error.add_note(f"its memory could not be freed either: {failure}")
            raise
        return number

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        """Load pictures uint8 [K, mirrors_height, row_bytes] from picture ``first`` of the bank on.

        May be called beside all other methods from another thread: the library lets go of the interpreter during a
        transfer, and another bank can be allocated, timed, displayed and freed meanwhile. Halting does not disturb it;
        closing cuts it off. Sizes are checked here, because the library reads past the end of a short array. Raises
        PictureShapeError, UnknownBankError, DeviceStateError while the bank is projected or where the load is cut off.
        """
        entry = self._bank(bank)
        _check_pictures(self._info, pictures)
        n_pictures = pictures.shape[0]
        if first < 0 or first + n_pictures > entry.n_pictures:
            raise UnknownBankError(
                f"pictures {first} to {first + n_pictures - 1} do not exist in bank {bank}, "
                f"which holds pictures 0 to {entry.n_pictures - 1}"
            )
        at_once = max(1, _UPLOAD_BYTES // (self._info.mirrors_height * self._info.row_bytes))
        for start in range(0, n_pictures, at_once):
            with entry.loading, _in_use(bank):
                if self._closing or self._bank(bank) is not entry:
                    raise DeviceStateError(f"the load of bank {bank} was cut off: the bank or the projector was closed")
                self._calls.put(entry.sequence, first + start, pictures[start : start + at_once])

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        """Set the bank's timing in microseconds and return what the device reads back.

        Raises TimingRefusedError where the device refuses, where an illumination time is asked for that the binary
        mode does not leave free, or where a time reads back off by more than 1 % or 2 µs, whichever is larger; the
        bank's timing then has to be set again before it is shown.
        """
        return time_sequence(self._calls, self._bank(bank).sequence, self._info, timing)

    def start(self, bank: int, first: int, last: int, rounds: int = 1) -> None:
        """Show pictures ``first`` to ``last``, ``rounds`` times without a gap.

        Raises UnknownBankError, ValueError, and DeviceStateError while projecting or where the device refuses so many
        rounds.
        """
        entry = self._bank(bank)
        if not 0 <= first <= last < entry.n_pictures:
            raise UnknownBankError(
                f"pictures {first} to {last} cannot be shown from bank {bank}, which holds 0 to {entry.n_pictures - 1}"
            )
        if rounds < 1:
            raise ValueError(f"pictures were to be shown {rounds} times; allowed: 1 or more")
        if self.is_projecting():
            raise DeviceStateError(
                f"{self._info.name} is projecting; wait until it has finished, or halt it, before starting bank {bank}"
            )
        self._select(entry, first, last)
        self._repeat(entry, rounds)
        self._calls.start(entry.sequence)

    def is_projecting(self) -> bool:
        """Whether the device states that it is displaying."""
        self._must_be_open()
        return self._calls.ask_projection(codes.PROJ_STATE) == codes.PROJ_ACTIVE

    def status(self) -> dict[str, float]:
        """Temperatures in °C: "ddc_fpga_c", "apps_fpga_c" and "pcb_c", each where the board knows it."""
        self._must_be_open()
        return ask_temperatures(self._calls)

    def halt(self) -> None:
        """Stop displaying now; a load that is under way in another thread goes on."""
        self._must_be_open()
        self._calls.halt_projection()

    def free(self, bank: int) -> None:
        """Give the bank's memory back. Raises UnknownBankError, and DeviceStateError while it is projected."""
        entry = self._bank(bank)
        if not entry.loading.acquire(timeout=_TRANSFER_ENDS_S):
            raise DeviceStateError(
                f"a transfer of pictures into bank {bank} does not end within {_TRANSFER_ENDS_S:g} s; check the USB "
                "cable, and power-cycle the board"
            )
        try:
            with self._table, _in_use(bank):
                self._calls.free_sequence(entry.sequence)
                del self._banks[bank]
        finally:
            entry.loading.release()

    def close(self) -> None:
        """Halt, free every bank, let the mirrors float if asked so, and free the device; go on when a step fails.

        Raises DeviceNotFreeError where the device could not be freed, and it is not closed then: closing it again tries
        again. Otherwise raises the first failure of another step. Further failures are notes on the one raised.
        """
        if not self._open:
            return
        self._closing = True
        try:
            failures = _failures([self._calls.halt_device])
            failures += _failures([lambda bank=bank: self.free(bank) for bank in list(self._banks)])  # type: ignore[misc]
            if self._settings.float_mirrors_at_end:
                failures += _failures([lambda: self._calls.set_device(codes.DMD_MODE, codes.DMD_POWER_FLOAT)])
            not_freed = _failures([self._calls.free_device])
            if not_freed and not _is_unknown_to_the_library(not_freed[0]):
                failures.insert(0, _not_freed_error(not_freed[0]))
            else:
                failures += not_freed
                self._open = False
                self._banks.clear()
                atexit.unregister(self._free_at_exit)
        finally:
            self._closing = False
        if failures:
            for further in failures[1:]:
                failures[0].add_note(f"while closing, also: {further}")
            raise failures[0]

    def _free_at_exit(self) -> None:
        """Whoever forgets to close the projector does not leave it allocated."""
        with contextlib.suppress(Exception):
            self.close()

    def _must_be_open(self) -> None:
        if not self._open:
            raise DeviceStateError("the ALP projector was closed; connect to it again")

    def _bank(self, bank: int) -> _Bank:
        self._must_be_open()
        entry = self._banks.get(bank)
        if entry is None:
            raise UnknownBankError(f"there is no bank {bank}; banks in memory: {sorted(self._banks) or 'none'}")
        return entry

    def _select(self, entry: _Bank, first: int, last: int) -> None:
        """Set first and last frame in the order that never lets the first one pass the last, which is refused."""
        if codes.LAST_FRAME not in entry.shown:
            entry.shown[codes.LAST_FRAME] = self._calls.ask_sequence(entry.sequence, codes.LAST_FRAME)
        frames = [(codes.FIRST_FRAME, first), (codes.LAST_FRAME, last)]
        if first > entry.shown[codes.LAST_FRAME]:
            frames.reverse()
        for control, value in frames:
            self._show(entry, control, value)

    def _repeat(self, entry: _Bank, rounds: int) -> None:
        try:
            self._show(entry, codes.SEQ_REPEAT, rounds)
        except AlpCallError as error:
            if error.code != codes.PARM_INVALID:
                raise
            raise DeviceStateError(
                f"{self._info.name} does not show a range {rounds} times in one projection; start it more often, "
                "with fewer rounds"
            ) from error

    def _show(self, entry: _Bank, control: int, value: int) -> None:
        """Change a setting of the next projection; it counts as unknown until it has read back."""
        if entry.shown.get(control) != value:
            entry.shown.pop(control, None)
            self._calls.set_sequence(entry.sequence, control, value)
            entry.shown[control] = value


@contextlib.contextmanager
def _in_use(bank: int) -> Iterator[None]:
    """Say plainly why the device does not let a bank's memory be touched, where it is displayed or was halted."""
    try:
        yield
    except AlpCallError as error:
        if error.code == codes.HALTED:
            raise DeviceStateError(
                f"the load of bank {bank} was cut off because the device was halted ({error}); load it again"
            ) from error
        if error.code != codes.SEQ_IN_USE:
            raise
        raise DeviceStateError(
            f"bank {bank} is being projected and its memory is locked ({error}); wait until the projection has "
            "finished, or halt it"
        ) from error


def _failures(steps: list[Callable[[], None]]) -> list[Exception]:
    """What the steps raised; each of them is taken, whatever the ones before did."""
    failures: list[Exception] = []
    for step in steps:
        try:
            step()
        except Exception as error:
            failures.append(error)
    return failures


def _check_pictures(info: ProjectorInfo, pictures: NDArray[np.uint8]) -> None:
    expected = (info.mirrors_height, info.row_bytes)
    if pictures.dtype != np.uint8 or pictures.ndim != 3 or pictures.shape[1:] != expected:
        raise PictureShapeError(
            f"pictures are {pictures.dtype} {list(pictures.shape)}; "
            f"{info.name} takes uint8 [K, {expected[0]}, {expected[1]}]"
        )
    if not pictures.flags.c_contiguous:
        raise PictureShapeError("pictures must lie in memory one after the other; pass numpy.ascontiguousarray(…)")


def _allocate_device(calls: AlpCalls, number: int) -> None:
    which = f"ALP board {number}" if number else "ALP board"
    try:
        calls.allocate_device(number)
    except AlpCallError as error:
        if error.code == codes.NOT_READY:
            raise DeviceNotFreeError(
                f"the {which} is held by another program or by one that crashed ({error}); close that program; "
                "if none is left, unplug the board's USB cable or power-cycle it"
            ) from error
        if error.code == codes.NOT_ONLINE:
            raise DeviceNotFoundError(
                f"no {which} answers ({error}); check its power and its USB cable"
                + (", and its serial number" if number else "")
            ) from error
        raise


def _is_unknown_to_the_library(error: Exception) -> bool:
    """Whether there is nothing left to free: the library does not know the device any more."""
    return isinstance(error, AlpCallError) and error.code == codes.NOT_AVAILABLE


def _not_freed_error(cause: Exception) -> DeviceNotFreeError:
    error = DeviceNotFreeError(
        f"the board stays allocated ({cause}): power-cycle it, or unplug its USB cable, "
        "before it is used again; until then its mirrors may go on showing a picture"
    )
    error.__cause__ = cause
    return error
