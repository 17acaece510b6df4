"""How a run ended, from everything that its log says about it."""

import signal
from dataclasses import dataclass, field

_CANCELLING = {signal.SIGINT, signal.SIGTERM}


@dataclass
class Account:
    """What GNU time or a shell's `time` says about one command."""

    command: str | None = None
    user_s: float | None = None
    system_s: float | None = None
    wall_s: float | None = None
    cpu_percent: float | None = None
    max_rss_kib: float | None = None
    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True)
class Cause:
    """A reason for a bad end that the log states. `final`: nothing that follows can be the run's own doing."""

    status: str
    reason: str
    line: int
    final: bool = False


@dataclass(kw_only=True)
class End:
    """What the log says about the end of a run."""

    accounts: list[Account] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    open: set[str] = field(default_factory=set)  # what began and must still end
    trainer_started: bool = False
    trainer_done: bool = False
    done_line: int = 0
    alive_line: int = 0  # last line that shows the training going on


def verdict(end: End) -> tuple[str | None, str | None]:
    """Status and reason from what the log states; silence is never success (see docs/log-format.md)."""
    cause = _cause(end)
    last = end.accounts[-1] if end.accounts else Account()
    if last.signal is not None or last.exit_code:
        if cause:
            return cause
        if last.signal is not None:
            status = "cancelled" if last.signal in _CANCELLING else "failed"
            return status, f"terminated by {_signal_name(last.signal)}"
        assert last.exit_code is not None
        if last.exit_code > 128 and last.exit_code - 128 in _CANCELLING:
            return "cancelled", f"terminated by {_signal_name(last.exit_code - 128)}"
        return "failed", f"exit status {last.exit_code}"
    if last.exit_code == 0:
        if cause and end.trainer_started and not end.trainer_done:
            return cause
        return "ok", None
    if cause:
        return cause
    if end.open:
        return "incomplete", f"the log ends before the {min(end.open)} does"
    if end.trainer_done:
        return "ok", None
    if end.trainer_started:
        return "incomplete", "the log ends before the training does"
    return None, None


def _cause(end: End) -> tuple[str, str] | None:
    """The cause that counts: none that the run survived, and no consequence of an earlier one."""
    # What is glued to a progress bar was printed after it
    causes = [cause for cause in end.causes if cause.final or cause.line >= end.alive_line and cause.line > end.done_line]
    if not causes:
        return None
    final = [cause for cause in causes if cause.final]
    if final:  # an exception that follows is a consequence, or another job's
        causes = [cause for cause in causes if cause.final or cause.line < final[0].line]
    memory = [cause for cause in causes if cause.status == "oom"]
    if final and not (memory and all(cause.status in ("cancelled", "failed", "oom") for cause in final)):
        chosen = final[-1]
    else:
        chosen = (memory or causes)[-1]
    return chosen.status, chosen.reason


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
