from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.service.live import Live
from yoloperf.service.model import ServedModel
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.runtimes import make_runtime
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint


def picture(seed: int, width: int = 64, height: int = 48, suffix: str = ".jpg") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    _, data = cv2.imencode(suffix, cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST))
    return data.tobytes()


def untrained(names: list[str]) -> Checkpoint:
    """Tiny-YOLOv3 at 64 px with random weights: quick, and it finds something everywhere, with scores far apart."""
    cfg = with_classes(load_cfg("yolov3-tiny"), len(names))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Darknet(cfg)
    for layer in network.convolutions():
        if not hasattr(layer, "batch_norm"):
            layer.conv.weight.data *= 1000
            layer.conv.bias.data.zero_()  # it says that objects are rare
    return Checkpoint(cfg, network.state_dict(), names, 64)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "shapes.pt"
    save_checkpoint(path, untrained(["disc", "square"]))
    return path


@pytest.fixture(scope="session")
def make_model(weights: Path) -> Callable[..., ServedModel]:
    """A model that is quick, and the same at any size of batch: PyTorch in fp32."""

    def make(name: str = "shapes", names: tuple[str, ...] = ()) -> ServedModel:
        checkpoint = untrained(list(names)) if names else load_weights(weights)
        runtime = make_runtime(checkpoint, "torch", "cpu", "fp32", threads=1)
        torch.set_flush_denormal(False)  # of the whole process, which hypothesis minds
        return ServedModel(name, checkpoint.class_names(), checkpoint.digest(), runtime)

    return make


@pytest.fixture(scope="session")
def image_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    (root / "images").mkdir()
    (root / "images" / "x.jpg").write_bytes(picture(1))
    return root


@pytest.fixture(scope="session")
def live(make_model: Callable[..., ServedModel], image_root: Path) -> Iterator[Live]:
    """A service with two models and an image root, for tests that leave it as it was."""
    with Live([make_model(), make_model("cells", ("red", "white", "platelet"))], image_root=image_root) as service:
        yield service
