"""The ultralytics package's `yolo detect train` under the flags and events of train.py, as a process of its own.

It is never imported: it lives in an environment of its own, found by YOLOPERF_ULTRALYTICS (path of its `yolo` command) or on PATH.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO

from yoloperf.core import spec as specs
from yoloperf.core.errors import UserError
from yoloperf.core.events import emit
from yoloperf.core.process import SUPERVISED, die_with_parent
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec

COMMAND = "YOLOPERF_ULTRALYTICS"
_CPU_COUNT = Path(__file__).with_name("cpu_count")
MOST_THREADS = 8  # it takes one thread fewer than there are cores, and never more than this
_SMALLER_BATCH = b"Reducing to batch="  # it goes on with half the batch then, which is not what was asked for
_OUT_OF_MEMORY = (b"out of memory", b"OutOfMemoryError", b"can't allocate memory")


def find() -> str:
    """Its command. Raises UserError where there is none."""
    command = os.environ.get(COMMAND) or "yolo"
    path = shutil.which(command)
    if path is None:
        raise UserError(
            f"engine ultralytics: no command {command}: install ultralytics into an environment of its own "
            f"(python -m venv DIR; DIR/bin/pip install ultralytics) and set {COMMAND}=DIR/bin/yolo"
        )
    return path


def command(spec: TrialSpec, run: RunDir, resume: bool) -> list[str]:
    """Its command line. Raises UserError for what it cannot be told."""
    if spec.lr_scale != 1 or spec.hyp != "default":
        raise UserError("engine ultralytics trains by its own recipe: leave lr_scale and hyp as they are")
    if spec.precision == "bf16" or (spec.precision == "fp16" and spec.device == "cpu"):
        raise UserError(f"engine ultralytics has no {spec.precision} on this device: choose precision auto or fp32")
    if spec.threads and spec.threads > MOST_THREADS:
        raise UserError(f"engine ultralytics uses {MOST_THREADS} CPU threads at most, not {spec.threads}")
    if spec.weights.endswith(".weights"):
        raise UserError(f"engine ultralytics cannot read {spec.weights}: give weights '' or a .pt of its own")
    data = Path(spec.data)
    if not data.is_file():
        raise UserError(f"engine ultralytics needs the path of a YOLO data set's YAML, not {spec.data}: yoloperf data convert makes one")
    given = {
        "model": run.last_weights if resume else spec.weights or f"{spec.model}.yaml",
        "data": data.resolve(),
        "imgsz": spec.img_size,
        "batch": spec.batch_size,
        "nbs": spec.batch_size * spec.accumulate,  # its nominal batch size: else it would sum gradients up to 64 images
        "epochs": spec.epochs,
        "seed": spec.seed,
        "project": run.path.resolve().parent,
        "name": run.path.name,
        "exist_ok": True,
        "plots": False,
        **({"resume": True} if resume else {}),
        **({} if spec.device == "auto" else {"device": spec.device}),
        **({} if spec.precision == "auto" else {"amp": spec.precision == "fp16"}),
        **({} if spec.workers is None else {"workers": spec.workers}),
    }
    return [find(), "detect", "train", *(f"{name}={value}" for name, value in given.items())]


def threads(spec: TrialSpec) -> int:
    """CPU threads that it uses: NUM_THREADS of its utils/__init__.py where none are given."""
    return spec.threads or min(MOST_THREADS, max(1, (os.cpu_count() or 1) - 1))


def environment(spec: TrialSpec) -> dict[str, str]:
    """With `threads` given it is told of one core more, since it leaves one free."""
    if spec.threads is None:
        return dict(os.environ)
    folders = os.pathsep.join(filter(None, [str(_CPU_COUNT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": folders, "YOLOPERF_CPU_COUNT": str(spec.threads + 1)}


def main(argv: list[str] | None = None) -> int:
    """Train; returns its exit code, 1 when memory ran out, 2 for a UserError."""
    if os.environ.get(SUPERVISED) == "1":
        die_with_parent()
    parser = argparse.ArgumentParser(prog="ultralytics", description=__doc__)
    specs.add_flags(parser)
    parser.add_argument("--save-dir", type=Path, required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--profile-steps", type=int)
    parser.add_argument("--profile-range", action="store_true")
    args = parser.parse_args(argv)
    spec, run = specs.from_args(args), RunDir(args.save_dir)
    try:
        line = command(spec, run, args.resume and run.last_weights.exists())
    except UserError as error:
        print(f"ultralytics: {error}", file=sys.stderr)
        return 2
    emit("run_start", spec=asdict(spec), engine="ultralytics", model=spec.model, dataset=Path(spec.data).stem, threads=threads(spec))
    this = os.getpid()
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment(spec), preexec_fn=lambda: die_with_parent(this)
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the whole group gets it; it ends by it, and its end is told below
    signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(signal.SIGINT))
    assert process.stdout is not None
    said = b""
    for piece in _pass_on(process.stdout):
        said = (said + piece)[-100_000:]
        if _SMALLER_BATCH in said:
            process.kill()
    code = process.wait()
    if code == 0:
        emit("run_end", status="ok", reason=None, epochs_done=spec.epochs)
        return 0
    if any(text in said for text in _OUT_OF_MEMORY):
        emit("run_end", status="oom", reason=f"batch size {spec.batch_size} at {spec.img_size} px does not fit")
        return 1
    return code if code > 0 else 128 - code


def _pass_on(stream: IO[bytes]) -> Iterator[bytes]:
    """What the process prints, as it comes."""
    while piece := os.read(stream.fileno(), 65536):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        yield piece


if __name__ == "__main__":
    raise SystemExit(main())
