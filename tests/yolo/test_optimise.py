import copy
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from yoloperf.yolo.darknet import Darknet, load_cfg
from yoloperf.yolo.optimise import Optimizer
from yoloperf.yolo.recipe import Recipe, load_recipe

RECIPE = load_recipe("default")


def _networks(count: int) -> list[Darknet]:
    networks = []
    for _ in range(count):
        torch.manual_seed(0)
        networks.append(Darknet(load_cfg("yolov3-tiny")))
    return networks


def _torchs(network: Darknet, recipe: Recipe) -> torch.optim.Optimizer:
    groups = [
        {"params": [parameter for parameter in network.parameters() if parameter.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in network.parameters() if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr0, recipe.momentum, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, recipe.lr0, (recipe.momentum, 0.999), fused=True)


def _steps(network: Darknet, optimizer: Any, numbers: range) -> None:
    for number in numbers:
        torch.manual_seed(number)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (number + 1)
        optimizer.step()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_it_steps_as_torchs_own_and_goes_on_from_its_state(kind: str) -> None:
    recipe = replace(RECIPE, optimizer=kind)
    ours, theirs, resumed = _networks(3)
    optimizer = Optimizer(ours, recipe)
    _steps(theirs, _torchs(theirs, recipe), range(5))
    _steps(ours, optimizer, range(3))
    again = Optimizer(resumed, recipe)
    resumed.load_state_dict(ours.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _steps(ours, optimizer, range(3, 5))
    _steps(resumed, again, range(3, 5))
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name
        assert torch.equal(resumed.get_parameter(name), parameter), name


def test_a_training_starts_without_torchs_compiler() -> None:
    """torch._dynamo is 1.3 s of import; building, counting and stepping must not drag it in."""
    code = """
import sys, torch
from yoloperf.yolo import train
from yoloperf.yolo.darknet import Darknet, load_cfg
from yoloperf.yolo.optimise import AveragedWeights, Optimizer
from yoloperf.yolo.recipe import load_recipe
network = Darknet(load_cfg("yolov3-tiny"))
network.training_flops(416)
optimizer, averaged = Optimizer(network, load_recipe("default")), AveragedWeights(network, load_recipe("default"))
sum(raw.sum() for raw in network(torch.rand(1, 3, 64, 64))).backward()
optimizer.step()
averaged.update()
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
