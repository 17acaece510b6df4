"""ONNX Runtime: fp32 on a CPU, and on a CUDA device where its GPU build is installed."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from yoloperf.core.errors import UserError
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.onnx_graph import INPUT, OUTPUT, onnx_model


class OnnxRuntime:
    name, precision, streams = "onnxruntime", "fp32", 1

    def __init__(self, model: bytes, compute: Compute, img_size: int) -> None:
        self.img_size = img_size
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = compute.threads, 1
        self.session = onnxruntime.InferenceSession(model, options, providers=[_provider(compute)])

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        decoded: NDArray[np.float32] = self.session.run([OUTPUT], {INPUT: pixels})[0]
        return decoded


def make(network: Darknet, compute: Compute, img_size: int, precision: str, streams: int) -> OnnxRuntime:
    """Raises UserError where another precision than fp32 was asked for, or a device that this build cannot use."""
    if precision not in ("auto", "fp32"):
        raise UserError(f"runtime onnxruntime computes in fp32, not {precision}: choose runtime torch or openvino, or precision auto")
    return OnnxRuntime(onnx_model(network, img_size).SerializeToString(), compute, img_size)


def _provider(compute: Compute) -> str | tuple[str, dict[str, str]]:
    if compute.device.type == "cpu":
        return "CPUExecutionProvider"
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise UserError("this build of onnxruntime has no CUDA: pip install onnxruntime-gpu in its place, or use --device cpu")
    return "CUDAExecutionProvider", {"device_id": str(compute.device.index)}
