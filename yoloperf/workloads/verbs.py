"""The subcommand `keywords`: spoken words made or fetched, a network trained on them, and its score."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yoloperf.core.errors import UserError
from yoloperf.core.verb import Result, Verb

if TYPE_CHECKING:
    from yoloperf.workloads.workload import Score


def _configure(parser: argparse.ArgumentParser) -> None:
    parts = parser.add_subparsers(dest="action", required=True)
    add = parts.add_parser("synth", help="make the embedded data set with espeak-ng").add_argument
    add("-o", "--output", type=Path, metavar="DIR", help="default: keywords/ in the data folder")
    add("--takes", type=int, default=3, help="of a word by each speaker (default: 3)")
    add("--seed", type=int, default=0, help="default: 0")
    add = parts.add_parser("fetch", help="download Speech Commands v2 (2.3 GiB)").add_argument
    add("-o", "--output", type=Path, metavar="DIR", help="default: speech-commands/ in the data folder")
    add("--mirror", help="web address, folder or file that holds the archive")
    train = parts.add_parser("train", help="train a network; ends with its score on the test split")
    train.add_argument("-o", "--output", type=Path, default=Path("keywords.pt"), metavar="FILE", help="default: keywords.pt")
    train.add_argument("--epochs", type=int, default=12, help="default: 12")
    train.add_argument("--batch", type=int, default=64, help="clips a step (default: 64)")
    train.add_argument("--seed", type=int, default=0, help="default: 0")
    evaluate = parts.add_parser("evaluate", help="score weights on a split")
    evaluate.add_argument("--weights", type=Path, default=Path("keywords.pt"), metavar="FILE", help="default: keywords.pt")
    evaluate.add_argument("--split", default="test", help="train, val or test (default: test)")
    for part in parts.choices.values():
        part.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object")
    for part in (train, evaluate):
        part.add_argument("--data", type=Path, metavar="DIR", help="as Speech Commands is laid out (default: keywords/ in the data folder)")
        part.add_argument("--device", default="auto", help="auto, cpu or a CUDA device index")
        part.add_argument("--threads", type=int, help="CPU threads (default: every core)")


def _run(args: argparse.Namespace) -> Result:
    return {"synth": _synth, "fetch": _fetch, "train": _train, "evaluate": _evaluate}[args.action](args)


def _synth(args: argparse.Namespace) -> Result:
    from yoloperf.workloads.synth import synthesise

    _at_least_1(args, "takes")
    target = args.output or _home("keywords")
    start = time.perf_counter()
    clips = synthesise(target, args.takes, args.seed)
    wall_s = time.perf_counter() - start
    print(f"{target}: {clips} clips in {wall_s:.0f} s; the test split's voices are none of training's")
    return 0, {"folder": str(target), "clips": clips, "wall_s": wall_s}


def _fetch(args: argparse.Namespace) -> Result:
    from yoloperf.workloads.fetch import fetch

    target = args.output or _home("speech-commands")
    new = fetch(target, args.mirror)
    print(f"{target} {'fetched' if new else 'is there already'}")
    return 0, {"folder": str(target), "new": new}


def _train(args: argparse.Namespace) -> Result:
    from yoloperf.workloads.clips import read_clips
    from yoloperf.workloads.learn import Recipe, evaluate, train
    from yoloperf.yolo.device import keep_memory, prepare

    _at_least_1(args, "epochs", "batch")
    keep_memory()
    folder = args.data or _home("keywords")
    compute = prepare(args.device, "fp32", args.threads)
    start = time.perf_counter()
    clips, validation, test = (read_clips(folder, split, seed=args.seed) for split in ("train", "val", "test"))
    recipe = Recipe(args.epochs, args.batch, seed=args.seed)
    model, history = train(clips, validation, recipe, compute.device)
    wall_s = time.perf_counter() - start
    found = evaluate(model, test)
    about = {
        "recipe": asdict(recipe),
        "data": folder.name,
        "train_clips": len(clips.labels),
        "val_accuracy": history[-1]["val_accuracy"],
        "test_accuracy": found.accuracy,
    }
    model.save(args.output, about)
    validated = f"accuracy {history[-1]['val_accuracy']:.4f} on validation"
    print(f"{args.output}: trained on {len(clips.labels)} clips in {wall_s:.0f} s with {compute.threads} threads, {validated}")
    speakers = {"train_speakers": len({*clips.speakers} - {""}), "test_speakers": len({*test.speakers} - {""})}
    heard = sorted(({*clips.speakers} & {*test.speakers}) - {""})
    if heard:
        print(f"speakers of the test split that training has heard: {len(heard)}")
    return 0, {
        **_show(found, model.names),
        **about,
        **speakers,
        "shared_speakers": len(heard),
        "weights": str(args.output),
        "digest": model.digest,
        "epochs": history,
        "threads": compute.threads,
        "wall_s": wall_s,
    }


def _evaluate(args: argparse.Namespace) -> Result:
    from yoloperf.workloads.clips import read_clips
    from yoloperf.workloads.keywords import Keywords
    from yoloperf.workloads.kinds import load
    from yoloperf.workloads.learn import evaluate
    from yoloperf.yolo.weights import find_weights

    model = load(find_weights(str(args.weights)), args.device, args.threads)
    if not isinstance(model, Keywords):
        raise UserError(f"{args.weights} is for {model.kind}: give weights of `yoloperf keywords train`")
    clips = read_clips(args.data or _home("keywords"), args.split, model.names[:-2])
    return 0, {**_show(evaluate(model, clips), model.names), "split": args.split, "digest": model.digest}


def _show(found: "Score", names: list[str]) -> dict[str, Any]:
    """Print the score with its confusions; the result for --json."""
    width = max(map(len, names))
    print(f"accuracy {found.accuracy:.4f} on {found.items} clips; rows are what was said, columns what was heard:")
    print(" " * width, "recall", *(f"{name[:5]:>5}" for name in names))
    for name, row in zip(names, found.confusion, strict=True):
        share = found.per_class[name]
        print(f"{name:{width}}", "     -" if share is None else f"{share:6.3f}", *(f"{count or '.':>5}" for count in row))
    return {"classes": names, **asdict(found)}


def _home(name: str) -> Path:
    from yoloperf.datasets.folders import data_home

    return data_home() / name


def _at_least_1(args: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}")


keywords = Verb(
    help="spoken words: make or fetch a data set, train a network that knows them, score it",
    example="yoloperf keywords train -o keywords.pt",
    configure=_configure,
    run=_run,
)
