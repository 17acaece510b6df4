import dataclasses
import itertools

import pytest
import torch

from yoloperf.yolo.cfg import load_cfg, with_classes
from yoloperf.yolo.darknet import Darknet, Head
from yoloperf.yolo.loss import DetectionLoss, assign
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.world import World

ANCHORS = torch.tensor([[1.0, 1.0], [3.0, 2.0], [6.0, 6.0]])

ALONE = World(torch.device("cpu"))


def _targets(batch: int, rows: int, used: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.zeros(batch, rows, 5)
    targets[:, :used, 1:3] = torch.rand(batch, used, 2, generator=generator)
    targets[:, :used, 3:5] = torch.rand(batch, used, 2, generator=generator) * 0.5 + 0.02
    return targets


def _by_loops(shape: tuple[int, ...], targets: torch.Tensor, ratio: float, neighbours: bool) -> set[tuple[int, ...]]:
    """The same rule, box by box: (image, y, x, anchor, box)."""
    batch, height, width = shape[:3]
    found = set()
    for image, box, anchor in itertools.product(range(batch), range(targets.shape[1]), range(len(ANCHORS))):
        _, cx, cy, w, h = targets[image, box].tolist()
        if w == 0:
            continue
        sides = (w * width / ANCHORS[anchor, 0].item(), h * height / ANCHORS[anchor, 1].item())
        if max(max(side, 1 / side) for side in sides) >= ratio:
            continue
        x, y = cx * width, cy * height
        cells = [(int(x), int(y))]
        if neighbours:
            cells.append((int(x) - 1 if x % 1 < 0.5 else int(x) + 1, int(y)))
            cells.append((int(x), int(y) - 1 if y % 1 < 0.5 else int(y) + 1))
        found |= {(image, cy_, cx_, anchor, box) for cx_, cy_ in cells if 0 <= cx_ < width and 0 <= cy_ < height}
    return found


def test_assignment_equals_the_rule_box_by_box() -> None:
    shape = torch.Size((2, 9, 9, 3, 8))
    targets = _targets(2, 32, 20, seed=1)
    for neighbours in (False, True):
        cell, inside, anchor, assigned = assign(shape, ANCHORS, targets, torch.full((2, 32), 4.0), Head(ANCHORS, 3, new_coords=neighbours))
        box = torch.arange(32).view(1, -1, 1, 1).expand(2, 32, 3, 3).reshape(-1)
        chosen = torch.stack((cell // (9 * 9 * 3), cell // (9 * 3) % 9, cell // 3 % 9, cell % 3, box), 1)[assigned]
        assert {tuple(row) for row in chosen.tolist()} == _by_loops(tuple(shape), targets, 4.0, neighbours)
        assert (anchor == cell % 3).all()
        reach = inside.reshape(-1, 2)[assigned]
        assert reach.min() >= (-0.5 if neighbours else 0) and reach.max() <= (1.5 if neighbours else 1)


def test_a_box_unlike_every_anchor_goes_to_the_nearest() -> None:
    """Of all heads: a box of 6 x 6 pixels to the smallest anchor, one of 400 x 20 somewhere, each once where one anchor is nearest."""
    network = Darknet(with_classes(load_cfg("yolov3-tiny"), 3))
    outputs = network(torch.rand(1, 3, 416, 416))
    loss = DetectionLoss(network, dataclasses.replace(load_recipe("default"), anchor_ratio=1.01), 416, ALONE)
    for width, height in ((6, 6), (400, 20), (100, 100)):
        targets = torch.zeros(1, 32, 5)
        targets[0, 0] = torch.tensor([1, 0.5, 0.5, width / 416, height / 416])
        assert loss(outputs, targets).box > 0, (width, height)


def test_no_boxes_means_objectness_only() -> None:
    network = Darknet(with_classes(load_cfg("yolov3-tiny"), 3))
    losses = DetectionLoss(network, load_recipe("default"), 64, ALONE)(network(torch.rand(2, 3, 64, 64)), torch.zeros(2, 32, 5))
    assert losses.box == 0 and losses.cls == 0 and losses.obj > 0
    losses.total.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_padding_rows_change_nothing() -> None:
    torch.manual_seed(0)
    network = Darknet(with_classes(load_cfg("yolov3-tiny"), 3))
    loss = DetectionLoss(network, load_recipe("default"), 96, ALONE)
    outputs = network(torch.rand(2, 3, 96, 96))
    targets = _targets(2, 32, 5, seed=2)
    few, many = loss(outputs, targets[:, :5]), loss(outputs, torch.cat((targets, torch.zeros(2, 64, 5)), 1))
    torch.testing.assert_close(few.parts, many.parts)


def test_perfect_boxes_have_no_box_loss_and_moved_ones_that_of_their_overlap() -> None:
    """By Darknet's decoding raw zeros are a box at the cell's centre with the anchor's size."""
    network = Darknet(load_cfg("yolov3-tiny"))
    recipe = dataclasses.replace(load_recipe("default"), anchor_ratio=1.01)  # no other anchor answers
    loss = DetectionLoss(network, recipe, 96, ALONE)
    outputs = [torch.zeros(1, 96 // stride, 96 // stride, 3, 85) for stride in (32, 16)]
    width, height = network.heads[1].anchors[1].tolist()

    def box_loss(moved: float) -> float:
        centre = (2.5 * 16 + moved, 3.5 * 16)
        return loss(outputs, torch.tensor([[[0, centre[0] / 96, centre[1] / 96, width / 96, height / 96]]])).box.item()

    assert box_loss(0) == pytest.approx(0, abs=1e-5)
    for moved in (1, 4, 7):
        iou = (width - moved) / (width + moved)
        distance = moved**2 / ((width + moved) ** 2 + height**2)
        assert box_loss(moved) == pytest.approx(recipe.box * (1 - iou + distance), rel=1e-4)


def test_a_fourth_head_is_balanced_as_the_finest_of_three() -> None:
    head = "[convolutional]\nfilters=18\nsize=1\n[yolo]\nmask=0,1,2\nanchors=10,10, 20,20, 30,30\nclasses=1\n[route]\nlayers=-2\n"
    loss = DetectionLoss(Darknet("[net]\n" + head * 4), load_recipe("default"), 64, ALONE)
    assert sorted(loss.balance.values()) == [0.4, 1.0, 4.0, 4.0]
