"""The comparison table of a logs folder, for a page: what `yoloperf table` shows, with values to sort by."""

from pathlib import Path
from typing import Any

from yoloperf.core.record import shown
from yoloperf.parsing.parse import parse_paths
from yoloperf.report.columns import BETTER, FIGURES, RUN_COLUMNS, failed, present, title
from yoloperf.report.tables import default_columns, order

_MORE = ("map50", "images_per_s", "wall_s")  # what a visitor asks first, and the 2020 study's table has not


def comparison(logs: Path) -> dict[str, Any]:
    """columns: name, title, whether numeric, and which side is the good one (lower, higher or None); rows: run_id, status, reason
    and a cell a column, as a value and as text. A run that failed has no figures."""
    runs = order(parse_paths([logs]).runs)
    names = default_columns(runs) if runs else []
    names += [name for name in present(runs, _MORE) if name not in names]
    return {
        "columns": [
            {
                "name": name,
                "title": title(name, runs),
                "numeric": not str(RUN_COLUMNS[name].type).startswith("str"),
                "better": BETTER.get(name),
            }
            for name in names
        ],
        "rows": [
            {
                "run_id": run.run_id,
                "status": run.status,
                "reason": run.reason,
                "cells": [
                    {"value": None, "text": ""}
                    if failed(run) and name in FIGURES
                    else {"value": getattr(run, name), "text": shown(RUN_COLUMNS[name], getattr(run, name))}
                    for name in names
                ],
            }
            for run in runs
        ],
    }
