"""How every figure looks: readable in black and white (markers and dashes, not colour alone) and at 1000 pixels' width."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, Formatter, FuncFormatter, Locator, MaxNLocator, NullLocator

from yoloperf.core.units import show_bytes, show_seconds

WIDTH = 10.0  # inches: 1500 pixels at DPI, still readable when shown at 1000
DPI = 150
# Okabe and Ito, "Color Universal Design", 2008: told apart by every kind of colour vision
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 1)))
FILLS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#BBBBBB", "#D55E00", "#F0E442")  # the same, light enough for hatches
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "+++", "---", "|||", "**", "//..", "\\\\oo", "xx--")

_RC: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 3.2,
    "hatch.linewidth": 0.6,
    "figure.constrained_layout.h_pad": 0.06,
    "svg.fonttype": "none",
    "svg.hashsalt": "yoloperf",
}


@contextmanager
def drawing() -> Iterator[None]:
    """The settings of our figures, for as long as they are made and saved; matplotlib's own come back afterwards."""
    with mpl.rc_context(_RC):
        yield


def figure(height: float) -> Figure:
    """An empty figure of the common width; a Figure of its own, unknown to pyplot."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def line(number: int, dash: int | None = None) -> dict[str, Any]:
    """Colour, marker and dash of the n-th line."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[(number if dash is None else dash) % len(DASHES)],
        "markerfacecolor": "white" if number % 2 else COLOURS[number % len(COLOURS)],
    }


def clock(unit: str, top: float) -> str:
    """What the colons of a time axis that ends at `top` seconds mean, as the end of its title."""
    if unit != "s" or top < 99.95:
        return ""
    return " (min:s)" if top < 3600 else " (h:min:s)"


def _short(text: str) -> str:
    """2.00 GiB as 2 GiB: a tick is a round number."""
    number, space, unit = text.partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + unit


# ticks as people read them: 12:05 for seconds, 1.3 GiB for bytes
UNITS: dict[str, Formatter] = {
    "s": FuncFormatter(lambda value, _: _short(show_seconds(value)) if value > 0 else "0"),
    "B": FuncFormatter(lambda value, _: _short(show_bytes(value)) if value > 0 else "0"),
}


def y_axis(axes: Axes, unit: str = "", top: float | None = None, fraction: bool = False) -> None:
    """From zero to `top` in the column's unit; a fraction always to one."""
    axes.set_ylim(0, 1.02 if fraction else top)
    units: dict[str, Locator] = {"B": _PowerOfTwo(), "s": _Clock()}
    locator = FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]) if fraction else units.get(unit, MaxNLocator(5))
    axes.yaxis.set_major_locator(locator)
    if unit in UNITS:
        axes.yaxis.set_major_formatter(UNITS[unit])


def x_time(axes: Axes, name: str, top: float) -> None:
    """From zero to a little beyond `top` seconds."""
    axes.set_xlim(0, top * 1.08 or 1)
    axes.xaxis.set_major_locator(_Clock())
    axes.xaxis.set_major_formatter(UNITS["s"])
    axes.set_xlabel(name + clock("s", top))


class _Steps(MaxNLocator):
    """Ticks at whole multiples of a step out of `steps`, at most seven of them."""

    steps: Sequence[float] = ()

    def tick_values(self, vmin: float, vmax: float) -> Any:
        step = next((step for step in self.steps if (vmax - vmin) / step <= 6), None)
        if step is None or vmax - vmin < self.steps[0]:
            return super().tick_values(vmin, vmax)
        return [step * k for k in range(int(vmin // step), int(vmax // step) + 1)]


class _PowerOfTwo(_Steps):
    steps = tuple(float(2**k) for k in range(10, 50))


class _Clock(_Steps):
    """Seconds: below two minutes decimal, above in round minutes or hours."""

    steps = tuple(
        unit * count
        for unit, counts in ((1.0, (1, 2, 5, 10, 15, 30)), (60.0, (1, 2, 5, 10, 20, 30)), (3600.0, (1, 2, 4, 6, 12, 24, 48, 96)))
        for count in counts
    )


def run_ticks(axes: Axes, values: Sequence[float], log: bool) -> None:
    """Ticks at the values that were run and nowhere else (those that would touch their neighbour go unnamed)."""
    low, high = min(values), max(values)
    if log:
        axes.set_xscale("log", base=2)
        axes.set_xlim(low / 1.25, high * 1.25)
    else:
        margin = 0.06 * (high - low) or 1
        axes.set_xlim(low - margin, high + margin)
    axes.set_xticks(values, _spaced(values, log))
    axes.xaxis.set_minor_locator(NullLocator())


def _spaced(values: Sequence[float], log: bool) -> list[str]:
    places = [math.log2(value) if log else value for value in values]
    least = 0.05 * (places[-1] - places[0])
    names, last = [], -math.inf
    for value, where in zip(values, places, strict=True):
        names.append(f"{value:g}" if where - last >= least else "")
        last = where if names[-1] else last
    return names
