"""Slurm's commands and what they print: nothing else in the package knows either.

Jobs are told apart by their name, which is unique to a submission: it is known before a job has a number, and a script that a person
submits has it too.
"""

import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from yoloperf.core.errors import UserError

_PATIENCE_S = 30.0  # a controller that is down is tried for about this long by Slurm's commands
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_ACTIVE = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
# state of an ended job (man sacct, "JOB STATE CODES") -> status of a cell that could not say itself how it ended
_ENDED = {
    "OUT_OF_MEMORY": ("oom", "Slurm killed the job for memory"),
    "TIMEOUT": ("timeout", "the job's time limit"),
    "DEADLINE": ("timeout", "the job's deadline"),
    "CANCELLED": ("cancelled", "the job was cancelled"),
    "PREEMPTED": ("preempted", "the job was preempted"),
    "NODE_FAIL": ("preempted", "the job's node failed"),
    "BOOT_FAIL": ("preempted", "the job's node failed"),
}
# what slurmstepd writes into a job's output before it signals the processes
_CANCELLED = re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+))?.*? \*\*\*")
_MEMORY = re.compile(r"exceeded (?:job )?memory limit|Exceeded (?:job|step) memory limit|oom[-_]kill event")
_DUE = {
    "TIME LIMIT": ("timeout", "the job's time limit"),
    "PREEMPTION": ("preempted", "preempted by a job of higher priority"),
    "NODE FAILURE": ("preempted", "the job's node failed"),
    "JOB REQUEUE": ("preempted", "the job was requeued"),
    "": ("cancelled", "the job was cancelled"),
}


@dataclass(frozen=True)
class Job:
    """A task of an array, or what Slurm remembers of it."""

    number: str  # of the array and the task: 12_3
    state: str  # Slurm's word
    where: str  # the node it runs on, or the reason why it waits

    @property
    def waits(self) -> bool:
        return self.state in _WAITING

    @property
    def active(self) -> bool:
        return self.waits or self.state in _ACTIVE

    @property
    def verdict(self) -> tuple[str, str] | None:
        """Status and reason where the job's state alone says them."""
        return _ENDED.get(self.state)


class Refused(UserError):
    """sbatch did not confirm a submission; the message is its own."""


def submit(script: Path, *options: str) -> str:
    """Hand a script to sbatch and return the job's number. Raises Refused, or UserError where there is no sbatch."""
    try:
        done = _run("sbatch", "--parsable", *options, str(script))
    except OSError as error:
        raise UserError(f"sbatch cannot be called ({error.strerror}): use a login node of a Slurm cluster, or --launcher local") from error
    if done.returncode:
        raise Refused(f"sbatch refused: {_message(done)}")
    return done.stdout.strip().partition(";")[0]  # "number;cluster" with several clusters


def jobs(names: Iterable[str], since: str) -> tuple[dict[tuple[str, int], Job], str | None]:
    """Tasks of the arrays of these names by (name, task): those in the queue and those that Slurm remembers having ended.

    since: ISO date from which on accounting is asked. Also returns why the queue is unknown, None when it is known; an absent
    accounting is nothing to tell, since the queue remembers jobs for some minutes itself.
    """
    joined = ",".join(names)
    if not joined:
        return {}, None
    found: dict[tuple[str, int], Job] = {}
    try:
        ended = _run("sacct", "-n", "-P", "-X", "--name", joined, "-S", since, "-o", "JobName,JobID,State,NodeList")
    except OSError:
        ended = None
    if ended and ended.returncode == 0:
        for line in ended.stdout.splitlines():
            name, number, state, node = line.split("|", 3)
            array, _, tasks = number.partition("_")
            for index in _expanded(tasks):
                found[name, index] = Job(f"{array}_{index}", state.partition(" ")[0], node)  # "CANCELLED by 1000"
    try:
        queue = _run("squeue", "-h", "-r", "-t", "all", "-n", joined, "-o", "%j|%F|%K|%T|%N|%r")
    except OSError as error:
        return found, f"squeue cannot be called ({error.strerror})"
    if queue.returncode:
        return found, f"squeue: {_message(queue)}"
    for line in queue.stdout.splitlines():
        name, array, task, state, node, reason = line.split("|", 5)
        if task.isdigit():
            found[name, int(task)] = Job(f"{array}_{task}", state, reason if state in _WAITING else node)
    return found, None


def last_words(output: str) -> tuple[str, str] | None:
    """Status and reason from what Slurm wrote into a task's output when it ended the task; None where it wrote nothing."""
    if _MEMORY.search(output):
        return "oom", "Slurm killed the job for memory: more than its --mem"
    causes = _CANCELLED.findall(output)
    return _DUE.get(causes[-1].strip(), ("cancelled", f"the job was cancelled due to {causes[-1].lower()}")) if causes else None


def requeue(number: str) -> str | None:
    """Put a running job back into the queue. Returns why that failed, None when it worked."""
    for pause_s in (1, 5, 15, None):  # the controller may be restarting
        try:
            done = _run("scontrol", "requeue", number)
        except OSError as error:
            return f"scontrol cannot be called ({error.strerror})"
        if done.returncode == 0 or pause_s is None:
            break
        time.sleep(pause_s)
    return _message(done) if done.returncode else None


def _expanded(tasks: str) -> Iterator[int]:
    """Tasks of an array as sacct writes them: 3, or [0-2,5%4] for those that never started."""
    for part in tasks.strip("[]").partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_PATIENCE_S:.0f} s")


def _message(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said about its failure, in one line."""
    lines = [line.partition("error: ")[2] or line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return "; ".join(line.strip() for line in lines) or f"exit code {done.returncode}"
