"""The training loop: steps, epochs, checkpoints. What it prints and writes is decided in train.py."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.labels import Split
from yoloperf.yolo.cfg import parse_cfg
from yoloperf.yolo.clock import StepClock
from yoloperf.yolo.darknet import Darknet
from yoloperf.yolo.device import Compute
from yoloperf.yolo.evaluate import Scores, evaluate
from yoloperf.yolo.graph import GraphedStep, obstacle
from yoloperf.yolo.images import Images
from yoloperf.yolo.interrupt import Interrupts, Stopped
from yoloperf.yolo.loader import Batch, TrainingBatches, to_network
from yoloperf.yolo.loss import DetectionLoss
from yoloperf.yolo.optimise import AveragedWeights, Optimizer, learning_rate
from yoloperf.yolo.recipe import Recipe
from yoloperf.yolo.weights import Checkpoint, load_weights, save_checkpoint
from yoloperf.yolo.world import World


@dataclass(frozen=True)
class EpochResult:
    """One epoch. Losses are means over its steps, with their gains; times in seconds; rates without warm-up steps."""

    epoch: int
    lr: float
    box_loss: float
    obj_loss: float
    cls_loss: float
    precision: float | None
    recall: float | None
    map50: float | None
    map50_95: float | None
    train_s: float
    val_s: float
    images_per_s: float | None
    step_time_s: float | None
    data_time_s: float | None
    gpu_mem_peak_bytes: int | None


@dataclass
class _Begun:
    """What is done of an epoch that is not finished: batches, the sum of their losses [3] as all processes know it, the time they took."""

    batches: int = 0
    losses: Tensor | None = None
    train_s: float = 0.0


class Trainer:
    """Trains one network for one spec and keeps its checkpoints in a run folder."""

    def __init__(
        self,
        spec: TrialSpec,
        recipe: Recipe,
        network: Darknet,
        names: list[str],
        compute: Compute,
        train: Split,
        images: Images,
        pool: ThreadPoolExecutor,
        rundir: RunDir,
        interrupts: Interrupts,
        world: World,
    ) -> None:
        self.spec, self.recipe, self.names, self.compute, self.rundir, self.pool = spec, recipe, names, compute, rundir, pool
        self.interrupts, self.world = interrupts, world
        self.network = network.to(compute.device).to(memory_format=torch.channels_last).train()
        self.joined = world.join(self.network)
        self.batches = TrainingBatches(train, images, recipe, spec.img_size, spec.batch_size, spec.seed, pool, world)
        self.loss = DetectionLoss(network, recipe, spec.img_size, world)
        self.optimizer = Optimizer(self.network, recipe, capturable=compute.device.type == "cuda")
        self.averaged = AveragedWeights(self.network, recipe)
        self.scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision == "fp16")
        self._obstacle = obstacle(world, spec.accumulate)
        self.graph: GraphedStep | None = None
        if self._obstacle is None:
            shape = spec.batch_size, spec.img_size, self.batches.most_boxes
            self.graph = GraphedStep(self.device_step, self.optimizer.zero_grad, *shape, compute.device)
        self.epochs_done = 0
        self.step = 0  # of the optimiser, over all epochs
        self.best: float | None = None
        self.result: EpochResult | None = None  # of the last finished epoch
        self._begun = _Begun()
        self._started = False
        self._clock = StepClock(compute)

    def run_epoch(self, on_first_step: Callable[[], None]) -> dict[str, float | None]:
        """The training steps of the next epoch that are not done yet; returns its rates.

        Raises Stopped between two steps, and UserError, in every process, where a loss was not finite.
        """
        epoch, begun = self.epochs_done + 1, self._begun
        mosaic = epoch <= round(self.spec.epochs * (1 - self.recipe.plain_epochs))
        losses = torch.zeros(3, device=self.compute.device) if begun.losses is None else begun.losses.to(self.compute.device)
        self.network.train()
        started = time.perf_counter() - begun.train_s
        self._clock.start_epoch()
        batches = tqdm(
            self.batches.epoch(epoch, mosaic, begun.batches),
            f"epoch {epoch}/{self.spec.epochs}",
            len(self.batches),
            initial=begun.batches,
            unit="step",
            leave=False,
            disable=None if self.world.main else True,
        )
        stop: int | None = None
        for batch in batches:
            self._clock.data_ready()
            if not self._started:
                self._started = True
                on_first_step()
            first_of_sum = begun.batches - begun.batches % self.spec.accumulate
            in_sum = min(self.spec.accumulate, len(self.batches) - first_of_sum)
            begun.batches += 1
            last_of_sum = begun.batches == first_of_sum + in_sum
            losses += self.train_step(batch, last_of_sum, in_sum)
            self._clock.step_done(self.batches.images_in(begun.batches - 1))
            stop = self.world.agree(self.interrupts.asked) if last_of_sum else None
            if stop is not None:
                break
        rates = self._clock.end_epoch()
        begun.losses, begun.train_s = self.world.mean(losses), time.perf_counter() - started
        if not begun.losses.isfinite().all():  # before a checkpoint: the last one is whole
            lower = f"train anew with an --lr-scale below {self.spec.lr_scale:g}"
            raise UserError(f"the loss is not finite in epoch {epoch} (NaN or infinity): {lower}")
        if stop is not None:
            raise Stopped(stop)
        return rates

    def train_step(self, batch: Batch, last_of_sum: bool = True, in_sum: int = 1) -> Tensor:
        """Forward, backward and, after the last of the `in_sum` batches whose gradients are averaged, one optimiser step.

        Returns the batch's losses [3].
        """
        if last_of_sum:
            self.optimizer.set_lr(self.learning_rate())
        try:
            parts = self.graph(*batch) if self.graph else self.device_step(*batch, last_of_sum, in_sum)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # PyTorch's batch norm
                raise
            enough = "choose a larger --img, or a --batch that leaves no image over by itself"
            raise UserError(f"a batch of one image of {self.spec.img_size} px is too little to train with: {enough}") from error
        if last_of_sum:
            self.averaged.update()
            self.step += 1
        return parts

    def device_step(self, pixels: Tensor, targets: Tensor, last_of_sum: bool = True, in_sum: int = 1) -> Tensor:
        """What of a step can be recorded as a CUDA graph: no number comes from the host or goes there. Returns the losses [3]."""
        images = to_network(pixels, self.compute.device)
        targets = targets.to(self.compute.device, non_blocking=True)
        with self.compute.autocast():
            outputs = self.joined(images)
        losses = self.loss(outputs, targets)
        self.scaler.scale(losses.total / in_sum).backward()  # type: ignore[no-untyped-call]
        if last_of_sum:
            self.scaler.step(self.optimizer)  # type: ignore[arg-type]  # it asks for param_groups and step only
            self.scaler.update()
            self.optimizer.zero_grad()
        return losses.parts

    @property
    def no_graph(self) -> str | None:
        """Why steps do not run as a CUDA graph, or None where they do."""
        return self.graph.reason if self.graph else self._obstacle

    def drop_graph(self, reason: str) -> None:
        """Steps to come run kernel by kernel."""
        self.graph, self._obstacle = None, reason

    def learning_rate(self) -> float:
        return learning_rate(self.recipe, self.spec.lr_scale, self.step, -(-len(self.batches) // self.spec.accumulate), self.spec.epochs)

    def train_epoch(self, val: Split, val_images: Images, on_first_step: Callable[[], None]) -> EpochResult:
        """Train one epoch, validate the averaged weights, write the checkpoints.

        Raises Stopped when a signal asked for it; the last checkpoint then holds every step that was made. Raises UserError, and
        leaves the checkpoints as they were, where a loss was not finite.
        """
        try:
            with self.interrupts.held():
                rates = self.run_epoch(on_first_step)
            started = time.perf_counter()
            scores = self.world.agree(self._validate(val, val_images) if self.world.main else None)
        except Stopped:
            self._save_last()
            raise
        val_s = time.perf_counter() - started
        with self.interrupts.held():
            self.epochs_done += 1
            assert self._begun.losses is not None
            box, obj, cls = (self._begun.losses / len(self.batches)).tolist()
            self.result = EpochResult(
                self.epochs_done, self.optimizer.lr, box, obj, cls, **scores.asdict(),
                train_s=self._begun.train_s, val_s=val_s, **rates, gpu_mem_peak_bytes=self.compute.peak_memory_bytes(),
            )  # fmt: skip
            self._begun = _Begun()
            if self.best is None or (scores.map50_95 or 0.0) >= self.best:
                self.best = scores.map50_95 or 0.0
                self._save(self.rundir.best_weights, {})
            self._save_last()
        return self.result

    def _validate(self, val: Split, val_images: Images) -> Scores:
        return evaluate(self.averaged.network, val, val_images, self.spec.img_size, self.spec.batch_size, self.compute, self.pool)

    def _save(self, path: Path, training: dict[str, Any]) -> None:
        if self.world.main:
            state = self.averaged.network.state_dict()
            save_checkpoint(path, Checkpoint(self.network.cfg, state, self.names, self.spec.img_size, training))

    def _save_last(self) -> None:
        """Write what a resumed training needs: in the middle of an epoch its finished steps, after the last epoch only the weights."""
        progress = {
            "spec": asdict(self.spec),
            "recipe": asdict(self.recipe),
            "epochs_done": self.epochs_done,
            "step": self.step,
            "best": self.best,
            "result": None if self.result is None else asdict(self.result),
        }
        if self.epochs_done < self.spec.epochs:
            progress |= {
                "begun": vars(self._begun),
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "averaged_steps": self.averaged.steps,
            }
        self._save(self.rundir.last_weights, progress)

    def resume(self) -> None:
        """Continue from the run folder's last checkpoint if there is one.

        Raises UserError where it is broken, or of another spec, recipe, network or other classes.
        """
        path: Path = self.rundir.last_weights
        if not path.is_file():
            return
        try:
            checkpoint = load_weights(path)
        except UserError as error:
            raise UserError(f"cannot resume, {path} is no whole checkpoint: delete it, and the training begins anew") from error
        progress = checkpoint.training
        before = progress["spec"] | progress.get("recipe", {}) | {"names": checkpoint.names}  # older ones lack the recipe
        now = asdict(self.spec) | asdict(self.recipe) | {"names": self.names}
        changed = [f"{key} {old!r} -> {now.get(key)!r}" for key, old in before.items() if now.get(key) != old]
        if parse_cfg(checkpoint.cfg) != parse_cfg(self.network.cfg):
            changed.append("cfg")
        if changed:
            otherwise = "choose another --save-dir, or delete it to begin anew"
            raise UserError(f"{path} was trained with other settings ({', '.join(changed)}): {otherwise}")
        self.averaged.network.load_state_dict(checkpoint.state)
        if "network" in progress:
            self.network.load_state_dict(progress["network"])
            self.optimizer.load_state_dict(progress["optimizer"])
            if progress["scaler"]:  # empty where the checkpoint was written in bf16 or fp32
                self.scaler.load_state_dict(progress["scaler"])
            self.averaged.steps = progress["averaged_steps"]
            self._begun = _Begun(**progress["begun"])
        self.epochs_done, self.step, self.best = progress["epochs_done"], progress["step"], progress["best"]
        self.result = progress["result"] and EpochResult(**progress["result"])

    @property
    def steps_begun(self) -> int:
        """Batches of the next epoch that are behind an interrupted training."""
        return self._begun.batches
