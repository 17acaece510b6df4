"""Image classification by torchvision's MobileNetV2, the network of the load-balancing study."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.datasets import images
from yoloperf.workloads.workload import Computes, Unusable
from yoloperf.yolo.images import Pixels

SIDE = 224
_SHORTER = 256  # the shorter side before the middle is cut out
# ImageNet's, per channel: https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.mobilenet_v2.html
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
_LAST = "classifier.1.weight"  # [classes, 1280]


class Photos:
    """A Workload."""

    kind: ClassVar[str] = "classification"
    img_size: ClassVar[int | None] = SIDE

    def __init__(self, network: torch.nn.Module, names: list[str], digest: str, device: torch.device) -> None:
        self.network, self.names, self.digest, self.device = network.eval().to(device), names, digest, device
        self.runtime = Computes()

    @classmethod
    def load(cls, path: Path, content: Any, device: torch.device) -> "Photos":
        """content: torchvision's state dict. Class names: the lines of NAME.txt beside NAME.pth, else their numbers. Raises UserError."""
        from torchvision.models import mobilenet_v2  # here: it takes seconds to import

        classes = len(content[_LAST])
        network = mobilenet_v2(num_classes=classes)
        try:
            network.load_state_dict(content)
        except RuntimeError as error:
            raise UserError(f"{path} does not fit torchvision's mobilenet_v2 of width 1: save its state_dict() again") from error
        return cls(network, _names(path.with_suffix(".txt"), classes), _digest(network), device)

    def warm_up(self, batch: int) -> None:
        for size in (1, batch):
            self.infer([np.zeros((3, SIDE, SIDE), np.float32)] * size)

    def decode(self, data: bytes) -> Pixels:
        """RGB, turned as its EXIF says."""
        image = images.decode(data)
        if image is None:
            raise Unusable("this is no readable image")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)

    def prepare(self, decoded: Pixels) -> NDArray[np.float32]:
        """[3, 224, 224]: the middle of the picture with its shorter side at 256 pixels, as torchvision's weights expect it."""
        height, width = decoded.shape[:2]
        scale = _SHORTER / min(height, width)
        # only what will be seen is scaled: a long thin picture would grow without bound
        side = SIDE / scale
        left, top = (width - side) / 2, (height - side) / 2
        rows, columns = slice(max(0, int(top)), int(np.ceil(top + side))), slice(max(0, int(left)), int(np.ceil(left + side)))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = cv2.resize(decoded[rows, columns], (SIDE, SIDE), interpolation=way)
        return np.ascontiguousarray(((pixels.astype(np.float32) / 255 - _MEAN) / _DEVIATION).transpose(2, 0, 1))

    @torch.inference_mode()
    def infer(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        scores = self.network(torch.from_numpy(np.stack(inputs)).to(self.device))
        return scores.softmax(1).cpu().numpy()  # type: ignore[no-any-return]


def is_mobilenet(content: Any) -> bool:
    weight = content.get(_LAST)
    return "features.0.0.weight" in content and isinstance(weight, torch.Tensor) and weight.dim() == 2


def _names(path: Path, classes: int) -> list[str]:
    if not path.is_file():
        return [f"class {number}" for number in range(classes)]
    try:
        names = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} with the class names cannot be read: {error}") from error
    names = [name.strip() for name in names if name.strip()]
    if len(names) != classes:
        raise UserError(f"{path} has {len(names)} class names and the weights have {classes} classes: one line each, in their order")
    return names


def _digest(network: torch.nn.Module) -> str:
    """First 12 hex digits of the SHA-256 of the weights."""
    content = hashlib.sha256(b"mobilenet_v2")
    for name, tensor in sorted(network.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
