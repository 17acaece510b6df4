"""PyTorch, eager: batch norms folded in, channels_last, weights kept in the precision that is computed in."""

import numpy as np
import torch
from numpy.typing import NDArray

from yoloperf.yolo.boxes import decode_heads
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.loader import to_network
from yoloperf.yolo.runtimes.rounding import round_to_bf16

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchRuntime:
    name = "torch"
    streams = 1

    def __init__(self, network: Darknet, compute: Compute, img_size: int) -> None:
        self.precision, self.img_size, self.device = compute.precision, img_size, compute.device
        # autocast would convert the weights anew at every call
        self.dtype = _DTYPES[compute.precision]
        network = round_to_bf16(network) if compute.precision == "bf16" else network
        self.network = network.to(compute.device, self.dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = self.network(to_network(torch.from_numpy(pixels), self.device).to(self.dtype))
        decoded: NDArray[np.float32] = decode_heads(outputs, self.network.heads, self.img_size).cpu().numpy()
        return decoded


def make(network: Darknet, compute: Compute, img_size: int, precision: str, streams: int) -> TorchRuntime:
    """precision is what was asked for; `compute` knows what it means on the device."""
    return TorchRuntime(network, compute, img_size)
