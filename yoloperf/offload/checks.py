"""What the parts' own settings have in common."""

import math
from typing import Any

from yoloperf.core.errors import choose
from yoloperf.offload.study import Study


def part_settings(study: Study, part: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """A part's settings with what was left out. Raises UserError for a key that it does not have."""
    own = study.parts.get(part) or {}
    for key in own:
        choose(str(key), defaults, f"setting of part {part}")
    return {**defaults, **own}


def whole(value: Any, least: int, most: int = 1_000_000) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
