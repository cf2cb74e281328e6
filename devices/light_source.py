"""What a light source promises, and the light that nobody can switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class LightSourceInfo:
    """What is known of a light source; ``power_mw`` is its power on the sample, None where nobody measured it."""

    name: str
    power_mw: float | None


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

    def close(self) -> None:
        """Nothing to let go of."""
