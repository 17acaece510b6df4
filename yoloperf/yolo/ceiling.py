"""How near a training step comes to the machine's convolution ceiling.

The ceiling is what the network's own convolutions, forward and both gradients, take when nothing else runs: same shapes, same
precision and memory order, each alone in a loop. It is measured in turn with real training steps (pictures from the data set,
augmentation, loss, optimiser, averaged weights), so that a machine whose speed drifts does not change the ratio.

    python -m yoloperf.yolo.ceiling --model yolov3-tiny --batch 4 8 16 32 --data bccd.yaml
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import torch
from torch import Tensor

from yoloperf.core.errors import UserError, exit_code
from yoloperf.core.limits import available_cores
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import PRECISIONS, TrialSpec
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import load_split
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute, prepare
from yoloperf.yolo.images import open_images
from yoloperf.yolo.interrupt import Interrupts
from yoloperf.yolo.loader import Batch
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.trainer import Trainer
from yoloperf.yolo.world import World

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def convolutions(network: Darknet, batch_size: int, img_size: int, compute: Compute) -> Callable[[], None]:
    """A function that runs every convolution of a training step once, forward and backward, and nothing else."""
    shapes: list[tuple[torch.nn.Conv2d, torch.Size]] = []

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, torch.nn.Conv2d)
        shapes.append((module, inputs[0].shape))

    handles = [layer.conv.register_forward_hook(note) for layer in network.convolutions()]
    with torch.no_grad():
        network(torch.zeros(1, 3, img_size, img_size, device=compute.device))
    for handle in handles:
        handle.remove()

    dtype = _DTYPES[compute.precision]
    jobs = []
    for number, (conv, (_, *shape)) in enumerate(shapes):
        x = torch.randn(batch_size, *shape, device=compute.device, dtype=dtype).to(memory_format=torch.channels_last)
        x.requires_grad_(number > 0)
        weight = conv.weight.detach().to(compute.device, dtype, memory_format=torch.channels_last).requires_grad_()
        jobs.append((x, weight, conv.stride, conv.padding))

    def run() -> None:
        for x, weight, stride, padding in jobs:
            out = torch.nn.functional.conv2d(x, weight, None, stride, padding)
            torch.autograd.grad(out, [x, weight] if x.requires_grad else [weight], torch.ones_like(out))
        compute.synchronise()

    return run


def batches(trainer: Trainer) -> Iterator[Batch]:
    """Full training batches without end."""
    epoch = 0
    while True:
        epoch += 1
        for batch in trainer.batches.epoch(epoch, mosaic=True):
            if len(batch[0]) == trainer.spec.batch_size:
                yield batch


def measure(
    model: str, data: str, batch_size: int, img_size: int, precision: str, device: str, threads: int | None, rounds: int, steps: int
) -> dict[str, object]:
    """Images per second of both, in turn `rounds` times `steps` steps; the ratio is taken round by round.

    Raises UserError where the data set has no full batch.
    """
    compute = prepare(device, precision, threads)
    config = load_data_config(data)
    split = load_split(config, "train")
    if len(split.images) < batch_size:
        raise UserError(
            f"{config.name} has {len(split.images)} training images, fewer than a batch of {batch_size}: choose a smaller --batch"
        )
    network = Darknet(with_classes(load_cfg(model), len(config.names))).to(compute.device)
    spec = TrialSpec(data=data, cfg=model, batch_size=batch_size, img_size=img_size)
    cores = available_cores()
    with ThreadPoolExecutor(cores) as pool, tempfile.TemporaryDirectory() as folder:
        images = open_images(split, f"{config.name}-train", img_size, "disk", cache_folder(config), cores)
        ceiling_pass = convolutions(network, batch_size, img_size, compute)
        recipe, rundir, world = load_recipe("default"), RunDir(folder), World(compute.device)
        trainer = Trainer(spec, recipe, network, list(config.names), compute, split, images, pool, rundir, Interrupts(), world)
        source = batches(trainer)

        def train_pass() -> None:
            trainer.train_step(next(source))
            compute.synchronise()

        for warm in (ceiling_pass, train_pass):
            for _ in range(3):
                warm()
        rates = [(_rate(ceiling_pass, steps, batch_size), _rate(train_pass, steps, batch_size)) for _ in range(rounds)]
    flops = network.training_flops(img_size)
    ceiling, training = median(first for first, _ in rates), median(second for _, second in rates)
    fractions = sorted(second / first for first, second in rates)
    return {
        "model": model,
        "batch_size": batch_size,
        "precision": compute.precision,
        "threads": compute.threads,
        "ceiling_images_per_s": ceiling,
        "ceiling_gflop_per_s": ceiling * flops / 1e9,
        "images_per_s": training,
        "ceiling_fraction": median(fractions),
        "ceiling_fraction_min": fractions[0],
        "ceiling_fraction_max": fractions[-1],
        "torch": torch.__version__,
    }


def _rate(action: Callable[[], None], steps: int, batch_size: int) -> float:
    """Images per second, from the median step."""
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return batch_size / median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov3-tiny", help="a cfg: path or name")
    parser.add_argument("--data", default="smear.yaml")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--img", type=int, default=416)
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads (default: every core)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="steps a round of each (default: 6)")
    args = parser.parse_args()
    print(f"{'model':12} {'batch':>5} {'arithmetic':>10} {'ceiling':>22} {'training':>14} {'fraction of the ceiling':>26}")
    results = []
    for batch_size in args.batch:
        row = measure(args.model, args.data, batch_size, args.img, args.precision, args.device, args.threads, args.rounds, args.steps)
        results.append(row)
        print(
            f"{row['model']:12} {batch_size:5d} {row['precision']:>10} "
            f"{row['ceiling_images_per_s']:7.1f}/s {row['ceiling_gflop_per_s']:5.0f} GFLOP/s {row['images_per_s']:11.1f}/s "
            f"{row['ceiling_fraction']:11.0%} ({row['ceiling_fraction_min']:.0%}-{row['ceiling_fraction_max']:.0%})",
            flush=True,
        )
    print(json.dumps(results))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_code("ceiling", main))
