"""A trainer that trains nothing and otherwise behaves like train.py: flags, events, checkpoints, signals, exit codes.

--hyp tells it what to do: ok, slow, long, oom, fail, crash (in epoch 2, once), full (no room for the checkpoint of epoch 2, once),
silent (no run_end), greedy (takes a gigabyte), hang, or stubborn (hangs with a child, and neither heeds a signal). Every epoch leaves
a line "epoch pid" in work.txt; `exclusive` would show two at once. Its weights are a chain of hashes, one a step:
those of a resumed run equal those of an uninterrupted one.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from yoloperf.core import spec as specs
from yoloperf.core.events import emit
from yoloperf.core.process import SUPERVISED, die_with_parent
from yoloperf.core.rundir import RunDir, write_atomic

STEPS = 5  # an epoch

if os.environ.get(SUPERVISED) == "1":
    die_with_parent()

parser = argparse.ArgumentParser()
specs.add_flags(parser)
parser.add_argument("--save-dir", type=Path)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--profile-steps", type=int, default=0)
parser.add_argument("--profile-range", action="store_true")
args = parser.parse_args()
spec = specs.from_args(args)
run = RunDir(args.save_dir)
work = run.path / "work.txt"

exclusive = (run.path / "exclusive").open("w")
fcntl.flock(exclusive, fcntl.LOCK_EX | fcntl.LOCK_NB)

asked: list[int] = []
if spec.hyp not in ("hang", "stubborn"):
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(each, lambda number, frame: asked.append(number))

step, weights = 0, spec.hash
if args.resume and run.last_weights.exists():
    step, weights = json.loads(run.last_weights.read_text())
emit("run_start", spec=asdict(spec), engine="standin", start_epoch=step // STEPS, start_step=step)
print(f"training {spec.model}", file=sys.stderr)
if spec.hyp == "fail":
    print("standin: no such data set", file=sys.stderr)
    raise SystemExit(2)
if spec.hyp == "silent":
    raise SystemExit(0)
for epoch in range(step // STEPS + 1, spec.epochs + 1):
    with work.open("a") as stream:
        stream.write(f"{epoch} {os.getpid()}\n")
    if spec.hyp == "stubborn":
        if os.fork() == 0:
            with work.open("a") as stream:
                stream.write(f"{epoch} {os.getpid()}\n")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if spec.hyp in ("hang", "stubborn"):
        time.sleep(600)
    if spec.hyp == "greedy":
        taken = bytearray(os.urandom(2**20) * 1024)
        time.sleep(600)
    if spec.hyp == "crash" and epoch == 2 and not args.resume:
        raise RuntimeError("the device fell off the bus")
    if spec.hyp == "full" and epoch == 2 and not args.resume:
        emit("run_end", status="failed", reason="cannot write last.pt: No space left on device", epochs_done=epoch - 1)
        raise SystemExit(2)
    if spec.hyp == "oom":
        emit("run_end", status="oom", reason=f"batch size {spec.batch_size} does not fit", epochs_done=epoch - 1)
        raise SystemExit(1)
    while step < epoch * STEPS:
        time.sleep({"slow": 0.04, "long": 0.4}.get(spec.hyp, 0.006))
        step += 1
        weights = hashlib.sha256(f"{weights} {step}".encode()).hexdigest()
        if asked:
            write_atomic(run.last_weights, json.dumps([step, weights]))
            reason = f"stopped by {signal.Signals(asked[0]).name} in epoch {epoch}"
            emit("run_end", status="preempted", reason=reason, epochs_done=epoch - 1, steps_done=step)
            raise SystemExit(128 + asked[0])
    write_atomic(run.last_weights, json.dumps([step, weights]))
    emit("epoch", epoch=epoch, map50=0.5)
emit("run_end", status="ok", reason=None, epochs_done=spec.epochs)
if args.profile_steps:
    kind, domain, why = ("range", "gpu", "null") if args.profile_range else ("torch", "cpu", '"a stand-in"')
    write_atomic(run.profile, f'{{"profiler": "{kind}", "domain": "{domain}", "steps": 1, "wall_s": 0.1, "kernels": [], "reason": {why}}}')
