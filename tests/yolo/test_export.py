import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import missing
from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.yolo.boxes import decode_heads
from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.export import export_onnx
from yoloperf.yolo.loader import to_network
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint

SIDE = 64
NAMES = ["disc", 'naïve "quoted"']


@pytest.fixture
def checkpoint() -> Checkpoint:
    for package in ("onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            missing(f"no {package}: pip install {package}")
    torch.manual_seed(0)
    cfg = with_classes(load_cfg("yolov3-tiny"), 2)
    return Checkpoint(cfg, Darknet(cfg).state_dict(), NAMES, SIDE)


def test_file_works_without_this_package(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Plain ONNX Runtime: what it takes, what it gives, what it says of itself; any batch."""
    import onnxruntime

    export_onnx(checkpoint, tmp_path / "m.onnx", SIDE)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("pixels", "tensor(uint8)", ["batch", SIDE, SIDE, 3])
    assert (found.name, found.type, found.shape) == ("predictions", "tensor(float)", ["batch", 3 * (2**2 + 4**2), 7])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["names"]) == NAMES
    assert (metadata["img_size"], metadata["digest"]) == (str(SIDE), checkpoint.digest())

    network = checkpoint.build()
    for count in (1, 2, 5):
        pixels = np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        with torch.inference_mode():
            outputs = network(to_network(torch.from_numpy(pixels), torch.device("cpu")))
            expected = decode_heads(outputs, network.heads, SIDE).numpy()
        np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("classes", [1, 2])
def test_every_layer_is_computed_as_by_the_network(checkpoint: Checkpoint, tmp_path: Path, classes: int) -> None:
    """With an only class, whose probability is 1, and the wide pooling of yolov3-spp."""
    import onnxruntime

    cfg = with_classes(load_cfg("yolov3-tiny"), classes).replace("size=2\nstride=1", "size=5\nstride=1")
    network = Darknet(cfg).eval()
    export_onnx(Checkpoint(cfg, network.state_dict(), None, SIDE), tmp_path / "m.onnx", SIDE)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    with torch.inference_mode():
        expected = decode_heads(network(to_network(torch.from_numpy(pixels), torch.device("cpu"))), network.heads, SIDE).numpy()
    found = session.run(None, {"pixels": pixels})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    assert (found[..., 5:] == 1).all() == (classes == 1)


def test_verb(checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "w.pt", checkpoint)
    assert main(["export", str(tmp_path / "w.pt"), "-o", str(tmp_path / "m.onnx"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["img_size"] == SIDE and result["names"] == NAMES and result["checked"]
    assert result["bytes"] == (tmp_path / "m.onnx").stat().st_size
    assert 0 <= result["largest_box_difference_px"] < 0.05
    assert main(["export", str(tmp_path / "w.pt"), "-o", str(tmp_path / "n.onnx"), "--img", "96", "--no-check"]) == 0
    assert "96 px, 2 classes" in capsys.readouterr().out


def test_weights_that_give_no_numbers_are_not_exported(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.state["layers.0.conv.weight"][0] = float("nan")
    with pytest.raises(UserError, match="not written"):
        export_onnx(checkpoint, tmp_path / "m.onnx", SIDE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "model.pb"], "let it end in .onnx"),
        (["-o", "model.onnx", "--img", "50"], "not a multiple of 32"),
    ],
)
def test_bad_input(flags: list[str], message: str, checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "w.pt", checkpoint)
    assert main(["export", str(tmp_path / "w.pt"), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_missing_package_is_said(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(UserError, match="export needs packages that are not installed: pip install onnx$"):
        export_onnx(checkpoint, tmp_path / "m.onnx", SIDE)


def test_digest_is_of_the_weights_not_of_the_file(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    checkpoint.training["step"] = 7
    save_checkpoint(tmp_path / "b.pt", checkpoint)
    assert load_weights(tmp_path / "a.pt").digest() == load_weights(tmp_path / "b.pt").digest() == checkpoint.digest()
    checkpoint.state["layers.0.conv.weight"][0, 0, 0, 0] += 1
    assert checkpoint.digest() != load_weights(tmp_path / "a.pt").digest()
