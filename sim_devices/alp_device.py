"""What the simulated ALP board says of itself, and its settings.

Assumed, because no public text says it: mirrors that were let float stay so until they are resumed, also when the
device is freed and allocated again; all other settings begin with their defaults each time.
"""

from __future__ import annotations

SYNCH_POLARITY, DMD_MODE = 2004, 2064

_POWER_FLOAT = 1
_TEMPERATURE_STEPS = 256
_SETTINGS = {SYNCH_POLARITY: (2006, 2007), 2005: (2008, 2009), 2014: (0, 1), 2016: (0,), DMD_MODE: (0, 1)}


class AlpDevice:
    """``answers`` are what fixed inquiries return; ``temperatures_c`` °C by inquiry, which may be changed.

    A board of an older make knows fewer: take temperatures out, or put DMD_MODE into ``unknown``.
    """

    def __init__(self, answers: dict[int, int]) -> None:
        self._answers = answers
        self.temperatures_c = {2050: 41.5, 2051: 38.25, 2052: 33.0}
        self.unknown: set[int] = set()
        self._settings = {DMD_MODE: 0}
        self.reset()

    @property
    def mirrors_float(self) -> bool:
        """Whether the mirrors are released, so that nothing can be displayed."""
        return self._settings[DMD_MODE] == _POWER_FLOAT

    def reset(self) -> None:
        """Settings as after AlpDevAlloc."""
        floating = self._settings[DMD_MODE]
        self._settings = {control: values[0] for control, values in _SETTINGS.items()} | {DMD_MODE: floating}

    def ask(self, inquiry: int) -> int | None:
        """An answer, a setting, or a temperature in 1/256 °C; None where there is no such inquiry."""
        if inquiry in self.unknown:
            return None
        if inquiry in self.temperatures_c:
            return round(self.temperatures_c[inquiry] * _TEMPERATURE_STEPS)
        return {**self._answers, **self._settings}.get(inquiry)

    def set(self, control: int, value: int) -> bool:
        """Change a setting, 0 meaning its default; False where there is none such or it does not take this value."""
        allowed = () if control in self.unknown else _SETTINGS.get(control, ())
        if value == 0 and allowed:
            value = allowed[0]
        if value not in allowed:
            return False
        self._settings[control] = value
        return True
