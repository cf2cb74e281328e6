"""Small acquisitions on the simulated bench, without a store: what the tests of this room play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.acquisition_file import validate_acquisition
from acquisition.bank import Block
from acquisition.bank_loader import Render
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.dmd_region import dmd_region
from acquisition.events import Event, Journal
from acquisition.evidence import Evidence, EvidenceCollector
from acquisition.integrity import prove_alignment
from acquisition.readings import Readings
from acquisition.run_rules import play_rules
from acquisition.schedule import Schedule
from acquisition.sensing_plan import plan_sensing
from models.pictures import PictureRenderer


def small_config(**changes: dict[str, Any]) -> AcquisitionConfig:
    """8 × 8 pixels, every coefficient once, no noise, exact readings; ``changes`` (section=dict) go into the sections.

    A gain of 1 and four mirrors a pixel on 4-byte pixels: light that is whole detector units is read exactly.
    """
    document: dict[str, dict[str, Any]] = {
        "sensing": {"side": 8, "alpha": 1.0, "repeats": 1, "mask": {"kind": "uniform"}, "seed": 3},
        "timing": {"picture_time_us": 100, "illumination_time_us": 90},
        "dmd_region": {"top": 5, "left": 11, "mirrors_per_px": 2},
        "blocks": {"guard_interval": 16, "longest_block_s": 0.02, "dark_exposures": 8},
        "devices": {
            "projector": {"kind": "simulated", "dmd": "xga"},
            "detector": {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 4},
            "light_source": {"kind": "simulated"},
        },
        "noise": {"gain": 1.0, "variance": 0.0},
        "bench": {"shot_noise": False, "pace": 0.0},
        "reconstruction": {"estimator": "difference", "tv_weight": 0.0},
        "output": {"run": "unused.zarr"},
    }
    for section, values in changes.items():
        document.setdefault(section, {}).update(values)
    return validate_acquisition(document, "the test's configuration")


def asymmetric_sample(n: int) -> NDArray[np.float64]:
    """Whole numbers without any symmetry, float64 [n, n], each a multiple of 64 so that mirrors share them exactly."""
    return np.asarray(64 * np.random.default_rng(5).integers(1, 40, (n, n)), dtype=np.float64)


def rehearse(
    config: AcquisitionConfig,
    sample: NDArray[np.float64],
    *,
    render: Render | None = None,
    schedule: Schedule | None = None,
    prove: bool = True,
    prepare: Callable[[ConnectedDevices], None] | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> tuple[Evidence, list[Readings]]:
    """Play the acquisition; ``render`` and ``schedule`` stand in for the configuration's own.

    prove: hold every block against its guards, as a run does; prepare: called with the connected devices, to inject
    faults into the stand-ins.
    """
    plan = plan_sensing(config, sample)
    collector: EvidenceCollector | None = None
    taken: list[Readings] = []
    with connected_devices(config, sample) as devices:
        if prepare is not None:
            prepare(devices)
        controller = Controller(
            devices,
            PictureRenderer(dmd_region(config)).render if render is None else render,
            play_rules(config),
            Journal(on_event),
        )
        dark = controller.measure_dark_level(config.blocks.dark_exposures)
        dark_level = float(dark.mean())
        collector = EvidenceCollector(config.sensing.side**2, dark_level)

        def prove_block(block: Block, readings: Readings) -> None:
            if prove:
                prove_alignment(block, readings, plan.noise, dark_level)

        controller.play(plan.schedule if schedule is None else schedule, prove_block, (collector.add, taken.append))
    return collector.snapshot(), taken
