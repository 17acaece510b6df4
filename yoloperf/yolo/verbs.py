"""The detector's subcommands."""

import argparse
from concurrent.futures import ThreadPoolExecutor

import torch

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.core.verb import Result, Verb
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import SPLITS, DataConfig, load_data_config
from yoloperf.datasets.labels import load_split
from yoloperf.yolo.device import add_flags, choose_device
from yoloperf.yolo.evaluate import detect_split, score
from yoloperf.yolo.images import open_images
from yoloperf.yolo.runtimes import add_runtime_flag, make_runtime
from yoloperf.yolo.weights import Checkpoint, find_weights, load_weights


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help=".pt or .weights: a path or a known name")
    parser.add_argument("--cfg", default="", help="architecture, for .weights whose name does not say it")
    parser.add_argument("--data", required=True, help="data set YAML: a path, or a name in data/")
    parser.add_argument("--split", default="val", choices=SPLITS, help="default: val")
    parser.add_argument(
        "--img", "--img-size", "--imgsz", dest="img_size", type=int, help="side of the network input (default: that of the training)"
    )
    parser.add_argument("--batch", "--batch-size", dest="batch_size", type=int, default=8, help="images at a time (default: 8)")
    add_flags(parser)
    add_runtime_flag(parser, "torch")


def _evaluate(args: argparse.Namespace) -> Result:
    config = load_data_config(args.data)
    if args.batch_size < 1:
        raise UserError(f"--batch must be at least 1, not {args.batch_size}")
    checkpoint = load_weights(find_weights(args.weights), args.cfg)
    order = _classes(checkpoint, args.weights, config)
    columns = [*range(5), *(5 + number for number in order)]
    runtime = make_runtime(checkpoint, args.runtime, args.device, args.precision, args.threads, args.img_size)
    device = choose_device(args.device)  # suppression of thousands of candidates is worth a way back to it

    def predict(pixels: torch.Tensor) -> torch.Tensor:
        predictions = torch.from_numpy(runtime(pixels.numpy())).to(device)
        return predictions if order == sorted(order) else predictions[..., columns]

    split = load_split(config, args.split)
    cores = args.threads or available_cores()
    images = open_images(split, f"{config.name}-{args.split}", runtime.img_size, "disk", cache_folder(config), cores)
    with ThreadPoolExecutor(cores) as pool:
        scores = score(split, detect_split(predict, split, images, runtime.img_size, args.batch_size, pool))
    result = {**scores.asdict(), "images": len(split.images)}
    for name, value in result.items():
        print(f"{name:10} {'-' if value is None else value if isinstance(value, int) else f'{value:.4f}'}")
    return 0, result


def _classes(checkpoint: Checkpoint, weights: str, config: DataConfig) -> list[int]:
    """Which class of the network each class of the data set is: by name where the weights say their names.

    Raises UserError where they are not the same classes.
    """
    known, asked = checkpoint.class_names(), list(config.names)
    if len(known) != len(asked):
        raise UserError(f"{weights} has {len(known)} classes, {config.name} has {len(asked)}: give weights trained on it")
    if not checkpoint.names or known == asked:
        return list(range(len(known)))
    if sorted(known) != sorted(asked):
        name, stranger = next((one, other) for one, other in zip(known, asked, strict=True) if one != other)
        raise UserError(f"{weights} was trained to find {name!r} where {config.name} has {stranger!r}: give weights trained on it")
    return [known.index(name) for name in asked]


evaluate = Verb(
    help="score weights on a split: precision, recall, mAP@0.5, mAP@0.5:0.95",
    example="yoloperf evaluate --weights yolov3-tiny.weights --data coco128.yaml --split val",
    configure=_evaluate_flags,
    run=_evaluate,
)
