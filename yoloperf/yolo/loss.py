"""The anchor-based detection loss: CIoU for boxes, binary cross-entropy for objectness and classes.

Everything has a static shape: a box that is not assigned takes part with weight 0 instead of being filtered out, so no step
waits for the device, and no Python loop runs over images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yoloperf.yolo.boxes import box_in_cells, complete_iou
from yoloperf.yolo.darknet import Darknet, Head
from yoloperf.yolo.recipe import Recipe
from yoloperf.yolo.world import World

# A cell that is finer sees more background, so its mean objectness loss is smaller; weights from coarse to fine even it out
# (figures of the field's PyTorch trainers since 2020).
_OBJECTNESS_BALANCE = (0.4, 1.0, 4.0)
_ROUNDING = 1.001  # what the relation of a box to the same anchor may differ by between two heads


@dataclass(frozen=True)
class Losses:
    """Scalars: the parts with their gains, and their sum, which is differentiated."""

    box: Tensor
    obj: Tensor
    cls: Tensor

    @property
    def total(self) -> Tensor:
        return self.box + self.obj + self.cls

    @property
    def parts(self) -> Tensor:
        """[3]: box, objectness, class; detached."""
        return torch.stack((self.box, self.obj, self.cls)).detach()


class DetectionLoss:
    """Loss of a network's raw outputs against targets [B, M, 5] (class, cx, cy, w, h in 0..1; unused rows have w = 0)."""

    def __init__(self, network: Darknet, recipe: Recipe, img_size: int, world: World) -> None:
        self.heads, self.recipe, self.img_size, self.world = network.heads, recipe, img_size, world
        self.anchors = [head.anchors.to(world.device) for head in self.heads]  # here: a copy in every step would make the host wait
        coarse_first = sorted(range(len(self.heads)), key=lambda index: -float(self.heads[index].anchors.max()))
        offset = 0 if len(self.heads) >= 3 else 1
        self.balance = {head: _OBJECTNESS_BALANCE[min(rank + offset, 2)] for rank, head in enumerate(coarse_first)}

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> Losses:
        nearest = torch.stack([_relation(targets[..., 3:5] * self.img_size, anchors).amin(-1) for anchors in self.anchors]).amin(0)
        limit = (nearest * _ROUNDING).clamp(min=self.recipe.anchor_ratio)
        parts = [self._of_head(index, raw.float(), targets, limit) for index, raw in enumerate(outputs)]
        box, obj, cls = (sum(values) for values in zip(*parts, strict=True))
        assert isinstance(box, Tensor) and isinstance(obj, Tensor) and isinstance(cls, Tensor)
        return Losses(self.recipe.box * box, self.recipe.obj * obj, self.recipe.cls * cls)

    def _of_head(self, index: int, raw: Tensor, targets: Tensor, limit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        head = self.heads[index]
        side = raw.shape[1]
        anchors = self.anchors[index] * (side / self.img_size)  # in cells
        cell, inside, anchor, assigned = assign(raw.shape, anchors, targets, limit, head)
        weight = assigned.float()
        # one process's part of the whole batch's loss, times the number of processes: averaging the gradients divides by that
        count = self.world.mean(weight.sum()).clamp(min=1 / self.world.size)
        part = self.world.part(len(raw))

        flat = raw.reshape(-1, raw.shape[-1])
        chosen = flat[cell]  # [P, 5 + C]
        xy, wh = box_in_cells(chosen, anchors[anchor], head.new_coords)
        wanted_wh = (targets[..., 3:5] * side)[:, :, None, None].expand(*inside.shape).reshape(-1, 2)
        iou = complete_iou(xy, wh, inside.reshape(-1, 2), wanted_wh)
        box = ((1 - iou) * weight).sum() / count

        objectness = torch.zeros(len(flat), device=raw.device)
        objectness.scatter_reduce_(0, cell, iou.detach().clamp(min=0) * weight, "amax")
        obj = functional.binary_cross_entropy_with_logits(flat[:, 4], objectness) * self.balance[index] * part

        if head.classes == 1:  # whose probability is 1, as `decode` says
            return box, obj, box.new_zeros(())
        labels = targets[..., 0][:, :, None, None].expand(*inside.shape[:-1]).reshape(-1)
        one_hot = (labels[:, None] == torch.arange(head.classes, device=raw.device)).float()
        each = functional.binary_cross_entropy_with_logits(chosen[:, 5:], one_hot, reduction="none").mean(1)
        return box, obj, (each * weight).sum() / count


def assign(shape: torch.Size, anchors: Tensor, targets: Tensor, limit: Tensor, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which predictions answer for which box.

    A box is given to every anchor whose sides are within its `limit` of its own, in the cell of its centre and, where the
    decoding reaches beyond its cell (new_coords), in the nearer neighbours in x and in y.
    shape: of the raw output [B, S, S, A, 5 + C]; anchors: [A, 2] in cells; limit: factor for every box, [B, M]: the recipe's, or
    that of the nearest anchor of all heads where none is as near. Returns flat [P] = B * M * A * 3 candidates:
    index of the prediction in raw.view(-1, 5 + C); the box centre relative to that cell as [B, M, A, 3, 2]; the anchor's index;
    and whether the candidate counts.
    """
    batch, side, _, count = shape[:4]
    device = targets.device
    centre, size = targets[..., 1:3] * side, targets[..., 3:5] * side  # [B, M, 2]
    fits = (_relation(size, anchors) < limit[..., None]) & (size[:, :, None] > 0).all(-1)

    within = centre % 1
    step = torch.where(within < 0.5, -1.0, 1.0)  # towards the nearer neighbour
    zero = torch.zeros_like(step[..., 0])
    offsets = torch.stack((torch.zeros_like(step), torch.stack((step[..., 0], zero), -1), torch.stack((zero, step[..., 1]), -1)), 2)
    cells = centre.floor()[:, :, None] + offsets  # [B, M, 3, 2]
    exists = ((cells >= 0) & (cells < side)).all(-1)
    if not head.new_coords:
        exists[:, :, 1:].zero_()
    cells = cells.clamp(0, side - 1)

    full = (batch, targets.shape[1], count, 3)
    image = torch.arange(batch, device=device).view(-1, 1, 1, 1)
    anchor = torch.arange(count, device=device).view(1, 1, -1, 1).expand(full)
    x, y = cells[..., 0].long()[:, :, None], cells[..., 1].long()[:, :, None]
    cell = ((image * side + y) * side + x) * count + anchor
    inside = (centre[:, :, None] - cells)[:, :, None].expand(*full, 2)
    assigned = fits[..., None] & exists[:, :, None]
    return cell.reshape(-1), inside, anchor.reshape(-1), assigned.reshape(-1)


def _relation(size: Tensor, anchors: Tensor) -> Tensor:
    """The larger factor, of width or of height, between boxes [B, M, 2] and anchors [A, 2] of the same unit: [B, M, A], at least 1."""
    relation = size[:, :, None].clamp(min=1e-9) / anchors
    return torch.maximum(relation, 1 / relation).amax(-1)
