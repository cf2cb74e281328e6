"""Plays the recipe of a calibration: the same controller, guards, endings and store as an acquisition's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from acquisition.bench_check import check_bench
from acquisition.calibration_identity import calibration_on_record, camera_identity, check_noise_calibration
from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.events import EventKind
from acquisition.integrity import prove_guard_code
from acquisition.interrupts import Ending, orderly_interrupts
from acquisition.observer import Observer
from acquisition.preflight import check_room, must_stay_within_dose
from acquisition.recipe_schedule import recipe_schedule
from acquisition.run_facts import devices_on_record, facts_of_file, kept_frames
from acquisition.run_in_progress import RunInProgress
from acquisition.run_rules import patience_s, play_rules
from acquisition.run_store import RunStore
from acquisition.schedule import Schedule
from acquisition.store_writer import StoreWriter
from acquisition.timing_contract import most_block_exposures
from calibration.recipe import PictureSource, Recipe

# Exposures with the light off before and after the others, at most: they cost no light, and b rests on them.
DARK_EXPOSURES = 1000

Afterwards = Callable[[ConnectedDevices, Controller], dict[str, Any]]


def play_recipe(
    config: AcquisitionConfig,
    recipe: Recipe,
    pictures: PictureSource,
    output: CalibrationOutput,
    facts: dict[str, Any],
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    afterwards: Afterwards | None = None,
    further_exposures: int = 0,
) -> None:
    """Play a recipe and store every reading in the zarr folder of ``output``; what they mean is fitted from there.

    facts: JSON-able, kept with the readings; afterwards: what else is tried with the connected devices once all
    readings are there, and the facts that it found, kept too; further_exposures: that it may take under light.
    Whatever ends it, the light goes off, the readings are marked with their true state, and the devices are freed.
    Raises what ``acquisition.run.acquire`` raises, ScheduleLimitError, and calibration.verdict.NotCalibratableError
    where there is no light to calibrate with.
    """
    observer = Observer() if observer is None else observer
    config = _keeping(config, frames=recipe.keeps_frames)
    sample = sample_on_stage(config)
    with orderly_interrupts(), Ending() as ending:
        run = RunInProgress[RunStore](observer, "calibrate again: what was read so far makes no calibration")
        ending.push(run.end)
        with connected_devices(config, sample) as devices:
            info = devices.detector.info
            most = most_block_exposures(config, info.buffer_frames)
            schedule = recipe_schedule(recipe, config.memory_pictures, most)
            readout = check_bench(config, schedule, devices)
            check_noise_calibration(config, info)
            frames = kept_frames(config, info)
            check_room(output.raw, schedule, 0 if frames is None else frames.n_bytes)
            if observer.on_schedule is not None:
                observer.on_schedule(schedule)
            n_dark = min(DARK_EXPOSURES, most, config.memory_pictures)
            controller = Controller(devices, pictures.render, play_rules(config), run.journal)
            run.controller = controller
            dark = controller.measure_dark_level(n_dark)
            must_stay_within_dose(config, controller.accepted_timing, 0, schedule.n_exposures)
            observer.confirm_light(config.simulated, schedule.n_exposures + further_exposures)
            dark_under_light = devices.light_source.is_on()
            output.forget()
            run.store = RunStore.create(
                output.raw,
                schedule,
                {"pairs": recipe.pairs, "plus_first": recipe.plus_first, "rests_s": recipe.rests_s},
                {
                    **facts_of_file(config),
                    **devices_on_record(devices, controller),
                    **facts,
                    "recipe": recipe.name,
                    "noise_calibration": calibration_on_record(config),
                    "section_pairs": recipe.section_pairs,
                    "memory_pictures": config.memory_pictures,
                    "block_exposures": most,
                    "schedule": schedule.digest,
                    "readout": asdict(readout),
                    "identity": camera_identity(config, devices.detector.info).model_dump(mode="json"),
                    "dark_under_light": dark_under_light,
                },
                dark=dark,
                bench_fields=len(devices.bench_state()),
                frames=frames,
                overwrite=overwrite,
            )
            where = "simulated" if config.simulated else "real"
            run.begin(
                EventKind.STARTED,
                f"{recipe.name}: {schedule.n_pairs} pairs in {len(schedule.blocks)} blocks on {where} devices",
            )
            with run.marked():
                _play(config, schedule, controller, run, observer)
                if not dark_under_light:
                    run.store.write_dark_after(controller.measure_dark_level(n_dark))
            text = f"{len(schedule.blocks)} blocks, light off"
            run.finish(text, lit_exposures=controller.lit_exposures)
            if afterwards is not None:
                found = afterwards(devices, controller)
                run.store.annotate(**found, lit_exposures=controller.lit_exposures)


def _play(
    config: AcquisitionConfig,
    schedule: Schedule,
    controller: Controller,
    run: RunInProgress[RunStore],
    observer: Observer,
) -> None:
    assert run.store is not None
    with Ending() as ending:
        writer = StoreWriter(run.store, patience_s=patience_s(config))
        ending.callback(writer.close)
        seen = () if observer.on_block is None else (observer.on_block,)
        controller.play(schedule, prove_guard_code, (writer.put, *seen))


def _keeping(config: AcquisitionConfig, *, frames: bool) -> AcquisitionConfig:
    """The same with a detector that keeps its frames where they are fitted, and only then."""
    detector = config.devices.detector.model_copy(update={"keep_frames": frames})
    return config.replace(devices=config.devices.model_copy(update={"detector": detector}))
