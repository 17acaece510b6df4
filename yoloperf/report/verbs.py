"""The verbs of the report room: records in, tables and pictures out."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from yoloperf.core.verb import Result, Verb
from yoloperf.report import render
from yoloperf.report.columns import RUN_COLUMNS, failed, require
from yoloperf.report.load import Records, load
from yoloperf.report.render import Table
from yoloperf.report.tables import default_columns, order, raw_csv, select, tables

PIPED_WIDTH = 120  # characters of a line where no terminal says how many it has


def input_flags(parser: argparse.ArgumentParser) -> None:
    """Where the runs come from, the same for every verb of the room."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="runs.csv, run folder, log, or a folder that holds them")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="keep these runs only, such as model=yolov3-tiny or batch_size=4,8; may be repeated",
    )


def selected(args: argparse.Namespace) -> Records:
    """The records that input_flags asks for; what the parser could not read is said on stderr."""
    records = load(args.paths)
    if records.unread:
        print(f"not read: {records.unread} files or lines; `yoloperf parse {args.paths[0]}` names them", file=sys.stderr)
    return replace(records, runs=select(records.runs, args.filter))


def print_tables(tables: Sequence[Table], form: str) -> None:
    """To the width of the terminal, or in one of the other formats."""
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    print(render.text(tables, width) if form == "text" else render.FORMATS[form](tables), end="")


def _table_flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    parser.add_argument("--columns", metavar="A,B,...", help="columns of runs.csv, or 'all' that have a value (default: the 2020 study's)")
    parser.add_argument("--sort", metavar="COLUMN", help="one table sorted by this column (default: by what identifies the runs)")
    parser.add_argument("--descending", action="store_true", help="sort from the largest value down")
    parser.add_argument("--format", choices=("text", "csv", *render.FORMATS), default="text", help="csv holds raw values in SI units")
    parser.add_argument("--study", action="store_true", help="one table for each platform and model, as the 2020 study has them")


def _table(args: argparse.Namespace) -> Result:
    runs = order(selected(args).runs, args.sort, args.descending)
    names = None
    if args.columns == "all":
        names = [name for name in RUN_COLUMNS if any(getattr(run, name) is not None for run in runs)]
    elif args.columns:
        names = [require(name) for name in args.columns.split(",")]
    shown = names or default_columns(runs)
    if args.sort and not args.study:
        names = shown
    if args.format == "csv":
        print(raw_csv(runs, shown), end="")
    else:
        parts = tables(runs, names, args.study)
        print_tables(parts, args.format)
    keys = ("run_id", "status", "reason")
    rows = [{name: getattr(run, name) for name in [*keys, *(n for n in shown if n not in keys)]} for run in runs]
    return 0, {"runs": len(runs), "failed": sum(map(failed, runs)), "columns": list(shown), "rows": rows}


table = Verb(
    help="print the comparison table of runs: the 2020 study's columns, or any others",
    example="yoloperf table logs/ --filter model=yolov3-tiny --columns batch_size,epochs,wall_s,map50 --sort map50",
    configure=_table_flags,
    run=_table,
)


def _plot_flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("plots"), metavar="DIR", help="folder of the pictures (default: plots)")
    parser.add_argument("--format", choices=("png", "svg"), default="png", help="picture format (default: png)")


def _plot(args: argparse.Namespace) -> Result:
    from yoloperf.report.pictures import save_all  # matplotlib takes a second to import, and table has no use for it

    paths, missing = save_all(selected(args), args.out, args.format)
    for path in paths:
        print(path)
    for name, reason in missing.items():
        print(f"no picture {name}: {reason}")
    return 0 if paths else 1, {"pictures": [str(path) for path in paths], "missing": missing}


plot = Verb(
    help="draw curves, the grid over batch size and epochs, quality against time, kernels, operators, the device over time, repeats",
    example="yoloperf plot runs.csv -o plots",
    configure=_plot_flags,
    run=_plot,
)
