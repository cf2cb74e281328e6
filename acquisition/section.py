"""What every part of an acquisition file is made of: closed, immutable sections of described quantities."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def quantity(description: str, unit: str, default: Any = ..., **limits: Any) -> Any:
    """A pydantic field that carries its description and its unit into the JSON Schema (unit "1": a pure number)."""
    return Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


class Section(BaseModel):
    """A part of the acquisition file: immutable, and closed against unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="always")
