"""What shows how steady the light is: half of the mirrors, the other half, again and again, with rests in the dark.

Bleaching counts time under light, lamp drift time by the clock. Where the light stays on the two run together, and
nothing tells them apart; so the light rests. A long stretch of light, a few short ones between rests, and a long one
again hold them apart almost as well as one long rest in the middle would, and do not hang on a single step.
"""

from __future__ import annotations

import numpy as np

from calibration.recipe import Recipe

HALF = 1
LEVELS = 2
# A pass is played again and again from the projector's memory: it need not be long, and must not fill the memory.
_PASS_S = 0.5
_MOST_SECTIONS = 32
_RESTS = 5
# Of all light this share comes between the first rest and the last.
_BETWEEN_RESTS = 0.2
_GUARD_PICTURES = 5
_MOST_S = 86_400.0


def stability_recipe(
    seconds: float = 20.0,
    picture_time_us: float = 1000.0,
    seed: int = 0,
    *,
    rest_s: float | None = None,
    section_pairs: int = 64,
) -> Recipe:
    """Pairs of two halves of the mirrors (pair 1 of 2 levels, calibration.level_pictures) for some seconds of light.

    picture_time_us: from one exposure to the next; seed: of the order within pairs, half of them each way in every
    section; rest_s: time without light in all, None: as long as the light; section_pairs: between two guards. Raises
    ValueError where the time is not enough for a few sections, or is none.
    """
    for what, time_s in (("light", seconds), ("rest", 0.0 if rest_s is None else rest_s)):
        if not 0 <= time_s <= _MOST_S:
            raise ValueError(f"found {time_s:g} s of {what}; expected a number from 0 to {_MOST_S:g}, which is a day")
    section_s = (2 * section_pairs + _GUARD_PICTURES) * picture_time_us * 1e-6
    n_sections = round(seconds / section_s)
    if n_sections < 2 * (_RESTS + 1):
        raise ValueError(
            f"found {seconds:g} s of light at {picture_time_us:g} µs a picture; expected at least "
            f"{2 * (_RESTS + 1) * section_s:.3g} s: ask for more light, or for shorter pictures"
        )
    most = min(_MOST_SECTIONS, max(round(_PASS_S / section_s), 1), n_sections // (2 * (_RESTS + 1)))
    # Of shorter passes perhaps a whole number fits better.
    most = min(range((most + 1) // 2, most + 1), key=lambda each: abs(round(n_sections / each) * each - n_sections))
    passes = round(n_sections / most)
    rng = np.random.default_rng([seed, 0x57AB])
    order = np.arange(section_pairs) % 2 == 0
    plus_first = np.concatenate([rng.permutation(order) for _ in range(most)])
    rests = np.zeros(passes)
    # Each rest before another pass, however few there are.
    apart = max(_BETWEEN_RESTS * passes / (_RESTS - 1), 1.0)
    places = np.floor(passes / 2 + apart * (np.arange(_RESTS) - (_RESTS - 1) / 2)).astype(int)
    rests[places] = (seconds if rest_s is None else rest_s) / _RESTS
    return Recipe(
        name="stability",
        pairs=np.full(len(plus_first), HALF, dtype=np.int64),
        plus_first=plus_first,
        passes=passes,
        section_pairs=section_pairs,
        rests_s=rests,
    )
