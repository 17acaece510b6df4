import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.yolo.boxes import complete_iou, decode, suppress
from yoloperf.yolo.darknet import Head

positions = st.floats(-50, 50)
sides = st.floats(0.5, 40)
boxes = st.tuples(positions, positions, sides, sides)


def _ciou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    first, second = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    return float(complete_iou(first[:2], first[2:], second[:2], second[2:]))


@given(boxes)
def test_box_with_itself_is_one(box: tuple[float, ...]) -> None:
    assert abs(_ciou(box, box) - 1) < 1e-6


@given(boxes, boxes)
def test_symmetric_and_bounded(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    assert abs(_ciou(a, b) - _ciou(b, a)) < 1e-9
    assert -2 < _ciou(a, b) <= 1 + 1e-9


@given(boxes, boxes, st.floats(0.1, 10))
def test_scale_does_not_matter(a: tuple[float, ...], b: tuple[float, ...], factor: float) -> None:
    assert abs(_ciou(a, b) - _ciou(tuple(factor * v for v in a), tuple(factor * v for v in b))) < 1e-6


def test_by_hand() -> None:
    """2x2 boxes one apart: IoU 2/6; centres 1 apart in a hull of 3x2: 1/13; equal shapes add nothing."""
    assert math.isclose(_ciou((0, 0, 2, 2), (1, 0, 2, 2)), 2 / 6 - 1 / 13, abs_tol=1e-6)


def test_decode_by_hand() -> None:
    anchors = torch.tensor([[10.0, 20.0]])
    raw = torch.zeros(1, 2, 2, 1, 6)
    raw[0, 1, 0, 0, 2] = math.log(2)
    row = decode(raw, Head(anchors, 1, new_coords=False), 64)[0, 2]  # cell y 1, x 0 of a stride of 32
    torch.testing.assert_close(row, torch.tensor([16.0, 48.0, 20.0, 20.0, 0.5, 1.0]))
    row = decode(torch.zeros(1, 2, 2, 1, 7), Head(anchors, 2, new_coords=True), 64)[0, 3]
    torch.testing.assert_close(row, torch.tensor([48.0, 48.0, 10.0, 20.0, 0.5, 0.5, 0.5]))


def test_the_score_of_an_only_class_is_the_objectness() -> None:
    raw = torch.zeros(1, 1, 1, 1, 6)
    raw[..., 4:] = torch.tensor([2.0, -3.0])  # the loss never sees the last channel
    (found,) = suppress(decode(raw, Head(torch.tensor([[10.0, 20.0]]), 1, new_coords=True), 32), 0.25, 0.45)
    assert found[:, 4].tolist() == [torch.tensor(2.0).sigmoid().item()]


def test_suppression_keeps_the_best_of_a_class_and_leaves_other_classes_alone() -> None:
    rows = torch.tensor(
        [
            [50.0, 50, 20, 20, 0.9, 1.0, 0.0],
            [51.0, 50, 20, 20, 0.8, 1.0, 0.0],  # the same object
            [51.0, 50, 20, 20, 0.7, 0.0, 1.0],  # another class at the same place
            [90.0, 90, 10, 10, 0.2, 1.0, 0.0],  # below the threshold
        ]
    )
    found = suppress(rows[None], 0.25, 0.45)[0]
    assert found[:, 4].tolist() == [torch.tensor(0.9).item(), torch.tensor(0.7).item()]
    assert found[:, 5].tolist() == [0, 1]
    assert found[0, :4].tolist() == [40, 40, 60, 60]


def test_one_label_a_box_when_asked() -> None:
    rows = torch.tensor([[50.0, 50, 20, 20, 1.0, 0.6, 0.5]])
    assert len(suppress(rows[None], 0.25, 0.45, multi_label=True)[0]) == 2
    assert len(suppress(rows[None], 0.25, 0.45, multi_label=False)[0]) == 1
