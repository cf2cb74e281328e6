"""A sequence in the simulated ALP board's memory: its settings, its timing, and the light of its pictures.

Where a camera images the mirrors, the images of the pictures are kept beside their light, float32 of a sensor's
size each.

Timing follows the API description where it is exact: whole microseconds (the wire carries no others), a dark phase
after every picture in normal binary mode and none in uninterrupted mode, a shortest picture time that depends on bit
number and binary mode, and refusal of what does not fit. The sync pulse begins with the picture time and the display
so much later as the sync delay says; by default the pulse ends with the illumination. In uninterrupted mode a picture
is displayed for all of its picture time, whatever illumination time and sync delay are asked for.

How long these times are differs from board to board. Assumed here: sync delay, illumination and dark phase have to fit
into the picture time, and so has the pulse; a dark phase of 2 µs; uninterrupted mode faster by just that; a picture of
k bits as slow as 2^k - 1 binary ones, because its planes are weighted by time; and a change of mode that stretches a
picture time which has become too short, and cuts an illumination time which has become too long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DATA_FORMAT = 2110

_SEQ_REPEAT, _FIRST_FRAME, _LAST_FRAME = 2100, 2101, 2102
_BITNUM, _BIN_MODE, _BIN_NORMAL, _BIN_UNINTERRUPTED = 2103, 2104, 2105, 2106
_MAX_REPEAT = 2**20
_DARK_US = 2
_MAX_PICTURE_TIME_US = 10_000_000
_MAX_SYNC_DELAY_US = 130_000
_DEFAULT_PICTURE_TIME_US = 33_334


class AlpSequence:
    """Settings as AlpSeqAlloc leaves them: all pictures once, one byte a mirror, 30 pictures a second.

    ``light`` float64 [n_pictures] is what each picture sends to the detector, ``images`` float32 [height, width] what
    each makes on an imaging camera's sensor, None where there is no such camera. ``min_picture_time_us`` is the
    shortest time of a binary picture in normal mode. ``n_relit``: the bench's, when the memory was allocated.
    """

    def __init__(
        self,
        bit_planes: int,
        light: NDArray[np.float64],
        min_picture_time_us: int,
        images: Sequence[NDArray[np.float32]] | None = None,
        n_relit: int = 0,
    ) -> None:
        self.bit_planes = bit_planes
        self.n_relit = n_relit
        self.light = light
        self.images = None if images is None else list(images)
        self._min_picture_time_us = min_picture_time_us
        self._settings = {
            _SEQ_REPEAT: 1,
            _FIRST_FRAME: 0,
            _LAST_FRAME: len(light) - 1,
            _BITNUM: bit_planes,
            _BIN_MODE: _BIN_NORMAL,
            DATA_FORMAT: 0,
        }
        self.picture_time_us = max(_DEFAULT_PICTURE_TIME_US, self.min_picture_time_us)
        self._illumination_time_us = self.picture_time_us - _DARK_US
        self._sync_delay_us = 0
        self._sync_pulse_us = 0

    @property
    def n_pictures(self) -> int:
        """How many pictures there is memory for."""
        return len(self.light)

    @property
    def first(self) -> int:
        """The first picture that is displayed."""
        return self._settings[_FIRST_FRAME]

    @property
    def illumination_time_us(self) -> int:
        """How long a picture is displayed; without a dark phase, all the time."""
        return self._illumination_time_us if self._dark_us else self.picture_time_us

    @property
    def sync_delay_us(self) -> int:
        """How long after the start of its sync pulse a picture is displayed."""
        return self._sync_delay_us if self._dark_us else 0

    @property
    def sync_pulse_us(self) -> int:
        """How long the sync output is active."""
        return self._sync_pulse_us or self.sync_delay_us + self.illumination_time_us

    @property
    def min_picture_time_us(self) -> int:
        """The shortest picture time in the mode that is set."""
        binary = self._min_picture_time_us - (_DARK_US - self._dark_us)
        return int(binary * (2 ** self._settings[_BITNUM] - 1))

    def setting(self, control: int) -> int:
        """A setting's value."""
        return self._settings[control]

    def set(self, control: int, value: int) -> bool:
        """Change a setting; False where there is no such setting or it does not take this value."""
        first, last = self._settings[_FIRST_FRAME], self._settings[_LAST_FRAME]
        allowed = {
            _SEQ_REPEAT: range(1, _MAX_REPEAT + 1),
            _FIRST_FRAME: range(last + 1),
            _LAST_FRAME: range(first, self.n_pictures),
            _BITNUM: range(1, self.bit_planes + 1),
            _BIN_MODE: (_BIN_NORMAL, _BIN_UNINTERRUPTED),
            DATA_FORMAT: range(4),
        }
        if value not in allowed.get(control, ()):
            return False
        self._settings[control] = value
        self.picture_time_us = max(self.picture_time_us, self.min_picture_time_us)
        longest = self.picture_time_us - self._dark_us - self._sync_delay_us
        self._illumination_time_us = min(self._illumination_time_us, longest)
        return True

    def ask(self, inquiry: int) -> int | None:
        """A setting or a time in µs; None where there is no such inquiry."""
        times = {
            2200: self.bit_planes,
            2201: self.n_pictures,
            2203: self.picture_time_us,
            2204: self.illumination_time_us,
            2205: self.sync_delay_us,
            2206: self.sync_pulse_us,
            2207: 0,
            2209: _MAX_SYNC_DELAY_US,
            2211: self.min_picture_time_us,
            2212: 1,
            2213: _MAX_PICTURE_TIME_US,
        }
        return {**self._settings, **times}.get(inquiry)

    def set_timing(
        self, picture_time_us: int, illumination_time_us: int, sync_delay_us: int = 0, sync_pulse_us: int = 0
    ) -> bool:
        """Set the times, 0 meaning the default; False where they are refused.

        The default of picture and illumination time is what fits the other one best, of both 30 pictures a second.
        """
        delay_us = sync_delay_us if self._dark_us else 0
        around_us = delay_us + self._dark_us
        if picture_time_us == 0:
            wanted = illumination_time_us + around_us if illumination_time_us else _DEFAULT_PICTURE_TIME_US
            picture_time_us = max(wanted, self.min_picture_time_us)
        if illumination_time_us == 0 or not self._dark_us:
            illumination_time_us = picture_time_us - around_us
        if not self.min_picture_time_us <= picture_time_us <= _MAX_PICTURE_TIME_US:
            return False
        if not 0 < illumination_time_us <= picture_time_us - around_us:
            return False
        if not 0 <= sync_delay_us <= _MAX_SYNC_DELAY_US or not 0 <= sync_pulse_us <= picture_time_us:
            return False
        self.picture_time_us, self._illumination_time_us = picture_time_us, illumination_time_us
        self._sync_delay_us, self._sync_pulse_us = delay_us, sync_pulse_us
        return True

    def selected_light(self) -> NDArray[np.float64]:
        """The light of the pictures of one projection, in display order, repeats included; a copy."""
        chosen = self.light[self.first : self._settings[_LAST_FRAME] + 1]
        return np.tile(chosen, self._settings[_SEQ_REPEAT])

    def selected_images(self) -> list[NDArray[np.float32]] | None:
        """The images of the same pictures, not copied; None where no camera images the mirrors."""
        if self.images is None:
            return None
        return self.images[self.first : self._settings[_LAST_FRAME] + 1] * self._settings[_SEQ_REPEAT]

    @property
    def _dark_us(self) -> int:
        """The dark phase of the binary mode that is set."""
        return 0 if self._settings[_BIN_MODE] == _BIN_UNINTERRUPTED else _DARK_US
