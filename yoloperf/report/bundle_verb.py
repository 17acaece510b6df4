"""The verbs bundle and verify: evidence that travels, and its check on any machine."""

import argparse
import math
from dataclasses import asdict
from pathlib import Path

from yoloperf import __version__
from yoloperf.core.units import show_bytes
from yoloperf.core.verb import Result, Verb
from yoloperf.report import bundle as bundles
from yoloperf.report import verify as checks

LISTED = 20


def _bundle_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="run folder, log, runs.csv, or a folder that holds them")
    parser.add_argument("-o", "--out", type=Path, default=Path("bundle.zip"), help="the bundle (default: bundle.zip)")
    parser.add_argument(
        "--spec", action="append", type=Path, default=[], metavar="FILE", help="a sweep file to take along; may be repeated"
    )


def _bundle(args: argparse.Namespace) -> Result:
    made = bundles.bundle(args.paths, args.out, args.spec)
    packed = show_bytes(args.out.stat().st_size)
    print(f"{args.out}: {made.runs} runs, {made.files} files of {show_bytes(made.bytes)}, packed {packed}")
    if made.weights:
        print(f"left out: {made.weights} files of weights, {show_bytes(made.weights_bytes)}")
    if made.links:
        print(f"left out: {made.links} link{'s' * (made.links > 1)} to files outside of what was given")
    print(f"sha256 {made.sha256}")
    return 0, {"bundle": str(args.out), **asdict(made)}


bundle = Verb(
    help="pack raw logs, platform cards, hashes, and all tables and findings that follow from them into one zip",
    example="yoloperf bundle logs/ --spec sweeps/study.yaml -o bundle.zip",
    configure=_bundle_flags,
    run=_bundle,
)


def _verify_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a zip that `yoloperf bundle` made")
    parser.add_argument("--max-gib", type=_gib, default=checks.MAX_BYTES / 2**30, help="refuse to unpack more (default: %(default)g)")
    parser.add_argument("--all", action="store_true", help=f"list every difference, not only the first {LISTED}")


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of GiB such as 8, not {text!r}")
    return value


def _verify(args: argparse.Namespace) -> Result:
    result = checks.verify(args.bundle, int(args.max_gib * 2**30))
    said = [*(f"altered: {text}" for text in result.wrong), *(f"differs: {text}" for text in result.differs)]
    for text in said if args.all else said[:LISTED]:
        print(text)
    if len(said) > LISTED and not args.all:
        print(f"and {len(said) - LISTED} more: --all lists them")
    if not result.ok and result.made_by != __version__:
        print(f"made by yoloperf {result.made_by}, checked by {__version__}: that version may have derived differently")
    if result.ok:
        print(f"{args.bundle}: {result.files} files are as bundled, and every table and finding follows from the logs")
    return int(not result.ok), {"bundle": str(args.bundle), "ok": result.ok, **asdict(result)}


verify = Verb(
    help="check a bundle's hashes, derive its tables and findings anew, and say which one differs",
    example="yoloperf verify bundle.zip",
    configure=_verify_flags,
    run=_verify,
)
