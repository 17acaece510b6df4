"""The verb report: everything about a set of runs on one page."""

import argparse
import time
from pathlib import Path

from yoloperf.core.rundir import write_atomic
from yoloperf.core.units import show_bytes
from yoloperf.core.verb import Result, Verb
from yoloperf.report.columns import failed
from yoloperf.report.verbs import input_flags, selected


def _flags(parser: argparse.ArgumentParser) -> None:
    input_flags(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), help="the page (default: report.html)")
    parser.add_argument("--title", help="its heading (default: models and platforms)")


def _report(args: argparse.Namespace) -> Result:
    from yoloperf.report.page import page  # templates and plots, which no other verb of the room needs

    began = time.monotonic()
    records = selected(args)
    # a name may hold half of a surrogate pair, which no encoding can write
    made = page(records, args.out, args.paths, args.title)
    content = made.html.encode("utf-8", "replace")
    write_atomic(args.out, content)
    print(f"{args.out}: {len(records.runs)} runs, {show_bytes(len(content))}, {time.monotonic() - began:.1f} s")
    lost = sum(map(failed, records.runs))
    said = {"page": str(args.out), "bytes": len(content), "runs": len(records.runs), "failed": lost}
    return 0, said | {"plots": made.plots, "missing": made.missing}


report = Verb(
    help="write one HTML page: overview, findings, plots, comparisons, every run with a link to its log",
    example="yoloperf report logs/ -o report.html",
    configure=_flags,
    run=_report,
)
