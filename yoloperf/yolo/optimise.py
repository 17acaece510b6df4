"""Optimiser, learning rate and averaged weights of a recipe."""

import copy
import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.recipe import Recipe

_ADAM_BETA2, _ADAM_EPS = 0.999, 1e-8  # PyTorch's defaults


class Optimizer:
    """AdamW, or SGD with Nesterov momentum, by torch's fused kernels.

    torch.optim's classes compute the same, and import torch._dynamo for it: 1.3 s of every start.
    """

    def __init__(self, network: Darknet, recipe: Recipe) -> None:
        """Weight decay goes to convolution weights only, not to biases and batch norms."""
        self.recipe = recipe
        parameters = list(network.parameters())
        decayed, plain = ([parameter for parameter in parameters if (parameter.ndim > 1) == matrix] for matrix in (True, False))
        self.param_groups: list[dict[str, Any]] = [  # the name that GradScaler looks for
            {"params": decayed, "weight_decay": recipe.weight_decay, "lr": recipe.lr0},
            {"params": plain, "weight_decay": 0.0, "lr": recipe.lr0},
        ]
        self._state = [self._fresh(group["params"]) for group in self.param_groups]

    def _fresh(self, parameters: list[Tensor]) -> dict[str, Any]:
        if self.recipe.optimizer == "sgd":
            return {"momenta": [None] * len(parameters)}  # the kernel makes them in the first step
        zeros = [[torch.zeros_like(parameter, requires_grad=False) for parameter in parameters] for _ in range(2)]
        return {"means": zeros[0], "squares": zeros[1], "steps": [torch.zeros((), device=parameter.device) for parameter in parameters]}

    @torch.no_grad()
    def step(self) -> None:
        for group, state in zip(self.param_groups, self._state, strict=True):
            gradients = [parameter.grad for parameter in group["params"]]
            common: dict[str, Any] = {"lr": group["lr"], "weight_decay": group["weight_decay"], "maximize": False, "fused": True}
            if self.recipe.optimizer == "sgd":
                momenta, momentum = state["momenta"], self.recipe.momentum
                sgd(group["params"], gradients, momenta, momentum=momentum, dampening=0.0, nesterov=True, **common)
            else:
                betas: dict[str, Any] = {"beta1": self.recipe.momentum, "beta2": _ADAM_BETA2, "eps": _ADAM_EPS, "amsgrad": False}
                adamw(group["params"], gradients, state["means"], state["squares"], [], state["steps"], **betas, **common)

    def zero_grad(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"state": self._state, "lr": [group["lr"] for group in self.param_groups]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        device = self.param_groups[0]["params"][0].device
        self._state = [
            {name: [value if value is None else value.to(device) for value in values] for name, values in state.items()}
            for state in content["state"]
        ]
        for group, lr in zip(self.param_groups, content["lr"], strict=True):
            group["lr"] = lr


def learning_rate(recipe: Recipe, scale: float, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning rate of step `step` (from 0): a linear rise over the warm-up, then down to lrf along the schedule."""
    warmup = recipe.warmup_epochs * steps_per_epoch
    total = steps_per_epoch * epochs
    rise = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    progress = step / max(1, total - 1)
    fall = (1 + math.cos(math.pi * progress)) / 2 if recipe.schedule == "cosine" else 1 - progress
    return scale * recipe.lr0 * rise * (recipe.lrf + (1 - recipe.lrf) * fall)


class AveragedWeights:
    """Exponential moving average of weights and batch-norm statistics.

    The decay rises as decay * (1 - exp(-steps / ramp)), so that the first steps, far from the end, are soon forgotten.
    """

    def __init__(self, network: Darknet, recipe: Recipe) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay, self.ramp, self.steps = recipe.ema_decay, recipe.ema_ramp_steps, 0
        self._averaged = _floats(self.network)
        self._live = _floats(network)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        self.steps += 1
        decay = self.decay * (1 - math.exp(-self.steps / self.ramp))
        torch._foreach_lerp_(self._averaged, self._live, 1 - decay)


def _floats(network: Darknet) -> list[Tensor]:
    return [tensor.detach() for tensor in network.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
