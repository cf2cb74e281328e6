"""What Hadascope asks of a microscope between two images: where the sample stands, and what light is picked out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from devices.errors import PoseRefusedError


@dataclass(frozen=True)
class Pose:
    """Where the sample stands under the objective and through what it is seen; None leaves that as it is.

    x_um, y_um:
        Position of the XY stage, µm. Where only one is given, the other stays what the stage reads.
    z_um:
        Position of the focus device, µm.
    channel:
        (config group, preset), such as ("Channel", "FITC").
    """

    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    channel: tuple[str, str] | None = None


@dataclass(frozen=True)
class MicroscopeInfo:
    """What a microscope can move, as it said itself when it was connected.

    xy_stage, focus:
        Labels of the devices; None where there is none.
    channels:
        (config group, its presets) for all groups, in the order in which they were told.
    """

    xy_stage: str | None
    focus: str | None
    channels: tuple[tuple[str, tuple[str, ...]], ...]


class Microscope(Protocol):
    """Stage, focus and channels. A pose is checked before a run, and moved to between two images, in the dark.

    The light is the caller's: whoever moves sees to it that it is off, because a channel changes filters and mirrors
    on the way, and light on a sample that moves is dose without data. A microscope turns no light on by itself.
    """

    @property
    def info(self) -> MicroscopeInfo:
        """What it can move."""
        ...

    def check(self, pose: Pose) -> None:
        """Return where the pose can be asked for; nothing moves.

        Raises PoseRefusedError (no such device, config group or preset, or a position that is no finite number).
        """
        ...

    def move_to(self, pose: Pose) -> Pose:
        """Go there, wait until nothing is busy, and return what is read back, whatever the pose left as it is.

        First the channel, then XY, then Z: a channel may change the objective or its offset, with which the stage's
        position makes sense or not, and the focus is set last, above the place where the sample will be looked at.
        x_um, y_um and z_um of what is returned are None only where there is no such device; the channel is the one
        that was asked for, read back in its group, or None.

        Raises PoseRefusedError before anything has moved, PoseMissedError (a read-back is off by more than the
        tolerance, or another preset reads back), DeviceSilentError (a device stayed busy too long, or nothing answers),
        DeviceNotFoundError (what drives it has gone), MicroManagerCallError (it refused a call).
        """
        ...


class NoMicroscope:
    """A microscope that nobody can move: it takes poses that leave everything as it is."""

    @property
    def info(self) -> MicroscopeInfo:
        """Nothing to move."""
        return MicroscopeInfo(None, None, ())

    def check(self, pose: Pose) -> None:
        """Raises PoseRefusedError for every pose that asks for something."""
        if pose != Pose():
            raise PoseRefusedError(f"{pose} was asked for of a microscope that cannot be moved; connect its stage")

    def move_to(self, pose: Pose) -> Pose:
        """Stay. Raises PoseRefusedError as ``check`` does."""
        self.check(pose)
        return Pose()
