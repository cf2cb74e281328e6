"""A stand-in for ViALUX's shared library: the C functions that ALP4lib calls, on the simulated bench.

It sits where ALP4lib keeps its loaded library, so that ALP4lib itself is used unmodified. Arguments arrive as ctypes
values and pointers; pictures are read from the memory they point to. Names, codes and defaults: ViALUX, ALP-4
high-speed API description. What is not simulated (external triggers, endless projection, scrolling, look-up tables,
grey values) is refused with ALP_PARM_INVALID rather than ignored.

Assumed: device settings need an idle board, and what is started while the mirrors float is refused with
ALP_ERROR_POWER_DOWN.
"""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_devices.alp_device import AlpDevice
from sim_devices.alp_faults import AlpFaults, can_fail
from sim_devices.alp_sequence import DATA_FORMAT, AlpSequence
from sim_devices.bench import OpticalBench

OK = 0
NOT_IDLE = 1002
NOT_AVAILABLE = 1003
NOT_READY = 1004
PARM_INVALID = 1005
ADDR_INVALID = 1006
MEMORY_FULL = 1007
SEQ_IN_USE = 1008
HALTED = 1009
ERROR_POWER_DOWN = 1018

_DEVICE_ID = 1
_DEV_BUSY, _DEV_READY, _DEV_IDLE = 1100, 1101, 1102
_PROJ_ACTIVE, _PROJ_IDLE = 1200, 1201
_PROJ_MODE, _MASTER = 2300, 2301
_PROJ_INVERSION = 2306
_PROJ_STATE = 2400
# Data formats of AlpSeqPut: a byte a mirror (its highest or its lowest bit counts), or packed rows.
_LSB_ALIGN, _BINARY_TOPDOWN, _BINARY_BOTTOMUP = 1, 2, 3


class SimulatedAlpLibrary:
    """An ALP board with a mirror chip on the bench.

    The bench's mirrors are the chip's mirrors. ``row_bytes`` are the bytes of a packed row, ``dmd_type_code`` what
    inquiry 2021 answers, ``min_picture_time_us`` the shortest picture time in normal binary mode. ``upload_mb_per_s``
    is the transfer rate declared to the bench's clock; None: no time passes. The transfer of a whole sequence is
    declared when its memory is allocated, and setting a sequence's timing waits for all transfers: so the clock does
    not depend on which of two threads, one loading and one displaying, comes first. Sequences are numbered from 0, and
    a number that is free again is given out again: a trap for whoever takes 0 for none, or keeps a number too long.

    ``faults`` are what goes wrong (see AlpFaults), ``device`` what the board says of itself. The functions may be
    called from several threads, as the board's may.
    """

    def __init__(
        self,
        bench: OpticalBench,
        row_bytes: int,
        dmd_type_code: int,
        memory_pictures: int,
        min_picture_time_us: int,
        serial: int = 12345,
        upload_mb_per_s: float | None = None,
        exclusive_transfers: bool = False,
    ) -> None:
        self.faults = AlpFaults(exclusive_transfers)
        self._bench = bench
        self._height, self._width = bench.mirror_light.shape
        if row_bytes * 8 < self._width:
            raise ValueError(f"{row_bytes} bytes a row hold no {self._width} mirrors")
        self._row_bytes = row_bytes
        self._memory_pictures = memory_pictures
        self._min_picture_time_us = min_picture_time_us
        self._upload_mb_per_s = upload_mb_per_s
        self._serial = serial
        self.device = AlpDevice(
            {2000: serial, 2001: 0x04030000, 2021: dmd_type_code, 2057: self._height, 2058: self._width}
        )
        self._allocated = False
        self._held = False
        self._halts = 0
        self._sequences: dict[int, AlpSequence] = {}
        self._displayed: int | None = None
        self._inverted = 0

    def inject(self, call: str, nth: int, code: int) -> None:
        """Let the ``nth`` call from now (1: the next one) of a C function return ``code`` and do nothing."""
        self.faults.inject(call, nth, code)

    def withdraw(self) -> None:
        """Take back what was injected and has not happened yet."""
        self.faults.withdraw()

    def hold(self) -> None:
        """The process that has the device crashes, or another one takes it: nobody else gets it."""
        self._held = True

    def release(self) -> None:
        """The board is power-cycled: free, idle, its memory empty, its mirrors resumed."""
        self._bench.halt()
        self._held = self._allocated = False
        self._sequences.clear()
        self.device.set(2064, 0)

    @can_fail
    def AlpDevAlloc(self, device_number: Any, init_flag: Any, device_id: Any) -> int:
        """Hand out the device, once."""
        if _value(device_number) not in (0, self._serial):
            return 1001
        if _value(init_flag) != 0:
            return PARM_INVALID
        if self._allocated or self._held:
            return NOT_READY
        self._allocated = True
        self.device.reset()
        self._inverted = 0
        return _answer(device_id, _DEVICE_ID)

    @can_fail
    def AlpDevInquire(self, device_id: Any, inquiry: Any, answer: Any) -> int:
        """What the device is, its free memory included."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        asked = _value(inquiry)
        if asked == 2002:
            return _answer(answer, _DEV_BUSY if self._is_projecting() else _DEV_IDLE)
        if asked == 2003:
            return _answer(answer, self._free_pictures())
        found = self.device.ask(asked)
        return PARM_INVALID if found is None else _answer(answer, found)

    @can_fail
    def AlpDevControl(self, device_id: Any, control: Any, value: Any) -> int:
        """Settings of the device."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        if self._is_projecting():
            return NOT_IDLE
        return OK if self.device.set(_value(control), _value(value)) else PARM_INVALID

    @can_fail
    def AlpDevHalt(self, device_id: Any) -> int:
        """Stop displaying and loading; all memory stays allocated."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        self._halts += 1
        self._bench.halt()
        return OK

    @can_fail
    def AlpDevFree(self, device_id: Any) -> int:
        """Free the device and all sequences."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        if self._is_projecting():
            return NOT_IDLE
        self._sequences.clear()
        self._allocated = False
        return OK

    @can_fail
    def AlpSeqAlloc(self, device_id: Any, bit_planes: Any, n_pictures: Any, sequence_id: Any) -> int:
        """Memory for pictures."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        planes, pictures = _value(bit_planes), _value(n_pictures)
        if not 1 <= planes <= 8 or pictures < 1:
            return PARM_INVALID
        if planes * pictures > self._free_pictures():
            return MEMORY_FULL
        number = next(each for each in itertools.count() if each not in self._sequences)
        # A picture that was never loaded shows what the memory held before; all mirrors on cannot be overlooked.
        light = np.full(pictures, self._bench.light_of_all)
        sensor_images = self._bench.sensor_images
        images = None if sensor_images is None else [sensor_images.all_on] * pictures
        n_relit = self._bench.n_relit
        self._sequences[number] = AlpSequence(planes, light, self._min_picture_time_us, images, n_relit)
        if self._upload_mb_per_s is not None:
            self._bench.upload(planes * pictures * self._height * self._row_bytes / self._upload_mb_per_s)
        return _answer(sequence_id, number)

    @can_fail
    def AlpSeqFree(self, device_id: Any, sequence_id: Any) -> int:
        """Give a sequence's memory back."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        if self._locked(sequence_id):
            return SEQ_IN_USE
        del self._sequences[_value(sequence_id)]
        return OK

    @can_fail
    def AlpSeqControl(self, device_id: Any, sequence_id: Any, control: Any, value: Any) -> int:
        """Settings of a sequence, in effect from its next start."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        accepted = self._sequences[_value(sequence_id)].set(_value(control), _value(value))
        return OK if accepted else PARM_INVALID

    @can_fail
    def AlpSeqInquire(self, device_id: Any, sequence_id: Any, inquiry: Any, answer: Any) -> int:
        """Settings and timing of a sequence."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        found = self._sequences[_value(sequence_id)].ask(_value(inquiry))
        return PARM_INVALID if found is None else _answer(answer, found)

    @can_fail
    def AlpSeqTiming(
        self,
        device_id: Any,
        sequence_id: Any,
        illuminate_time: Any,
        picture_time: Any,
        synch_delay: Any,
        synch_pulse_width: Any,
        trigger_in_delay: Any,
    ) -> int:
        """Picture and illumination time, sync delay and pulse; a delay of the trigger input is not simulated."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        if _value(trigger_in_delay) != 0:
            return PARM_INVALID
        self._bench.wait_for_uploads()
        times = map(_value, (picture_time, illuminate_time, synch_delay, synch_pulse_width))
        return OK if self._sequences[_value(sequence_id)].set_timing(*times) else PARM_INVALID

    @can_fail
    def AlpSeqPut(self, device_id: Any, sequence_id: Any, pic_offset: Any, pic_load: Any, user_array: Any) -> int:
        """Load pictures: each is decoded once by the bench, and only its light is kept, and its image where needed."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        if self._locked(sequence_id):
            return SEQ_IN_USE
        sequence = self._sequences[_value(sequence_id)]
        offset, load = _value(pic_offset), _value(pic_load)
        if load == 0:
            load = sequence.n_pictures - offset
        if offset < 0 or load < 1 or offset + load > sequence.n_pictures or sequence.bit_planes != 1:
            return PARM_INVALID
        address = _value(user_array)
        if not address:
            return ADDR_INVALID
        halts = self._halts
        self.faults.transfers += 1
        try:
            light, images = self._decode(address, load, sequence.setting(DATA_FORMAT))
        finally:
            self.faults.transfers -= 1
        if self._halts != halts:
            return HALTED
        sequence.light[offset : offset + load] = light
        if sequence.images is not None:
            sequence.images[offset : offset + load] = images
        return OK

    @can_fail
    def AlpProjControl(self, device_id: Any, control: Any, value: Any) -> int:
        """Settings of the projection; the device must be idle."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        if self._is_projecting():
            return NOT_IDLE
        setting, wanted = _value(control), _value(value)
        if setting == _PROJ_MODE and wanted in (0, _MASTER):
            return OK
        if setting == _PROJ_INVERSION:
            self._inverted = int(wanted != 0)
            return OK
        return PARM_INVALID

    @can_fail
    def AlpProjInquire(self, device_id: Any, inquiry: Any, answer: Any) -> int:
        """Settings and state of the projection."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        state = _PROJ_ACTIVE if self._is_projecting() else _PROJ_IDLE
        known = {_PROJ_MODE: _MASTER, _PROJ_INVERSION: self._inverted, _PROJ_STATE: state}
        asked = _value(inquiry)
        return _answer(answer, known[asked]) if asked in known else PARM_INVALID

    @can_fail
    def AlpProjStart(self, device_id: Any, sequence_id: Any) -> int:
        """Display a sequence's selected pictures, as often as it says. A waiting queue is not simulated."""
        refused = self._refusal(device_id, sequence_id)
        if refused:
            return refused
        if self._is_projecting():
            return NOT_IDLE
        if self.device.mirrors_float:
            return ERROR_POWER_DOWN
        number = _value(sequence_id)
        sequence = self._sequences[number]
        if sequence.n_relit != self._bench.n_relit:
            raise RuntimeError(
                f"sequence {number} was allocated before the sample moved, and this stand-in keeps the light of its "
                "pictures, not the pictures: free it, and load them again after the move"
            )
        light, images = sequence.selected_light(), sequence.selected_images()
        if self._inverted:
            light = self._bench.light_of_all - light
            if images is not None and self._bench.sensor_images is not None:
                images = [self._bench.sensor_images.inverse(each) for each in images]
        self._displayed = number
        self._bench.display(
            light,
            sequence.picture_time_us,
            sequence.illumination_time_us,
            bank=number,
            first=sequence.first,
            images=images,
        )
        return OK

    @can_fail
    def AlpProjStartCont(self, device_id: Any, sequence_id: Any) -> int:
        """Endless projection: refused."""
        return self._refusal(device_id, sequence_id) or PARM_INVALID

    @can_fail
    def AlpProjHalt(self, device_id: Any) -> int:
        """Stop displaying; loading goes on."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        self._bench.halt()
        return OK

    @can_fail
    def AlpProjWait(self, device_id: Any) -> int:
        """Return when nothing is displayed any more."""
        if not self._holds(device_id):
            return NOT_AVAILABLE
        while self._is_projecting():
            time.sleep(0.001)
        return OK

    def _holds(self, device_id: Any) -> bool:
        return self._allocated and _value(device_id) == _DEVICE_ID

    def _refusal(self, device_id: Any, sequence_id: Any) -> int:
        if not self._holds(device_id):
            return NOT_AVAILABLE
        return OK if _value(sequence_id) in self._sequences else PARM_INVALID

    def _is_projecting(self) -> bool:
        return self._bench.is_displaying()

    def _locked(self, sequence_id: Any) -> bool:
        return _value(sequence_id) == self._displayed and self._is_projecting()

    def _free_pictures(self) -> int:
        return self._memory_pictures - sum(each.bit_planes * each.n_pictures for each in self._sequences.values())

    def _decode(
        self, address: int, n_pictures: int, data_format: int
    ) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
        """The light float64 [n_pictures] of pictures in memory, and their images where a camera images the mirrors."""
        sensor_images = self._bench.sensor_images
        light: list[NDArray[np.float64]] = []
        images: list[NDArray[np.float32]] = []
        for packed in self._packed(address, n_pictures, data_format):
            light.append(self._bench.decode(packed))
            images += [] if sensor_images is None else sensor_images.of(packed)
        return np.concatenate(light), images

    def _packed(self, address: int, n_pictures: int, data_format: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures in memory, packed, top row first: all at once, or one by one where they have to be packed."""
        if data_format in (_BINARY_TOPDOWN, _BINARY_BOTTOMUP):
            packed = _memory(address, (n_pictures, self._height, self._row_bytes))
            yield packed if data_format == _BINARY_TOPDOWN else packed[:, ::-1]
            return
        for picture in _memory(address, (n_pictures, self._height, self._width)):
            is_on = picture & 1 if data_format == _LSB_ALIGN else picture >> 7
            yield np.packbits(is_on, axis=1)[None]


def alp4_on(library: SimulatedAlpLibrary) -> Any:
    """An ALP4lib ``ALP4`` object whose loaded library is the stand-in; everything else about it is the package's own.

    Its constructor would load a shared library, so the object is made without it and given the same attributes.
    """
    from ALP4 import ALP4

    alp = ALP4.__new__(ALP4)
    alp._ALPLib = library
    alp.ALP_ID = ctypes.c_ulong(0)
    alp.DMDType = ctypes.c_long(0)
    alp._lastDDRseq = None
    alp.Seqs = []
    return alp


def _value(argument: Any) -> int:
    """The number in a ctypes value, or a plain one; a null pointer is 0."""
    return int(getattr(argument, "value", argument) or 0)


def _answer(pointer: Any, value: int) -> int:
    """Write where ``ctypes.byref`` points to, as the C function would."""
    pointer._obj.value = value
    return OK


def _memory(address: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The user's memory as an array uint8, not copied."""
    n_bytes = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_uint8 * n_bytes).from_address(address)).reshape(shape)
