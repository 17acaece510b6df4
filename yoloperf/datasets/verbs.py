"""`yoloperf data`: fetch, convert, check and draw data sets."""

import argparse
from collections.abc import Callable
from pathlib import Path

from yoloperf.core.errors import UserError
from yoloperf.core.verb import Result, Verb
from yoloperf.datasets import smear
from yoloperf.datasets.folders import data_home


def _synth(args: argparse.Namespace) -> Result:
    folder = args.to or data_home() / "smear"
    splits = dict(zip(smear.SPLITS, args.images, strict=True))
    made = smear.generate(folder, splits, tuple(args.size), args.seed)
    print(f"{folder}: {sum(args.images)} smears {'drawn' if made else 'are there already'}; train with --data smear.yaml")
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
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"a number of images or pixels must be a whole number of at least 1, not {text!r}")
    return int(text)


COMMANDS: dict[str, tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], Result]]] = {
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


data = Verb("fetch, convert, check or draw data sets", "yoloperf data synth && yoloperf data check smear", _configure, _run)
