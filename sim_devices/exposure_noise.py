"""The noise of numbered exposures: source noise, shot noise and read noise, of whole readings and of single pixels.

Every exposure draws from its own stretches of a counter-based generator (Philox, Salmon et al. 2011), keyed by the
seed and addressed by the exposure's number, so that its noise depends on nothing else. The first stretch gives the
source noise, where there is any, and then the noise of the reading; the second one that of the pixels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OF_THE_READING: Final = 0
_OF_THE_PIXELS: Final = 1


class ExposureNoise:
    """Draws of a·Poisson(light·(1 + ε)/a) + N(0, b), ε ~ N(0, source_noise²), 1 + ε clipped at 0.

    ``gain`` a in detector units per photo-electron, ``variance`` b in detector units².
    """

    def __init__(self, gain: float, variance: float, source_noise: float, seed: int) -> None:
        self._gain = gain
        self._variance = variance
        self._source_noise = source_noise
        self._philox = np.random.Philox(key=seed)
        self._generator = np.random.Generator(self._philox)
        self._state: Any = self._philox.state

    def readings(self, mean_light: NDArray[np.float64], first_exposure: int) -> NDArray[np.float64]:
        """Readings float64 [n] above the offset, of exposures from number ``first_exposure`` on, of mean light [n]."""
        gain, deviation, source_noise = self._gain, self._variance**0.5, self._source_noise
        poisson, normal = self._generator.poisson, self._generator.standard_normal
        philox, state = self._philox, self._state
        counter = state["state"]["counter"]
        counter[:] = 0
        # A fresh state per exposure: an empty buffer, and a counter whose upper half is the exposure's number.
        state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
        values = np.empty(len(mean_light))
        for index, electrons in enumerate((mean_light / gain).tolist()):
            counter[2] = first_exposure + index
            philox.state = state
            if source_noise:
                electrons *= max(0.0, 1.0 + source_noise * normal())
            values[index] = gain * poisson(electrons) + deviation * normal()
        return values

    def pixels(self, mean_light: NDArray[np.float64], exposure: int) -> NDArray[np.float64]:
        """The pixels float64 [h, w] above the offset, of one exposure of mean light [h, w].

        Every pixel has shot noise of its own and an equal part b/(h·w) of the variance; the source noise is common to
        all, and the same as in the exposure's reading. So their sum has a reading's mean and variance; a sensor that
        rounds pixels to whole units adds h·w/12 to the variance, if b/(h·w) is at least a quarter of a unit². Much less
        is rounded away, and the sum then has neither b nor, where light is dim, its mean.
        """
        share = 1.0
        if self._source_noise:
            self._go_to(exposure, _OF_THE_READING)
            share = max(0.0, 1.0 + self._source_noise * self._generator.standard_normal())
        self._go_to(exposure, _OF_THE_PIXELS)
        electrons = self._generator.poisson(mean_light * (share / self._gain))
        read_noise = self._generator.standard_normal(mean_light.shape)
        return np.asarray(self._gain * electrons + (self._variance / mean_light.size) ** 0.5 * read_noise)

    def _go_to(self, exposure: int, stretch: int) -> None:
        state = self._state
        state["state"]["counter"][:] = 0, 0, exposure, stretch
        state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
        self._philox.state = state
