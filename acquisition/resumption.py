"""What a run that did not finish is resumed with, and whether it is still the same run."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig, on_record, picture_beside
from acquisition.connect import sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.evidence import EvidenceCollector
from acquisition.mda import pose_from
from acquisition.readings import Readings
from acquisition.rehearsal import rehearsal_of
from acquisition.run_layout import RunState
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.store_writer import WAITING_BLOCKS
from acquisition.stored_models import DifferentRunError, must_be_unchanged
from acquisition.stored_reconstruction import collected, stored_config
from acquisition.stored_run import StoredRun
from devices.microscope import Pose
from devices.projector import Timing

# Of what a device says of itself, this may change from one day to the next.
_MAY_CHANGE = frozenset({"free_pictures", "memory_pictures", "library", "accepted_exposure_us"})
# Where a run lies, and how its image is computed, do not change what is measured.
_MAY_DIFFER = frozenset({"output", "reconstruction"})


# Of an image of a series, inside its run.
EVENT_PICTURE = "image.png"


class NothingToResumeError(ValueError):
    """The run has finished."""


class PartOfSeriesError(ValueError):
    """The run is an image of a series, whose microscope only the series moves."""


@dataclass(frozen=True)
class Resumption:
    """A run that did not finish, and all that is needed to go on.

    first_block: the first one without an intact committed record; bench_state: what a simulated bench goes on from;
    elapsed_us: the run's time so far; lit_exposures: what the sample has had, at most; ended: how the run ended.
    """

    run: StoredRun
    config: AcquisitionConfig
    sample: NDArray[np.float64] | None
    plan: SensingPlan
    first_block: int
    bench_state: tuple[float, ...]
    elapsed_us: float
    lit_exposures: int
    ended: str

    @classmethod
    def of(cls, path: Path, asked: AcquisitionConfig | None = None) -> Self:
        """Read a run whose lock is held, and plan it again.

        Raises NotARunError, NothingToResumeError, DifferentRunError.
        """
        run = StoredRun(path)
        run.must_hold("hadamard")
        if run.marked_state is RunState.FINISHED:
            raise NothingToResumeError(f"{path} has finished: there is nothing to resume")
        config = stored_config(run)
        picture = path / EVENT_PICTURE if "event" in run.facts else config.output.picture_path
        if picture.exists():  # whosever it is, it stays
            picture = picture_beside(path, ".resumed.png")
        config = config.replace(output=config.output.model_copy(update={"run": path, "picture": picture}))
        if asked is not None:
            must_be_the_same_file(config, asked)
        sample = sample_on_stage(config, stored_pose(run))
        plan = plan_sensing(config, sample, run.facts["buffer_frames"])
        if sample is not None and sample_digest(sample) != run.facts["sample"]:
            raise DifferentRunError(f"the simulated sample is not the one {path} was begun with: restore its image")
        must_be_unchanged(run, plan.models)
        if not np.array_equal(plan.mask, run.mask):
            raise DifferentRunError(
                f"the mask is not the one {path} was begun with: {int((plan.mask != run.mask).sum())} of its "
                f"{len(run.mask)} probabilities differ. Restore the files that sensing.mask and the prior name"
            )
        if plan.schedule.digest != run.facts["schedule"]:
            raise DifferentRunError(
                f"the schedule comes out differently than when {path} was begun: the sample, a file it names, or a "
                f"version differs (then: {run.facts['versions']})"
            )
        last = _last(run.intact_blocks())
        first_block = 0 if last is None else last.block_number + 1
        lit = max(run.lit_exposures, int(run.facts.get("lit_exposures", 0)))
        interrupted = run.marked_state is RunState.RUNNING
        if interrupted:
            lit += _most_unrecorded_exposures(config, plan, first_block)
        return cls(
            run=run,
            config=config,
            sample=sample,
            plan=plan,
            first_block=first_block,
            bench_state=tuple(run.facts["bench_state"]) if last is None else last.bench_state,
            elapsed_us=0.0 if last is None else float(last.time_us.max()) + config.timing.picture_time_us,
            lit_exposures=lit,
            ended="was interrupted" if interrupted else f"was {run.marked_state}",
        )

    @property
    def accepted_timing(self) -> Timing:
        """What the projector accepted when the run was begun."""
        return Timing(**self.run.facts["accepted_timing"])

    def elapsed_us_on(self, clock_us: float) -> float:
        """The run's time so far, µs, for devices whose clock stands there: a simulated bench's is restored with it."""
        return clock_us - float(self.run.facts["began_us"]) if self.config.simulated else self.elapsed_us

    def must_stand_alone(self) -> None:
        """Raise PartOfSeriesError where the run is an image of a series."""
        if "event" in self.run.facts:
            series = self.run.path.parent.parent
            raise PartOfSeriesError(
                f"{self.run.path} is one image of a series, and only the series moves the microscope to its place: "
                f"resume that, hadascope resume {series}"
            )

    def check_devices(self, devices: ConnectedDevices) -> None:
        """Raise DifferentRunError where a device is not the one the run was begun with."""
        must_be_the_same_devices(self.run.facts["devices"], devices)

    def check_timing(self, accepted: Timing) -> None:
        """Raise DifferentRunError where the projector accepts another timing than when the run was begun."""
        _must_agree("the projector's timing", self.run.facts["accepted_timing"], asdict(accepted))

    def collector(self, on_block: Callable[[Readings], None] | None = None) -> EvidenceCollector:
        """The evidence of the blocks so far; on_block: called with each of them."""
        return collected(self.run, _seen_by(on_block, self.run.intact_blocks()))


def stored_pose(run: StoredRun) -> Pose | None:
    """Where the microscope stood when an image of a series was acquired; None for other runs."""
    event = run.facts.get("event")
    return None if event is None else pose_from(event["read_back"])


def must_be_the_same_file(config: AcquisitionConfig, asked: AcquisitionConfig) -> None:
    """Raise DifferentRunError where a file asks for another measurement than the one that was begun."""
    _must_agree("the acquisition file", _measured(config), _measured(_as_the_run(asked, config)))


def must_be_the_same_devices(described: dict[str, Any], devices: ConnectedDevices) -> None:
    """Raise DifferentRunError where a device is not the one that was described."""
    _must_agree("the bench", _constant(described), _constant(devices.described()))


def _seen_by(on_block: Callable[[Readings], None] | None, blocks: Iterator[Readings]) -> Iterator[Readings]:
    for readings in blocks:
        yield readings
        if on_block is not None:
            on_block(readings)


def _last(blocks: Iterator[Readings]) -> Readings | None:
    newest = deque(blocks, maxlen=1)
    return newest[0] if newest else None


def sample_digest(sample: NDArray[np.float64]) -> str:
    """SHA-256 of a simulated sample float64 [n, n]."""
    return hashlib.sha256(np.ascontiguousarray(sample).tobytes()).hexdigest()


def _most_unrecorded_exposures(config: AcquisitionConfig, plan: SensingPlan, first_block: int) -> int:
    """What the sample may have had since the last commit of a killed process: blocks that waited for the disk, one that
    was being written, and one that was played as often as it may be.
    """
    lost = [block.n_exposures for block in plan.schedule.blocks[first_block : first_block + WAITING_BLOCKS + 2]]
    return sum(lost) + config.blocks.most_repeats * max(lost, default=0)


def _as_the_run(asked: AcquisitionConfig, config: AcquisitionConfig) -> AcquisitionConfig:
    """A file as the run took it: rehearsed where the run is a rehearsal, with the sample that was put on its stage."""
    if not config.simulated:
        return asked
    sample = asked.sample.model_copy(update={"image": config.sample.image, "name": config.sample.name})
    return rehearsal_of(asked).replace(sample=sample)


def _measured(config: AcquisitionConfig) -> dict[str, Any]:
    return {name: value for name, value in on_record(config).items() if name not in _MAY_DIFFER}


def _constant(described: dict[str, Any]) -> dict[str, Any]:
    return {
        kind: {name: value for name, value in said.items() if name not in _MAY_CHANGE}
        for kind, said in described.items()
    }


def _must_agree(what: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    differences = list(_differences("", before, now))
    if differences:
        raise DifferentRunError(
            f"{what} is not what the run was begun with, and going on would mix two measurements:\n"
            + "\n".join(f"  {difference}" for difference in differences)
        )


def _differences(path: str, before: Any, now: Any) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(f"{path}.{key}" if path else key, before.get(key), now.get(key))
    elif _plain(before) != _plain(now):
        yield f"{path}: then {before}, now {now}"


def _plain(value: Any) -> Any:
    """Lists and tuples alike: one comes from JSON, the other one from a device."""
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
