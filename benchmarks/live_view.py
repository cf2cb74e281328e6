"""What looking costs the light: a whole run in real time with 0, 1 and 10 viewers, in turns.

n = 256 on an XGA chip, 10 000 pictures a second. The viewers are in one process of their own, so that what they do
themselves is not the run's; each asks for the next state as soon as it has the last one. Throughput is exposures under
light per second of wall time, from the first block's end to the last one's.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from collections import defaultdict
from io import StringIO
from multiprocessing.queues import Queue
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from rich.console import Console

from acquisition import run as run_module
from acquisition.acquisition_file import example_dry_run, load_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.console_view import viewed
from acquisition.live_view.address import ViewAddress
from acquisition.observer import Observer, together
from acquisition.readings import Readings
from acquisition.run import acquire
from benchmarks.row import Row

VIEWERS = (0, 1, 10)
# Forwards and backwards, so that what else the computer does at a time meets them alike.
_ROUNDS = ((0, 1, 10), (10, 1, 0), (0, 1, 10))
_EXPOSURES_A_SECOND = 10_000
_LIGHT_S = 3.5


def rows() -> list[Row]:
    """Throughput with viewers over that without, and how often each viewer was shown something new."""
    throughput: dict[int, list[float]] = defaultdict(list)
    rates: dict[int, list[float]] = defaultdict(list)
    _played(0, light_s=0.5)  # which loads what is loaded once
    for viewers in (each for round_ in _ROUNDS for each in round_):
        exposures_a_second, updates_a_second = _played(viewers)
        throughput[viewers].append(exposures_a_second)
        rates[viewers] += updates_a_second
    alone = median(throughput[0])
    measured = []
    for viewers in VIEWERS[1:]:
        seen, name = median(throughput[viewers]), f"{viewers} viewer" + ("s" if viewers > 1 else "")
        measured += [
            Row(
                f"light path with {name}",
                f"{seen:.0f} exposures/s",
                f"{alone:.0f} exposures/s without",
                seen / alone,
                "0.98 to 1.02",
            ),
            Row(
                f"updates each of {name} gets",
                f"{min(rates[viewers]):.2f} a second, the least of all",
                "2 a second",
                min(rates[viewers]) / 2,
                "at least 1",
            ),
        ]
    return measured


def viewed_run(run: Path, light_s: float) -> AcquisitionConfig:
    """The run that is played, in real time."""
    repeats = 50
    pairs = light_s * _EXPOSURES_A_SECOND / 2
    document = load_acquisition(example_dry_run()).model_dump(mode="json")
    document["sensing"].update(side=256, repeats=repeats, alpha=pairs / repeats / 256**2, mask={"kind": "low-sequency"})
    document["timing"].update(picture_time_us=1_000_000 // _EXPOSURES_A_SECOND, illumination_time_us=90)
    document["dmd_region"].update(top=0, left=128, mirrors_per_px=3)
    document["reconstruction"].update(method="wiener-tv", model=None)
    document["bench"].update(pace=1.0)
    document["output"].update(run=str(run), picture=None, snapshots=0)
    return AcquisitionConfig.model_validate(document)


def _played(viewers: int, light_s: float = _LIGHT_S) -> tuple[float, list[float]]:
    """Exposures per second of a run that is looked at by so many, and updates per second of each of them."""
    ends: list[tuple[float, int]] = []

    def note(readings: Readings) -> None:
        ends.append((time.perf_counter(), readings.lit_exposures))

    printed = StringIO()
    spawn = multiprocessing.get_context("spawn")
    counted: Queue[list[float]] = spawn.Queue()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(run_module, "draw_result"):
        config = viewed_run(Path(folder) / "run.zarr", light_s)
        with viewed(Console(file=printed, width=200), config, ViewAddress(port=0)) as viewer:
            link = printed.getvalue().split()[-1]
            looking = spawn.Process(target=_look, args=(link, viewers, counted))
            looking.start()
            counted.get()  # they are all there
            acquire(config, observer=together(viewer, Observer(on_block=note)))
        rates = counted.get()
        looking.join()
    (began_s, before), (ended_s, after) = ends[0], ends[-1]
    return (after - before) / (ended_s - began_s), rates


def _look(link: str, viewers: int, counted: Queue[list[float]]) -> None:
    """In a process of its own: say when all viewers are there, and afterwards how often each saw something new."""
    asyncio.run(_all_look(f"ws://{urlsplit(link).netloc}/live", viewers, counted))


async def _all_look(address: str, viewers: int, counted: Queue[list[float]]) -> None:
    from websockets.asyncio.client import connect

    sockets = [await connect(address, max_size=None, compression=None) for _ in range(viewers)]
    counted.put([])
    counted.put(list(await asyncio.gather(*(_rate(socket) for socket in sockets))))


async def _rate(socket: Any) -> float:
    """Updates per second with a new image or new readings in them, while the run is under way."""
    from websockets.exceptions import ConnectionClosed

    times: list[float] = []
    try:
        while True:
            await socket.send("next")
            update = await socket.recv()
            if b'"state": "running"' in update[:8192] and b'"arrays": []' not in update[:8192]:
                times.append(time.perf_counter())
    except ConnectionClosed:
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
