"""`yoloperf data`: fetch, convert, join, check and draw data sets."""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.verb import Result, Verb
from yoloperf.datasets import smear
from yoloperf.datasets.check import check, config_of
from yoloperf.datasets.convert import convert, join
from yoloperf.datasets.fetch import fetch
from yoloperf.datasets.folders import data_home
from yoloperf.datasets.images import printable
from yoloperf.datasets.sources import SOURCES


def _synth(args: argparse.Namespace) -> Result:
    folder = args.to or data_home() / "smear"
    splits = dict(zip(smear.SPLITS, args.images, strict=True))
    made = smear.generate(folder, splits, tuple(args.size), args.seed)
    data = "smear.yaml"  # the one in data/, which finds the default folder
    if args.to:
        data = str(smear.write_yaml(folder, splits))
    print(f"{folder}: {sum(args.images)} smears {'drawn' if made else 'are there already'}; train with --data {data}")
    return 0, {"folder": str(folder), "splits": splits, "made": made}


def _synth_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: smear in $YOLOPERF_DATA or in datasets/")
    parser.add_argument(
        "--images",
        nargs=3,
        type=_count,
        metavar=("TRAIN", "VAL", "TEST"),
        default=list(smear.SPLITS.values()),
        help="images of each split (default: %(default)s)",
    )
    parser.add_argument("--size", nargs=2, type=_count, metavar=("WIDTH", "HEIGHT"), default=list(smear.SIZE), help="default: %(default)s")
    parser.add_argument("--seed", type=_whole, default=0, help="default: %(default)s")


def _count(text: str) -> int:
    return _whole(text, 1)


def _whole(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"give a whole number of at least {least}, not {text!r}")
    return int(text)


def _fetch(args: argparse.Namespace) -> Result:
    places = fetch(args.name, args.mirror)
    for place, new in places:
        print(f"{place}: {'fetched and checked' if new else 'is there already'}")
    return 0, {"name": args.name, "places": [{"path": str(place), "new": new} for place, new in places]}


def _fetch_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help=f"one of {', '.join(sorted(SOURCES))}")
    parser.add_argument(
        "--mirror", metavar="URL|FOLDER", help="where to look instead of the publisher's address, for a file of the same name"
    )


def _convert(args: argparse.Namespace) -> Result:
    config = config_of(args.data)
    folder = args.to or data_home() / f"{config.name}-yolo"
    splits = convert(config, folder, args.copy)
    for name, split in splits.items():
        print(f"{folder} {name}: {len(split.images)} images, {sum(map(len, split.boxes))} boxes")
        for problem in split.problems:
            print(f"  {problem}")
    print(f"train with --data {folder / config.name}.yaml")
    return 0, {
        "folder": str(folder),
        "splits": {
            name: {"images": len(split.images), "boxes": sum(map(len, split.boxes)), "problems": split.problems, "hash": split.hash}
            for name, split in splits.items()
        },
    }


def _convert_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=DATA_HELP)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: NAME-yolo in $YOLOPERF_DATA or in datasets/")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")


def _join(args: argparse.Namespace) -> Result:
    configs = [config_of(name) for name in args.data]
    folder = args.to or data_home() / "+".join(config.name for config in configs)
    names, splits = join(configs, folder, args.copy)
    for name, split in splits.items():
        print(f"{folder} {name}: {len(split.images)} images, {sum(map(len, split.boxes))} boxes")
    print(f"{len(names)} classes; train with --data {folder / folder.name}.yaml")
    counts = {
        name: {"images": len(split.images), "boxes": sum(map(len, split.boxes)), "hash": split.hash} for name, split in splits.items()
    }
    return 0, {"folder": str(folder), "classes": list(names), "splits": counts}


def _join_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="+", help=f"two or more: {DATA_HELP}")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: A+B in $YOLOPERF_DATA or in datasets/")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")


def _check(args: argparse.Namespace) -> Result:
    config = config_of(args.data)
    report = check(config)
    counts = Counter(finding.kind for finding in report.findings)
    for finding in report.findings[: args.show]:
        print(printable(f"{finding.kind}: {finding.file}: {finding.detail}"))
    if len(report.findings) > args.show:
        print(f"... and {len(report.findings) - args.show} more: --show {len(report.findings)}")
    faults = ", ".join(f"{count} x {kind}" for kind, count in counts.most_common()) or "nothing wrong"
    print(f"{config.name}: {report.images} images, {report.boxes} boxes: {faults}")
    findings = [asdict(finding) for finding in report.findings]
    result = {"dataset": config.name, "images": report.images, "boxes": report.boxes, "counts": dict(counts), "findings": findings}
    return int(bool(findings)), result


def _check_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help=DATA_HELP)
    most = "lines to print at most (default: %(default)s; --json has all)"
    parser.add_argument("--show", type=_whole, default=50, metavar="N", help=most)


DATA_HELP = "data set: a data YAML, a name in data/, or a folder with a data YAML or in Pascal VOC layout"

# command -> what it does, example, flags, work
COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Result]]] = {
    "fetch": ("download a data set or weights, resumed and checked", "yoloperf data fetch bccd", _fetch_flags, _fetch),
    "convert": ("write any data set in YOLO layout", "yoloperf data convert bccd --to bccd-yolo", _convert_flags, _convert),
    "join": ("write several data sets as one, for one detector", "yoloperf data join coco bccd --to coco+bccd", _join_flags, _join),
    "check": ("find what is wrong with images and labels; exit code 1 if anything is", "yoloperf data check bccd", _check_flags, _check),
    "synth": ("draw the embedded data set: synthetic blood smears", "yoloperf data synth", _synth_flags, _synth),
}


def _configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (help_, example, flags, run) in COMMANDS.items():
        command = commands.add_parser(
            name, help=help_, description=help_, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object")
        flags(command)
        command.set_defaults(command=run)


def _run(args: argparse.Namespace) -> Result:
    result: Result = args.command(args)
    return result


data = Verb("fetch, convert, join, check or draw data sets", "yoloperf data synth", _configure, _run)
