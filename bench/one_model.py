"""One model of the classes of several data sets against a model for each: quality on every set, memory, latency.

Whoever does not know what is on a picture has to ask every one of several models, so their latencies add up; the joined model is
asked once. Classes that a data set does not label count nowhere in its mAP; how often the joined model sees them is shown apart.

    yoloperf data join coco128 bccd --to joined
    python train.py --data joined/joined.yaml --weights yolov3-tiny.weights --epochs 50 --save-dir logs/joined
    python bench/one_model.py --joined logs/joined/weights/best.pt --apart coco128=yolov3-tiny.weights --apart bccd=best.pt
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from yoloperf.core.errors import UserError, exit_code
from yoloperf.core.limits import available_cores
from yoloperf.core.units import show_bytes
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import load_split
from yoloperf.yolo.evaluate import detect_split, score
from yoloperf.yolo.images import open_images
from yoloperf.yolo.runtimes import make_runtime
from yoloperf.yolo.weights import find_weights, load_weights

_SEEN = 0.25  # confidence at which a box is shown
_ROUNDS = 50


@dataclass(frozen=True)
class Quality:
    """strangers: boxes an image of classes that the data set does not have, at the confidence at which boxes are shown."""

    map50: float | None
    map50_95: float | None
    strangers: float


def quality(weights: str, data: str, split_name: str, args: argparse.Namespace) -> Quality:
    """Of a model on a data set, its classes matched by name. Raises UserError where the model lacks one of them."""
    checkpoint = load_weights(find_weights(weights))
    config, names = load_data_config(data), checkpoint.class_names()
    missing = [name for name in config.names if name not in names]
    if missing:
        raise UserError(f"{weights} does not know {', '.join(missing[:5])} of {data}: give a model that was trained on it")
    number = np.array([config.names.index(name) if name in config.names else -1 for name in names])
    runtime = make_runtime(checkpoint, args.runtime, args.device, args.precision, args.threads, args.img)
    split = load_split(config, split_name)
    cores = args.threads or available_cores()
    images = open_images(split, f"{config.name}-{split_name}", args.img, "disk", cache_folder(config), cores)
    strangers = 0

    def own(found: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        nonlocal strangers
        for boxes in found:
            labels = number[boxes[:, 5].astype(int)]
            strangers += int(((labels < 0) & (boxes[:, 4] >= _SEEN)).sum())
            kept = boxes[labels >= 0].copy()
            kept[:, 5] = labels[labels >= 0]
            yield kept

    with ThreadPoolExecutor(cores) as pool:
        predict = lambda pixels: torch.from_numpy(runtime(pixels.numpy()))  # noqa: E731
        scores = score(split, own(detect_split(predict, split, images, args.img, 8, pool)))
    return Quality(scores.map50, scores.map50_95, strangers / len(split.images))


def measured(weights: list[str], args: argparse.Namespace) -> dict[str, float]:
    """Memory and latency of models in one process that has no others: bytes of its own, and seconds until all have seen a picture."""
    flags = ["--runtime", args.runtime, "--device", args.device, "--precision", args.precision, "--img", str(args.img)]
    threads = ["--threads", str(args.threads)] if args.threads else []
    command = [sys.executable, __file__, *flags, *threads, *(word for each in weights for word in ("--measure", each))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(args: argparse.Namespace) -> None:
    """In the process of its own: memory above that of a process which has only imported what is needed."""
    process = psutil.Process()
    before = process.memory_full_info().uss
    checkpoints = [load_weights(find_weights(each)) for each in args.measure]
    runtimes = [make_runtime(each, args.runtime, args.device, args.precision, args.threads, args.img) for each in checkpoints]
    del checkpoints
    picture = np.random.default_rng(0).integers(0, 255, (1, args.img, args.img, 3), np.uint8)
    times = []
    for _ in range(_ROUNDS + 5):
        start = time.perf_counter()
        for runtime in runtimes:
            runtime(picture)
        times.append(time.perf_counter() - start)
    memory = process.memory_full_info().uss - before
    device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    print(json.dumps({"latency_s": statistics.median(times[5:]), "memory_bytes": memory, "gpu_bytes": device, "runtime": runtimes[0].name}))


def compare(args: argparse.Namespace) -> int:
    apart = dict(each.split("=", 1) for each in args.apart)
    rows = []
    for name, weights in apart.items():
        rows.append((name, "its own", quality(weights, name, args.split, args)))
        rows.append((name, "joined", quality(args.joined, name, args.split, args)))
    costs = {"one joined model": measured([args.joined], args), "a model each": measured(list(apart.values()), args)}
    runtime = costs["one joined model"]["runtime"]
    print(f"{platform.node()}, {available_cores()} cores, {date.today()}; {runtime}, {args.img} px, split {args.split}\n")
    print(f"{'data set':12} {'model':8} {'mAP@0.5':>8} {'mAP@0.5:0.95':>13} {'strangers an image':>19}")
    for name, model, found in rows:
        scores = ["-" if value is None else f"{value:.4f}" for value in (found.map50, found.map50_95)]
        print(f"{name:12} {model:8} {scores[0]:>8} {scores[1]:>13} {found.strangers:>19.2f}")
    print(f"\n{'':18} {'memory':>10} {'a picture':>10}")
    for name, cost in costs.items():
        gpu = f"  GPU {show_bytes(int(cost['gpu_bytes']))}" if cost["gpu_bytes"] else ""
        print(f"{name:18} {show_bytes(int(cost['memory_bytes'])):>10} {1000 * cost['latency_s']:>7.1f} ms{gpu}")
    print(json.dumps({"quality": [[name, model, vars(found)] for name, model, found in rows], "cost": costs}))
    return 0


def main() -> int:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--joined", help="weights of the model of all classes")
    flags.add_argument("--apart", action="append", default=[], metavar="DATA=WEIGHTS", help="a data set and the model that knows it alone")
    flags.add_argument("--split", default="val", help="default: val")
    flags.add_argument("--img", type=int, default=416, help="default: 416")
    flags.add_argument("--runtime", default="auto")
    flags.add_argument("--device", default="auto")
    flags.add_argument("--precision", default="auto")
    flags.add_argument("--threads", type=int)
    flags.add_argument("--measure", action="append", default=[], metavar="WEIGHTS", help=argparse.SUPPRESS)
    args = flags.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if args.measure:
        measure(args)
        return 0
    if not args.joined or len(args.apart) < 2 or not all("=" in each for each in args.apart):
        raise UserError("give --joined WEIGHTS and --apart DATA=WEIGHTS for each of two or more data sets")
    return compare(args)


if __name__ == "__main__":
    raise SystemExit(exit_code("one_model.py", main))
