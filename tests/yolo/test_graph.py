"""CUDA graphs without a GPU: a recorder that keeps what a graph keeps, kernels with their addresses and numbers, stands in."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.yolo.conftest import SMALL
from yoloperf.yolo import clock
from yoloperf.yolo import graph as graphs
from yoloperf.yolo.cfg import with_classes
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.graph import GraphedStep, obstacle
from yoloperf.yolo.loss import DetectionLoss
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.trainer import Trainer
from yoloperf.yolo.world import World

CPU = torch.device("cpu")

MakeTrainer = Callable[..., Trainer]


class _Watching(TorchDispatchMode):
    """Every operator that runs, backward passes included, with what it was called with and what came out."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operator(*args, **(kwargs or {}))
        self.calls.append((operator, args, kwargs or {}, result))
        return result


class _Recorder:
    """Stands in for torch.cuda's graphs, streams and memory. Recording leaves `state` as it was, since a capture runs nothing."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.state: list[Tensor] = []
        self.events: list[str] = []
        self.free_bytes = 100
        self.fails: RuntimeError | None = None
        recorder = self

        class Graph:
            calls: list[tuple[Any, Any, Any, Any]]

            def replay(self) -> None:
                recorder.events.append("replay")
                with torch.no_grad():
                    for operator, args, kwargs, recorded in self.calls:
                        for new, old in zip(tree_leaves(operator(*args, **kwargs)), tree_leaves(recorded), strict=True):
                            if isinstance(new, Tensor) and new.data_ptr() != old.data_ptr():
                                old.copy_(new)

        class Stream:
            def __init__(self, name: object) -> None:
                self.name = "side" if name == CPU else name

            def wait_stream(self, other: "Stream") -> None:
                recorder.events.append(f"{self.name} waits for {other.name}")

        @contextlib.contextmanager
        def capture(graph: Graph, stream: Stream) -> Iterator[None]:
            recorder.events.append(f"capture on {stream.name}")
            before = [tensor.detach().clone() for tensor in recorder.state]
            try:
                with _Watching() as watching:
                    yield
                graph.calls = watching.calls
                if recorder.fails:
                    raise recorder.fails
            finally:
                with torch.no_grad():
                    for tensor, old in zip(recorder.state, before, strict=True):
                        tensor.copy_(old)

        @contextlib.contextmanager
        def on(stream: Stream) -> Iterator[None]:
            recorder.events.append(f"step on {stream.name}")
            yield

        patch.setattr(torch.cuda, "CUDAGraph", Graph)
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "graph", capture)
        patch.setattr(torch.cuda, "stream", on)
        patch.setattr(torch.cuda, "current_stream", lambda device: Stream("main"))
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 10)
        patch.setattr(torch.cuda, "memory_reserved", lambda device: 60)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 50)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (recorder.free_bytes, 200))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> _Recorder:
    return _Recorder(monkeypatch)


@pytest.fixture
def make_recorded(make_trainer: MakeTrainer, recorder: _Recorder) -> MakeTrainer:
    """A trainer whose steps are recorded and replayed."""

    def make(name: str, precision: str = "fp32", optimizer: str = "adamw") -> Trainer:
        trainer = make_trainer(name, precision, optimizer)
        trainer.graph = GraphedStep(trainer.device_step, trainer.optimizer.zero_grad, 3, 64, trainer.batches.most_boxes, CPU)
        scales = [torch.full((), 2.0**16), torch.zeros((), dtype=torch.int32)]  # what GradScaler makes in the first step
        trainer.scaler._scale, trainer.scaler._growth_tracker = scales if precision == "fp16" else (None, None)
        recorder.state = [*trainer.network.state_dict().values(), *_tensors(trainer.optimizer.state_dict()), *scales]
        return trainer

    return make


def _tensors(content: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(content) if isinstance(leaf, Tensor)]


def _train(trainer: Trainer, epochs: int) -> list[list[float]]:
    """Losses of the epochs; no validation."""
    losses = []
    for _ in range(epochs):
        trainer.run_epoch(lambda: None)
        assert trainer._begun.losses is not None
        losses.append(trainer._begun.losses.tolist())
        trainer.epochs_done += 1
        trainer._begun = type(trainer._begun)()
    return losses


def _same(one: Trainer, other: Trainer) -> None:
    for first, second in ((one.network, other.network), (one.averaged.network, other.averaged.network)):
        for name, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[name]), name


@pytest.mark.parametrize(("precision", "optimizer"), [("fp32", "adamw"), ("bf16", "adamw"), ("fp16", "adamw"), ("fp32", "sgd")])
def test_replayed_steps_train_as_launched_ones(
    precision: str, optimizer: str, make_trainer: MakeTrainer, make_recorded: MakeTrainer, recorder: _Recorder
) -> None:
    """Bit for bit, with a schedule that moves: a learning rate or a gradient that the graph kept would show."""
    launched = make_trainer("launched", precision, optimizer)
    replayed = make_recorded("replayed", precision, optimizer)
    assert _train(launched, 4) == _train(replayed, 4)
    assert recorder.events.count("replay") == 6, "two full batches in each of the epochs 2 to 4"
    assert recorder.events.count("capture on side") == 1
    assert replayed.no_graph is None
    _same(launched, replayed)


def test_warm_up_and_capture_are_on_one_stream_that_waits_and_is_waited_for(make_recorded: MakeTrainer, recorder: _Recorder) -> None:
    _train(make_recorded("run"), 2)
    warm_up = ["side waits for main", "step on side", "main waits for side"]
    assert recorder.events == [*warm_up, *warm_up, "capture on side", "replay", "replay"]


def test_a_checkpoint_is_loaded_into_a_graph_that_runs(make_trainer: MakeTrainer, make_recorded: MakeTrainer) -> None:
    other = make_recorded("one")
    _train(other, 3)
    one = make_trainer("one")
    _train(one, 2)
    one.run_epoch(lambda: None)
    one._save_last()
    other.resume()
    assert (other.step, other.steps_begun) == (one.step, 3)
    assert _train(one, 2) == _train(other, 2)
    _same(one, other)


def test_a_capture_that_fails_costs_no_step(make_trainer: MakeTrainer, make_recorded: MakeTrainer, recorder: _Recorder) -> None:
    recorder.fails = RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
    launched, failing = make_trainer("launched"), make_recorded("failing")
    assert _train(launched, 3) == _train(failing, 3)
    assert failing.no_graph == "operation not permitted when stream is capturing"
    assert "replay" not in recorder.events and recorder.events.count("capture on side") == 1
    _same(launched, failing)


def test_gradients_of_half_a_capture_are_forgotten(recorder: _Recorder) -> None:
    weight = torch.ones((), requires_grad=True)
    calls: list[int] = []

    def step(pixels: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        (weight * 2).backward()  # type: ignore[no-untyped-call]
        if len(calls) == 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        assert weight.grad is not None
        return torch.full((3,), float(weight.grad))

    def forget() -> None:
        weight.grad = None

    graphed = GraphedStep(step, forget, 1, 32, 32, CPU)
    for _ in range(3):
        forget()
        result = graphed(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.zeros(1, 32, 5))
    assert result.tolist() == [2, 2, 2] and graphed.reason == "CUDA out of memory. Tried to allocate 2.00 GiB"


def test_short_memory_is_left_to_the_steps(make_recorded: MakeTrainer, recorder: _Recorder) -> None:
    recorder.free_bytes = 29  # and 50 that are cached: a step of 40 fits once, not twice
    trainer = make_recorded("run")
    _train(trainer, 2)
    assert trainer.no_graph is not None and "a step takes 0.0 GiB" in trainer.no_graph
    assert "capture on side" not in recorder.events


def test_batches_fill_the_same_buffers_and_leave_nothing_behind(recorder: _Recorder) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def step(pixels: Tensor, targets: Tensor) -> Tensor:
        seen.append((pixels, targets))
        return torch.zeros(3)

    graphed = GraphedStep(step, lambda: None, 2, 32, 96, CPU)
    for rows, value in ((96, 1), (32, 2)):
        result = graphed(torch.full((2, 32, 32, 3), value, dtype=torch.uint8), torch.full((2, rows, 5), float(value)))
    assert result.tolist() == [0, 0, 0]
    assert seen[0][0] is seen[1][0] and seen[0][1] is seen[1][1]
    assert (graphed.pixels == 2).all() and (graphed.targets[:, :32] == 2).all() and (graphed.targets[:, 32:] == 0).all()
    small = torch.ones(1, 32, 32, 3, dtype=torch.uint8), torch.ones(1, 64, 5)
    graphed(*small)
    assert seen[2][0] is small[0] and seen[2][1] is small[1], "a smaller batch runs as it is"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_asks_nothing_of_the_device(precision: str, optimizer: str, make_trainer: MakeTrainer) -> None:
    """Neither a number nor a shape that depends on one: both make the host wait, and a graph cannot hold them.

    By the profiler, since some gradients choose another way while a dispatch mode looks on.
    """
    trainer = make_trainer("run", precision, optimizer)
    batch = next(trainer.batches.epoch(1, mosaic=True))
    trainer.network.train()
    trainer.device_step(*batch)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        trainer.device_step(*batch)
    own = {"aten::_fused_adamw_", "aten::_fused_sgd_"}  # the kernels for CPUs read learning rate and scale
    names = {event.name for event in profiler.events() if event.cpu_parent is None or event.cpu_parent.name not in own}
    assert {"aten::conv2d", "aten::convolution_backward"} <= names and names & own
    asking = {name for name in names if any(part in name for part in ("aten::item", "nonzero", "masked_select", "unique"))}
    assert not asking


def test_no_tensor_of_a_step_comes_from_the_host() -> None:
    """On a device that is not the CPU (meta) no operator sees a tensor of the CPU: on a GPU that would be a copy, and a wait."""
    meta = torch.device("meta")
    for classes in (1, 3):
        network = Darknet(with_classes(SMALL, classes)).to(meta).train()
        loss = DetectionLoss(network, load_recipe("default"), 64, World(meta))
        pixels, targets = torch.zeros(2, 3, 64, 64, device=meta), torch.zeros(2, 32, 5, device=meta)
        with _Watching() as watching:
            loss(network(pixels), targets).total.backward()
        assert len(watching.calls) > 200
        for operator, *content in watching.calls:
            devices = {tensor.device.type for tensor in _tensors(content)}
            assert devices <= {"meta"}, operator


def test_what_has_no_graph_says_why() -> None:
    world = World(CPU)
    assert obstacle(world, 1) == "no GPU"
    world.device = torch.device("cuda", 0)
    assert obstacle(world, 1) is None
    assert obstacle(world, 4) == "gradients are averaged over 4 batches"
    world.size = 2
    assert obstacle(world, 1) == "several processes train together"


def test_capture_comes_before_rates_are_counted() -> None:
    assert graphs._WARMUP_STEPS + 1 <= clock._WARMUP_STEPS
