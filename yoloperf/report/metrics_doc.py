"""Writes docs/metrics.md from the column registry: `python -m yoloperf.report.metrics_doc`."""

from collections.abc import Iterable
from dataclasses import Field
from pathlib import Path
from typing import Any

from yoloperf.core.record import SCHEMA_VERSION, STATUSES, EpochRecord, KernelRecord, columns
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.report.columns import RUN_COLUMNS, SECTIONS, STUDY
from yoloperf.report.render import Row, Table, markdown

PATH = Path(__file__).parents[2] / "docs" / "metrics.md"

_HEAD = f"""# Columns of runs.csv, epochs.csv, kernels.csv and requests.csv

Written by `python -m yoloperf.report.metrics_doc` from the column registry in `yoloperf/core/record.py` and `request.py`; edit
those, not this.

`yoloperf parse LOGS -o runs.csv` writes the first three; `run_id` joins them. `yoloperf load` and `yoloperf offload` write requests.csv.
Values are in SI units (seconds, bytes, watts, joules) and ratios are fractions, except where a name ends in `_percent` or `_pct`;
`yoloperf table` turns them into what people read.
**An absent value is an empty cell: never 0, never a guess.** Names that end in a unit carry it: `_s`, `_bytes`, `_w`, `_j`.

`status` is one of {", ".join(f"`{status}`" for status in STATUSES)}. Schema version: {SCHEMA_VERSION}.

The columns that `yoloperf table` shows unless told otherwise are those of the 2020 study: {", ".join(f"`{name}`" for name in STUDY)}.
"""


def document() -> str:
    """The text of docs/metrics.md."""
    parts = [_HEAD, "## runs.csv: a row a run\n"]
    firsts = {first: heading for heading, first in SECTIONS.items()}
    section: list[Field[Any]] = []
    for name, item in RUN_COLUMNS.items():
        if name in firsts:
            parts += _section(section)
            parts.append(f"### {firsts[name]}\n")
            section = []
        section.append(item)
    parts += _section(section)
    parts += ["## epochs.csv: a row an epoch\n", *_section(columns(EpochRecord).values())]
    parts += ["## kernels.csv: a row a kernel or operator of a run\n", *_section(columns(KernelRecord).values())]
    parts += ["## requests.csv: a row a request to a service\n", *_section(columns(RequestRecord).values())]
    return "\n".join(parts)


def _section(items: Iterable[Field[Any]]) -> list[str]:
    rows = []
    for item in items:
        kind = str(item.type).split(" ")[0]
        rows.append(Row([item.name, item.metadata["title"], kind, item.metadata["unit"], item.metadata["source"], item.metadata["doc"]]))
    return [markdown([Table(["column", "shown as", "type", "unit", "source", "meaning"], [False] * 6, rows)])] if rows else []


if __name__ == "__main__":
    write_atomic(PATH, document())
    print(PATH)
