"""A sequence in the simulated ALP board's memory: its settings, its timing, and the light of its pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

DATA_FORMAT = 2110

_SEQ_REPEAT, _FIRST_FRAME, _LAST_FRAME = 2100, 2101, 2102
_BITNUM, _BIN_MODE, _BIN_NORMAL, _BIN_UNINTERRUPTED = 2103, 2104, 2105, 2106
_MAX_REPEAT = 2**20
_MAX_PICTURE_TIME_US = 10_000_000
_DEFAULT_PICTURE_TIME_US = 33_334


class AlpSequence:
    """Settings as AlpSeqAlloc leaves them: all pictures once, one byte a mirror, 30 pictures a second.

    ``light`` float64 [n_pictures] is what each picture sends to the detector.
    """

    def __init__(self, bit_planes: int, light: NDArray[np.float64], min_picture_time_us: int) -> None:
        self.bit_planes = bit_planes
        self.light = light
        self.picture_time_us = _DEFAULT_PICTURE_TIME_US
        self._illumination_time_us = _DEFAULT_PICTURE_TIME_US
        self._min_picture_time_us = min_picture_time_us
        self._settings = {
            _SEQ_REPEAT: 1,
            _FIRST_FRAME: 0,
            _LAST_FRAME: len(light) - 1,
            _BITNUM: bit_planes,
            _BIN_MODE: _BIN_NORMAL,
            DATA_FORMAT: 0,
        }

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
        uninterrupted = self._settings[_BIN_MODE] == _BIN_UNINTERRUPTED
        return self.picture_time_us if uninterrupted else self._illumination_time_us

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
        return True

    def ask(self, inquiry: int) -> int | None:
        """A setting or a time in µs; None where there is no such inquiry."""
        times = {
            2200: self.bit_planes,
            2201: self.n_pictures,
            2203: self.picture_time_us,
            2204: self.illumination_time_us,
            2205: 0,
            2207: 0,
            2211: self._min_picture_time_us,
            2212: 1,
            2213: _MAX_PICTURE_TIME_US,
        }
        return {**self._settings, **times}.get(inquiry)

    def set_timing(self, picture_time_us: int, illumination_time_us: int) -> bool:
        """Set the times, 0 meaning the default; False where they are refused."""
        if picture_time_us == 0:
            picture_time_us = max(illumination_time_us, self._min_picture_time_us) or _DEFAULT_PICTURE_TIME_US
            if illumination_time_us == 0:
                picture_time_us = _DEFAULT_PICTURE_TIME_US
        if illumination_time_us == 0:
            illumination_time_us = picture_time_us
        if not self._min_picture_time_us <= picture_time_us <= _MAX_PICTURE_TIME_US:
            return False
        if not 0 < illumination_time_us <= picture_time_us:
            return False
        self.picture_time_us, self._illumination_time_us = picture_time_us, illumination_time_us
        return True

    def selected_light(self) -> NDArray[np.float64]:
        """The light of the pictures of one projection, in display order, repeats included; a copy."""
        chosen = self.light[self.first : self._settings[_LAST_FRAME] + 1]
        return np.tile(chosen, self._settings[_SEQ_REPEAT])
