"""One command on this machine, as a process group of its own that never outlives the one that watches it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yoloperf.core.process import SUPERVISED, die_with_parent

POLL_S = 0.05
# SIGINT first: the trainer leaves in order and GNU time, which ignores it, still writes its block. Before it leaves it finishes
# its step and writes a checkpoint, for YOLOv3 half a gigabyte.
PATIENCE_S = 30.0
_AFTER_TERM_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a command ended. CPU times and memory are those of the command and of every child it waited for (wait4)."""

    exit_code: int  # 128 + n after signal n
    killed: bool  # by a signal: children that it had not waited for are missing from the figures
    stopped: Literal["timeout", "stop"] | None  # why it was made to end
    wall_s: float
    user_s: float
    system_s: float
    max_rss_bytes: int


def run(
    argv: list[str],
    console: Path,
    lock: int,
    timeout_s: float | None,
    stop: Callable[[], int],
    tick: Callable[[int], None],
    patience_s: float | None = None,
) -> Ended:
    """Run a command to its end, its output appended to `console`, and leave nothing of its process group alive.

    lock: descriptor that the command inherits, so that an orphan keeps the run locked.
    stop: how many times a person or a scheduler has asked to stop; asking again hurries the ladder of signals.
    tick: called about twenty times a second, with the number of the command's first process, which leads a session of its own.
    patience_s: how long it may take to end in order, PATIENCE_S unless a scheduler is known to grant more.

    Call it from a thread that lives as long as the command: its end is the command's end, too.
    """
    this = os.getpid()

    def before_exec() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job would hand down "ignore"
        for number in (signal.SIGTERM, signal.SIGUSR1):
            # Slurm signals every process of a job: GNU time would die, and its trainer with it, that now hears it by its own handler
            signal.signal(number, signal.SIG_IGN)
        die_with_parent(this)

    started = time.monotonic()
    with console.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", SUPERVISED: "1"},
            start_new_session=True,
            pass_fds=(lock,),
            preexec_fn=before_exec,
        )
    stopped: Literal["timeout", "stop"] | None = None
    try:
        while not _ended(process.pid):
            if stop():
                stopped = "stop"
            elif timeout_s is not None and time.monotonic() - started > timeout_s:
                stopped = "timeout"
            if stopped:
                _descend(process.pid, PATIENCE_S if patience_s is None else patience_s, stop, tick)
                break
            tick(process.pid)
            time.sleep(POLL_S)
    finally:
        # the leader is not reaped yet, so its number cannot have passed to another group
        os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    code = process.returncode
    return Ended(
        exit_code=code if code >= 0 else 128 - code,
        killed=code < 0,
        stopped=stopped,
        wall_s=round(time.monotonic() - started, 3),
        user_s=usage.ru_utime,
        system_s=usage.ru_stime,
        max_rss_bytes=usage.ru_maxrss * 1024,
    )


def _ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _descend(group: int, patience_s: float, stop: Callable[[], int], tick: Callable[[int], None]) -> None:
    """Ask the group to end, more firmly each time; what is left after that is for the caller to kill."""
    for number, seconds in ((signal.SIGINT, patience_s), (signal.SIGTERM, _AFTER_TERM_S)):
        asked = stop()
        os.killpg(group, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and stop() == asked:
            if _ended(group):
                return
            tick(group)
            time.sleep(POLL_S)
