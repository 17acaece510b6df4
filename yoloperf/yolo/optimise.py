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

    torch.optim's classes compute the same, and import torch._dynamo for it: 1.3 s of every start. State tensors stay where
    they are from the start on, so a CUDA graph may hold their addresses.
    """

    _step_supports_amp_scaling = True  # GradScaler then hands scale and overflow over as tensors, and the host waits for neither

    def __init__(self, network: Darknet, recipe: Recipe, capturable: bool = False) -> None:
        """Weight decay goes to convolution weights only, not to biases and batch norms.

        capturable: `step` takes the learning rate from device memory, so that a CUDA graph of it follows the schedule.
        """
        self.recipe = recipe
        parameters = list(network.parameters())
        decayed, plain = ([parameter for parameter in parameters if (parameter.ndim > 1) == matrix] for matrix in (True, False))
        self.param_groups: list[dict[str, Any]] = [  # the name that GradScaler looks for
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        self.lr = recipe.lr0
        self._lr_on_device = torch.full((), recipe.lr0, device=parameters[0].device) if capturable else None
        self._state = [self._fresh(group["params"]) for group in self.param_groups]

    def _fresh(self, parameters: list[Tensor]) -> dict[str, Any]:
        def zeros() -> list[Tensor]:
            return [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]

        if self.recipe.optimizer == "sgd":
            return {"momenta": zeros()}
        return {"means": zeros(), "squares": zeros(), "steps": [torch.zeros((), device=parameter.device) for parameter in parameters]}

    def set_lr(self, lr: float) -> None:
        """Learning rate of the steps to come."""
        self.lr = lr
        if self._lr_on_device is not None:
            self._lr_on_device.fill_(lr)

    @torch.no_grad()
    def step(self) -> None:
        scaling = {name: getattr(self, name, None) for name in ("grad_scale", "found_inf")}  # set by GradScaler during the call
        common: dict[str, Any] = {"lr": self.lr if self._lr_on_device is None else self._lr_on_device, "maximize": False, "fused": True}
        for group, state in zip(self.param_groups, self._state, strict=True):
            gradients = [parameter.grad for parameter in group["params"]]
            common |= {"weight_decay": group["weight_decay"], **scaling}
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
        return {"state": self._state, "lr": self.lr}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        for own, saved in zip(self._state, content["state"], strict=True):
            for name, values in own.items():
                for value, other in zip(values, saved[name], strict=True):
                    value.copy_(other)
        self.set_lr(content["lr"])


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
