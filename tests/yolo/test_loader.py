from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from yoloperf.yolo.images import DecodedOnce
from yoloperf.yolo.resident import ResidentImages
from yoloperf.yolo.trainer import Trainer

MakeTrainer = Callable[..., Trainer]
GPU = torch.device("cuda", 0)


def test_what_a_gpu_copies_beside_its_work_is_pinned(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """From pageable memory a copy may wait for the step before it: boxes, and the numbers by which pictures are painted."""
    batches = make_trainer("run").batches
    wanted = [targets for _, targets in batches.epoch(1, mosaic=True)]
    pinned: list[int] = []
    copied: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor.data_ptr())
        return tensor

    def to(tensor: Tensor, device: torch.device, **how: object) -> Tensor:
        assert device == GPU and tensor.data_ptr() in pinned and how == {"non_blocking": True}
        copied.append(tensor)
        return tensor

    assert isinstance(batches.images, DecodedOnce)
    resident = ResidentImages(batches.images, torch.device("cpu"))
    resident.device, paint = GPU, SimpleNamespace(paint=lambda pictures, size: resident._tensor(pictures.scale))
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", to)
    batches.world.device, batches.resident = GPU, paint  # type: ignore[assignment]
    found = [targets for _, targets in batches.epoch(1, mosaic=True)]
    assert len(copied) == len(wanted) == 3
    for one, other in zip(found, wanted, strict=True):
        assert one.data_ptr() in pinned and np.array_equal(one.numpy(), other.numpy())
