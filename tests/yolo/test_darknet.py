from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yoloperf.core.errors import UserError
from yoloperf.yolo.cfg import load_cfg, parse_cfg, with_classes
from yoloperf.yolo.darknet import Darknet, MaxPool
from yoloperf.yolo.weights import save_darknet

HEAD = "[convolutional]\nfilters=18\nsize=1\n[yolo]\nmask=0,1,2\nanchors=10,10, 20,20, 30,30\nclasses=1\nnum=3\n"


@pytest.mark.parametrize(
    ("name", "parameters", "gflop", "items"),
    # parameters and operations as Darknet itself prints them: 65.86 and 5.56 BFLOPs at 416
    [("yolov3", 61_949_149, 65.864, 438), ("yolov3-tiny", 8_852_366, 5.565, 70)],
)
def test_published_architectures(name: str, parameters: int, gflop: float, items: int) -> None:
    network = Darknet(load_cfg(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.flops(416) / 1e9 == pytest.approx(gflop, abs=0.001)
    assert len(network.state_dict()) == items


def test_training_costs_three_forward_passes_less_the_gradient_of_the_picture() -> None:
    network = Darknet(load_cfg("yolov3-tiny"))
    first_layer = 2 * 16 * 3 * 3 * 3 * 416 * 416
    assert network.training_flops(416) == 3 * network.flops(416) - first_layer


def test_outputs_have_one_row_per_cell_and_anchor() -> None:
    network = Darknet(with_classes(load_cfg("yolov3"), 3)).eval()
    with torch.no_grad():
        shapes = [tuple(output.shape) for output in network(torch.zeros(2, 3, 96, 64))]
    assert shapes == [(2, 3, 2, 3, 8), (2, 6, 4, 3, 8), (2, 12, 8, 3, 8)]


def test_bccd_parameters() -> None:
    """The 2020 study's logs print 61534504 parameters for YOLOv3 with 3 classes (its one-output convolutions count alike)."""
    network = Darknet(with_classes(load_cfg("yolov3"), 3))
    assert sum(parameter.numel() for parameter in network.parameters()) == 61_534_504


def test_same_number_of_classes_keeps_the_decoding() -> None:
    assert not any(head.new_coords for head in Darknet(with_classes(load_cfg("yolov3-tiny"), 80)).heads)
    assert all(head.new_coords for head in Darknet(with_classes(load_cfg("yolov3-tiny"), 3)).heads)


def test_folding_batch_norm_changes_nothing() -> None:
    network = Darknet(load_cfg("yolov3-tiny"))
    for layer in network.convolutions():
        if hasattr(layer, "batch_norm"):
            layer.batch_norm.running_mean.normal_()
            layer.batch_norm.running_var.uniform_(0.5, 2)
    network.eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        after = network.fuse()(images)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_pooling_with_stride_one_pads_with_minus_infinity() -> None:
    pooled = MaxPool(2, 1)(torch.full((1, 1, 3, 3), -5.0))
    assert pooled.shape == (1, 1, 3, 3) and (pooled == -5).all()


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (5, 1), (9, 1), (13, 1), (2, 2), (3, 2)])
def test_pooling_is_that_of_opencv(size: int, stride: int, tmp_path: Path) -> None:
    """yolov3-spp pools with 5, 9 and 13 at a stride of 1."""
    cfg = f"[net]\nwidth=64\nheight=64\nchannels=3\n[maxpool]\nsize={size}\nstride={stride}\n{HEAD}"
    network = Darknet(cfg).eval()
    (tmp_path / "n.cfg").write_text(cfg)
    save_darknet(tmp_path / "n.weights", network)
    reference = cv2.dnn.readNetFromDarknet(str(tmp_path / "n.cfg"), str(tmp_path / "n.weights"))
    blob = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    reference.setInput(blob)
    wanted = reference.forward(next(name for name in reference.getLayerNames() if name.startswith("pool")))
    found = network.layers[0](torch.from_numpy(blob))
    np.testing.assert_array_equal(found.numpy(), wanted)
    assert network.flops(64) == 2 * 3 * 18 * found.shape[-1] ** 2


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("route", "groups=2"),  # yolov4-tiny
        ("route", "group_id=1"),
        ("convolutional", "groups=2"),
        ("convolutional", "dilation=2"),
        ("maxpool", "padding=0"),
        ("upsample", "scale=2"),
        ("shortcut", "activation=leaky"),
        ("yolo", "scale_x_y=1.05"),
    ],
)
def test_what_would_be_another_network_is_refused(kind: str, line: str) -> None:
    cfg = load_cfg("yolov3" if kind == "shortcut" else "yolov3-tiny")
    cfg = cfg.replace("activation=linear\n\n[", "\n[") if kind == "shortcut" else cfg
    with pytest.raises(UserError, match=rf"no support for {line} in \[{kind}\], only for"):
        Darknet(cfg.replace(f"[{kind}]\n", f"[{kind}]\n{line}\n"))
    with pytest.raises(UserError, match=rf"no support for sway= in \[{kind}\]"):
        Darknet(cfg.replace(f"[{kind}]\n", f"[{kind}]\nsway=1\n").replace("[yolo]\n", "[yolo]\nnew_coords=1\n"))


def test_what_darknets_training_says_is_no_problem() -> None:
    """Keys of the published yolov3.cfg and yolov3-spp.cfg, and neutral values of AlexeyAB's."""
    cfg = load_cfg("yolov3-tiny")
    cfg = cfg.replace("[net]\n", "[net]\nburn_in=1000\npolicy=steps\nsteps=400,450\nscales=.1,.1\nmax_batches=500\nmosaic=1\n")
    cfg = cfg.replace("[yolo]\n", "[yolo]\njitter=.3\ntruth_thresh = 1\nrandom=1\nscale_x_y=1.0\niou_loss=mse\n")
    cfg = cfg.replace("[route]\n", "[route]\ngroups=1\n").replace("[convolutional]\n", "[convolutional]\nstopbackward=1\n")
    assert Darknet(cfg).flops(416) == Darknet(load_cfg("yolov3-tiny")).flops(416)


def test_padding_of_a_convolution_counts_without_pad() -> None:
    cfg = "[net]\n[convolutional]\nfilters=4\nsize=3\npadding=1\n" + HEAD
    assert Darknet(cfg)(torch.zeros(1, 3, 8, 8))[0].shape == (1, 8, 8, 3, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[net]\n" + HEAD.replace("classes=1", "classes=3"), "has filters=18, mask=0,1,2 and classes=3 need filters=24"),
        ("[net]\n" + HEAD.replace("[yolo]", "[route]\nlayers=-1\n[yolo]"), r"before \[yolo\] there must be a \[convolutional\]"),
        ("[net]\nchannels=1\n" + HEAD, "write channels=3"),
        ("filters=3", "line 1 is neither"),
        ("[convolutional]\nfilters=3", r"begin with a \[net\]"),
        ("[net]\n[convolutional]\nsize=3", "no filters="),
        ("[net]\n[convolutional]\nfilters=x\nsize=3", "filters=x is no whole number"),
        ("[net]\n[convolutional]\nfilters=4\nsize=1\nactivation=swish", "unknown cfg activation 'swish'"),
        ("[net]\n[lstm]", r"no support for \[lstm\]"),
        ("[net]\n[route]\nlayers=3", "does not come before it"),
        ("[net]\n[convolutional]\nfilters=4\nsize=1", "it is no detector"),
    ],
)
def test_bad_cfg_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Darknet(text)


def test_unknown_cfg_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'yolov3-tiny'"):
        load_cfg("yolov3-tyni")


def test_comments_and_spaces_are_no_problem() -> None:
    sections = parse_cfg("# a comment\n; another\n[net]\n width = 416 # pixels\n\n[yolo]\nmask=0\n")
    assert sections[0].values == {"width": "416"} and sections[1].kind == "yolo"


def test_cfg_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "c.cfg").write_bytes(b"\xef\xbb\xbf[net]\n# caf\xe9\nwidth=416\n")
    assert parse_cfg(load_cfg(str(tmp_path / "c.cfg")))[0].values == {"width": "416"}
