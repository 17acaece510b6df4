import copy
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from yoloperf.yolo.cfg import load_cfg
from yoloperf.yolo.darknet import Darknet
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
        lr = 1e-3 * (number + 1)
        if isinstance(optimizer, Optimizer):
            optimizer.set_lr(lr)
        else:
            for group in optimizer.param_groups:
                group["lr"] = lr
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


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_rate_on_the_device_is_the_same_rate(kind: str) -> None:
    """Bit for bit where float32, which kernels for GPUs read, holds the rate exactly."""
    recipe = replace(RECIPE, optimizer=kind)
    host, device = _networks(2)
    optimizers = Optimizer(host, recipe), Optimizer(device, recipe, capturable=True)
    for number in range(3):
        for network, optimizer in zip((host, device), optimizers, strict=True):
            torch.manual_seed(number)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.set_lr(2.0 ** -(8 + number))
            optimizer.step()
    for name, parameter in host.named_parameters():
        assert torch.equal(device.get_parameter(name), parameter), name


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_scaled_gradients_step_as_unscaled_ones_and_an_overflow_steps_not(kind: str) -> None:
    """The kernel undoes the loss scale; the first overflow may come before any step, as it does in fp16."""
    recipe = replace(RECIPE, optimizer=kind)
    plain, scaled = _networks(2)
    optimizers = Optimizer(plain, recipe), Optimizer(scaled, recipe)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for number, overflow in enumerate((True, False, True, False)):
        scale = scaler.scale(torch.ones(()))
        for network in (plain, scaled):
            torch.manual_seed(number)
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter) * (1 if network is plain else scale)
        if overflow:
            next(scaled.parameters()).grad.view(-1)[0] = torch.inf  # type: ignore[union-attr]
        else:
            optimizers[0].step()
        scaler.step(optimizers[1])  # type: ignore[arg-type]
        scaler.update()
    assert scaler.get_scale() == 2.0**14
    for name, parameter in plain.named_parameters():
        assert torch.equal(scaled.get_parameter(name), parameter), name


def test_a_state_is_loaded_where_the_state_is() -> None:
    ours, theirs = _networks(2)
    optimizer, other = Optimizer(ours, RECIPE), Optimizer(theirs, RECIPE)
    _steps(ours, optimizer, range(1))
    before = [[id(tensor) for tensor in tensors] for state in other.state_dict()["state"] for tensors in state.values()]
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    after = [tensors for state in other.state_dict()["state"] for tensors in state.values()]
    assert [[id(tensor) for tensor in tensors] for tensors in after] == before
    assert all(tensor.abs().sum() > 0 for tensor in after[0]) and other.lr == 1e-3


def test_a_training_starts_without_torchs_compiler() -> None:
    """torch._dynamo is 1.3 s of import; building, counting and stepping must not drag it in."""
    code = """
import sys, torch
from yoloperf.yolo import train
from yoloperf.yolo.cfg import load_cfg
from yoloperf.yolo.darknet import Darknet
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
