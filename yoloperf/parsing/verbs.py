"""The verbs of this room: parse."""

import argparse
from pathlib import Path

from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, to_csv
from yoloperf.core.rundir import write_atomic
from yoloperf.core.verb import Result, Verb
from yoloperf.parsing.formats import file_formats, line_formats
from yoloperf.parsing.parse import parse_paths

_LISTED = 20


def _configure_parse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="run folder, log, or a folder that holds them")
    parser.add_argument("-o", "--out", type=Path, default=Path("runs.csv"), help="runs.csv; epochs.csv and kernels.csv lie beside it")
    parser.add_argument("--formats", action="store_true", help="list the formats that are read, and stop")
    parser.add_argument("--rejected", action="store_true", help=f"list everything that was not read, not only the first {_LISTED}")


def _parse(args: argparse.Namespace) -> Result:
    if args.formats or not args.paths:
        formats = {"run-folder": "a folder with run.json, console.log, profile.*"}
        formats |= {kind.name: kind.description for kind in line_formats()}
        formats |= {kind.name: kind.description for kind in file_formats()}
        for name, description in sorted(formats.items()):
            print(f"{name:22} {description}")
        return 0, {"formats": formats}
    result = parse_paths(args.paths)
    write_atomic(args.out, to_csv(RunRecord, result.runs))
    write_atomic(args.out.with_name("epochs.csv"), to_csv(EpochRecord, result.epochs))
    write_atomic(args.out.with_name("kernels.csv"), to_csv(KernelRecord, result.kernels))
    print(f"{len(result.runs)} runs, {len(result.epochs)} epochs, {len(result.kernels)} kernels -> {args.out}")
    shown = result.rejected if args.rejected else result.rejected[:_LISTED]
    for item in shown:
        print(f"not read: {item.path}{'' if item.line is None else f' line {item.line}'}: {item.reason}")
    if len(shown) < len(result.rejected):
        print(f"... and {len(result.rejected) - len(shown)} more: add --rejected")
    counts = {"runs": len(result.runs), "epochs": len(result.epochs), "kernels": len(result.kernels), "rejected": len(result.rejected)}
    return int(bool(result.rejected)), counts


parse = Verb(
    help="read run folders and logs into runs.csv, epochs.csv and kernels.csv",
    example="yoloperf parse logs/ -o runs.csv",
    configure=_configure_parse,
    run=_parse,
)
