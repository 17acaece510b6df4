import pytest
import torch

from yoloperf.core.errors import UserError
from yoloperf.yolo.darknet import Darknet, MaxPool, load_cfg, parse_cfg, with_classes


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
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
    sections = parse_cfg("# a comment\n[net]\n width = 416 # pixels\n\n[yolo]\nmask=0\n")
    assert sections[0].values == {"width": "416"} and sections[1].kind == "yolo"
