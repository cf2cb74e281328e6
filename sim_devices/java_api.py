"""How Micro-Manager's Java objects are described on the wire: classes, methods with their Java types, fields.

Only what the simulated core offers is listed. Names are Java's; pycromanager turns them into snake case.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STRING = "java.lang.String"
_DEVICE_TYPES = {2: "CameraDevice", 3: "ShutterDevice", 5: "StageDevice", 6: "XYStageDevice", 10: "CoreDevice"}


@dataclass(frozen=True)
class Method:
    """One overload of a Java method."""

    name: str
    arguments: tuple[str, ...]
    returns: str

    def described(self) -> dict[str, Any]:
        """As the wire has it."""
        return {"name": self.name, "arguments": list(self.arguments), "return-type": self.returns}


@dataclass(frozen=True)
class JavaClass:
    """A class that objects on the wire belong to."""

    name: str
    methods: tuple[Method, ...] = ()
    fields: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """The part of an object's description that its class decides."""
        return {
            "class": self.name,
            "interfaces": [self.name, "java.lang.Object"],
            "fields": list(self.fields),
            "api": [method.described() for method in self.methods],
        }


@dataclass
class Rectangle:
    """What ``getROI`` returns in Java."""

    x: int
    y: int
    width: int
    height: int


class DeviceType:
    """What ``getDeviceType`` returns in Java: an enumeration's member, made from MMCore's number."""

    def __init__(self, number: int) -> None:
        self._number = number

    def swig_value(self) -> int:
        """MMCore's number."""
        return self._number

    def to_string(self) -> str:
        """The member's name."""
        return _DEVICE_TYPES[self._number]


class StrVector:
    """What lists of names are in Java."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def size(self) -> int:
        """How many names."""
        return len(self._names)

    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self._names

    def get(self, index: int) -> str:
        """One of them. Raises IndexError."""
        return self._names[index]


def snake_case(java_name: str) -> str:
    """The Python name of a Java method: getROI is get_roi, setXYPosition is set_xy_position."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", java_name).lower()


def _methods(*lines: str) -> tuple[Method, ...]:
    """Methods from lines such as ``long getImageWidth()``; ``String`` stands for java.lang.String."""
    methods = []
    for line in lines:
        returns, name, arguments = re.fullmatch(r"(\S+) (\w+)\((.*)\)", line).groups()  # type: ignore[union-attr]
        types = tuple(_java_type(each) for each in arguments.split(", ") if each)
        methods.append(Method(name, types, _java_type(returns)))
    return tuple(methods)


def _java_type(name: str) -> str:
    return {"String": STRING, "Object": "java.lang.Object"}.get(name, name)


CMM_CORE = JavaClass(
    "mmcorej.CMMCore",
    _methods(
        "String getVersionInfo()",
        "mmcorej.StrVector getLoadedDevices()",
        "String getDeviceLibrary(String)",
        "String getDeviceName(String)",
        "mmcorej.DeviceType getDeviceType(String)",
        "String getCameraDevice()",
        "void setCameraDevice(String)",
        "long getImageWidth()",
        "long getImageHeight()",
        "long getBytesPerPixel()",
        "long getImageBitDepth()",
        "long getNumberOfComponents()",
        "void setExposure(double)",
        "void setExposure(String, double)",
        "double getExposure()",
        "double getExposure(String)",
        "void setROI(int, int, int, int)",
        "void setROI(String, int, int, int, int)",
        "java.awt.Rectangle getROI()",
        "void clearROI()",
        "boolean hasProperty(String, String)",
        "mmcorej.StrVector getDevicePropertyNames(String)",
        "mmcorej.StrVector getAllowedPropertyValues(String, String)",
        "boolean isPropertyReadOnly(String, String)",
        "String getProperty(String, String)",
        "void setProperty(String, String, String)",
        "void setProperty(String, String, boolean)",
        "void setProperty(String, String, int)",
        "void setProperty(String, String, double)",
        "void startSequenceAcquisition(int, double, boolean)",
        "void startSequenceAcquisition(String, int, double, boolean)",
        "void startContinuousSequenceAcquisition(double)",
        "void stopSequenceAcquisition()",
        "void stopSequenceAcquisition(String)",
        "boolean isSequenceRunning()",
        "boolean isSequenceRunning(String)",
        "int getRemainingImageCount()",
        "Object popNextImage()",
        "mmcorej.TaggedImage popNextTaggedImage()",
        "void snapImage()",
        "void clearCircularBuffer()",
        "boolean isBufferOverflowed()",
        "void setCircularBufferMemoryFootprint(int)",
        "int getCircularBufferMemoryFootprint()",
        "int getBufferTotalCapacity()",
        "int getBufferFreeCapacity()",
        "String getShutterDevice()",
        "void setShutterDevice(String)",
        "void setShutterOpen(boolean)",
        "void setShutterOpen(String, boolean)",
        "boolean getShutterOpen()",
        "boolean getShutterOpen(String)",
        "void setAutoShutter(boolean)",
        "boolean getAutoShutter()",
        "String getXYStageDevice()",
        "void setXYStageDevice(String)",
        "String getFocusDevice()",
        "void setFocusDevice(String)",
        "void setXYPosition(double, double)",
        "void setXYPosition(String, double, double)",
        "double getXPosition()",
        "double getXPosition(String)",
        "double getYPosition()",
        "double getYPosition(String)",
        "void setPosition(double)",
        "void setPosition(String, double)",
        "double getPosition()",
        "double getPosition(String)",
        "mmcorej.StrVector getAvailableConfigGroups()",
        "mmcorej.StrVector getAvailableConfigs(String)",
        "void setConfig(String, String)",
        "String getCurrentConfig(String)",
        "void waitForConfig(String, String)",
        "boolean deviceBusy(String)",
        "boolean systemBusy()",
        "void waitForDevice(String)",
        "void waitForSystem()",
    ),
)
TAGGED_IMAGE = JavaClass("mmcorej.TaggedImage", fields=("pix", "tags"))
RECTANGLE = JavaClass("java.awt.Rectangle", fields=("x", "y", "width", "height"))
DEVICE_TYPE = JavaClass("mmcorej.DeviceType", _methods("int swigValue()", "String toString()"))
STR_VECTOR = JavaClass("mmcorej.StrVector", _methods("long size()", "boolean isEmpty()", "String get(int)"))
