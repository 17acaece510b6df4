import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yoloperf.core.errors import UserError
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.config import DataConfig
from yoloperf.yolo.boxes import decode
from yoloperf.yolo.cfg import CFG_FOLDER, load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.images import read_image
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.start import starting_network
from yoloperf.yolo.weights import (
    Checkpoint,
    find_weights,
    load_darknet,
    load_weights,
    save_checkpoint,
    save_darknet,
    transfer,
    transfer_heads,
)

SMALL = with_classes(load_cfg("yolov3-tiny"), 2)


def test_darknet_round_trip_is_byte_exact(tmp_path: Path) -> None:
    first, second = tmp_path / "a.weights", tmp_path / "b.weights"
    network = Darknet(SMALL)
    for layer in network.convolutions():
        if hasattr(layer, "batch_norm"):
            layer.batch_norm.running_var.uniform_(0.5, 2)
    save_darknet(first, network, images_seen=32_013_312)
    save_darknet(second, load_darknet(first, SMALL).build(), images_seen=32_013_312)
    assert first.read_bytes() == second.read_bytes()
    assert np.frombuffer(first.read_bytes(), "<i8", 1, offset=12)[0] == 32_013_312


def test_official_file_round_trips(official_weights: Path, tmp_path: Path) -> None:
    network = load_weights(official_weights).build()
    save_darknet(tmp_path / "again.weights", network, images_seen=32_013_312)
    assert (tmp_path / "again.weights").read_bytes()[20:] == official_weights.read_bytes()[20:]


def test_raw_outputs_equal_opencv(official_weights: Path) -> None:
    """OpenCV's own importer and layers, on noise: boxes and objectness to float tolerance."""
    reference = cv2.dnn.readNetFromDarknet(str(CFG_FOLDER / "yolov3-tiny.cfg"), str(official_weights))
    blob = np.random.default_rng(0).random((1, 3, 416, 416), dtype=np.float32)
    reference.setInput(blob)
    wanted = reference.forward(reference.getUnconnectedOutLayersNames())
    network = load_weights(official_weights).build()
    with torch.no_grad():
        outputs = network(torch.from_numpy(blob))
    for raw, head, rows in zip(outputs, network.heads, wanted, strict=True):
        own = decode(raw, head, 416)[0].numpy()
        np.testing.assert_allclose(own[:, :4] / 416, rows[:, :4], atol=1e-4)
        np.testing.assert_allclose(own[:, 4], rows[:, 4], atol=1e-4)


def test_truncated_file_says_both_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    save_darknet(path, Darknet(SMALL))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(UserError, match=f"expected {len(whole)} bytes, found {len(whole) - 100}"):
        load_darknet(path, SMALL)
    path.write_bytes(whole[:7])
    with pytest.raises(UserError, match="7 bytes do not hold a header"):
        load_darknet(path, SMALL)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    network = Darknet(SMALL)
    save_checkpoint(tmp_path / "a.pt", Checkpoint(SMALL, network.state_dict(), ["a", "b"], 64, {"step": 3}))
    found = load_weights(tmp_path / "a.pt")
    assert (found.names, found.img_size, found.training) == (["a", "b"], 64, {"step": 3})
    for one, other in zip(found.build().parameters(), network.parameters(), strict=True):
        assert torch.equal(one, other)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("1/0",))


@pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps(_Payload())])
def test_foreign_file_is_refused_and_never_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_weights(tmp_path / "x.pt")


def test_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(UserError, match="not written by train.py"):
        load_weights(tmp_path / "x.pt")


def test_transfer_keeps_all_but_the_heads() -> None:
    torch.manual_seed(0)
    source, target = Darknet(load_cfg("yolov3-tiny")), Darknet(with_classes(load_cfg("yolov3-tiny"), 3))
    assert transfer(source.state_dict(), target) == (66, 70)  # two heads of weight and bias start afresh
    assert torch.equal(source.convolutions()[0].conv.weight, target.convolutions()[0].conv.weight)


@torch.inference_mode()
def test_heads_of_a_joined_data_set_predict_the_known_classes_as_before() -> None:
    torch.manual_seed(0)
    old = Darknet(SMALL)
    checkpoint = Checkpoint(SMALL, old.state_dict(), ["a", "b"])
    names = ["b", "new", "a"]
    joined = Darknet(with_classes(SMALL, 3, keep_decoding=True))
    transfer(checkpoint.state, joined)
    transfer_heads(checkpoint, joined, names)
    picture = torch.rand(1, 3, 64, 64)
    for before, after, head, new_head in zip(old.eval()(picture), joined.eval()(picture), old.heads, joined.heads, strict=True):
        assert torch.allclose(after[..., [0, 1, 2, 3, 4, 7, 5]], before, atol=1e-6)
        assert new_head.new_coords == head.new_coords


@torch.inference_mode()
def test_classes_in_another_order_keep_what_each_has_learned(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = Darknet(SMALL)
    save_checkpoint(tmp_path / "a.pt", Checkpoint(SMALL, old.state_dict(), ["a", "b"]))
    config = DataConfig("d", tmp_path, {}, ("b", "a"))
    turned, _ = starting_network(TrialSpec(weights=str(tmp_path / "a.pt")), config)
    picture = torch.rand(1, 3, 64, 64)
    for before, after in zip(old.eval()(picture), turned.eval()(picture), strict=True):
        assert torch.allclose(after[..., [0, 1, 2, 3, 4, 6, 5]], before, atol=1e-6)


@torch.inference_mode()
def test_an_only_class_joins_as_a_fresh_one() -> None:
    """Its channel was never trained; boxes and objectness were."""
    cfg = with_classes(SMALL, 1)
    old, joined = Darknet(cfg), Darknet(with_classes(cfg, 2, keep_decoding=True))
    fresh = [head.weight.clone().view(3, 7, -1) for head in joined.head_convolutions()]
    transfer_heads(Checkpoint(cfg, old.state_dict(), ["a"]), joined, ["b", "a"])
    for before, source, after in zip(fresh, old.head_convolutions(), joined.head_convolutions(), strict=True):
        known, rows = source.weight.view(3, 6, -1), after.weight.view(3, 7, -1)
        assert torch.equal(rows[:, :5], known[:, :5]) and torch.equal(rows[:, 5:], before[:, 5:])


def test_a_checkpoint_is_of_its_own_network(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", Checkpoint(SMALL, Darknet(SMALL).state_dict(), ["a", "b"]))
    with pytest.raises(UserError, match=r"a\.pt carries its own cfg, which is not yolov3: leave out --cfg"):
        load_weights(tmp_path / "a.pt", "yolov3")
    assert load_weights(tmp_path / "a.pt", "yolov3-tiny").cfg == load_weights(tmp_path / "a.pt", "yolov3", to_start=True).cfg == SMALL


def test_the_first_layers_alone_are_a_start(tmp_path: Path) -> None:
    """As of darknet53.conv.74: a header, and what comes first in the file of the whole network."""
    network = Darknet(SMALL)
    save_darknet(tmp_path / "a.weights", network)
    states = [network.layers[number].state_dict() for number in range(9)]
    values = sum(tensor.numel() for state in states for tensor in state.values() if tensor.is_floating_point())
    (tmp_path / "a.conv.9").write_bytes((tmp_path / "a.weights").read_bytes()[: 20 + 4 * values])
    (tmp_path / "a.cfg").write_text(SMALL)
    checkpoint = load_weights(tmp_path / "a.conv.9", str(tmp_path / "a.cfg"), to_start=True)
    assert {int(name.split(".")[1]) for name in checkpoint.state} == {0, 2, 4, 6, 8} and not checkpoint.whole
    fresh = Darknet(SMALL)
    copied, _ = transfer(checkpoint.state, fresh)
    assert copied == 5 * 6 and torch.equal(fresh.convolutions()[4].conv.weight, network.convolutions()[4].conv.weight)
    with pytest.raises(UserError, match="first layers alone: begin with it, train.py"):
        load_weights(tmp_path / "a.conv.9", str(tmp_path / "a.cfg"))


@pytest.mark.parametrize(
    "read", [lambda path: load_darknet(path, SMALL), lambda path: load_cfg(str(path)), lambda path: load_recipe(str(path)), read_image]
)
def test_a_file_that_may_not_be_read_is_said(read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "a"
    path.write_bytes(b"")
    for method in ("read_bytes", "read_text"):
        monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(UserError, match=r"cannot read .*a: Permission denied$"):
        read(path)


def test_study_name_finds_darknet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOLOPERF_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no weights yolov3.pt; at hand: none; .*yoloperf data fetch"):
        find_weights("yolov3.pt")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "yolov3.weights").write_bytes(b"")
    assert find_weights("yolov3.pt") == Path("weights/yolov3.weights")
