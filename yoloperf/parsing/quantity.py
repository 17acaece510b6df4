"""Numbers and cells as logs print them, in bytes, exactly: `15.988us` is 1.5988e-05, the nearest float to what was printed."""

import csv
import math
import re

# Unit -> exponent to append, so that the conversion rounds once
EXPONENT = {b"ns": b"e-9", b"us": b"e-6", b"\xc2\xb5s": b"e-6", b"ms": b"e-3", b"s": b""}
UNIT_NAMES = {b"nsec": b"ns", b"usec": b"us", b"msec": b"ms", b"sec": b"s", b"seconds": b"s"}
_SIZE = {b"": 1, b"k": 2**10, b"m": 2**20, b"g": 2**30, b"t": 2**40}
_DURATION = re.compile(rb"\s*(-?[\d.]+)\s*(ns|us|\xc2\xb5s|ms|s)\s*\Z")
_BYTES = re.compile(rb"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)i?b(?:ytes)?\s*\Z", re.IGNORECASE)
_CLOCK = re.compile(rb"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?\s*\Z")


def number(text: bytes) -> float | None:
    """A finite number, or None: a NaN that a trainer prints is an absent value."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def seconds(text: bytes) -> float | None:
    """`5.34547s`, `15.988us`; None for anything else."""
    match = _DURATION.match(text)
    return number(match[1] + EXPONENT[match[2]]) if match else None


def size(text: bytes) -> int | None:
    """`14517 MiB`, `22919MB`, `3.93 Gb` in bytes (powers of 1024); None for anything else."""
    match = _BYTES.match(text)
    return round(float(match[1]) * _SIZE[match[2].lower()]) if match else None


def clock(text: bytes) -> float | None:
    """`1:04:33`, `05:43`, `11.6s`, as progress bars print elapsed time."""
    match = _CLOCK.match(text)
    return int(match[1] or 0) * 3600 + int(match[2] or 0) * 60 + float(match[3]) if match else None


def cells(line: str) -> list[str]:
    """Cells of a CSV line; none where it is no such line."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace").strip()
