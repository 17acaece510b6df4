"""OpenVINO on a CPU, in bf16 where the processor multiplies it itself."""

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import properties
from openvino.properties import hint

from yoloperf.core.errors import UserError
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.onnx_graph import onnx_model
from yoloperf.yolo.runtimes.rounding import round_to_bf16

_TYPES = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class OpenVinoRuntime:
    name = "openvino"

    def __init__(self, model: bytes, compute: Compute, img_size: int) -> None:
        self.precision, self.img_size = compute.precision, img_size
        core = openvino.Core()
        options = {
            hint.inference_precision: _TYPES[compute.precision],
            hint.performance_mode: hint.PerformanceMode.LATENCY,
            properties.inference_num_threads: compute.threads,
        }
        self.compiled = core.compile_model(core.read_model(model), "CPU", options)
        self.request = self.compiled.create_infer_request()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        decoded: NDArray[np.float32] = self.request.infer([pixels])[0]
        return decoded


def make(network: Darknet, compute: Compute, img_size: int, precision: str) -> OpenVinoRuntime:
    """Raises UserError for a CUDA device."""
    if compute.device.type != "cpu":
        raise UserError("runtime openvino computes on the CPU: add --device cpu, or choose runtime torch")
    network = round_to_bf16(network) if compute.precision == "bf16" else network
    return OpenVinoRuntime(onnx_model(network, img_size).SerializeToString(), compute, img_size)
