"""A network as an ONNX model, written operator by operator.

A Darknet network has a dozen kinds of operator, so the graph is written from the network and not traced: it is the same with
every version of PyTorch and takes a quarter of a second. Nothing is left to whoever runs it: the division by 255 and the decoding
of boxes are in the graph.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from yoloperf import __version__
from yoloperf.yolo.darknet import LEAKY_SLOPE, Convolution, Darknet, Head, MaxPool

# Opset 13 and its file format of 2020: nothing here has changed its meaning since, and older readers take it too.
OPSET, IR_VERSION = 13, 7
INPUT, OUTPUT = "pixels", "predictions"


def onnx_model(network: Darknet, img_size: int, metadata: dict[str, str] | None = None) -> ModelProto:
    """Model of a fused network from `pixels`, uint8 [batch, S, S, 3] letterboxed RGB, to `predictions`, float32
    [batch, P, 5 + C] as `boxes.decode_heads` gives them, for any batch."""
    graph = _Graph()
    graph.network(network, img_size)
    body = helper.make_graph(
        graph.nodes,
        "yolov3",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", img_size, img_size, 3])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", graph.boxes, 5 + network.classes])],
        graph.constants,
    )
    versions: dict[str, Any] = {"opset_imports": [helper.make_opsetid("", OPSET)], "ir_version": IR_VERSION}
    model = helper.make_model(body, producer_name="yoloperf", producer_version=__version__, **versions)
    helper.set_model_props(model, metadata or {})
    checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants; a node has the name of its output, which begins with the section's number in the cfg."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.boxes = 0  # predictions for an image

    def node(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def numbers(self, name: str, *values: float) -> str:
        return self.constant(name, np.array(values, np.float32))

    def integers(self, name: str, *values: int) -> str:
        return self.constant(name, np.array(values, np.int64))

    def network(self, network: Darknet, img_size: int) -> None:
        with torch.inference_mode():  # the sides of the heads' grids
            grids = [head.shape[1] for head in network(torch.zeros(1, 3, img_size, img_size))]
        x = self.node("Cast", [INPUT], "input.float", to=TensorProto.FLOAT)
        x = self.node("Transpose", [x], "input.channels_first", perm=[0, 3, 1, 2])
        x = self.node("Mul", [x, self.numbers("input.scale", 1 / 255)], "input")
        outputs: list[str] = []  # of every section
        found: list[str] = []  # of every head
        for index, (kind, layer, sources) in enumerate(zip(network.kinds, network.layers, network.sources, strict=True)):
            name = f"{index}.{kind}"
            if isinstance(layer, Convolution):
                x = self.convolution(x, layer, name)
            elif isinstance(layer, MaxPool):
                pads = [layer.before] * 2 + [layer.after] * 2  # padding is minus infinity in ONNX too
                x = self.node("MaxPool", [x], name, kernel_shape=[layer.size] * 2, strides=[layer.stride] * 2, pads=pads)
            elif isinstance(layer, torch.nn.Upsample):
                scales = self.numbers(f"{name}.scales", 1, 1, float(layer.scale_factor), float(layer.scale_factor))  # type: ignore[arg-type]
                how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                x = self.node("Resize", [x, "", scales], name, **how)
            elif kind == "route":
                parts = [outputs[source] for source in sources]
                x = self.node("Concat", parts, name, axis=1) if len(parts) > 1 else parts[0]
            elif kind == "shortcut":
                x = self.node("Add", [outputs[source] for source in sources], name)
            else:
                x = self.head(x, network.heads[len(found)], grids[len(found)], img_size, name)
                found.append(x)
            outputs.append(x)
        self.node("Concat", found, OUTPUT, axis=1)

    def convolution(self, x: str, layer: Convolution, name: str) -> str:
        conv = layer.conv
        assert conv.bias is not None
        inputs = [x]
        for part, values in (("weight", conv.weight), ("bias", conv.bias)):
            inputs.append(self.constant(f"{name}.{part}", values.detach().numpy()))
        pads = [int(conv.padding[0])] * 4
        x = self.node("Conv", inputs, name, kernel_shape=list(conv.kernel_size), strides=list(conv.stride), pads=pads)
        return self.node("LeakyRelu", [x], f"{name}.leaky", alpha=LEAKY_SLOPE) if hasattr(layer, "activation") else x

    def head(self, x: str, head: Head, side: int, img_size: int, name: str) -> str:
        """Raw output [B, A * (5 + C), side, side] -> decoded boxes [B, side * side * A, 5 + C], as `boxes.decode`."""
        anchors = len(head.anchors)
        boxes = side * side * anchors
        self.boxes += boxes
        x = self.node("Transpose", [x], f"{name}.channels_last", perm=[0, 2, 3, 1])
        x = self.node("Reshape", [x, self.integers(f"{name}.shape", 0, boxes, 5 + head.classes)], f"{name}.rows")
        sizes = self.integers(f"{name}.sizes", 2, 2, 1 + head.classes)
        raw_xy, raw_wh, raw_scores = parts = [f"{name}.raw_{part}" for part in ("xy", "wh", "scores")]
        self.nodes.append(helper.make_node("Split", [x, sizes], parts, name=f"{name}.split", axis=-1))

        ys, xs = np.divmod(np.arange(side * side), side)
        stride = img_size / side
        first = -0.5 if head.new_coords else 0  # new_coords: 2 sigmoid - 0.5
        corners = self.constant(f"{name}.corners", (np.repeat(np.stack((xs, ys), 1), anchors, 0) + first).astype(np.float32) * stride)
        sides = self.constant(f"{name}.anchors", np.tile(head.anchors.numpy(), (side * side, 1)) * (4 if head.new_coords else 1))
        reach = self.numbers(f"{name}.reach", 2 * stride if head.new_coords else stride)
        xy = self.node("Mul", [self.node("Sigmoid", [raw_xy], f"{name}.xy_in_cell"), reach], f"{name}.xy_in_pixels")
        xy = self.node("Add", [xy, corners], f"{name}.xy")
        if head.new_coords:
            wh = self.node("Sigmoid", [raw_wh], f"{name}.wh_of_anchor")
            wh = self.node("Mul", [wh, wh], f"{name}.wh_squared")
        else:
            wh = self.node("Exp", [raw_wh], f"{name}.wh_of_anchor")
        wh = self.node("Mul", [wh, sides], f"{name}.wh")
        scores = self.node("Sigmoid", [raw_scores], f"{name}.scores")
        if head.classes == 1:  # objectness as it is, and 1
            scores = self.node("Max", [scores, self.numbers(f"{name}.least", 0, 1)], f"{name}.only_class")
        return self.node("Concat", [xy, wh, scores], name, axis=-1)
