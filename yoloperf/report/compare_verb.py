"""The verb compare: one column with all else equal, or two runs and whether they may be compared."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from yoloperf.core.errors import UserError, choose
from yoloperf.core.record import RunRecord, shown
from yoloperf.core.verb import Result, Verb
from yoloperf.report import render
from yoloperf.report.columns import BETTER, FIGURES, RUN_COLUMNS, STUDY, require, title
from yoloperf.report.compare import BY, Comparison, comparison_table, contested, match, median_ratio, metrics_of, ratio, same_kernels, wins
from yoloperf.report.fairness import judge
from yoloperf.report.render import Row, Table
from yoloperf.report.significance import Tested, repeats_table, significance, verdict
from yoloperf.report.verbs import input_flags, print_tables, selected


def _flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--by", choices=BY, default="platform", help="the column whose values are compared (default: platform)")
    what.add_argument("--runs", nargs=2, metavar="RUN", help="set two runs side by side and say whether they may be compared")
    parser.add_argument("--baseline", metavar="VALUE", help="the value that ratios refer to (default: the one with most runs)")
    parser.add_argument("--metrics", metavar="A,B,...", help="columns of runs.csv to compare (default: time, memory, energy, quality)")
    parser.add_argument("--format", choices=("text", *render.FORMATS), default="text")


def _compare(args: argparse.Namespace) -> Result:
    runs = selected(args).runs
    wanted = [_metric(name) for name in args.metrics.split(",")] if args.metrics else []
    if args.runs:
        named = {str(run.run_id): run for run in runs}
        first, second = (named[choose(name, named, "run")] for name in args.runs)
        return _two(first, second, wanted or list(STUDY), args.format)
    comparison = match(runs, args.by, args.baseline)
    metrics = wanted or metrics_of(comparison)
    tested = significance(comparison, metrics)
    repeats = [repeats_table(comparison, tested)] if tested else []
    print_tables([*(comparison_table(comparison, metric) for metric in metrics), *repeats], args.format)
    if args.format == "text":
        print("\n" + "\n".join(_remarks(comparison, metrics, tested)))
    return 0, {
        "by": comparison.by,
        "baseline": comparison.baseline,
        "metrics": [metric_result(comparison, metric) for metric in metrics],
        "significance": {"verdict": verdict(comparison, metrics, tested), "tests": [asdict(item) for item in tested]},
        "cautions": comparison.cautions,
        "without_counterpart": comparison.alone,
    }


def _metric(name: str) -> str:
    if require(name) not in FIGURES or str(RUN_COLUMNS[name].type).startswith("str"):
        raise UserError(f"{name} is no measured number and so no metric: choose for example wall_s, max_rss_bytes or map50")
    return name


def _remarks(comparison: Comparison, metrics: Sequence[str], tested: Sequence[Tested]) -> list[str]:
    """What a person should know beside the tables."""
    lines = []
    for metric in metrics:
        if metric in BETTER:
            score = ", ".join(f"{level} in {count}" for level, count in wins(comparison, metric).items())
            lines.append(f"best {title(metric)}: {score} of {contested(comparison, metric)} cells")
    lines.append(verdict(comparison, metrics, tested))
    if not same_kernels(comparison):
        lines.append("biggest kernel: it is not the same kernel on all sides, so its time compares nothing")
    if comparison.alone:
        lines.append(f"left out: {comparison.alone} runs without a counterpart")
    return lines + [f"caution: {text}" for text in comparison.cautions]


def metric_result(comparison: Comparison, metric: str) -> dict[str, Any]:
    levels = comparison.levels
    return {
        "metric": metric,
        "better": BETTER.get(metric),
        "wins": {str(level): count for level, count in wins(comparison, metric).items()},
        "median_ratios": {str(level): median_ratio(comparison, level, metric) for level in levels},
        "cells": [
            dict(zip(comparison.keys, cell.key, strict=True))
            | {"values": {str(level): cell.values(level, metric) for level in levels}}
            | {"ratios": {str(level): ratio(cell, level, comparison.baseline, metric) for level in levels}}
            for cell in comparison.cells
        ],
    }


def _two(first: RunRecord, second: RunRecord, metrics: Sequence[str], form: str) -> Result:
    """Two runs, a row a column, and the verdict."""
    fairness = judge(first, second)
    decisive = [*fairness.work, *fairness.conditions, *fairness.disturbed]
    names = list(dict.fromkeys([*decisive, *(name for name in metrics if name in FIGURES)]))
    rows, ratios = [], {}
    for name in names:
        column, one, two = RUN_COLUMNS[name], getattr(first, name), getattr(second, name)
        if name in FIGURES:
            ratios[name] = two / one if one and two is not None else None
        share = ratios.get(name)
        rows.append(Row([title(name), shown(column, one), shown(column, two), "" if share is None else f"{share:.2f}"]))
    print_tables([Table(["", "first", "second", "second / first"], [False, True, True, True], rows, keys=1)], form)
    if form == "text":
        print(f"\nfirst:  {first.run_id}\nsecond: {second.run_id}\n{fairness.sentence()}")
    return 0, {"runs": [first.run_id, second.run_id], "ratios": ratios, "fairness": asdict(fairness)}


compare = Verb(
    help="compare platforms, models, batch sizes or two runs, with ratios, the best marked, and what speaks against it",
    example="yoloperf compare logs/ --by platform --baseline baremetal --metrics user_s,recall",
    configure=_flags,
    run=_compare,
)
