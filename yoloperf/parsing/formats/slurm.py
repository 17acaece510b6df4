"""What Slurm writes into a job's output when it ends the job: time limit, memory, cancellation, node failure.

The message can be glued to a progress bar, and output of dying processes may follow it. Several jobs may have
written into one file: the job id tells them apart.
"""

import re

from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import text

_CANCELLED = re.compile(
    rb"\*\*\* (?:JOB|STEP) (\S+) ON (\S+) CANCELLED AT (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
    rb"(?: DUE TO ([A-Z]+(?: [A-Z]+)*))?.*?\*\*\*",
    re.DOTALL,
)
_MEMORY = re.compile(
    rb"Detected (\d+) oom[-_]kill event(?:\(s\)|s)? in (?:StepId=|step )([\w+]+)(?=[.\s])"
    rb"|(?:Job|Step) (\S+) exceeded (?:job )?memory limit|Exceeded (?:job|step) memory limit"
)
_SRUN = re.compile(
    rb"srun: error: (\S+): tasks? [^:]+: (Out Of Memory|Killed|Terminated|Segmentation fault|Aborted|Exited with exit code \d+)"
)
_SHELL = re.compile(rb": line \d+: +(\d+) (Killed|Segmentation fault|Aborted|Terminated|Bus error)\b")
_STATUS = {b"TIME LIMIT": "timeout", b"PREEMPTION": "preempted", b"NODE FAILURE": "failed"}


class Slurm(LineFormat):
    name = "slurm"
    description = "Slurm's last words: time limit, out of memory, cancelled, preempted, node failure; a shell's `Killed`"
    anywhere = ((b"slurmstepd", "daemon"), (b"srun: error: ", "srun"), (b": line ", "shell"))  # behind a progress bar, too
    follows_end = True
    reads_cut_line = True  # its messages end in *** or say no number

    def daemon(self, line: bytes) -> Answer:
        known = False
        for match in _CANCELLED.finditer(line):
            if not self._is_job(match[1]):
                if known:  # the first message of the line says whose it is
                    continue
                return Signal.NEXT_RUN
            known = True
            why = next((key for key in _STATUS if match[4] and match[4].startswith(key)), None)
            status = _STATUS[why] if why else "cancelled"
            due = text(match[4]).lower() if match[4] else "cancelled by somebody"
            self.run.cause(status, f"Slurm: {due} at {text(match[3])} on {text(match[2])}", final=True)
        for match in _MEMORY.finditer(line):
            if match[2] and not self._is_job(match[2]):
                if known:
                    continue
                return Signal.NEXT_RUN
            known = True
            self.run.cause("oom", "Slurm: the job's processes ran out of host memory and were killed", final=True)
        return known or b"slurmstepd" in line and b"error: " in line

    def _is_job(self, name: bytes) -> bool:
        """Whether the message is about this run's job; remembers the id."""
        job = text(name.partition(b".")[0])
        if self.run.whole_folder:
            return True
        known = self.run.facts.get("slurm_job_id")
        if known is None:
            self.run.replace("slurm_job_id", job)
        return known in (None, job)

    def srun(self, line: bytes) -> Answer:
        match = _SRUN.search(line)
        if match:
            memory = match[2] == b"Out Of Memory"
            self.run.cause("oom" if memory else "failed", f"srun: {text(match[2])} on {text(match[1])}")
        return True

    def shell(self, line: bytes) -> Answer:
        match = _SHELL.search(line)
        if match is None:
            return False
        self.run.cause("failed", f"the shell says: {text(match[2])}")
        return True
