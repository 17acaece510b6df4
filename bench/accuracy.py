"""Accuracy at equal epochs: yoloperf by each arithmetic and the ultralytics package, the same seeds, images, size and batch.

Everyone starts from the same Darknet weights. The package has no reader for them, so its own file is written here: its convolutions
and batch norms are those of Tiny-YOLOv3 but for the detecting head, which is another and starts fresh, and it is told to keep
Darknet's activation. `ultralytics, from scratch` is the package as it comes without a download. One evaluator scores them all, each
by the weights after the last epoch, in fp32.

    YOLOPERF_ULTRALYTICS=.peer/bin/yolo python bench/accuracy.py --data bccd.yaml --weights yolov3-tiny.weights -o out/accuracy

What is there already in the output folder is not trained again.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn

from yoloperf.core.errors import exit_code
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.convert import convert
from yoloperf.datasets.labels import load_split
from yoloperf.harness.engines import ultralytics
from yoloperf.yolo.evaluate import CONFIDENCE, MAX_BOXES, NMS_IOU, score
from yoloperf.yolo.weights import find_weights, load_weights

# layer of the package's yolov3-tiny for each of Darknet's convolutions but the two of the heads
_LAYERS = (0, 2, 4, 6, 8, 10, 13, 14, 15, 16, 19)


def peer_weights(weights: str, path: Path) -> Path:
    """Write a checkpoint that the package can start from: a module whose tensors have its names."""
    convolutions = [layer for layer in load_weights(find_weights(weights)).build().convolutions() if hasattr(layer, "batch_norm")]
    layers = nn.Sequential(*(nn.Identity() for _ in range(_LAYERS[-1] + 1)))
    for place, layer in zip(_LAYERS, convolutions, strict=True):
        layers[place] = nn.Sequential()
        layers[place].conv, layers[place].bn = layer.conv, layer.batch_norm
    model = nn.Module()
    model.model, model.task = layers, "detect"
    torch.save({"model": model, "epoch": -1}, path)
    return path


def architecture(path: Path) -> Path:
    """The package's own description of its Tiny-YOLOv3, with Darknet's activation."""
    script = "import ultralytics, pathlib; print(pathlib.Path(ultralytics.__file__).parent / 'cfg/models/v3/yolov3-tiny.yaml')"
    python = Path(ultralytics.find()).with_name("python")
    found = subprocess.run([python, "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")[-2]
    described = yaml.safe_load(Path(found).read_text()) | {"activation": "torch.nn.LeakyReLU(0.1)"}
    path.write_text(yaml.safe_dump(described))
    return path


def ours(precision: str) -> Callable[[argparse.Namespace, Path, Path, int], dict[str, float | None]]:
    def train(args: argparse.Namespace, data: Path, folder: Path, seed: int) -> dict[str, float | None]:
        given = {
            "--data": data, "--weights": args.weights, "--batch": args.batch, "--epochs": args.epochs,
            "--img": args.img, "--seed": seed, "--precision": precision, "--save-dir": folder,
            **({"--threads": args.threads} if args.threads else {}),
        }  # fmt: skip
        _call([sys.executable, "train.py", *(str(word) for pair in given.items() for word in pair), "--resume"], folder)
        last = folder / "weights" / "last.pt"
        command = ["-m", "yoloperf", "evaluate", "--weights", last, "--data", data, "--split", "test", "--img", args.img]
        command += ["--precision", "fp32", "--json"]
        done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, float | None] = json.loads(done.stdout)
        return found

    return train


def peer(started: bool) -> Callable[[argparse.Namespace, Path, Path, int], dict[str, float | None]]:
    """started: from the Darknet weights."""

    def train(args: argparse.Namespace, data: Path, folder: Path, seed: int) -> dict[str, float | None]:
        folder.mkdir(parents=True, exist_ok=True)
        start: dict[str, object] = {"model": "yolov3-tiny.yaml"}
        if started:
            start = {"model": architecture(folder / "yolov3-tiny.yaml"), "pretrained": peer_weights(args.weights, folder / "start.pt")}
        common = {"data": data, "imgsz": args.img, "batch": args.batch, "project": folder.parent, "plots": False, "exist_ok": True}
        training = {"epochs": args.epochs, "nbs": args.batch, "seed": seed, "val": False, "name": folder.name}
        _yolo("train", args, folder, {**start, **common, **training})
        wanted = {"split": "test", "save_json": True, "conf": CONFIDENCE, "iou": NMS_IOU, "max_det": MAX_BOXES, "rect": False}
        _yolo("val", args, folder, {"model": folder / "weights" / "last.pt", **common, **wanted, "name": f"{folder.name}/test"})
        split = load_split(load_data_config(str(data)), "test")
        found = json.loads((folder / "test" / "predictions.json").read_text())
        boxes: dict[str, list[list[float]]] = {}
        for each in found:
            x, y, width, height = each["bbox"]
            row = [x, y, x + width, y + height, each["score"], each["category_id"] - 1]
            boxes.setdefault(each["file_name"], []).append(row)
        in_order = (np.array(boxes.get(path.name, np.zeros((0, 6))), np.float32) for path in split.images)
        return score(split, in_order).asdict()

    return train


TRAINERS = {
    "yoloperf, auto": ours("auto"),
    "yoloperf, fp32": ours("fp32"),
    "ultralytics": peer(started=True),
    "ultralytics, from scratch": peer(started=False),
}


def _yolo(what: str, args: argparse.Namespace, folder: Path, given: dict[str, object]) -> None:
    environment = ultralytics.environment(TrialSpec(data=args.data, threads=args.threads))
    _call([ultralytics.find(), "detect", what, *(f"{name}={value}" for name, value in given.items())], folder, environment)


def _call(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "console.txt").open("ab") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True, env=environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bccd.yaml")
    parser.add_argument("--weights", default="yolov3-tiny.weights")
    parser.add_argument("--only", nargs="+", choices=list(TRAINERS), default=list(TRAINERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--img", type=int, default=416)
    parser.add_argument("--threads", type=int, help="of everyone (default: as each comes, ultralytics with one fewer than there are cores)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    output = args.output.resolve()
    config = load_data_config(args.data)
    if not (output / "data").exists():
        convert(config, output / "data")
    data = output / "data" / f"{config.name}.yaml"
    results: dict[str, list[float]] = {}
    for seed in args.seeds:
        for name in args.only:
            folder = output / f"{name.replace(', ', '-').replace(' ', '-')}-s{seed}"
            kept = folder / "test.json"
            if not kept.exists():
                kept.write_text(json.dumps(TRAINERS[name](args, data, folder, seed)))
            scores = json.loads(kept.read_text())
            results.setdefault(name, []).append(scores["map50"])
            print(f"seed {seed} {name:26} mAP@0.5 {scores['map50']:.4f}, mAP@0.5:0.95 {scores['map50_95']:.4f}", flush=True)
    for name, values in results.items():
        spread = f", standard deviation {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        print(f"{name:26} mAP@0.5 {statistics.fmean(values):.4f} of {len(values)} seeds{spread}")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code("bench/accuracy.py", main))
