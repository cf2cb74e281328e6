"""The README's examples, by what they are about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def yaml_example(section: str) -> dict[str, Any]:
    """The one piece of YAML in the README that begins with a section of the acquisition file."""
    examples = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)]
    (found,) = [each for each in examples if next(iter(each)) == section]
    assert isinstance(found, dict)
    return found
