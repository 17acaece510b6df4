"""`yoloperf bench`: trainers side by side."""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from yoloperf.bench.ablation import ablate
from yoloperf.bench.contest import FIGURES, Contender, Outcome, contest, lines, middle, ratios, subset
from yoloperf.core.environment import SOURCE_ROOT, collect
from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.core.spec import TrialSpec
from yoloperf.core.units import show_bytes, show_seconds
from yoloperf.core.verb import Result, Verb
from yoloperf.core.yamlfile import read_yaml
from yoloperf.harness.engines import ultralytics

OURS, EQUAL, DEFAULT = "yoloperf", "ultralytics, equal threads", "ultralytics, as it comes"


def _configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train with every trainer in turn and compare speed, memory and mAP")
    train.add_argument("--model", default="yolov3-tiny", help="yolov3-tiny or yolov3 (default: yolov3-tiny)")
    train.add_argument("--batch", type=int, nargs="+", default=[8], metavar="N", help="batch sizes (default: 8)")
    train.add_argument("--data", default="bccd.yaml", help="data set YAML: a path, or a name in data/ (default: bccd.yaml)")
    train.add_argument("--images", type=int, metavar="N", help="only the first N training images, for large networks (default: all)")
    train.add_argument("--img", type=int, default=416, help="side of the network input in pixels (default: 416)")
    train.add_argument("--epochs", type=int, default=2, help="epochs; the last one is timed (default: 2)")
    train.add_argument("--rounds", type=int, default=1, help="times that everyone's turn comes (default: 1); seeds with --ablate")
    train.add_argument("--threads", type=int, help="CPU threads, but for `as it comes` (default: every core, beside ultralytics 8 at most)")
    train.add_argument("--weights", default="", help="initial weights of ours (default: from scratch, as the peers start)")
    train.add_argument(
        "--peer", action="append", default=[], metavar="NAME=COMMAND",
        help="another trainer: its command line with {data} (YAML in YOLO layout) {model} {batch} {epochs} {img} {threads} {save_dir}; "
        "OMP_NUM_THREADS is set for it; repeatable",
    )  # fmt: skip
    train.add_argument("--without-ultralytics", action="store_true", help="leave out the ultralytics package")
    train.add_argument("--ablate", action="store_true", help="instead: ours with each item of the recipe switched off in turn")
    train.add_argument("-o", "--output", type=Path, metavar="DIR", help="keep every log there, in a new folder (default: nothing is kept)")
    # behind the subcommand, too; SUPPRESS: its default must not undo a --json before it
    train.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _run(args: argparse.Namespace) -> Result:
    if args.rounds < 1:
        raise UserError(f"--rounds must be at least 1, not {args.rounds}")
    if args.ablate and (args.peer or len(args.batch) > 1):
        raise UserError("--ablate is about one batch size and no peer: give one number to --batch, and leave --peer out")
    if args.output and args.output.is_dir() and any(args.output.iterdir()):
        raise UserError(f"{args.output} is not empty: figures of another bench would be taken for new ones; choose another -o")
    beside_ultralytics = not args.ablate and not args.without_ultralytics
    threads = _threads(args.threads, ultralytics.MOST_THREADS if beside_ultralytics else None)
    contenders = [Contender(OURS, {"weights": args.weights})]
    if not args.ablate:
        contenders += _peers(args.peer)
        if beside_ultralytics:
            ultralytics.find()
            contenders += [Contender(EQUAL, {"engine": "ultralytics"}), Contender(DEFAULT, {"engine": "ultralytics", "threads": None})]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.output or Path(temporary)).resolve()
        data = subset(args.data, folder / "data", args.images)
        images = len(list((folder / "data" / "images" / "train").iterdir()))
        if max(args.batch) > images:
            raise UserError(f"--batch {max(args.batch)} is more than the {images} training images: choose a smaller batch or more --images")
        specs = [
            TrialSpec(data=str(data), cfg=args.model, img_size=args.img, batch_size=batch, epochs=args.epochs, threads=threads)
            for batch in args.batch
        ]
        facts = _facts()
        print(f"{args.model}, {args.img} px, {Path(args.data).stem}; {facts['cpu_name']}, {threads} threads, torch {facts['torch']}")
        if args.ablate:
            return _ablate(replace(specs[0], weights=args.weights), args.rounds, folder, facts)
        rows = [_measure(spec, contenders, args.rounds, folder) for spec in specs]
    print()
    print(*lines(_table(rows)), sep="\n")
    print(*_differences(rows[0], args.epochs), sep="\n")
    result = {**facts, "model": args.model, "img_size": args.img, "epochs": args.epochs, "threads": threads, "batches": rows}
    return int(any(row["failed"] for row in rows)), {**result, **{key: rows[0][key] for key in (*FIGURES, *_SUMMARY)}}


_SUMMARY = ("ratio_equal_threads", "ratio_default", "ceiling_fraction")


def _threads(given: int | None, most: int | None) -> int:
    """CPU threads of everyone. Raises UserError for more than `most`, which one of them can take."""
    cores = available_cores()
    if given is None:
        return cores if most is None else min(cores, most)
    if most is not None and given > most:
        raise UserError(f"--threads {given}: ultralytics takes {most} at most; give {most} or fewer, or --without-ultralytics")
    return given


def _peers(given: list[str]) -> list[Contender]:
    found: list[Contender] = []
    for text in given:
        name, mark, command = text.partition("=")
        if not name or not mark or not command:
            raise UserError(f"--peer {text!r}: write NAME=COMMAND, such as 'repo=python train.py --data {{data}} --batch {{batch}}'")
        if name in (OURS, EQUAL, DEFAULT, *(peer.name for peer in found)):
            raise UserError(f"--peer {text!r}: there is a trainer called {name} already; give this one another name")
        found.append(Contender(name, {}, command))
    return found


def _measure(spec: TrialSpec, contenders: list[Contender], rounds: int, folder: Path) -> dict[str, Any]:
    """Everyone's figures at one batch size: medians over the rounds; ratios round by round; the machine's ceiling before and after."""
    before = _ceiling(spec)
    results = contest(contenders, [spec] * rounds, folder, lambda name, number, outcome: _tell(spec, name, number, outcome))
    ceilings = [value for value in (before, _ceiling(spec)) if value]
    ours = middle(results[OURS], "images_per_s")
    failed = [f"{name}: {outcome.reason}" for name, outcomes in results.items() for outcome in outcomes if outcome.status != "ok"]
    return {
        "batch_size": spec.batch_size,
        **{name: {contender: middle(outcomes, name) for contender, outcomes in results.items()} for name in FIGURES},
        "ratios": {name: ratios(results, OURS, name) for name in results if name != OURS},
        "ratio_equal_threads": _median(ratios(results, OURS, EQUAL)),
        "ratio_default": _median(ratios(results, OURS, DEFAULT)),
        "ceiling_images_per_s": sum(ceilings) / len(ceilings) if ceilings else None,
        "ceiling_fraction": ours * len(ceilings) / sum(ceilings) if ours and ceilings else None,
        "threads": {name: outcomes[0].threads for name, outcomes in results.items()},
        "arithmetic": {name: outcomes[0].arithmetic for name, outcomes in results.items()},
        "flops_per_image": {name: outcomes[0].flops_per_image for name, outcomes in results.items()},
        "failed": failed,
    }


def _ceiling(spec: TrialSpec) -> float | None:
    """Images per second that the network's convolutions alone allow here, in a process of their own."""
    command = [sys.executable, "-m", "yoloperf.yolo.ceiling", "--model", spec.cfg, "--data", spec.data, "--img", str(spec.img_size)]
    command += ["--batch", str(spec.batch_size), "--threads", str(spec.threads), "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"no ceiling: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return float(json.loads(done.stdout.splitlines()[-1])[0]["ceiling_images_per_s"])


def _tell(spec: TrialSpec, name: str, number: int, outcome: Outcome) -> None:
    rate = "no rate" if outcome.images_per_s is None else f"{outcome.images_per_s:.1f} images/s"
    print(f"  batch {spec.batch_size}, round {number}: {name}: {rate}" + (f" ({outcome.reason})" if outcome.reason else ""), flush=True)


def _median(values: list[float]) -> float | None:
    return median(values) if values else None


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
    head = ["trainer", "batch", "threads", "images/s", "ours is", "wall", "max RSS", "tree peak", "mAP@0.5"]
    body = []
    for row in rows:
        for name in row["images_per_s"]:
            ratio = _median(row["ratios"].get(name, []))
            values = [row[key][name] for key in FIGURES]
            shown = ["" if value is None else show(value) for value, show in zip(values, _SHOW, strict=True)]
            threads = "" if row["threads"][name] is None else str(row["threads"][name])
            body.append([name, str(row["batch_size"]), threads, shown[0], "" if ratio is None else f"{ratio:.2f} x", *shown[1:]])
        if row["ceiling_images_per_s"]:
            fraction = "" if row["ceiling_fraction"] is None else f"at {row['ceiling_fraction']:.0%}"
            body.append(["convolutions alone", str(row["batch_size"]), "", f"{row['ceiling_images_per_s']:.1f}", fraction, *[""] * 4])
    return [head, *body]


def _differences(row: dict[str, Any], epochs: int) -> list[str]:
    """What else is not the same: arithmetic, the operations of networks that have one name, and the pictures."""
    own = row["flops_per_image"][OURS]
    said = []
    for name, flops in row["flops_per_image"].items():
        work = f"{flops / 1e9:.1f} GFLOP a training image" if flops else "operations unknown"
        against = f" ({flops / own:.2f} x ours)" if flops and own and name != OURS else ""
        said.append(f"{name}: {row['arithmetic'][name] or 'arithmetic unknown'}, {work}{against}")
    mosaic = f"mosaic in the timed epoch: {OURS} {'yes' if _timed_with_mosaic(epochs) else 'no'}"
    if EQUAL in row["flops_per_image"]:
        said.append(f"{mosaic}, ultralytics no (it closes mosaic for its last 10 epochs)")
        said.append("changed for ultralytics: nbs is the batch size: every batch is a step; no plots; no retry with half a batch")
    else:
        said.append(mosaic)
    return said


def _timed_with_mosaic(epochs: int) -> bool:
    """Whether the last epoch is one of ours with mosaic: those before the recipe's plain ones, as Trainer.run_epoch counts them."""
    recipe = read_yaml(SOURCE_ROOT / "cfg" / "hyp" / "default.yaml", "recipe")
    return bool(recipe["mosaic"] > 0 and epochs <= round(epochs * (1 - recipe["plain_epochs"])))


_SHOW = ("{:.1f}".format, show_seconds, show_bytes, show_bytes, "{:.3f}".format)


def _ablate(spec: TrialSpec, rounds: int, folder: Path, facts: dict[str, Any]) -> Result:
    failed: list[str] = []

    def tell(name: str, number: int, outcome: Outcome) -> None:
        if outcome.status != "ok":
            failed.append(f"{name}, seed {number - 1}: {outcome.reason}")
        score = "no mAP" if outcome.map50 is None else f"mAP@0.5 {outcome.map50:.3f}"
        print(f"  seed {number - 1}: {name}: {score} {outcome.reason or ''}".rstrip(), flush=True)

    found = ablate(spec, rounds, folder, tell)
    rows = [["item", "mAP@0.5 gained", "+-", "speed gained", "+-"]]
    for worth in found:
        gains = (worth.map50_gain, worth.map50_spread), (worth.speed_gain, worth.speed_spread)
        score, score_spread = ("" if value is None else f"{value:+.3f}" for value in gains[0])
        speed, speed_spread = ("" if value is None else f"{value:.2f}" for value in gains[1])
        rows.append([worth.item, score, score_spread.strip("+"), speed and f"{speed} x", speed_spread])
    print()
    print(*lines(rows), sep="\n")
    result = {**facts, "model": spec.cfg, "batch_size": spec.batch_size, "epochs": spec.epochs, "seeds": rounds}
    return int(bool(failed)), {**result, "items": [asdict(worth) for worth in found], "failed": failed}


def _facts() -> dict[str, Any]:
    found = collect()
    names = ("cpu_name", "cpu_count", "gpu_name", "torch", "git_commit")
    return {**{name: found[name] for name in names}, "python": platform.python_version(), "date": datetime.now(UTC).date().isoformat()}


bench = Verb(
    help="trainers side by side: speed, memory and mAP of yoloperf and its peers on the same images",
    example="yoloperf bench train --model yolov3-tiny --batch 4 8 16 32 --data bccd.yaml",
    configure=_configure,
    run=_run,
)
