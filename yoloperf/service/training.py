"""Training runs that a page asks for: a queue of sweep files, worked off by `yoloperf sweep`, one run at a time a device.

All state is in files, so that a restart of the service goes on where it was: `<logs>/.training/<id>.yaml` is a sweep of one cell,
`<id>.platform` names the platform it was asked for on, which a container's next start does not bear any more, `<id>.cancelled` says that
nobody wants it any more, `<id>.out` is what the sweep printed, and the rest is told by the run's folder.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from yoloperf.core import events, lock
from yoloperf.core.rundir import RunDir, write_atomic
from yoloperf.harness.gpu import gpus
from yoloperf.harness.outcome import read_console
from yoloperf.harness.state import CellState
from yoloperf.harness.sweep import Place, survey
from yoloperf.harness.sweepfile import from_content, load_sweep, slug
from yoloperf.service.refusal import Refused
from yoloperf.service.training_request import RANGES, Request

QUEUE = 16  # runs that may wait
_GRACE_S = 20.0  # for the trainer to finish its step and write a checkpoint when the service ends
_PROFILER = ("--profile-steps", "3")  # enough for the table's biggest operator, and over soon

ENDED = ("done", "failed", "cancelled")
_STATES = {"ok": "done", "oom": "failed", "failed": "failed", "timeout": "failed"}  # all other states of a cell wait for their turn


@dataclass(frozen=True)
class Job:
    """A run that was asked for, wherever it stands."""

    id: str
    platform: str
    place: Place
    asked_at: float
    cancelled: bool

    @property
    def device(self) -> str:
        return self.place.cell.spec.device


class Training:
    """The queue and the runs. `start` begins to work it off; `close` stops what runs so that the next start goes on with it."""

    def __init__(self, logs: Path, platform: str | None = None, threads: int | None = None) -> None:
        """logs: the folder of all runs; threads: CPU threads of a run (default: every core).

        Raises UserError where the folder cannot be written or another service trains in it.
        """
        self.logs = logs
        self.platform = platform or slug(socket.gethostname())
        self.devices = [str(index) for index in range(len(gpus().visible))] if len(gpus().visible) > 1 else ["auto"]
        self._threads = threads
        self._folder = logs / ".training"
        self._changed = threading.Condition()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._tried: set[str] = set()  # by this process: what ends without a word must not be tried for ever
        self._closing = threading.Event()
        self._workers = [
            threading.Thread(target=self._work, args=(device,), name=f"training {device}", daemon=True) for device in self.devices
        ]
        self._held = ExitStack()
        self._held.enter_context(lock.held(self._folder / "run.lock", f"training in {logs}"))

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def close(self) -> None:
        """Ask the running trainers for a checkpoint, wait for it a while, and end them."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
            for child in self._children.values():
                child.send_signal(signal.SIGINT)
        deadline = time.monotonic() + _GRACE_S
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            for child in self._children.values():
                child.kill()
        for worker in self._workers:
            worker.join()
        self._held.close()

    def submit(self, request: Request) -> str:
        """Put a run into the queue; returns its id.

        Raises UserError for a request that cannot be trained, Refused when the queue is full.
        """
        fixed = request.fields()
        if self._threads:
            fixed["threads"] = self._threads
        with self._changed:
            jobs = self._jobs()
            waiting = [job for job in jobs if self._state(job)[0] == "queued"]
            if len(waiting) >= QUEUE:
                message = f"{QUEUE} runs are waiting already: cancel one, or try again when one is done"
                raise Refused(429, "queue-full", message, retry_after_s=60)
            busy = [job.device for job in jobs if self._state(job)[0] in ("queued", "running", "cancelling")]
            fixed["device"] = min(self.devices, key=busy.count)
            number = 1 + max((int(job.id.partition("-")[0]) for job in jobs), default=0)
            content = {"name": f"{number:04}-{request.slug}", "fixed": fixed}
            from_content(content, "the request", "").cells()
            write_atomic(self._folder / f"{content['name']}.platform", self.platform)
            write_atomic(self._folder / f"{content['name']}.yaml", yaml.safe_dump(content, sort_keys=False))
            self._changed.notify_all()
        return str(content["name"])

    def runs(self) -> list[dict[str, Any]]:
        """Every run that was asked for, the newest first: see `run`, without the epochs."""
        with self._changed:
            return [self._summary(job) for job in reversed(self._jobs())]

    def run(self, id: str) -> dict[str, Any]:
        """What is known of a run; `history` holds its epoch events. Raises Refused for an unknown one."""
        with self._changed:
            job = self._job(id)
            return {**self._summary(job), "history": _epochs(job.place.run)}

    def console(self, id: str) -> Path:
        """The log with the run's events, which may not be there yet. Raises Refused for an unknown one."""
        with self._changed:
            return self._job(id).place.run.console

    def cancel(self, id: str) -> None:
        """Take a run from the queue, or have it stop with a checkpoint. Raises Refused for an unknown run and for one that has ended."""
        with self._changed:
            job = self._job(id)
            state, _ = self._state(job)
            if state in ENDED:
                raise Refused(409, "run-has-ended", f"the run {id} is {state} already")
            write_atomic(self._folder / f"{id}.cancelled", "")
            if id in self._children and not job.cancelled:
                self._children[id].send_signal(signal.SIGINT)

    def weights(self, id: str) -> Path:
        """The best weights of a run that has ended. Raises Refused for an unknown run and where there are none."""
        with self._changed:
            job = self._job(id)
            state, _ = self._state(job)
        if state not in ENDED:
            raise Refused(409, "run-goes-on", f"the run {id} is {state}: wait until it has ended, or cancel it")
        if not job.place.run.best_weights.is_file():
            raise Refused(409, "no-weights", f"the run {id} is {state} and left no weights")
        return job.place.run.best_weights

    def _jobs(self) -> list[Job]:
        return [self._read(file) for file in sorted(self._folder.glob("*.yaml"))]

    def _job(self, id: str) -> Job:
        file = self._folder / f"{id}.yaml"
        if not re.fullmatch(r"\d{4,}-[A-Za-z0-9_.+-]+", id) or not file.is_file():
            raise Refused(404, "unknown-run", f"no training run {id[:80]!r}: GET /api/training lists them")
        return self._read(file)

    def _read(self, file: Path) -> Job:
        sweep = load_sweep(file)
        asked_on = file.with_suffix(".platform")
        platform = asked_on.read_text() if asked_on.exists() else self.platform
        place = survey(sweep, self.logs / platform / sweep.name)[0]
        return Job(sweep.name, platform, place, file.stat().st_mtime, file.with_suffix(".cancelled").exists())

    def _state(self, job: Job) -> tuple[str, str | None]:
        """queued, running, cancelling, done, failed or cancelled, and why."""
        if job.id in self._children:
            return ("cancelling", "waiting for its checkpoint") if job.cancelled else ("running", None)
        kept: CellState = job.place.state
        state = _STATES.get(kept.state, "queued")
        if state in ("done", "failed"):
            return state, kept.reason
        if job.cancelled:
            return "cancelled", "stopped on request"
        if job.id in self._tried:
            said = read_console(self._folder / f"{job.id}.out").last_line
            return "failed", said or kept.reason
        return "queued", kept.reason if kept.epochs_done else None

    def _summary(self, job: Job) -> dict[str, Any]:
        spec, kept = job.place.cell.spec, job.place.state
        state, reason = self._state(job)
        content = job.place.run.read() or {}
        last: dict[str, Any] = next(reversed(_epochs(job.place.run)), {})
        figures = ("box_loss", "obj_loss", "cls_loss", "precision", "recall", "map50", "map50_95", "images_per_s")
        return {
            "id": job.id,
            "state": state,
            "reason": reason,
            "model": Path(spec.weights or spec.cfg).name,
            "data": Path(spec.data).stem,
            **{key: getattr(spec, key) for key in RANGES},
            "device": spec.device,
            "epoch": kept.epochs_done,
            **{key: last.get(key) for key in figures},
            "asked_at": datetime.fromtimestamp(job.asked_at, UTC).isoformat(timespec="seconds"),
            "started_at": content.get("started_at"),
            "wall_s": kept.wall_s,
            "weights": state in ENDED and job.place.run.best_weights.is_file(),
            "run_id": "/".join(job.place.run.path.parts[-3:]),
        }

    def _work(self, device: str) -> None:
        while True:
            with self._changed:
                while (job := self._next(device)) is None and not self._closing.is_set():
                    self._changed.wait()
                if job is None or self._closing.is_set():
                    return
                self._tried.add(job.id)
                child = self._children[job.id] = self._begin(job)
            child.wait()
            with self._changed:
                del self._children[job.id]
                if self._closing.is_set():
                    self._tried.remove(job.id)

    def _next(self, device: str) -> Job | None:
        return next((job for job in self._jobs() if job.device == device and self._state(job)[0] == "queued"), None)

    def _begin(self, job: Job) -> subprocess.Popen[bytes]:
        """The sweep, in a session of its own: a Ctrl-C at the service's terminal is passed on by `close`, once."""
        sweep = [sys.executable, "-m", "yoloperf", "sweep", str(self._folder / f"{job.id}.yaml")]
        place = ["--platform", job.platform, "--logs", str(self.logs), *_PROFILER]
        with (self._folder / f"{job.id}.out").open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), *sweep, *place],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _epochs(run: RunDir) -> list[dict[str, Any]]:
    """Epoch events over all attempts; an epoch that was repeated counts once."""
    try:
        lines = run.console.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return list({event["epoch"]: event for event in events.read(lines)[0] if event["key"] == "epoch"}.values())
