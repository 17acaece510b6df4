"""The detector's subcommands."""

import argparse
from concurrent.futures import ThreadPoolExecutor

import torch

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores
from yoloperf.core.spec import check_img_size
from yoloperf.core.verb import Result, Verb
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import SPLITS, load_data_config
from yoloperf.datasets.labels import load_split
from yoloperf.yolo.device import add_flags, prepare
from yoloperf.yolo.evaluate import evaluate as evaluate_network
from yoloperf.yolo.images import open_images
from yoloperf.yolo.weights import find_weights, load_weights


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help=".pt or .weights: a path or a known name")
    parser.add_argument("--cfg", default="", help="architecture, for .weights whose name does not say it")
    parser.add_argument("--data", required=True, help="data set YAML: a path, or a name in data/")
    parser.add_argument("--split", default="val", choices=SPLITS, help="default: val")
    parser.add_argument(
        "--img", "--img-size", "--imgsz", dest="img_size", type=int, default=416, help="side of the network input (default: 416)"
    )
    parser.add_argument("--batch", "--batch-size", dest="batch_size", type=int, default=8, help="images at a time (default: 8)")
    add_flags(parser)


def _evaluate(args: argparse.Namespace) -> Result:
    check_img_size(args.img_size)
    compute = prepare(args.device, args.precision, args.threads)
    config = load_data_config(args.data)
    network = load_weights(find_weights(args.weights), args.cfg).build()
    if network.classes != len(config.names):
        raise UserError(f"{args.weights} has {network.classes} classes, {args.data} has {len(config.names)}: give weights trained on it")
    split = load_split(config, args.split)
    cores = args.threads or available_cores()
    images = open_images(split, args.img_size, "disk", cache_folder(config), cores)
    network = network.fuse().to(compute.device).to(memory_format=torch.channels_last)
    with ThreadPoolExecutor(cores) as pool:
        scores = evaluate_network(network, split, images, args.img_size, args.batch_size, compute, pool)
    result = {**scores.asdict(), "images": len(split.images)}
    for name, value in result.items():
        print(f"{name:10} {'-' if value is None else value if isinstance(value, int) else f'{value:.4f}'}")
    return 0, result


evaluate = Verb(
    help="score weights on a split: precision, recall, mAP@0.5, mAP@0.5:0.95",
    example="yoloperf evaluate --weights yolov3-tiny.weights --data coco128.yaml --split val",
    configure=_evaluate_flags,
    run=_evaluate,
)
