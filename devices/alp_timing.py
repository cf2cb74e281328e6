"""The timing of an ALP sequence: checked before it is set, and held against what reads back."""

from __future__ import annotations

from typing import Any, Final

from devices import alp_codes as codes
from devices.alp_calls import AlpCalls
from devices.errors import AlpCallError, TimingRefusedError
from devices.projector import ProjectorInfo, Timing

# Boards count time in steps of their own, so a time may read back a little off. Beyond the larger of these two it is
# no rounding any more, and exposures would not last as long as the file says.
_TOLERANCE: Final = 0.01
_TOLERANCE_US: Final = 2


def time_sequence(calls: AlpCalls, sequence: Any, info: ProjectorInfo, timing: Timing) -> Timing:
    """Set a sequence's timing on the board that ``info`` describes, and return what it reads back.

    Raises TimingRefusedError where the board cannot show pictures so, or where a time reads back off by more than 1 %
    or 2 µs, whichever is larger; the timing then has to be set again before the sequence is shown.
    """
    _check(info, timing)
    try:
        calls.time_sequence(
            sequence,
            timing.picture_time_us,
            timing.illumination_time_us,
            timing.sync_delay_us,
            timing.sync_pulse_us,
        )
    except AlpCallError as error:
        if error.code != codes.PARM_INVALID:
            raise
        raise TimingRefusedError(_refusal(info, timing)) from error
    accepted = Timing(
        picture_time_us=calls.ask_sequence(sequence, codes.PICTURE_TIME),
        illumination_time_us=calls.ask_sequence(sequence, codes.ILLUMINATE_TIME),
        sync_delay_us=calls.ask_sequence(sequence, codes.SYNCH_DELAY),
        sync_pulse_us=calls.ask_sequence(sequence, codes.SYNCH_PULSE_WIDTH),
    )
    _check_accepted(info, timing, accepted)
    return accepted


def _check(info: ProjectorInfo, timing: Timing) -> None:
    picture_us, illumination_us = timing.picture_time_us, timing.illumination_time_us
    shortest, longest = info.min_picture_time_us, info.max_picture_time_us
    if picture_us < shortest:
        raise TimingRefusedError(
            f"a picture time of {picture_us} µs is below the {shortest} µs {info.name} needs; "
            f"set it to {shortest} µs or more"
        )
    if longest is not None and picture_us > longest:
        raise TimingRefusedError(
            f"a picture time of {picture_us} µs is above the {longest} µs of {info.name}; "
            f"set it to {longest} µs or less"
        )
    if not 0 < illumination_us <= picture_us:
        raise TimingRefusedError(
            f"an illumination time of {illumination_us} µs does not fit into a picture time of "
            f"{picture_us} µs; allowed: 1 to {picture_us} µs"
        )
    if info.binary_mode == "uninterrupted" and illumination_us != picture_us:
        raise TimingRefusedError(
            f"an illumination time of {illumination_us} µs cannot be had in uninterrupted binary mode, where a picture "
            f"is displayed for all of its picture time; allowed: {picture_us} µs, or normal binary mode"
        )
    most = info.max_sync_delay_us
    if timing.sync_delay_us < 0 or (most is not None and timing.sync_delay_us > most):
        raise TimingRefusedError(
            f"a sync delay of {timing.sync_delay_us} µs is none that {info.name} takes; "
            f"allowed: 0 {'or more' if most is None else f'to {most} µs'}"
        )
    if timing.sync_pulse_us < 0:
        raise TimingRefusedError(
            f"a sync pulse of {timing.sync_pulse_us} µs cannot be; allowed: 1 µs or more, or 0 for the device's default"
        )


def _refusal(info: ProjectorInfo, timing: Timing) -> str:
    sync = ""
    if timing.sync_delay_us or timing.sync_pulse_us:
        sync = f", a sync delay of {timing.sync_delay_us} µs and a sync pulse of {timing.sync_pulse_us} µs"
    refused = (
        f"{info.name} refuses a picture time of {timing.picture_time_us} µs with "
        f"{timing.illumination_time_us} µs of illumination{sync} in {info.binary_mode} binary mode; "
    )
    if info.binary_mode == "uninterrupted":
        return refused + "make picture_time_us longer, or the sync pulse shorter"
    return refused + (
        "every picture is followed by a short dark phase in this mode: make illumination_time_us a few µs shorter, or "
        "picture_time_us longer" + ("; the sync delay and the sync pulse have to fit in as well" if sync else "")
    )


def _check_accepted(info: ProjectorInfo, wanted: Timing, accepted: Timing) -> None:
    for name, asked, found in (
        ("a picture time", wanted.picture_time_us, accepted.picture_time_us),
        ("an illumination time", wanted.illumination_time_us, accepted.illumination_time_us),
        ("a sync delay", wanted.sync_delay_us, accepted.sync_delay_us),
        ("a sync pulse", wanted.sync_pulse_us or accepted.sync_pulse_us, accepted.sync_pulse_us),
    ):
        if abs(found - asked) > max(_TOLERANCE * asked, _TOLERANCE_US):
            raise TimingRefusedError(
                f"{info.name} was set to {name} of {asked} µs and reads back {found} µs; "
                f"ask for one that it takes, {found} µs for example"
            )
