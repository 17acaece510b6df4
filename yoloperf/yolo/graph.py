"""The training step as a CUDA graph: recorded once, then launched as a whole, so that the host's thousand launches bound no step.

What is recorded are kernels with the addresses and numbers they were called with. So the step must have one shape, must not ask
for anything that is on the device, and whatever changes from step to step must lie in tensors that stay where they are: the
batch and the learning rate do, weights, statistics and optimiser state are updated in place. Gradients live and end within the
graph. (PyTorch's notes on CUDA semantics, "CUDA Graphs".)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from yoloperf.yolo.world import World

# Run as usual: they choose algorithms and make what is made once. The capture comes with the third step, the last that no rate counts.
_WARMUP_STEPS = 2

Step = Callable[[Tensor, Tensor], Tensor]  # of pixels uint8 [B, S, S, 3] and targets [B, M, 5]


def obstacle(world: World, accumulate: int) -> str | None:
    """Why a training has no graph, or None where it is worth trying."""
    if world.device.type != "cuda":
        return "no GPU"
    if world.size > 1:
        return "several processes train together"
    if accumulate > 1:
        return f"gradients are averaged over {accumulate} batches"
    return None


class GraphedStep:
    """`step` on a CUDA device, as a graph where it can be: call it with a batch; returns what `step` returns.

    Batches are padded to `boxes` rows of targets, since all must have one shape. Smaller batches than `pixels` has room for, such
    as the last one of an epoch, run as usual, and so does everything where capturing fails: then `reason` says why.
    The returned tensor is overwritten by the next call. `forget` drops the gradients that a failed capture leaves without values.
    """

    def __init__(self, step: Step, forget: Callable[[], None], batch_size: int, img_size: int, boxes: int, device: torch.device) -> None:
        self.step, self.forget, self.device = step, forget, device
        self.pixels = torch.zeros((batch_size, img_size, img_size, 3), dtype=torch.uint8, device=device)
        self.targets = torch.zeros((batch_size, boxes, 5), device=device)
        self.reason: str | None = "no batch was full"
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None
        self._warmup_left = _WARMUP_STEPS
        self._failed = False

    def __call__(self, pixels: Tensor, targets: Tensor) -> Tensor:
        if self._failed or len(pixels) < len(self.pixels):
            return self.step(pixels, targets)
        self.pixels.copy_(pixels, non_blocking=True)
        used = targets.shape[1]
        self.targets[:, :used].copy_(targets, non_blocking=True)
        self.targets[:, used:].zero_()
        if self._graph is None and self._warmup_left:
            return self._warm_up()
        if self._graph is None:
            self.reason = _no_room(self.device) or self._capture()
            self._failed = self.reason is not None
        if self._graph is None or self._result is None:
            return self.step(self.pixels, self.targets)
        self._graph.replay()
        return self._result

    def _warm_up(self) -> Tensor:
        """A step as usual, on the stream of the capture: libraries keep what they set up for a stream with it."""
        self._warmup_left -= 1
        self.reason = "too few steps"
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            result = self.step(self.pixels, self.targets)
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        return result

    def _capture(self) -> str | None:
        """Record the step, which runs nothing; returns why it could not be recorded."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._result = self.step(self.pixels, self.targets)
        except RuntimeError as error:  # nothing ran, so nothing is lost; where memory is short, the usual step may still do
            self.forget()
            return str(error).splitlines()[0]
        self._graph = graph
        return None


def _no_room(device: torch.device) -> str | None:
    """A graph keeps the memory of its step to itself; last batches and validation need as much beside it."""
    held = torch.cuda.memory_allocated(device)
    step = torch.cuda.max_memory_allocated(device) - held
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - held
    if free >= 2 * step:
        return None
    return f"a step takes {step / 2**30:.1f} GiB, and the device has not twice that ({free / 2**30:.1f} GiB)"
