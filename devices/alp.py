"""A ViALUX DMD through ALP4lib: the Projector promise on an ``ALP4`` object.

ALP4lib's own methods are called where they are right. Where they are not, the vendor library is called directly, and a
comment says why. Codes and their meaning: ViALUX, ALP-4 high-speed API description, and ALP4lib 1.1.0.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devices.dmd_types import DMD_TYPES, DmdType, chip_of
from devices.errors import (
    AlpCallError,
    DeviceNotFoundError,
    DeviceNotFreeError,
    DeviceStateError,
    LibraryMissingError,
    PictureMemoryError,
    PictureShapeError,
    TimingRefusedError,
    UnknownBankError,
)
from devices.projector import ProjectorInfo, Timing

_OK = 0
_NOT_ONLINE = 1001
_NOT_READY = 1004
_PARM_INVALID = 1005
_MEMORY_FULL = 1007
_SEQ_IN_USE = 1008

_DEFAULT = 0

_DEVICE_NUMBER = 2000
_AVAIL_MEMORY = 2003
_DMD_TYPE = 2021
_DISPLAY_HEIGHT = 2057
_DISPLAY_WIDTH = 2058

_SEQ_REPEAT = 2100
_FIRST_FRAME = 2101
_LAST_FRAME = 2102
_BITNUM = 2103
_BIN_MODE = 2104
_BIN_NORMAL = 2105
_DATA_FORMAT = 2110
_BINARY_TOPDOWN = 2
_PICTURE_TIME = 2203
_ILLUMINATE_TIME = 2204
_MIN_PICTURE_TIME = 2211

_PROJ_MODE = 2300
_MASTER = 2301
_PROJ_STATE = 2400
_PROJ_ACTIVE = 1200

# One call to the device is not interrupted; this much at a time keeps a Ctrl-C waiting for about a second at most.
_UPLOAD_BYTES = 256 * 2**20

# Boards count time in steps of their own, so a time may read back a little off. Beyond the larger of these two it is
# no rounding any more, and exposures would not last as long as the file says.
_TIMING_TOLERANCE: Final = 0.01
_TIMING_TOLERANCE_US: Final = 2


def open_alp(version: str = "4.3", library_dir: str | Path | None = None) -> Any:
    """The vendor library loaded by ALP4lib, as its ``ALP4`` object; no device is touched yet.

    Raises LibraryMissingError, which says where the library was looked for.
    """
    from ALP4 import ALP4

    printed = io.StringIO()
    folder = None if library_dir is None else str(library_dir)
    try:
        with contextlib.redirect_stdout(printed):  # ALP4lib prints the path, and tells it nowhere else
            return ALP4(version=version, libDir=folder)
    except (OSError, ValueError) as error:
        path = printed.getvalue().removeprefix("Loading library: ").strip()
        where = path or folder or "ALP4lib's default folder for this system"
        raise LibraryMissingError(
            f"the ALP {version} library could not be loaded from {where} ({error}); install ViALUX's ALP package, "
            "or name the folder that holds its library"
        ) from error


@dataclass
class _Bank:
    """A sequence in the device's memory; ``first`` and ``last`` are the frames it is set to show."""

    sequence: Any
    n_pictures: int
    first: int
    last: int


class AlpProjector:
    """The Projector promise (devices/projector.py) kept by an ALP board.

    ``alp`` is an ``ALP4`` object whose library is loaded (``open_alp``). The constructor allocates the device, sets
    master mode, and asks for everything in ``info``. ``chips`` are the mirror chips whose layout is known.

    Raises DeviceNotFoundError, DeviceNotFreeError, AlpCallError, and DeviceStateError where the board's chip is not one
    of ``chips``; the device is free again then, or a note on the error says that it is not.
    """

    def __init__(self, alp: Any, chips: Mapping[str, DmdType] = DMD_TYPES) -> None:
        self._alp = alp
        self._chips = chips
        self._banks: dict[int, _Bank] = {}
        self._open = False
        self._allocate_device()
        try:
            with _alp_calls("AlpProjControl"):
                alp.ProjControl(_PROJ_MODE, _MASTER)
            self._info = self._ask_device()
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
            self._info = self._with_free_memory(self._info)
        return self._info

    def allocate(self, n_pictures: int) -> int:
        """Room for a bank of so many pictures, set to packed bits and normal binary mode; its number.

        Raises ValueError, PictureMemoryError, and DeviceStateError where a setting does not read back.
        """
        self._must_be_open()
        if n_pictures < 1:
            raise ValueError(f"a bank of {n_pictures} pictures was asked for; allowed: 1 or more")
        try:
            sequence = self._allocate_sequence(n_pictures)
        except AlpCallError as error:
            if error.code != _MEMORY_FULL:
                raise
            raise PictureMemoryError(
                f"{self._info.name} has no room for {n_pictures} pictures: {self.info.free_pictures} are free; "
                "free a bank or plan smaller ones"
            ) from error
        number = int(sequence.value)
        self._banks[number] = _Bank(sequence, n_pictures, 0, n_pictures - 1)
        try:
            for control, value in (
                (_BITNUM, 1),
                (_BIN_MODE, _BIN_NORMAL),
                (_DATA_FORMAT, _BINARY_TOPDOWN),  # the default would be one byte a mirror
                (_SEQ_REPEAT, 1),
            ):
                self._set_and_read_back(sequence, control, value)
        except BaseException:
            self.free(number)
            raise
        return number

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        """Load pictures uint8 [K, mirrors_height, row_bytes] from picture ``first`` of the bank on.

        Sizes are checked here, because the library reads past the end of a short array. Raises PictureShapeError,
        UnknownBankError, DeviceStateError while the bank is projected.
        """
        entry = self._bank(bank)
        self._check_pictures(pictures)
        n_pictures = pictures.shape[0]
        if first < 0 or first + n_pictures > entry.n_pictures:
            raise UnknownBankError(
                f"pictures {first} to {first + n_pictures - 1} do not exist in bank {bank}, "
                f"which holds pictures 0 to {entry.n_pictures - 1}"
            )
        at_once = max(1, _UPLOAD_BYTES // (self._info.mirrors_height * self._info.row_bytes))
        for start in range(0, n_pictures, at_once):
            part = pictures[start : start + at_once]
            with _in_use(bank):
                # ALP4lib's SeqPut takes sequence 0 for none given, and loads into the last one allocated instead.
                code = self._alp._ALPLib.AlpSeqPut(
                    self._alp.ALP_ID,
                    entry.sequence,
                    ctypes.c_long(first + start),
                    ctypes.c_long(part.shape[0]),
                    part.ctypes.data_as(ctypes.c_void_p),
                )
                _check(code, "AlpSeqPut")

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        """Set the bank's timing in microseconds and return what the device reads back.

        Raises TimingRefusedError where the device refuses, or where a time reads back off by more than 1 % or 2 µs,
        whichever is larger; the bank's timing then has to be set again before it is shown.
        """
        entry = self._bank(bank)
        self._check_timing(timing)
        try:
            with _alp_calls("AlpSeqTiming"):
                self._alp.SetTiming(
                    SequenceId=entry.sequence,
                    illuminationTime=timing.illumination_time_us,
                    pictureTime=timing.picture_time_us,
                )
        except AlpCallError as error:
            if error.code != _PARM_INVALID:
                raise
            raise TimingRefusedError(
                f"{self._info.name} refuses a picture time of {timing.picture_time_us} µs with "
                f"{timing.illumination_time_us} µs of illumination in normal binary mode; "
                "every picture is followed by a short dark phase in this mode: "
                "make illumination_time_us a few µs shorter, or picture_time_us longer"
            ) from error
        accepted = Timing(self._ask_sequence(entry, _PICTURE_TIME), self._ask_sequence(entry, _ILLUMINATE_TIME))
        self._check_accepted(timing, accepted)
        return accepted

    def start(self, bank: int, first: int, last: int) -> None:
        """Show pictures ``first`` to ``last`` once. Raises UnknownBankError, DeviceStateError while projecting."""
        entry = self._bank(bank)
        if not 0 <= first <= last < entry.n_pictures:
            raise UnknownBankError(
                f"pictures {first} to {last} cannot be shown from bank {bank}, which holds 0 to {entry.n_pictures - 1}"
            )
        if self.is_projecting():
            raise DeviceStateError(
                f"{self._info.name} is projecting; wait until it has finished, or halt it, before starting bank {bank}"
            )
        self._select(entry, first, last)
        with _alp_calls("AlpProjStart"):
            self._alp.Run(SequenceId=entry.sequence, loop=False)

    def is_projecting(self) -> bool:
        """Whether the device states that it is displaying."""
        self._must_be_open()
        # ALP4lib's ProjInquire hands the library one argument too many. c_long, because some builds of the library
        # write 4 bytes and some 8; states are small and positive, so either reads right into 8 zeroed bytes.
        state = ctypes.c_long(0)
        library = self._alp._ALPLib
        _check(
            library.AlpProjInquire(self._alp.ALP_ID, ctypes.c_long(_PROJ_STATE), ctypes.byref(state)), "AlpProjInquire"
        )
        return state.value == _PROJ_ACTIVE

    def halt(self) -> None:
        """Stop displaying now."""
        self._must_be_open()
        with _alp_calls("AlpDevHalt"):
            self._alp.Halt()

    def free(self, bank: int) -> None:
        """Give the bank's memory back. Raises UnknownBankError, and DeviceStateError while it is projected."""
        entry = self._bank(bank)
        with _in_use(bank):
            # ALP4lib's FreeSeq forgets the sequence and prints, where the device refused.
            _check(self._alp._ALPLib.AlpSeqFree(self._alp.ALP_ID, entry.sequence), "AlpSeqFree")
        self._forget_sequence(entry.sequence)
        del self._banks[bank]

    def close(self) -> None:
        """Halt, free every bank and the device, going on when one of them fails.

        Raises DeviceNotFreeError where the device could not be freed, and it is not closed then: closing it again tries
        again. Otherwise raises the first failure of another step. Further failures are notes on the one raised.
        """
        if not self._open:
            return
        steps: list[Callable[[], None]] = [self.halt]
        steps += [lambda bank=bank: self.free(bank) for bank in self._banks]  # type: ignore[misc]
        failures = _failures(steps)
        not_freed = _failures([self._free_device])
        if not_freed:
            held = DeviceNotFreeError(
                f"the board stays allocated ({not_freed[0]}): power-cycle it, or unplug its USB cable, "
                "before it is used again; until then its mirrors may go on showing a picture"
            )
            held.__cause__ = not_freed[0]
            failures.insert(0, held)
        else:
            self._open = False
            self._banks.clear()
        if failures:
            for further in failures[1:]:
                failures[0].add_note(f"while closing, also: {further}")
            raise failures[0]

    def _must_be_open(self) -> None:
        if not self._open:
            raise DeviceStateError("the ALP projector was closed; connect to it again")

    def _bank(self, bank: int) -> _Bank:
        self._must_be_open()
        if bank not in self._banks:
            raise UnknownBankError(f"there is no bank {bank}; banks in memory: {sorted(self._banks) or 'none'}")
        return self._banks[bank]

    def _allocate_device(self) -> None:
        # ALP4lib's Initialize goes on to ask for sizes, and its error does not tell whether the device is held by then.
        try:
            code = self._alp._ALPLib.AlpDevAlloc(ctypes.c_long(_DEFAULT), _DEFAULT, ctypes.byref(self._alp.ALP_ID))
            _check(code, "AlpDevAlloc")
        except AlpCallError as error:
            raise _allocation_error(error) from error
        self._open = True

    def _free_device(self) -> None:
        with _alp_calls("AlpDevFree"):
            self._alp.Free()

    def _ask_device(self) -> ProjectorInfo:
        height, width = self._ask(_DISPLAY_HEIGHT), self._ask(_DISPLAY_WIDTH)
        code = self._ask(_DMD_TYPE)
        try:
            chip = chip_of(code, width, self._chips)
        except ValueError as error:
            raise DeviceStateError(f"pictures cannot be laid out for this board: {error}") from error
        return ProjectorInfo(
            name=f"ALP {chip.name}",
            serial=str(self._ask(_DEVICE_NUMBER)),
            mirrors_height=height,
            mirrors_width=width,
            row_bytes=chip.row_bytes,
            free_pictures=self._ask(_AVAIL_MEMORY),
            min_picture_time_us=self._shortest_picture_time_us(),
        )

    def _with_free_memory(self, info: ProjectorInfo) -> ProjectorInfo:
        free = self._ask(_AVAIL_MEMORY)
        return ProjectorInfo(**{**info.__dict__, "free_pictures": free})

    def _shortest_picture_time_us(self) -> int:
        """Asked of a one-picture sequence set as all others are, since it depends on bit number and binary mode."""
        sequence = self._allocate_sequence(1)
        probe = _Bank(sequence, 1, 0, 0)
        try:
            self._set_and_read_back(sequence, _BITNUM, 1)
            self._set_and_read_back(sequence, _BIN_MODE, _BIN_NORMAL)
            return self._ask_sequence(probe, _MIN_PICTURE_TIME)
        finally:
            _check(self._alp._ALPLib.AlpSeqFree(self._alp.ALP_ID, sequence), "AlpSeqFree")
            self._forget_sequence(sequence)

    def _ask(self, inquiry: int) -> int:
        with _alp_calls("AlpDevInquire"):
            return int(self._alp.DevInquire(inquiry))

    def _ask_sequence(self, entry: _Bank, inquiry: int) -> int:
        with _alp_calls("AlpSeqInquire"):
            return int(self._alp.SeqInquire(inquiry, SequenceId=entry.sequence))

    def _allocate_sequence(self, n_pictures: int) -> Any:
        known = len(self._alp.Seqs)
        try:
            with _alp_calls("AlpSeqAlloc"):
                return self._alp.SeqAlloc(nbImg=n_pictures, bitDepth=1)
        except AlpCallError:
            del self._alp.Seqs[known:]  # ALP4lib lists the id before it knows whether the device gave one
            raise

    def _forget_sequence(self, sequence: Any) -> None:
        self._alp.Seqs[:] = [known for known in self._alp.Seqs if known is not sequence]
        if self._alp._lastDDRseq is sequence:
            self._alp._lastDDRseq = None

    def _set_and_read_back(self, sequence: Any, control: int, value: int) -> None:
        with _alp_calls("AlpSeqControl"):
            self._alp.SeqControl(control, value, SequenceId=sequence)
        with _alp_calls("AlpSeqInquire"):
            found = int(self._alp.SeqInquire(control, SequenceId=sequence))
        if found != value:
            raise DeviceStateError(
                f"{self._name()} was set to {value} in setting {control} and reads back {found}; "
                "its firmware may be too old for packed 1-bit pictures"
            )

    def _name(self) -> str:
        return self._info.name if hasattr(self, "_info") else "the ALP board"

    def _select(self, entry: _Bank, first: int, last: int) -> None:
        """Set first and last frame in the order that never lets the first one pass the last, which is refused."""
        frames = [(_FIRST_FRAME, first), (_LAST_FRAME, last)]
        if first > entry.last:
            frames.reverse()
        for control, value in frames:
            with _alp_calls("AlpSeqControl"):
                self._alp.SeqControl(control, value, SequenceId=entry.sequence)
        entry.first, entry.last = first, last

    def _check_pictures(self, pictures: NDArray[np.uint8]) -> None:
        expected = (self._info.mirrors_height, self._info.row_bytes)
        if pictures.dtype != np.uint8 or pictures.ndim != 3 or pictures.shape[1:] != expected:
            raise PictureShapeError(
                f"pictures are {pictures.dtype} {list(pictures.shape)}; "
                f"{self._info.name} takes uint8 [K, {expected[0]}, {expected[1]}]"
            )
        if not pictures.flags.c_contiguous:
            raise PictureShapeError("pictures must lie in memory one after the other; pass numpy.ascontiguousarray(…)")

    def _check_timing(self, timing: Timing) -> None:
        shortest = self._info.min_picture_time_us
        if timing.picture_time_us < shortest:
            raise TimingRefusedError(
                f"a picture time of {timing.picture_time_us} µs is below the {shortest} µs {self._info.name} needs; "
                f"set it to {shortest} µs or more"
            )
        if not 0 < timing.illumination_time_us <= timing.picture_time_us:
            raise TimingRefusedError(
                f"an illumination time of {timing.illumination_time_us} µs does not fit into a picture time of "
                f"{timing.picture_time_us} µs; allowed: 1 to {timing.picture_time_us} µs"
            )

    def _check_accepted(self, wanted: Timing, accepted: Timing) -> None:
        for name, asked, found in (
            ("a picture time", wanted.picture_time_us, accepted.picture_time_us),
            ("an illumination time", wanted.illumination_time_us, accepted.illumination_time_us),
        ):
            if abs(found - asked) > max(_TIMING_TOLERANCE * asked, _TIMING_TOLERANCE_US):
                raise TimingRefusedError(
                    f"{self._info.name} was set to {name} of {asked} µs and reads back {found} µs; "
                    f"ask for one that it takes, {found} µs for example"
                )


@contextlib.contextmanager
def _alp_calls(call: str) -> Iterator[None]:
    """Turn ALP4lib's errors into AlpCallError with the code it dropped.

    ALP4lib raises ALPError with the text of a code it knows, and KeyError with the code itself where it does not.
    """
    from ALP4 import ALP_ERRORS, ALPError

    try:
        yield
    except ALPError as error:
        text = str(error)
        code = next((code for code, known in ALP_ERRORS.items() if known == text), -1)
        raise AlpCallError(code, call, text) from error
    except KeyError as error:
        raise AlpCallError(int(error.args[0]), call, "a code that ALP4lib does not know") from error


@contextlib.contextmanager
def _in_use(bank: int) -> Iterator[None]:
    """Say plainly that a bank is being displayed, where the device locks its memory for that reason."""
    try:
        yield
    except AlpCallError as error:
        if error.code != _SEQ_IN_USE:
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


def _check(code: int, call: str) -> None:
    """Raise AlpCallError unless a direct call to the library returned ALP_OK."""
    if code != _OK:
        from ALP4 import ALP_ERRORS

        raise AlpCallError(code, call, ALP_ERRORS.get(code, "a code that ALP4lib does not know"))


def _allocation_error(error: AlpCallError) -> Exception:
    if error.code == _NOT_READY:
        return DeviceNotFreeError(
            f"the ALP board is held by another program or by one that crashed ({error}); close that program; "
            "if none is left, unplug the board's USB cable or power-cycle it"
        )
    if error.code == _NOT_ONLINE:
        return DeviceNotFoundError(f"no ALP board answers ({error}); check its power and its USB cable")
    return error
