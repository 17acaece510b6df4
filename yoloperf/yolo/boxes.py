"""Box arithmetic: decoding raw head outputs, complete IoU, non-maximum suppression."""

import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor

from yoloperf.yolo.darknet import Head


def _load_nms() -> None:
    """Register torchvision's operators without importing torchvision, whose models take as long to import as torch itself."""
    spec = importlib.util.find_spec("torchvision")
    assert spec and spec.origin, "torchvision is a requirement of this package"
    torch.ops.load_library(next(Path(spec.origin).parent.glob("_C*.*")))  # type: ignore[no-untyped-call]


_load_nms()


def decode(raw: Tensor, head: Head, img_size: int) -> Tensor:
    """Raw head output [B, H, W, A, 5 + C] -> [B, H * W * A, 5 + C]: centre x, y, width, height in input pixels, then
    objectness and class probabilities. The probability of an only class is 1: nothing trains that channel."""
    batch, height, width = raw.shape[:3]
    raw = raw.float()
    anchors = head.anchors.to(raw.device)
    stride = img_size / width
    ys, xs = torch.meshgrid(torch.arange(height, device=raw.device), torch.arange(width, device=raw.device), indexing="ij")
    cells = torch.stack((xs, ys), -1)[None, :, :, None]
    xy, wh = box_in_cells(raw, anchors, head.new_coords)
    scores = raw[..., 4:].sigmoid()
    if head.classes == 1:
        scores[..., 1] = 1
    decoded = torch.cat(((xy + cells) * stride, wh, scores), -1)
    return decoded.view(batch, -1, raw.shape[-1])


def decode_heads(outputs: list[Tensor], heads: list[Head], img_size: int) -> Tensor:
    """Raw outputs of all heads of a network -> one tensor [B, N, 5 + C] of every box, as `decode` gives it."""
    return torch.cat([decode(raw, head, img_size) for raw, head in zip(outputs, heads, strict=True)], 1)


def box_in_cells(raw: Tensor, anchors: Tensor, new_coords: bool) -> tuple[Tensor, Tensor]:
    """Centre relative to the cell's corner, in cells, and width and height in the anchors' unit.

    Darknet's b_x = sigmoid(t_x), b_w = p_w exp(t_w) (YOLOv2 paper, arXiv:1612.08242), or with new_coords
    b_x = 2 sigmoid(t_x) - 0.5, b_w = p_w (2 sigmoid(t_w))^2 (Scaled-YOLOv4, arXiv:2011.08036).
    """
    if new_coords:
        return raw[..., :2].sigmoid() * 2 - 0.5, (raw[..., 2:4].sigmoid() * 2) ** 2 * anchors
    return raw[..., :2].sigmoid(), raw[..., 2:4].exp() * anchors


def complete_iou(xy_a: Tensor, wh_a: Tensor, xy_b: Tensor, wh_b: Tensor) -> Tensor:
    """Complete IoU of boxes given by centre and size, [..., 2] each -> [...] (Zheng et al., arXiv:1911.08287)."""
    low = torch.maximum(xy_a - wh_a / 2, xy_b - wh_b / 2)
    high = torch.minimum(xy_a + wh_a / 2, xy_b + wh_b / 2)
    overlap = _area((high - low).clamp(min=0))
    union = _area(wh_a) + _area(wh_b) - overlap + 1e-9
    iou = overlap / union
    hull = torch.maximum(xy_a + wh_a / 2, xy_b + wh_b / 2) - torch.minimum(xy_a - wh_a / 2, xy_b - wh_b / 2)
    distance = ((xy_a - xy_b) ** 2).sum(-1) / ((hull**2).sum(-1) + 1e-9)
    angle = torch.atan(wh_a[..., 0] / (wh_a[..., 1] + 1e-9)) - torch.atan(wh_b[..., 0] / (wh_b[..., 1] + 1e-9))
    shape = 4 / math.pi**2 * angle**2
    with torch.no_grad():
        weight = shape / (1 - iou + shape + 1e-9)
    return iou - distance - weight * shape


def _area(sides: Tensor) -> Tensor:
    """[..., 2] -> [...]. prod(-1) would make the host wait in the backward pass: its gradient asks whether a side is zero."""
    return sides[..., 0] * sides[..., 1]


def suppress(
    decoded: Tensor, confidence: float, iou: float, max_boxes: int = 300, multi_label: bool = True, max_candidates: int = 4096
) -> list[Tensor]:
    """Non-maximum suppression within classes.

    decoded: [B, N, 5 + C] as `decode` gives it. Returns for every image [n, 6]: x1, y1, x2, y2 in input pixels, score
    (objectness times class), class; best score first. multi_label lets a box stand for every class above the confidence, as
    Darknet's evaluation does; otherwise for its best one. Of more than `max_candidates` the best are looked at.
    """
    results = []
    for image in decoded:
        image = image[image[:, 4] > confidence]
        scores = image[:, 5:] * image[:, 4:5]
        if multi_label:
            box, label = (scores > confidence).nonzero(as_tuple=True)
            score = scores[box, label]
        else:
            score, label = scores.max(1)
            box = (score > confidence).nonzero()[:, 0]
            score, label = score[box], label[box]
        if len(score) > max_candidates:
            score, best = score.topk(max_candidates)
            box, label = box[best], label[best]
        corners = torch.cat((image[box, :2] - image[box, 2:4] / 2, image[box, :2] + image[box, 2:4] / 2), 1)
        apart = label[:, None] * (corners.max() + 1 if len(corners) else 1)  # classes side by side do not overlap
        keep = torch.ops.torchvision.nms(corners + apart, score, iou)[:max_boxes]
        results.append(torch.cat((corners[keep], score[keep, None], label[keep, None].float()), 1))
    return results
