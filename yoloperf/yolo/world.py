"""The processes that train one network together, as torchrun starts them; one process is a world of its own."""

import os
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective

_PATIENCE = timedelta(days=7)  # the others wait while the first process validates


def launched() -> bool:
    """Whether torchrun started this process."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def rank() -> int:
    """Number of this process among those of torchrun; the one with number 0 speaks and writes."""
    return int(os.environ["RANK"]) if launched() else 0


class World:
    """One process alone, or all of torchrun's: call on the device that is trained on, once a process."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.size = device, rank(), 1
        if launched():
            distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
            self.size = distributed.get_world_size()
            self._talk: Any = distributed.new_group(backend="gloo", timeout=_PATIENCE)  # what the hosts say never waits for a GPU

    @property
    def main(self) -> bool:
        return self.rank == 0

    def agree(self, value: Any) -> Any:
        """The first process's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, 0, group=self._talk)
        return box[0]

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes, without a gradient."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total / self.size

    def part(self, count: int) -> Tensor | float:
        """This process's count over the mean of all processes'."""
        return 1.0 if self.size == 1 else count / self.mean(torch.tensor(float(count), device=self.device))

    def join(self, network: nn.Module) -> nn.Module:
        """Make batch norms see the whole batch, and return the module whose backward pass averages the gradients."""
        if self.size == 1:
            return network
        if self.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        else:
            _synchronise_batch_norms(network)
        return nn.parallel.DistributedDataParallel(network, gradient_as_bucket_view=True)

    def close(self) -> None:
        if self.size > 1:
            distributed.destroy_process_group()


def _sum(value: Tensor) -> Tensor:
    """Sum over the processes; its gradient is summed, too."""
    total: Tensor = collective.all_reduce(value)  # type: ignore[no-untyped-call]
    return total


class _SyncBatchNorm(nn.BatchNorm2d):
    """torch.nn.SyncBatchNorm for CPUs, which that refuses: mean and variance over the batch of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        values = x.float()
        size = _sum(torch.tensor(float(values[:, 0].numel())))
        mean = _sum(values.sum((0, 2, 3))) / size
        variance = _sum((values - mean[:, None, None]).square().sum((0, 2, 3))) / size
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * size / (size - 1), self.momentum)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return torch.addcmul((self.bias - mean * scale)[:, None, None], values, scale[:, None, None]).to(x.dtype)


def _synchronise_batch_norms(network: nn.Module) -> None:
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _SyncBatchNorm
