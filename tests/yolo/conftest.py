from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.labels import load_split
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.images import open_images
from yoloperf.yolo.interrupt import Interrupts
from yoloperf.yolo.optimise import Optimizer
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.trainer import Trainer
from yoloperf.yolo.world import World

WIDTH, HEIGHT = 96, 64

_CONVOLUTION = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize=3\nstride={}\npad=1\nactivation=leaky\n"
_HEAD = "[convolutional]\nfilters=21\nsize=1\n[yolo]\nclasses=2\nnew_coords={}\nmask={}\nanchors=8,8, 16,16, 24,24, 12,20, 20,12, 30,30\n"
SMALL = (  # every kind of layer, few weights
    "[net]\nchannels=3\n"
    + _CONVOLUTION.format(8, 2)
    + "[maxpool]\nsize=2\nstride=2\n"
    + _CONVOLUTION.format(16, 2)
    + _CONVOLUTION.format(16, 1)
    + "[shortcut]\nfrom=-2\n[maxpool]\nsize=2\nstride=1\n"
    + _CONVOLUTION.format(16, 2)
    + _HEAD.format(1, "3,4,5")
    + "[route]\nlayers=-3\n[upsample]\nstride=2\n[route]\nlayers=-1,4\n"
    + _HEAD.format(0, "0,1,2")
)


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a YOLO data set of dark discs (class 0) and bright squares (class 1); returns its YAML."""

    def make(train: int = 8, val: int = 4, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        folder = tmp_path / "shapes"
        for split, count in (("train", train), ("val", val)):
            for kind in ("images", "labels"):
                (folder / kind / split).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
                lines = []
                for _ in range(int(rng.integers(1, 4))):
                    side = int(rng.integers(14, 26))
                    x, y = int(rng.integers(0, WIDTH - side)), int(rng.integers(0, HEIGHT - side))
                    label = int(rng.integers(0, 2))
                    if label:
                        image[y : y + side, x : x + side] = 230
                    else:
                        cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (30, 30, 60), -1)
                    lines.append(f"{label} {(x + side / 2) / WIDTH} {(y + side / 2) / HEIGHT} {side / WIDTH} {side / HEIGHT}")
                cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
                (folder / "labels" / split / f"{number}.txt").write_text("\n".join(lines) + "\n")
        yaml = tmp_path / "shapes.yaml"
        yaml.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: [disc, square]\n")
        return yaml

    return make


@pytest.fixture
def make_trainer(make_dataset: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """A trainer of 8 pictures in batches of 3, whose steps are made as for a GPU."""
    data = make_dataset()
    config = load_data_config(str(data))
    split = load_split(config, "train")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as pool:
        images = open_images(split, "shapes-train", 64, "ram", cache_folder(config), 1)

        def make(
            name: str, precision: str = "fp32", optimizer: str = "adamw", accumulate: int = 1, names: Sequence[str] = (), cfg: str = SMALL
        ) -> Trainer:
            torch.manual_seed(0)
            network, cpu = Darknet(cfg), torch.device("cpu")
            spec = TrialSpec(data=str(data), cfg="yolov3-tiny", batch_size=3, img_size=64, epochs=9, accumulate=accumulate)
            recipe = load_recipe("default")
            recipe = type(recipe)(**(vars(recipe) | {"optimizer": optimizer}))
            compute = Compute(cpu, "bf16" if precision == "fp16" else precision, 1)
            world, rundir = World(cpu), RunDir(tmp_path / name)
            classes = list(names or config.names)
            trainer = Trainer(spec, recipe, network, classes, compute, split, images, pool, rundir, Interrupts(), world)
            trainer.optimizer = Optimizer(trainer.network, recipe, capturable=True)
            trainer.scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")  # bf16 stands in: no CPU trains in fp16
            return trainer

        yield make
    torch.set_num_threads(threads)
