"""The verbs of this room: parse and check-table."""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.tables import RUNS
from yoloperf.core.units import show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.parsing import check_table as tables
from yoloperf.parsing.draft import Rejected
from yoloperf.parsing.formats import file_formats, line_formats
from yoloperf.parsing.output import Totals, write_records
from yoloperf.parsing.parse import parse_paths

_LISTED = 20


def _configure_parse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="run folder, log, or a folder that holds them")
    parser.add_argument("-o", "--out", type=Path, default=Path(RUNS), help="runs; epochs.csv and kernels.csv lie beside them")
    parser.add_argument("--kernel", metavar="NAME", help="also show every run's average time of the kernel of this name")
    parser.add_argument("--operators", action="store_true", help="also show the share of GPU time by operator, a column a GPU")
    parser.add_argument("--formats", action="store_true", help="list the formats that are read, and stop")
    parser.add_argument("--rejected", action="store_true", help=f"list everything that was not read, not only the first {_LISTED}")
    parser.add_argument("--unknown", action="store_true", help="list the lines of logs that no format knows")
    parser.add_argument("-j", "--jobs", type=int, metavar="N", help="files read at a time (default: one a core)")


def _say(text: str) -> None:
    """Print, in whatever encoding the stream has: logs and paths hold any character."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def formats() -> dict[str, str]:
    """Name -> description of every format that is read."""
    found = {"run-folder": "a folder with run.json, console.log, profile.json and device.csv, as `yoloperf sweep` writes it"}
    found |= {kind.name: kind.description for kind in line_formats()}
    found |= {kind.name: kind.description for kind in file_formats()}
    return dict(sorted(found.items()))


def _parse(args: argparse.Namespace) -> Result:
    if args.formats:
        for name, description in formats().items():
            _say(f"{name:22} {description}")
        return 0, {"formats": formats()}
    if not args.paths:
        raise UserError("nothing to parse: give run folders, logs or folders that hold them; --formats lists what is read")
    if args.jobs is not None and args.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {args.jobs}")
    totals = write_records(args.paths, args.out, args.jobs, args.kernel, args.unknown)
    _say(f"{totals.runs} runs, {totals.epochs} epochs, {totals.kernels} kernels -> {args.out}")
    for run_id, reason in totals.no_profile:
        _say(f"no kernels: {run_id}: {reason}")
    for run_id, average in totals.named_kernel.items():
        _say(f"{run_id}: {'no such kernel' if average is None else show_seconds(average)}")
    for path, number, line in totals.unknown:
        _say(f"unknown: {path} line {number}: {line}")
    if args.operators:
        _print_operators(totals)
    for path, original in totals.duplicates:
        _say(f"left out: {path} is the same as {original}")
    _print_rejected(totals.rejected, args.rejected)
    return int(bool(totals.rejected)), _result(totals, args)


def _result(totals: Totals, args: argparse.Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {name: getattr(totals, name) for name in ("runs", "epochs", "kernels")}
    result |= {"out": str(args.out), "rejected": len(totals.rejected), "duplicates": len(totals.duplicates), "aside": totals.aside}
    result["rejections"] = [{"path": item.path, "line": item.line, "reason": item.reason} for item in totals.rejected[:_LISTED]]
    if args.rejected:
        result["rejections"] = [{"path": item.path, "line": item.line, "reason": item.reason} for item in totals.rejected]
    if args.kernel:
        result["kernel_avg_s"] = totals.named_kernel
    if args.operators:
        result["operators"] = _shares(totals)
    if args.unknown:
        result["unknown"] = [{"path": path, "line": number, "text": line} for path, number, line in totals.unknown]
    return result


def _print_rejected(rejected: list[Rejected], everything: bool) -> None:
    shown = rejected if everything else rejected[:_LISTED]
    for item in shown:
        _say(f"not read: {item.path}{'' if item.line is None else f' line {item.line}'}: {item.reason}")
    if len(shown) < len(rejected):
        _say(f"... and {len(rejected) - len(shown)} more: add --rejected")


def _shares(totals: Totals) -> dict[str, dict[str, float]]:
    """GPU -> operator -> share of its GPU time; `unknown` for kernels whose name says nothing."""
    whole: dict[str, float] = defaultdict(float)
    for (gpu, _), time_s in totals.operator_s.items():
        whole[gpu] += time_s
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"unknown": 0.0})
    for (gpu, operator), time_s in sorted(totals.operator_s.items(), key=lambda item: -item[1]):
        found[gpu][operator or "unknown"] = time_s / whole[gpu] if whole[gpu] else 0.0
    return dict(found)


def _print_operators(totals: Totals) -> None:
    shares = _shares(totals)
    names = sorted({name for found in shares.values() for name in found}, key=lambda name: -max(f.get(name, 0.0) for f in shares.values()))
    _say(f"{'share of GPU time':28}" + "".join(f"{gpu:>24}" for gpu in shares))
    for name in names:
        _say(f"{name:28}" + "".join(f"{100 * found.get(name, 0.0):22.1f} %" for found in shares.values()))


parse = Verb(
    help="read run folders and logs into runs.csv, epochs.csv and kernels.csv",
    example="yoloperf parse logs/ -o runs.csv",
    configure=_configure_parse,
    run=_parse,
)


def _configure_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("published", type=Path, metavar="PUBLISHED.csv", help="a row a run, found by device, model, batch_size and epochs")
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOGS", help="the logs that it was made from, or folders of them")


def _check_table(args: argparse.Namespace) -> Result:
    published = tables.read_published(args.published)
    logs = parse_paths(args.logs)
    result = tables.check(published, logs)
    _say(f"{result.compared} of {result.rows} rows have a log; {result.cells} cells compared, {len(result.differences)} differ")
    for item in result.differences:
        _say(f"differs: {item.row}: {item.column} published {_shown(item.published)}, log {_shown(item.log)} ({item.run_id})")
    for kernel in result.named_kernels:
        _say(f"{kernel.device}: {tables.KERNEL} is the average of {kernel.name}, the biggest in {kernel.biggest_in} of {kernel.rows} logs")
    for row in result.misleading:
        share = "" if row.biggest_share is None else f", {100 * row.biggest_share:.1f} % of the GPU time"
        biggest = f"{row.biggest_kernel[:60]} with {row.biggest_us:g} us{share}"
        _say(f"not the biggest: {row.row}: {row.published_us:g} us; the biggest is {biggest}")
    _print_list("no log", result.without_log)
    _print_list("another log of a row", result.other_logs)
    _print_rejected(logs.rejected, everything=False)
    return int(bool(result.differences or logs.rejected)), result.as_json()


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.10g}"


def _print_list(what: str, names: Iterable[str]) -> None:
    for name in names:
        _say(f"{what}: {name}")


check_table = Verb(
    help="list the cells of a published table that differ from the logs behind it",
    example="yoloperf check-table logs/published/published-2020-t4-p40.csv LOGS/",
    configure=_configure_check,
    run=_check_table,
)
