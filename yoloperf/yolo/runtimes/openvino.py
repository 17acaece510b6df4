"""OpenVINO on a CPU, in bf16 where the processor multiplies it itself."""

import threading

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

    def __init__(self, model: bytes, compute: Compute, img_size: int, streams: int = 1) -> None:
        self.precision, self.img_size, self.streams = compute.precision, img_size, min(streams, compute.threads)
        core = openvino.Core()
        options = {
            hint.inference_precision: _TYPES[compute.precision],
            properties.streams.num: self.streams,
            properties.inference_num_threads: compute.threads,
            hint.enable_cpu_pinning: False,  # else the replicas of a machine pin themselves to the same first cores
        }
        self.compiled = core.compile_model(core.read_model(model), "CPU", options)
        self.own = threading.local()
        # The first access to a tensor's array sets the bindings up, and hangs for ever where two threads come to it together.
        _ = openvino.Tensor(openvino.Type.u8, [1]).data

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not hasattr(self.own, "request"):  # a request belongs to one thread
            self.own.request = self.compiled.create_infer_request()
        decoded: NDArray[np.float32] = self.own.request.infer([pixels])[0]
        return decoded


def make(network: Darknet, compute: Compute, img_size: int, precision: str, streams: int) -> OpenVinoRuntime:
    """Raises UserError for a CUDA device."""
    if compute.device.type != "cpu":
        raise UserError("runtime openvino computes on the CPU: add --device cpu, or choose runtime torch")
    network = round_to_bf16(network) if compute.precision == "bf16" else network
    return OpenVinoRuntime(onnx_model(network, img_size).SerializeToString(), compute, img_size, streams)
