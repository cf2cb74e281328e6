"""What an ALP board says of itself: asked, never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devices import alp_codes as codes
from devices.alp_calls import AlpCalls
from devices.alp_settings import BINARY_MODES, SYNC_LEVELS, AlpSettings
from devices.dmd_types import DmdType, chip_of
from devices.errors import DeviceStateError
from devices.projector import ProjectorInfo

_TEMPERATURES: Final = {
    "ddc_fpga_c": codes.DDC_FPGA_TEMPERATURE,
    "apps_fpga_c": codes.APPS_FPGA_TEMPERATURE,
    "pcb_c": codes.PCB_TEMPERATURE,
}


def ask_board(calls: AlpCalls, chips: Mapping[str, DmdType], library: tuple[str, str]) -> ProjectorInfo:
    """What does not depend on a sequence; ``ask_limits`` says the rest. ``library`` is its file and its version.

    Raises DeviceStateError where the board's chip is not one of ``chips``.
    """
    height, width = calls.ask_device(codes.DISPLAY_HEIGHT), calls.ask_device(codes.DISPLAY_WIDTH)
    code = calls.ask_device(codes.DMD_TYPE)
    try:
        chip = chip_of(code, width, chips)
    except ValueError as error:
        raise DeviceStateError(f"pictures cannot be laid out for this board: {error}") from error
    free = calls.ask_device(codes.AVAIL_MEMORY)
    version = calls.ask_device_if_known(codes.VERSION)
    level = calls.ask_device(codes.SYNCH_POLARITY)
    return ProjectorInfo(
        name=f"ALP {chip.name}",
        serial=str(calls.ask_device(codes.DEVICE_NUMBER)),
        mirrors_height=height,
        mirrors_width=width,
        row_bytes=chip.row_bytes,
        free_pictures=free,
        min_picture_time_us=0,
        memory_pictures=free,
        dmd_type_code=code,
        firmware="" if version is None else f"{version & 0xFFFF_FFFF:#010x}",
        library=library[0],
        library_version=library[1],
        sync_polarity=next((name for name, each in SYNC_LEVELS.items() if each == level), str(level)),
    )


def ask_limits(calls: AlpCalls, sequence: Any) -> dict[str, Any]:
    """The fields of ProjectorInfo that depend on bit number and binary mode, asked of a sequence set as all others."""
    mode = calls.ask_sequence(sequence, codes.BIN_MODE)
    return {
        "min_picture_time_us": calls.ask_sequence(sequence, codes.MIN_PICTURE_TIME),
        "max_picture_time_us": calls.ask_sequence_if_known(sequence, codes.MAX_PICTURE_TIME),
        "max_sync_delay_us": calls.ask_sequence_if_known(sequence, codes.MAX_SYNCH_DELAY),
        "binary_mode": next((name for name, each in BINARY_MODES.items() if each == mode), str(mode)),
    }


def ask_temperatures(calls: AlpCalls) -> dict[str, float]:
    """Temperatures in °C (the board counts 1/256 °C); those that the board does not know are left out."""
    answers = {name: calls.ask_device_if_known(inquiry) for name, inquiry in _TEMPERATURES.items()}
    return {name: answer / codes.TEMPERATURE_STEPS_PER_DEGREE for name, answer in answers.items() if answer is not None}


def wake_mirrors(calls: AlpCalls, settings: AlpSettings) -> None:
    """End the floating that a run before may have left the mirrors in.

    Raises DeviceStateError where the mirrors are to float at the end and the board knows no such mode.
    """
    mode = calls.ask_device_if_known(codes.DMD_MODE)
    if mode is None and settings.float_mirrors_at_end:
        raise DeviceStateError("this ALP board cannot let its mirrors float; set float_mirrors_at_end to false")
    if mode not in (None, codes.DMD_RESUME):
        calls.set_device(codes.DMD_MODE, codes.DMD_RESUME)
