"""The real MMCore with the stages and shutter of its DemoCamera adapter, and config groups of the tests' own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devices.micromanager_core import start_core, stop_core
from tests.devices.demo_camera import adapters

CONFIGURATION = """Property,Core,Initialize,0
Device,Camera,DemoCamera,DCam
Device,XY,DemoCamera,DXYStage
Device,Z,DemoCamera,DStage
Device,Shutter,DemoCamera,DShutter
Property,Core,Initialize,1
Property,Core,Camera,Camera
Property,Core,XYStage,XY
Property,Core,Focus,Z
Property,Core,Shutter,Shutter
Property,Core,AutoShutter,0
ConfigGroup,Channel,FITC,Camera,Gain,2
ConfigGroup,Channel,DAPI,Camera,Gain,1
ConfigGroup,Light,Auto,Core,AutoShutter,1
ConfigGroup,Light,Open,Shutter,State,1
"""


@contextmanager
def demo_microscope() -> Iterator[Any]:
    """A core in this process with an XY stage, a focus, a shutter, and the groups Channel and Light."""
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "demo.cfg"
        config_file.write_text(CONFIGURATION, encoding="utf-8")
        core = start_core(adapters(), config_file, 16)
    try:
        yield core
    finally:
        stop_core(core)
