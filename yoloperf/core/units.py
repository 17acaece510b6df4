"""Times and sizes for people; inside, everything is in seconds and bytes."""


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


def show_money(value: float) -> str:
    """An amount without its currency: cents from one unit up, two digits below: "12.40", "0.53", "0.0021"."""
    return f"{value:.2f}" if value >= 0.095 or not value else f"{value:.2g}"
