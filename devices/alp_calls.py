"""The functions of the ALP library on one board, called through ALP4lib where it is right, and their errors.

Where ALP4lib's own method is not right the library is called directly, and a comment says why.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from devices import alp_codes as codes
from devices.errors import AlpCallError, DeviceStateError, DeviceVanishedError

_Answer = TypeVar("_Answer")

_VANISHED: Final = (codes.NOT_AVAILABLE, codes.ERROR_COMM, codes.DEVICE_REMOVED)
_ADVICE: Final[dict[int, str]] = {
    # Of every function but AlpDevAlloc, whose caller says what to do instead.
    codes.NOT_READY: "The board is in use by another call; make sure that only one program uses it.",
    codes.ERROR_POWER_DOWN: "The mirrors did not come back from floating; power-cycle the board.",
    codes.CONFIG_MISMATCH: "The board is not configured for such a call.",
}


class AlpCalls:
    """One board, reached through an ``ALP4`` object whose library is loaded.

    Numbers that the board answers are signed and of 32 bits. Every method raises AlpCallError where the library
    returns an error, DeviceVanishedError where the error says that the board is gone, and the methods that set
    something raise DeviceStateError where it does not read back.

    ``put`` may go on in one thread while others call the other methods: a board that takes no call meanwhile
    (ALP_NOT_READY) gets it again between two transfers. Sequences are allocated and freed by one thread at a time.
    """

    def __init__(self, alp: Any) -> None:
        self._alp = alp
        # Whoever waits for a transfer to end keeps the turn, so that the next transfer cannot overtake it.
        self._turn = threading.Lock()
        self._transfer = threading.Lock()
        self._transfers_done = 0

    def allocate_device(self, number: int) -> None:
        """Take the board with this serial number, or the first one (0)."""
        # ALP4lib's Initialize goes on to ask for sizes, and its error does not tell whether the device is held by then.
        device_id = ctypes.byref(self._alp.ALP_ID)
        self._direct("AlpDevAlloc", ctypes.c_long(number), codes.DEFAULT, device_id)

    def free_device(self) -> None:
        """Give the board back; all its memory goes with it. ALP4lib lets go of its library then."""
        self._call("AlpDevFree", self._alp.Free)

    def halt_device(self) -> None:
        """Stop displaying and loading now: a transfer under way returns ALP_HALTED."""
        self._call("AlpDevHalt", self._alp.Halt)

    def ask_device(self, inquiry: int) -> int:
        """What the board answers to an inquiry."""
        return _signed(self._call("AlpDevInquire", lambda: self._alp.DevInquire(inquiry)))

    def ask_device_if_known(self, inquiry: int) -> int | None:
        """The same; None where the board does not know this inquiry."""
        return _if_known(self.ask_device, inquiry)

    def set_device(self, control: int, value: int) -> None:
        """Set and read back a device setting; the board must not display anything."""
        self._call("AlpDevControl", lambda: self._alp.DevControl(control, value))
        _must_read_back(control, value, self.ask_device(control))

    def allocate_sequence(self, n_pictures: int) -> Any:
        """Memory for so many 1-bit pictures: the sequence's number, as the ctypes value that ALP4lib knows it by."""
        known = list(self._alp.Seqs)
        try:
            return self._call("AlpSeqAlloc", lambda: self._alp.SeqAlloc(nbImg=n_pictures, bitDepth=1))
        except AlpCallError:
            self._alp.Seqs[:] = known  # ALP4lib lists the id before it knows whether the device gave one
            raise

    def free_sequence(self, sequence: Any) -> None:
        """Give a sequence's memory back."""
        # ALP4lib's FreeSeq forgets the sequence and prints, where the device refused.
        self._direct("AlpSeqFree", self._alp.ALP_ID, sequence)
        self._alp.Seqs[:] = [known for known in self._alp.Seqs if known is not sequence]
        if self._alp._lastDDRseq is sequence:
            self._alp._lastDDRseq = None

    def ask_sequence(self, sequence: Any, inquiry: int) -> int:
        """What the board answers about a sequence."""
        return _signed(self._call("AlpSeqInquire", lambda: self._alp.SeqInquire(inquiry, SequenceId=sequence)))

    def ask_sequence_if_known(self, sequence: Any, inquiry: int) -> int | None:
        """The same; None where the board does not know this inquiry."""
        return _if_known(lambda known: self.ask_sequence(sequence, known), inquiry)

    def set_sequence(self, sequence: Any, control: int, value: int) -> None:
        """Set and read back a sequence's setting, in effect from its next start."""
        self._call("AlpSeqControl", lambda: self._alp.SeqControl(control, value, SequenceId=sequence))
        _must_read_back(control, value, self.ask_sequence(sequence, control))

    def time_sequence(
        self, sequence: Any, picture_us: int, illumination_us: int, sync_delay_us: int, sync_pulse_us: int
    ) -> None:
        """Set a sequence's times in µs; 0 stands for the board's default."""
        self._call(
            "AlpSeqTiming",
            lambda: self._alp.SetTiming(
                SequenceId=sequence,
                pictureTime=picture_us,
                illuminationTime=illumination_us,
                synchDelay=sync_delay_us,
                synchPulseWidth=sync_pulse_us,
            ),
        )

    def put(self, sequence: Any, first: int, pictures: NDArray[np.uint8]) -> None:
        """Load packed pictures uint8 [K, mirrors_height, row_bytes], C-contiguous, from picture ``first`` on."""
        # ALP4lib's SeqPut checks no size, copies everything, and takes sequence 0 for none given: it would load into
        # the last one allocated.
        arguments = (
            sequence,
            ctypes.c_long(first),
            ctypes.c_long(pictures.shape[0]),
            pictures.ctypes.data_as(ctypes.c_void_p),
        )
        with self._turn:
            self._transfer.acquire()
        try:
            _check(self._alp._ALPLib.AlpSeqPut(self._alp.ALP_ID, *arguments), "AlpSeqPut")
        finally:
            self._transfers_done += 1
            self._transfer.release()

    def set_projection(self, control: int, value: int) -> None:
        """Set and read back a projection setting; the board must be idle."""
        self._call("AlpProjControl", lambda: self._alp.ProjControl(control, value))
        _must_read_back(control, value, self.ask_projection(control))

    def ask_projection(self, inquiry: int) -> int:
        """What the board answers about the projection."""
        # ALP4lib's ProjInquire hands the library one argument too many, and its ProjInquireEx calls this function with
        # a pointer to a double. c_long, because some builds of the library write 4 bytes and some 8.
        answer = ctypes.c_long(0)
        self._direct("AlpProjInquire", self._alp.ALP_ID, ctypes.c_long(inquiry), ctypes.byref(answer))
        return _signed(answer.value)

    def start(self, sequence: Any) -> None:
        """Display a sequence's range as often as it is set to; never without end."""
        self._call("AlpProjStart", lambda: self._alp.Run(SequenceId=sequence, loop=False))

    def halt_projection(self) -> None:
        """Stop displaying now; unlike halting the device this does not cut off a transfer."""
        self._direct("AlpProjHalt", self._alp.ALP_ID)  # ALP4lib has no method for it

    def _direct(self, call: str, *arguments: Any) -> None:
        """Call the library itself."""
        self._call(call, lambda: _check(getattr(self._alp._ALPLib, call)(*arguments), call))

    def _call(self, call: str, function: Callable[[], _Answer]) -> _Answer:
        done = self._transfers_done
        try:
            return _with_errors_translated(call, function)
        except AlpCallError as error:
            beside_a_transfer = self._transfer.locked() or self._transfers_done != done
            if error.code != codes.NOT_READY or not beside_a_transfer:
                raise
        with self._turn, self._transfer:
            return _with_errors_translated(call, function)


def _with_errors_translated(call: str, function: Callable[[], _Answer]) -> _Answer:
    """Call ALP4lib, and give its errors the code back that it drops.

    ALP4lib raises ALPError with the text of a code it knows, and KeyError with the code itself where it does not.
    """
    from ALP4 import ALP_ERRORS, ALPError

    try:
        return function()
    except ALPError as error:
        text = str(error)
        raise _call_error(next(code for code, known in ALP_ERRORS.items() if known == text), call) from error
    except KeyError as error:
        if not isinstance(error.args[0], int):
            raise
        raise _call_error(error.args[0], call) from error


def _check(code: int, call: str) -> None:
    """Raise AlpCallError unless a direct call to the library returned ALP_OK."""
    if code != codes.OK:
        raise _call_error(code, call)


def _call_error(code: int, call: str) -> AlpCallError:
    from ALP4 import ALP_ERRORS

    text = ALP_ERRORS.get(code, "a code that ALP4lib does not know")
    if code in _ADVICE and call != "AlpDevAlloc":
        text = _ADVICE[code]
    return DeviceVanishedError(code, call, text) if code in _VANISHED else AlpCallError(code, call, text)


def _if_known(ask: Callable[[int], int], inquiry: int) -> int | None:
    try:
        return ask(inquiry)
    except AlpCallError as error:
        if error.code != codes.PARM_INVALID:
            raise
        return None


def _must_read_back(control: int, value: int, found: int) -> None:
    if found != value:
        raise DeviceStateError(
            f"the ALP board was set to {value} in setting {control} and reads back {found}; "
            "its firmware may be too old for this setting: update it, or choose another setting"
        )


def _signed(value: int) -> int:
    """A signed number of 32 bits that the library may have written into the lower half of 64 zero bits."""
    return ((int(value) & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000
