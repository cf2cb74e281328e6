"""Small simulated benches with our drivers on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.alp import AlpProjector
from devices.alp_settings import AlpSettings
from devices.dmd_types import DMD_TYPES, DmdType
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.micromanager_core import SimulatedCore

HEIGHT, WIDTH, ROW_BYTES = 6, 20, 3
MEMORY_PICTURES = 100
MIN_PICTURE_TIME_US = 44
SMALL_CHIP = DmdType("small", HEIGHT, WIDTH, ROW_BYTES, MIN_PICTURE_TIME_US, (0,))
SILENT = BenchSettings(gain=1.0, variance=0.0, shot_noise=False)


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_bench(pace: float = 0.0, clock: Clock | None = None, light_on: bool = True) -> OpticalBench:
    """Mirrors of different light each, so that no two sets of them shine alike; no noise."""
    mirror_light = 1000 * np.random.default_rng(0).random((HEIGHT, WIDTH))
    return OpticalBench(replace(SILENT, pace=pace), mirror_light, clock or Clock(), light_on)


def a_library(bench: OpticalBench, **options: Any) -> SimulatedAlpLibrary:
    """An ALP board on the bench."""
    defaults = {
        "row_bytes": ROW_BYTES,
        "dmd_type_code": SMALL_CHIP.alp_codes[0],
        "memory_pictures": MEMORY_PICTURES,
        "min_picture_time_us": MIN_PICTURE_TIME_US,
    }
    return SimulatedAlpLibrary(bench, **{**defaults, **options})


def a_projector(bench: OpticalBench) -> AlpProjector:
    """Our driver on an unmodified ALP4lib on the stand-in."""
    return a_driver(alp4_on(a_library(bench)))


def a_driver(alp: Any, settings: AlpSettings | None = None) -> AlpProjector:
    """Our driver, told of the small chip besides the ones that exist."""
    return AlpProjector(alp, settings, {**DMD_TYPES, "small": SMALL_CHIP})


class Meddler:
    """The stand-in library with some of its functions replaced."""

    def __init__(self, library: SimulatedAlpLibrary, **functions: Any) -> None:
        self._library = library
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        functions = self.__dict__["_functions"]
        return functions.get(name, getattr(self.__dict__["_library"], name))


def a_meddled_alp(**functions: Any) -> Any:
    """An ALP4lib object on a board some of whose functions are replaced."""
    return alp4_on(Meddler(a_library(a_bench()), **functions))  # type: ignore[arg-type]


def a_core(bench: OpticalBench, **options: Any) -> SimulatedCore:
    """A core that leaves the light alone."""
    core = SimulatedCore(bench, **options)
    core.set_auto_shutter(False)
    return core


def some_pictures(n: int, seed: int = 1) -> NDArray[np.uint8]:
    """Packed pictures [n, HEIGHT, ROW_BYTES] of random bits."""
    return np.random.default_rng(seed).integers(0, 256, (n, HEIGHT, ROW_BYTES), dtype=np.uint8)


def light_of(bench: OpticalBench, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the pictures send, by unpacking and multiplying."""
    bits = np.unpackbits(pictures, axis=2)[:, :, :WIDTH]
    light: NDArray[np.float64] = np.einsum("khw,hw->k", bits, bench.mirror_light)
    return light


def displayed(bench: OpticalBench) -> NDArray[np.float64]:
    """The light of everything displayed so far."""
    return np.concatenate([each.light for each in bench.record])
