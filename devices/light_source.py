"""What a light source promises, and the light that nobody can switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LightSourceInfo:
    """What is known of a light source.

    ``power_mw`` is a power on the sample where somebody measured it there and said so, and a laser's own where it tells
    what it was set to; None where nobody knows. ``serial`` and ``firmware`` are as the device tells
    them, empty where it tells none.
    """

    name: str
    power_mw: float | None
    serial: str = ""
    firmware: str = ""


class LightSource(Protocol):
    """A light that can be switched."""

    @property
    def info(self) -> LightSourceInfo:
        """What is known of it."""
        ...

    def on(self) -> None:
        """Let light reach the mirrors; returns when it does."""
        ...

    def off(self) -> None:
        """Let no light reach the mirrors; returns when none does."""
        ...

    def is_on(self) -> bool:
        """Whether light reaches the mirrors, as the device states it."""
        ...

    def status(self) -> dict[str, float | str]:
        """What the device says of itself now, for the record.

        ``state`` is always there; what else depends on the device. Keys of numbers end in their unit (``power_mw``,
        ``temperature_c``).
        """
        ...

    def close(self) -> None:
        """Turn the light off and let go of it. Closing twice is closing once."""
        ...


class NoLightSource:
    """A light that is switched by hand: it counts as on, and ``off`` cannot turn it off."""

    def __init__(self, power_mw: float | None = None) -> None:
        self._info = LightSourceInfo("switched by hand", power_mw)

    @property
    def info(self) -> LightSourceInfo:
        """Its name says that nobody can switch it."""
        return self._info

    def on(self) -> None:
        """Nothing to do: it is on."""

    def off(self) -> None:
        """Nothing can be done; ``is_on`` goes on to tell the truth."""

    def is_on(self) -> bool:
        """Always."""
        return True

    def status(self) -> dict[str, float | str]:
        """That nothing is known of it."""
        return {"state": "switched by hand"}

    def close(self) -> None:
        """Nothing to let go of."""
