"""Optimiser, learning rate and averaged weights of a recipe."""

import copy
import math

import torch
from torch import Tensor

from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.recipe import Recipe

_ADAM_BETA2 = 0.999  # PyTorch's default


def optimizer_of(network: Darknet, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay goes to convolution weights only, not to biases and batch norms."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.lr0, recipe.momentum, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, recipe.lr0, (recipe.momentum, _ADAM_BETA2), fused=True)


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
