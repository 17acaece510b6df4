import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import missing
from yoloperf.core.errors import UserError
from yoloperf.yolo.boxes import decode_heads
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.inference import Detector
from yoloperf.yolo.loader import to_network
from yoloperf.yolo.runtimes import PACKAGES, Runtime, make_runtime
from yoloperf.yolo.runtimes.rounding import carried
from yoloperf.yolo.weights import Checkpoint, load_weights

SIDE = 64
ALL = list(PACKAGES)


def _runtime(checkpoint: Checkpoint, name: str, precision: str = "fp32", img_size: int | None = None) -> Runtime:
    for package in PACKAGES[name]:
        if importlib.util.find_spec(package) is None:
            missing(f"no {package}: pip install {package}")
    return make_runtime(checkpoint, name, "cpu", precision, 1, img_size)


def _checkpoint(cfg: str, classes: int) -> Checkpoint:
    """Random weights, with batch norms that matter and outputs of the size that trained ones give."""
    torch.manual_seed(0)
    text = with_classes(load_cfg(cfg), classes)
    network = Darknet(text)
    for layer in network.convolutions():
        torch.nn.init.kaiming_normal_(layer.conv.weight, 0.1)
        if hasattr(layer, "batch_norm"):
            layer.batch_norm.running_mean.normal_(0, 0.2)
            layer.batch_norm.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(layer.batch_norm.weight, 0.5, 1.0)
            torch.nn.init.normal_(layer.batch_norm.bias, 0, 0.2)
    for head in network.head_convolutions():
        torch.nn.init.normal_(head.weight, 0, 0.5 / head.in_channels**0.5)
        torch.nn.init.normal_(head.bias)
    return Checkpoint(text, network.state_dict(), None, SIDE)


def _pixels(count: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


@torch.inference_mode()
def _reference(checkpoint: Checkpoint, pixels: np.ndarray) -> np.ndarray:
    """The network as it is trained: batch norms unfused, fp32."""
    network = checkpoint.build()
    outputs = network(to_network(torch.from_numpy(pixels), torch.device("cpu")))
    return decode_heads(outputs, network.heads, pixels.shape[1]).numpy()


# 80 classes keep Darknet's decoding, others get new_coords; the large network has shortcuts and three heads
@pytest.mark.parametrize(
    ("name", "cfg", "classes"),
    [*((name, "yolov3-tiny", classes) for name in ALL for classes in (80, 2)), ("onnxruntime", "yolov3", 80)],
)
def test_gives_what_the_network_gives(name: str, cfg: str, classes: int) -> None:
    checkpoint = _checkpoint(cfg, classes)
    runtime = _runtime(checkpoint, name)
    assert (runtime.name, runtime.precision, runtime.img_size) == (name, "fp32", SIDE)
    for count in (1, 3, 2):
        expected = _reference(checkpoint, _pixels(count))
        found = runtime(_pixels(count))
        assert found.dtype == np.float32 and found.shape == expected.shape
        np.testing.assert_allclose(found[..., :4], expected[..., :4], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found[..., 4:], expected[..., 4:], rtol=1e-4, atol=1e-5)
    assert expected[..., 4:].std() > 0.1, "scores that are all alike compare nothing"


@pytest.mark.parametrize("name", ALL)
def test_predictions_belong_to_the_caller(name: str) -> None:
    runtime = _runtime(_checkpoint("yolov3-tiny", 2), name)
    first = runtime(_pixels(2))
    kept = first.copy()
    runtime(_pixels(2)[::-1].copy())
    assert np.array_equal(first, kept) and first.flags.writeable


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bf16_is_near_fp32(name: str) -> None:
    checkpoint = _checkpoint("yolov3-tiny", 2)
    exact, runtime = _reference(checkpoint, _pixels(4)), _runtime(checkpoint, name, "bf16")
    found = runtime(_pixels(4))
    assert runtime.precision == "bf16" and found.dtype == np.float32
    off = np.abs(found - exact)[..., 4:].max()
    assert 1e-6 < off < 0.05, "zero would mean that it is no bf16"


def test_another_image_size_than_that_of_the_training() -> None:
    checkpoint = _checkpoint("yolov3-tiny", 2)
    assert _runtime(checkpoint, "torch", img_size=96)(_pixels(1, 96)).shape == (1, 3 * (3**2 + 6**2), 7)
    with pytest.raises(UserError, match="not a multiple of 32"):
        make_runtime(checkpoint, img_size=50)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 7]), st.floats(1e-4, 1e2))
def test_rounding_keeps_the_sum_of_a_kernel(seed: int, side: int, scale: float) -> None:
    weight = torch.randn(5, 4, side, side, generator=torch.Generator().manual_seed(seed)) * scale
    rounded = carried(weight)
    assert torch.equal(rounded, rounded.bfloat16().float()), "bf16 does not hold it"
    # half the distance of two bf16 numbers near the largest weight, twice: its own rounding, and what was carried to it
    assert ((rounded - weight).abs().flatten(2) <= 2 * 2**-8 * weight.abs().flatten(2).amax(2, keepdim=True)).all()
    lost = (rounded.flatten(2).sum(2) - weight.flatten(2).sum(2)).abs()
    if side > 1:
        alone = (weight.bfloat16().float().flatten(2).sum(2) - weight.flatten(2).sum(2)).abs()
        assert lost.mean() < 0.5 * alone.mean()
    else:
        assert torch.equal(rounded, weight.bfloat16().float())


def _without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in packages else find(name))


def test_what_is_not_installed_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _without(monkeypatch, "onnx", "openvino")
    checkpoint = _checkpoint("yolov3-tiny", 2)
    with pytest.raises(UserError, match="runtime openvino needs packages that are not installed: pip install onnx openvino$"):
        make_runtime(checkpoint, "openvino", "cpu")
    assert make_runtime(checkpoint, "auto", "cpu", threads=1).name == "torch"


def test_auto_takes_what_was_measured_to_be_fastest() -> None:
    checkpoint = _checkpoint("yolov3-tiny", 2)
    _runtime(checkpoint, "openvino")
    assert make_runtime(checkpoint, "auto", "cpu", threads=1).name == "openvino"


_FIRST_USE = """
import numpy
from tests.yolo.test_runtimes import SIDE, _checkpoint, _pixels, _runtime
runtime = _runtime(_checkpoint("yolov3-tiny", 3), "openvino")
numpy.lib.NumpyVersion = None
runtime(_pixels(1))
"""


def test_openvino_is_set_up_before_threads_share_it() -> None:
    """Its bindings ask numpy's version at the first use of an array: two threads there at once would wait for each other for ever."""
    _runtime(_checkpoint("yolov3-tiny", 3), "openvino")  # is it installed
    done = subprocess.run([sys.executable, "-c", _FIRST_USE], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_openvinos_threads_go_where_there_is_room() -> None:
    """Pinned ones are those of every replica of a machine, on the same cores."""
    runtime = _runtime(_checkpoint("yolov3-tiny", 2), "openvino")
    assert vars(runtime)["compiled"].get_property("ENABLE_CPU_PINNING") is False


def test_impossible_choices_are_refused() -> None:
    checkpoint = _checkpoint("yolov3-tiny", 2)
    with pytest.raises(UserError, match="unknown runtime 'onnx': choose from auto, onnxruntime, openvino, torch"):
        make_runtime(checkpoint, "onnx")
    with pytest.raises(UserError, match="onnxruntime computes in fp32, not bf16"):
        _runtime(checkpoint, "onnxruntime", "bf16")
    cuda = Compute(torch.device("cuda", 0), "fp16", 1)
    from yoloperf.yolo.runtimes import openvino

    with pytest.raises(UserError, match="add --device cpu"):
        openvino.make(checkpoint.build(), cuda, SIDE, "auto", 1)


def test_runtimes_find_the_same_boxes(real_data: Path, official_weights: Path) -> None:
    """On photographs; bf16 may lose or win a box whose score is near the threshold."""
    paths = sorted((real_data / "coco128" / "images" / "val2017").glob("*.jpg"))[:10]
    checkpoint = load_weights(official_weights)
    found = {}
    for name, precision in (("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("torch", "bf16"), ("openvino", "bf16")):
        detector = Detector(_runtime(checkpoint, name, precision), checkpoint.class_names())
        found[name, precision] = [detection for seen in detector.detect(paths) for detection in seen.detections]
    exact = found["torch", "fp32"]
    assert len(exact) > 20
    for name in ("onnxruntime", "openvino"):
        own = found[name, "fp32"]
        assert [each.label for each in own] == [each.label for each in exact]
        for one, other in zip(own, exact, strict=True):
            np.testing.assert_allclose((one.x1, one.y1, one.x2, one.y2), (other.x1, other.y1, other.x2, other.y2), atol=0.01)
            assert one.score == pytest.approx(other.score, abs=1e-4)
    for name in ("torch", "openvino"):
        sure = [each for each in exact if each.score > 0.35]
        own = found[name, "bf16"]
        for each in sure:
            near = [o for o in own if o.label == each.label and abs(o.x1 - each.x1) < 4 and abs(o.y2 - each.y2) < 4]
            assert near and min(abs(o.score - each.score) for o in near) < 0.05, each
