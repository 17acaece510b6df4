"""What became of an attempt: read from its part of the console log, its exit code and why it was stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core import events
from yoloperf.harness.launch.local import Ended
from yoloperf.harness.profilers import gnu_time

DONE = ("ok", "oom")  # out of memory is a result: the batch size does not fit
_KILLED = 128 + 9


@dataclass(frozen=True)
class Console:
    """One attempt's part of console.log."""

    events: list[dict[str, Any]]
    last_line: str  # the last thing that was said to people, "" where there is nothing
    exit_code: int | None  # from GNU time's block; None without a whole block

    @property
    def epochs_done(self) -> int:
        """Epochs behind the run, those of earlier attempts included."""
        done = 0
        for event in self.events:
            key = {"run_start": "start_epoch", "epoch": "epoch"}.get(event["key"])
            if key and isinstance(event.get(key), int):
                done = event[key]
        return done

    @property
    def gained(self) -> bool:
        """Whether the attempt brought the training forward by an epoch or a step."""
        steps = (self.run_end.get("steps_done") or 0) - (self._run_start.get("start_step") or 0)
        return steps > 0 or self.epochs_done > (self._run_start.get("start_epoch") or 0)

    @property
    def device(self) -> str | None:
        """Where the trainer says that it runs, such as cpu or cuda:0."""
        device = self._run_start.get("device")
        return device if isinstance(device, str) else None

    @property
    def _run_start(self) -> dict[str, Any]:
        return next((event for event in self.events if event["key"] == "run_start"), {})

    @property
    def run_end(self) -> dict[str, Any]:
        """The event with which the trainer took its leave, empty without one."""
        return next((event for event in reversed(self.events) if event["key"] == "run_end"), {})


def read_console(path: Path, offset: int = 0) -> Console:
    """Read console.log from the byte `offset` on, where the attempt began; an absent file is an empty one."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            text = stream.read().decode(errors="replace")
    except FileNotFoundError:
        text = ""
    printed, block = gnu_time.split(text)
    lines = printed.splitlines()
    spoken = (line.strip() for line in reversed(lines) if line.strip() and events.PREFIX not in line)
    return Console(events.read(lines)[0], next(spoken, ""), gnu_time.exit_code(block))


def judge(console: Console, exit_code: int, ended: Ended | None = None, memory_kills: int = 0) -> tuple[str, str | None]:
    """Status and reason of an attempt.

    ended: how the command ended where that was seen; memory_kills: processes that the kernel killed for memory meanwhile.
    """
    end = console.run_end
    if end.get("status") == "oom":
        return "oom", end.get("reason")
    if exit_code == 0:
        return ("ok", None) if end.get("status") == "ok" else ("failed", "exit code 0, but no run_end event says ok")
    if ended and ended.stopped == "timeout":
        return "timeout", f"stopped after {ended.wall_s:.0f} s (timeout_s)"
    if ended and ended.stopped == "stop":
        return "cancelled", "stopped on request"
    if end.get("status") in ("preempted", "cancelled"):
        return end["status"], end.get("reason")
    if exit_code == _KILLED and memory_kills:
        return "oom", "killed by the kernel: the machine ran out of memory"
    what = f"killed by signal {exit_code - 128}" if exit_code > 128 else f"exit code {exit_code}"
    said = end.get("reason") or console.last_line
    return "failed", f"{what}: {said}" if said else what


def memory_kills() -> int:
    """How many processes the kernel of this machine has killed for memory since it started; 0 where it does not count them."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
