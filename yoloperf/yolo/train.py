"""`train.py`: from flags to a trained detector, with a line for people and an event for the parser at every turn."""

import argparse
import contextlib
import io
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import psutil
import torch

from yoloperf import __version__
from yoloperf.core import spec as specs
from yoloperf.core.environment import SOURCE_ROOT
from yoloperf.core.errors import UserError
from yoloperf.core.events import emit
from yoloperf.core.limits import Neighbours, available_cores
from yoloperf.core.process import SUPERVISED, die_with_parent
from yoloperf.core.rundir import RunDir, free_folder, newest_folder, write_atomic
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.cache import cache_folder
from yoloperf.datasets.config import DataConfig, load_data_config
from yoloperf.datasets.labels import Split, load_split
from yoloperf.yolo.device import choose_device, prepare
from yoloperf.yolo.images import open_images
from yoloperf.yolo.interrupt import Interrupts, Stopped, asking, outlasting
from yoloperf.yolo.profile import empty_summary, mark_steps, profile_steps, show_profile, write_profile
from yoloperf.yolo.recipe import load_recipe
from yoloperf.yolo.start import starting_network
from yoloperf.yolo.trainer import EpochResult, Trainer
from yoloperf.yolo.world import World, launched, rank

_EXAMPLE = "python train.py --img 416 --batch 8 --epochs 20 --data bccd.yaml --weights yolov3-tiny.weights"


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(
        prog="train.py",
        description="Train YOLOv3 or Tiny-YOLOv3.",
        epilog=f"example:\n  {_EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    specs.add_flags(flags)
    flags.add_argument("--save-dir", type=Path, help="run folder, a new one unless --resume (default: runs/train/NAME, numbered)")
    flags.add_argument("--name", default="exp", help="name of the run folder below runs/train (default: exp)")
    flags.add_argument(
        "--resume",
        action="store_true",
        help="continue from SAVE_DIR/weights/last.pt where there is one; without --save-dir, from the newest run of NAME",
    )
    flags.add_argument("--profile-steps", type=int, default=0, metavar="N", help="profile N further steps after the training (default: 0)")
    flags.add_argument(
        "--profile-range", action="store_true", help="only mark these steps (cudaProfilerStart/Stop) for nsys or nvprof around the process"
    )
    flags.add_argument("--no-cuda-graph", action="store_true", help="have a GPU's steps launched kernel by kernel")
    return flags


def main(argv: list[str] | None = None) -> int:
    """Train; returns the exit code: 0, 1 when memory ran out, 2 for a UserError, 128 + n when signal n asked to stop."""
    if os.environ.get(SUPERVISED) == "1":
        die_with_parent()
    with outlasting():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    try:
        args = parser().parse_args(argv)
        spec = specs.from_args(args)
        if "," in spec.device and not launched():
            choose_device(spec.device)
            _become_torchrun(spec.device.count(",") + 1, sys.argv[1:] if argv is None else argv)
        interrupts = Interrupts()
        if rank() > 0:
            return _follow(spec, args, interrupts)
        with interrupts.listening():
            return run(spec, args, interrupts)
    except UserError as error:
        if rank() == 0:
            print(f"train.py: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"train.py: stopped by {stopped.signal.name}", file=sys.stderr)
        return stopped.exit_code


def _become_torchrun(processes: int, argv: list[str]) -> NoReturn:
    """Go on as torchrun, which starts this command once for every device."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    folders = [str(SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"}  # torchrun warns where it is unset; prepare() sets it
    os.execv(sys.executable, [*torchrun, "-m", "yoloperf.yolo.train", *argv])


def _follow(spec: TrialSpec, args: argparse.Namespace, interrupts: Interrupts) -> int:
    """What every process but the first does: the same, in silence, stopping when the first one says so."""
    for number in asking():
        signal.signal(number, signal.SIG_IGN)
    with contextlib.redirect_stdout(io.StringIO()):
        return run(spec, args, interrupts)


def run(spec: TrialSpec, args: argparse.Namespace, interrupts: Interrupts) -> int:
    compute = prepare(spec.device, spec.precision, spec.threads)
    world = World(compute.device)
    if spec.batch_size < world.size:
        raise UserError(f"a batch of {spec.batch_size} has no image for each of {world.size} devices: raise --batch or use fewer")
    recipe = load_recipe(spec.hyp)
    config = load_data_config(spec.data)
    network, transferred = starting_network(spec, config)
    train, val = load_split(config, "train"), load_split(config, "val")
    if args.save_dir and not args.resume and RunDir(args.save_dir).last_weights.exists():
        raise UserError(f"{args.save_dir} holds a run already: --resume goes on with it, or choose another --save-dir")
    workers = spec.workers or available_cores()
    folder = cache_folder(config)
    with ThreadPoolExecutor(workers) as pool:
        images = open_images(train, f"{config.name}-train", spec.img_size, spec.cache, folder, workers)
        val_images = open_images(val, f"{config.name}-val", spec.img_size, spec.cache, folder, workers)
        rundir = RunDir(world.agree(_folder(args) if world.main or args.resume else None))  # now: an error before leaves no folder
        if world.main:
            _check_writable(rundir)
        trainer = Trainer(spec, recipe, network, list(config.names), compute, train, images, pool, rundir, interrupts, world)
        if args.no_cuda_graph:
            trainer.drop_graph("switched off")
        if args.resume:
            trainer.resume()
        facts = _facts(trainer, config, train, val, workers)
        emit("run_start", **facts)
        print(f"{spec.model} on {config.name}: {len(train.images)} training and {len(val.images)} validation images")
        for problem in (*train.problems, *val.problems):
            print(f"  {problem}")
        print(f"weights: {transferred}; {facts['gpu_name'] or 'CPU'}, {compute.precision}, {compute.threads} threads; {rundir.path}")
        if trainer.epochs_done or trainer.steps_begun:
            within = f" and {trainer.steps_begun} steps" if trainer.steps_begun else ""
            print(f"continuing after epoch {trainer.epochs_done}{within}")
        started, told = time.perf_counter(), trainer.epochs_done
        first, neighbours = told + 1, Neighbours()
        try:
            while trainer.epochs_done < spec.epochs:
                _tell(trainer.train_epoch(val, val_images, _first_step), spec.epochs)
                told = trainer.epochs_done
                if told == first and compute.device.type == "cpu" and world.size == 1:
                    _tell_if_crowded(neighbours.free_cores(), compute.threads)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            reason = f"batch size {spec.batch_size} at {spec.img_size} px does not fit the memory of {facts['gpu_name'] or 'this machine'}"
            emit("run_end", status="oom", reason=reason, epochs_done=trainer.epochs_done)
            print(f"train.py: out of memory: {reason}", file=sys.stderr)
            return 1
        except UserError as error:  # a loss of NaN, a checkpoint that the disk had no room for: the one before it is whole
            emit("run_end", status="failed", reason=str(error), epochs_done=told)
            raise
        except Stopped as stopped:
            if trainer.result and trainer.epochs_done > told:  # the signal came while its checkpoint was written
                _tell(trainer.result, spec.epochs)
            reason = f"stopped by {stopped.signal.name} in epoch {min(trainer.epochs_done + 1, spec.epochs)}"
            emit("run_end", status=stopped.status, reason=reason, epochs_done=trainer.epochs_done, steps_done=trainer.step)
            print(f"{reason}; --resume goes on from {rundir.last_weights}")
            raise
        result = trainer.result
        assert result is not None
        rates = {key: getattr(result, key) for key in ("images_per_s", "step_time_s", "data_time_s", "gpu_mem_peak_bytes")}
        how: dict[str, Any] = {"wall_s": time.perf_counter() - started, "no_cuda_graph": trainer.no_graph}
        emit("run_end", status="ok", reason=None, epochs_done=trainer.epochs_done, **how, **rates)
        if compute.device.type == "cuda":
            print(f"no CUDA graph: {trainer.no_graph}" if trainer.no_graph else "steps ran as a CUDA graph")
        print(_verdict(result, facts["flops_per_image"]))
        print(f"best weights: {rundir.best_weights}")
        if args.profile_steps:
            _profile(trainer, args.profile_steps, rundir, mark_steps if args.profile_range else profile_steps)
    world.close()
    return 0


def _folder(args: argparse.Namespace) -> Path:
    if args.save_dir:
        return Path(args.save_dir)
    return (newest_folder if args.resume else free_folder)(Path("runs/train"), args.name)


def _facts(trainer: Trainer, config: DataConfig, train: Split, val: Split, workers: int) -> dict[str, Any]:
    """The fields of run_start."""
    compute, spec = trainer.compute, trainer.spec
    on_gpu = compute.device.type == "cuda"
    properties = torch.cuda.get_device_properties(compute.device) if on_gpu else None
    return {
        "spec": asdict(spec),
        "engine": "yoloperf",
        "version": __version__,
        "model": spec.model,
        "dataset": config.name,
        "dataset_hash": train.hash,
        "train_images": len(train.images),
        "val_images": len(val.images),
        "device": str(compute.device),
        "gpu_name": properties.name if properties else None,
        "gpu_mem_bytes": properties.total_memory if properties else None,
        "precision_mode": compute.precision,
        "processes": trainer.world.size,
        "threads": compute.threads,
        "workers": workers,
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": _cudnn(torch.backends.cudnn.version()) if on_gpu else None,  # type: ignore[no-untyped-call]
        "python": platform.python_version(),
        "flops_per_image": trainer.network.training_flops(spec.img_size),
        "parameters": sum(parameter.numel() for parameter in trainer.network.parameters()),
        "start_epoch": trainer.epochs_done,
        "start_step": trainer.step,
    }


def _cudnn(number: int | None) -> str | None:
    """cuDNN's number as its releases are called: 91002 is 9.10.2; before version 9 the major number counted thousands."""
    if number is None:
        return None
    unit = 10_000 if number >= 90_000 else 1_000
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def _first_step() -> None:
    emit("first_step", startup_s=round(time.time() - psutil.Process().create_time(), 3))


def _tell(result: EpochResult, epochs: int) -> None:
    emit("epoch", **asdict(result))
    print(_line(result, epochs))


def _tell_if_crowded(free_cores: float, threads: int) -> None:
    if free_cores < threads - 0.5:
        advice = f"--threads {max(1, round(free_cores))} may be faster, for a step waits for its slowest thread"
        print(f"  other processes left {max(0.0, free_cores):.1f} cores to {threads} threads: {advice}")


def _line(result: EpochResult, epochs: int) -> str:
    scores = " ".join(
        f"{title} {'-' if value is None else f'{value:.3f}'}"
        for title, value in (("P", result.precision), ("R", result.recall), ("mAP@0.5", result.map50), ("mAP@0.5:0.95", result.map50_95))
    )
    speed = "" if result.images_per_s is None else f"  {result.images_per_s:.1f} images/s"
    losses = f"box {result.box_loss:.4f} obj {result.obj_loss:.4f} cls {result.cls_loss:.4f}"
    return f"epoch {result.epoch}/{epochs}  {losses}  {scores}{speed}  train {result.train_s:.1f} s, validation {result.val_s:.1f} s"


def _verdict(result: EpochResult, flops: float) -> str:
    """What bounds the training: waiting for images, or computing."""
    if result.images_per_s is None or not result.step_time_s or result.data_time_s is None:
        return "too few steps after warm-up to state a rate"
    waiting = result.data_time_s / result.step_time_s
    bound = (
        f"loader-bound: {waiting:.0%} of a step waits for images"
        if waiting > 0.5
        else f"compute-bound: {waiting:.0%} of a step waits for images"
    )
    return f"{result.images_per_s:.1f} images/s = {result.images_per_s * flops / 1e9:.0f} GFLOP/s in convolutions; {bound}"


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def _profile(trainer: Trainer, steps: int, rundir: RunDir, observe: Callable[..., dict[str, Any]]) -> None:
    """Observe steps that change nothing which is kept: every checkpoint is written already."""
    batch = next(trainer.batches.epoch(1, mosaic=True))
    trainer.network.train()
    trainer.drop_graph("profiled")  # nsys sees a graph as one kernel
    try:
        summary = observe(lambda: trainer.train_step(batch), steps, trainer.compute.device)
    except RuntimeError as error:  # the profiler's or the device's: the training that it follows is done all the same
        summary = empty_summary(steps, trainer.compute.device, str(error).splitlines()[0])
    if trainer.world.main:
        write_profile(rundir.profile, summary)
    print(show_profile(summary))


def _check_writable(rundir: RunDir) -> None:
    """Fail before the first long minute: the weights folder must take a file. Raises UserError."""
    probe = rundir.last_weights.parent / ".writable"
    write_atomic(probe, "")
    probe.unlink()


if __name__ == "__main__":
    raise SystemExit(main())
