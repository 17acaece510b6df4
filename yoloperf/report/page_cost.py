"""The page's part on money and energy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yoloperf.core.record import EpochRecord, RunRecord
from yoloperf.report.columns import GRID, IDENTITY, failed, telling
from yoloperf.report.cost import priced, priced_time, ways
from yoloperf.report.cost_verb import cost_table, remarks, ways_table
from yoloperf.report.evidence import quality
from yoloperf.report.findings import ENOUGH
from yoloperf.report.page_tables import MAX_LINES, PageTable, plain

STEP = 0.05  # to which the target is rounded down


@dataclass(frozen=True)
class Costs:
    """The ways to a target first, then every run, then what a person must know to believe them."""

    tables: list[PageTable]
    remarks: list[str]


def costs(runs: Sequence[RunRecord], epochs: Sequence[EpochRecord]) -> Costs | None:
    """None where no run has a cost or an energy."""
    items = priced(runs)
    paid = [item for item in items if item.cost is not None or item.energy_j is not None]
    if not paid:
        return None
    grade, time = quality(runs), priced_time(runs)
    tables = []
    best = max((item.grade for item in items if item.grade is not None and not failed(item.run)), default=0.0)
    target = math.floor(ENOUGH * best / STEP) * STEP
    if target > 0:
        tables.append(plain(ways_table(ways(items, epochs, target), f"{grade.title} of at least {target:.2g}")))
    keys = telling(runs, [*IDENTITY, *GRID, "seed"])
    tables.append(plain(cost_table(paid[:MAX_LINES], keys or list(GRID), time.title, grade.title)))
    said = remarks(items, time.title)
    if len(paid) > MAX_LINES:
        said.append(f"{MAX_LINES} of {len(paid)} runs are listed; `yoloperf cost` prints all")
    return Costs(tables, said)
