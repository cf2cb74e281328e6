"""Codes of ViALUX's alp.h, under the names they have there without the prefix ALP_, or with a shorter one.

Read off ALP4lib 1.1.0 and off copies of alp.h (versions 12 and 25) that others publish; the two agree where both name
a code. ALP4lib does not list CONFIG_MISMATCH.
"""

from __future__ import annotations

from typing import Final

OK: Final = 0
NOT_ONLINE: Final = 1001
NOT_IDLE: Final = 1002
NOT_AVAILABLE: Final = 1003
NOT_READY: Final = 1004  # of AlpDevAlloc: allocated already; of other functions: in use by another call
PARM_INVALID: Final = 1005
MEMORY_FULL: Final = 1007
SEQ_IN_USE: Final = 1008
HALTED: Final = 1009
ERROR_COMM: Final = 1011
DEVICE_REMOVED: Final = 1012
ERROR_POWER_DOWN: Final = 1018
CONFIG_MISMATCH: Final = 1021

DEFAULT: Final = 0

# AlpDevInquire and AlpDevControl
DEVICE_NUMBER: Final = 2000
VERSION: Final = 2001
AVAIL_MEMORY: Final = 2003
SYNCH_POLARITY: Final = 2004
LEVEL_HIGH: Final = 2006
LEVEL_LOW: Final = 2007
DMD_TYPE: Final = 2021
DDC_FPGA_TEMPERATURE: Final = 2050
APPS_FPGA_TEMPERATURE: Final = 2051
PCB_TEMPERATURE: Final = 2052
TEMPERATURE_STEPS_PER_DEGREE: Final = 256
DISPLAY_HEIGHT: Final = 2057
DISPLAY_WIDTH: Final = 2058
DMD_MODE: Final = 2064
DMD_RESUME: Final = 0
DMD_POWER_FLOAT: Final = 1

# AlpSeqInquire and AlpSeqControl
SEQ_REPEAT: Final = 2100
FIRST_FRAME: Final = 2101
LAST_FRAME: Final = 2102
BITNUM: Final = 2103
BIN_MODE: Final = 2104
BIN_NORMAL: Final = 2105
BIN_UNINTERRUPTED: Final = 2106
DATA_FORMAT: Final = 2110
BINARY_TOPDOWN: Final = 2
PICTURE_TIME: Final = 2203
ILLUMINATE_TIME: Final = 2204
SYNCH_DELAY: Final = 2205
SYNCH_PULSE_WIDTH: Final = 2206
MAX_SYNCH_DELAY: Final = 2209
MIN_PICTURE_TIME: Final = 2211
MAX_PICTURE_TIME: Final = 2213

# AlpProjInquire and AlpProjControl
PROJ_MODE: Final = 2300
MASTER: Final = 2301
PROJ_STATE: Final = 2400
PROJ_ACTIVE: Final = 1200
