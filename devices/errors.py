"""What can go wrong with a device, named by cause; every error is also the matching builtin."""

from __future__ import annotations


class DeviceError(RuntimeError):
    """A device cannot do what it was asked; the message says what was found, what was expected and what to do."""


class LibraryMissingError(DeviceError, FileNotFoundError):
    """A vendor's library is not where it was looked for."""


class DeviceNotFoundError(DeviceError, ConnectionError):
    """Nothing answers where the device should be."""


class DeviceNotFreeError(DeviceError):
    """Another program, or one that crashed, still holds the device; or this one could not give it back."""


class DeviceStateError(DeviceError):
    """The device is in a state in which it cannot do this: closed, projecting, not armed, or not as it was set."""


class TimingRefusedError(DeviceError, ValueError):
    """The device cannot show pictures at this timing."""


class PictureMemoryError(DeviceError, MemoryError):
    """The projector's picture memory has no room for so many pictures."""


class PictureShapeError(DeviceError, ValueError):
    """Pictures do not have the shape, type or layout that the projector's mirrors take."""


class UnknownBankError(DeviceError, LookupError):
    """No bank has this number, or the bank holds no such picture."""


class DetectorTimeoutError(DeviceError, TimeoutError):
    """Fewer frames came in time than exposures were displayed."""


class FrameBufferOverflowError(DeviceError, BufferError):
    """Frames came faster than they were read, and the circular buffer lost some."""


class FrameShapeError(DeviceError, ValueError):
    """Frames do not have the size the camera announced, or the bucket region lies outside of them."""


class AlpCallError(DeviceError):
    """A function of the ALP library returned an error code.

    ``code`` is the code (1001 …), ``call`` the function that returned it.
    """

    def __init__(self, code: int, call: str, text: str) -> None:
        super().__init__(f"{call} returned ALP error {code}: {text}")
        self.code = code
        self.call = call


class DeviceSilentError(DeviceError, TimeoutError):
    """The device did not answer in time."""


class DeviceReplyError(DeviceError, ValueError):
    """The device answered what cannot be understood, or what answers something else."""


class PowerRefusedError(DeviceError, ValueError):
    """The light source cannot give this power."""


class LightSourceFaultError(DeviceError):
    """The light source reports a fault, or refused a command and named the cause."""


class LightSourceTimeoutError(DeviceError, TimeoutError):
    """The light did not come on, or did not go off, in time."""


class DeviceVanishedError(AlpCallError, ConnectionError):
    """The ALP board no longer answers, or the library no longer knows it: its USB connection is lost."""

    def __init__(self, code: int, call: str, text: str) -> None:
        super().__init__(code, call, f"{text.rstrip('.')}; USB connection lost; check cable and power")


class DevicePropertyError(DeviceError, ValueError):
    """A device has no such property, or does not take this value for it."""


class InterfaceMismatchError(DeviceError, ImportError):
    """A device's library was built for another interface than the program that loads it."""


class MicroManagerCallError(DeviceError):
    """Micro-Manager refused a call; the message holds its own words."""


class PoseRefusedError(DeviceError, ValueError):
    """The microscope cannot be asked for this pose: it has no such device, config group or preset."""


class PoseMissedError(DeviceError):
    """The microscope went somewhere else than it was asked to go."""
