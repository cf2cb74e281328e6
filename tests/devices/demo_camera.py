"""The real MMCore with its DemoCamera, from the package of test adapters.

The DemoCamera runs freely: as soon as a sequence starts it delivers all frames that were asked for, at its own pace,
and no trigger starts a frame. So it shows everything about frames, buffers, properties and how a core is started and
left; it cannot show that one frame belongs to one exposure of the projector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devices.micromanager_core import start_core, stop_core

CAMERA = "Camera"
SIDE_PX = 512
CONFIGURATION = f"""Property,Core,Initialize,0
Device,{CAMERA},DemoCamera,DCam
Property,Core,Initialize,1
Property,Core,Camera,{CAMERA}
"""


def adapters() -> Path:
    """The folder of the test adapters."""
    from mm_test_adapters import device_adapter_path

    return Path(device_adapter_path())


@contextmanager
def demo_core(buffer_mb: int = 16) -> Iterator[Any]:
    """A core in this process with a DemoCamera."""
    with tempfile.TemporaryDirectory() as folder:
        config_file = Path(folder) / "demo.cfg"
        config_file.write_text(CONFIGURATION, encoding="utf-8")
        core = start_core(adapters(), config_file, buffer_mb)
    try:
        yield core
    finally:
        stop_core(core)
