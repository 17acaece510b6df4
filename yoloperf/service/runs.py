"""The comparison table of a logs folder, for a page: what `yoloperf table` shows, with values to sort by."""

from collections import Counter
from pathlib import Path
from typing import Any

from yoloperf.core.record import shown
from yoloperf.parsing.parse import parse_paths
from yoloperf.report.columns import BETTER, FIGURES, RUN_COLUMNS, failed, present, title
from yoloperf.report.tables import default_columns, order

_FIRST = ("model", "dataset")
_MORE = ("map50", "images_per_s", "wall_s")  # what a visitor asks first, and the 2020 study's table has not


def comparison(logs: Path) -> dict[str, Any]:
    """columns: name, title, whether numeric, and which side is the good one (lower, higher or None); rows: run_id, its short name
    `run`, status, reason and a cell a column, as a value and as text. A run that failed has no figures."""
    runs = order(parse_paths([logs]).runs)
    shows = [name for name in default_columns(runs) if name not in (*_FIRST, "run_id", "sweep")] if runs else []
    keys = [name for name in shows if name not in FIGURES]
    names = list(dict.fromkeys([*present(runs, _FIRST), *keys, *present(runs, _MORE), *shows]))
    short = _short_names([run.run_id or "" for run in runs])
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
                "run": label,
                "status": run.status,
                "reason": run.reason,
                "cells": [
                    {"value": None, "text": ""}
                    if failed(run) and name in FIGURES
                    else {"value": getattr(run, name), "text": shown(RUN_COLUMNS[name], getattr(run, name))}
                    for name in names
                ],
            }
            for run, label in zip(runs, short, strict=True)
        ],
    }


def _short_names(ids: list[str]) -> list[str]:
    """platform/sweep/trial without what goes without saying: the only platform, the trial of a sweep that has no other."""
    platforms = {id.partition("/")[0] for id in ids}
    cut = [id.partition("/")[2] or id for id in ids] if len(platforms) == 1 else ids
    count = Counter(name.rpartition("/")[0] for name in cut)
    return [sweep if sweep and count[sweep] == 1 else name for name, sweep in ((name, name.rpartition("/")[0]) for name in cut)]
