"""The machine-readable line beside the human one: `:::YOLOPERF {json}` on stdout.

The habit is MLPerf's (`:::MLLOG {json}`): a fixed prefix makes the line findable behind whatever a
launcher puts before it, and JSON makes it readable without guessing. docs/log-format.md lists the keys.
"""

import json
import math
import sys
import time
from collections.abc import Iterable
from typing import Any, TextIO

PREFIX = ":::YOLOPERF "


def emit(key: str, stream: TextIO | None = None, **fields: Any) -> None:
    """Write one event. Values must be JSON types; a NaN or infinity is written as null."""
    record = {"key": key, "time_s": round(time.time(), 3), **_finite(fields)}
    print(PREFIX + json.dumps(record, allow_nan=False), file=stream or sys.stdout, flush=True)


def read(lines: Iterable[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Split lines into events and the lines that carry the prefix but cannot be read as an event."""
    events, rejected = [], []
    for line in lines:
        _, found, text = line.partition(PREFIX)
        if not found:
            continue
        event = parse(text)
        if event is None:
            rejected.append(line)
        else:
            events.append(event)
    return events, rejected


def parse(text: str) -> dict[str, Any] | None:
    """The event in the text after the prefix, or None where it is no JSON object with a key."""
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("key"), str) else None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
