"""Numbers with units: the only place that reads suffixes and the only place that writes them."""

import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"b": 1, "kb": 2**10, "mb": 2**20, "gb": 2**30, "tb": 2**40}
_NUMBER_UNIT = re.compile(r"\s*([0-9.,]+(?:[eE][-+]?\d+)?)\s*([A-Za-zµ]*)\s*")


def seconds(text: str, unit: str = "s") -> float:
    """Duration such as "1.4ms", "5,000,000 ns", "3:02.15" or "1:03:02" in seconds.

    `unit` applies where the text carries none. Raises ValueError for anything else.
    """
    if ":" in text:
        total = 0.0
        for part in text.strip().split(":"):
            total = total * 60 + float(part)
        return total
    number, suffix = _split(text)
    return number * _SECONDS[suffix or unit]


def bytes_(text: str, unit: str = "B") -> int:
    """Size such as "412 kB", "8.0GiB" or "22919MB" in bytes; prefixes are powers of 1024."""
    number, suffix = _split(text)
    return round(number * _BYTES[(suffix or unit).lower().replace("ib", "b").replace("bytes", "b")])


def _split(text: str) -> tuple[float, str]:
    match = _NUMBER_UNIT.fullmatch(text)
    if not match:
        raise ValueError(f"no number with a unit: {text!r}")
    return float(match[1].replace(",", "")), match[2]


def show_seconds(value: float) -> str:
    """Seconds for people: "216 us", "14.5 ms", "59.7 s", "12:05", "3:20:11"."""
    if not value:
        return "0 s"
    if value < 0.9995e-3:
        return f"{_three_digits(value * 1e6)} us"
    if value < 0.9995:
        return f"{_three_digits(value * 1e3)} ms"
    if value < 99.95:
        return f"{_three_digits(value)} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def show_bytes(value: float) -> str:
    """Bytes for people, in powers of 1024: "1.31 GiB"."""
    if value < 1024:
        return f"{value:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if value < 1023.5:
            return f"{_three_digits(value)} {unit}"
    return f"{_three_digits(value / 1024)} TiB"


def _three_digits(value: float) -> str:
    """Trailing zeros stay, so that the figures of a column stand under each other: "9.50", "39.0", "408"."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:#.3g}"
