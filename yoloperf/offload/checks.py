"""What the parts' own settings have in common."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.offload.study import Study


def part_settings(study: Study, part: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """A part's settings with what was left out. Raises UserError for a key that it does not have."""
    own = study.parts.get(part) or {}
    for key in own:
        choose(str(key), defaults, f"setting of part {part}")
    return {**defaults, **own}


def none_twice(part: str, key: str, values: Sequence[Any]) -> None:
    """Raises UserError naming what a list has twice. Numbers are the same where cells are named alike for them: 1 and 1.0."""
    counts = Counter(f"{value:g}" if isinstance(value, int | float) else str(value) for value in values)
    twice = [text for text, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"{part}: {key} has {twice[0]} twice: name it once")


def whole(value: Any, least: int, most: int = 1_000_000) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
