"""What the interactive plots share: Vega-Lite specifications (https://vega.github.io/vega-lite/docs/spec.html) and their parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloperf.core.record import RunRecord
from yoloperf.report.columns import GRID, IDENTITY, RUN_COLUMNS, label, telling, title

Spec = dict[str, Any]

SERIES = 8  # as many as the page has colours (range.category of page.js): a ninth would look like the first
POINTS = 1200  # of one plot
BARS = 80

# unit -> what axes are given in: the largest that the greatest value reaches
_SCALES = {
    "s": ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "B": ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")),
    "J": ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J")),
}


@dataclass(frozen=True)
class Chart:
    """One plot with its question; `variants` are (name, specification) of what may be chosen to see in it."""

    name: str
    question: str
    variants: list[tuple[str, Spec]]
    note: str = ""


def scaled(name: str, values: Sequence[float]) -> tuple[float, str]:
    """Divisor and axis title of a column whose greatest value is among `values`."""
    unit = str(RUN_COLUMNS[name].metadata["unit"]) if name in RUN_COLUMNS else ""
    return scale(unit, title(name) if name in RUN_COLUMNS else name, values)


def scale(unit: str, words: str, values: Sequence[float]) -> tuple[float, str]:
    """Divisor and axis title of a quantity in `unit`."""
    top = max((abs(value) for value in values), default=0)
    for divisor, text in _SCALES.get(unit, ()):
        if top >= 2 * divisor:
            return divisor, f"{words} ({text})"
    return 1.0, f"{words} ({unit})" if unit and unit not in ("1/s", "FLOP") else words


def pick() -> Spec:
    return {"name": "pick", "select": {"type": "point", "fields": ["series"]}, "bind": "legend"}


def faded() -> Spec:
    return {"condition": {"param": "pick", "value": 1}, "value": 0.12}


def tips(**fields: str) -> list[Spec]:
    return [{"field": name, "title": words} for name, words in fields.items()]


def row_labels(runs: Sequence[RunRecord]) -> list[str]:
    """A label a run, each different: equal ones are numbered."""
    names = telling(runs, [*IDENTITY, *GRID])
    words = [label(run, names) if names else str(run.run_id) for run in runs]
    return [f"{word} #{words[:k].count(word) + 1}" if words.count(word) > 1 else word for k, word in enumerate(words)]
