"""CPU time and memory of a command and all that it starts, from /proc.

GNU time tells the memory of the largest single process, and CPU time of processes that were waited for. A loader with eight
workers holds several times the former, and the latter loses what was killed or orphaned.

Not a cgroup's figures: a run has none of its own unless somebody delegates one. That of a Slurm task or of a container holds
the sweep, its shell and the page cache of every file that was read, and its peak cannot be reset before Linux 6.12.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Process:
    """What /proc/PID/stat says (man 5 proc)."""

    parent: int
    session: int
    started: int  # tells a process from a later one of the same number
    own_ticks: int
    waited_ticks: int  # of its children that ended and were waited for
    rss_bytes: int

    @property
    def ticks(self) -> int:
        return self.own_ticks + self.waited_ticks


class Tree:
    """A session's processes and the descendants that left it; `leader` is the number of the session and of its first process."""

    def __init__(self, leader: int) -> None:
        self._leader = leader
        self._members: dict[int, _Process] = {}
        self._foreign: set[int] = set()  # looked at once: a process does not change its ancestors
        self._lost_ticks = 0  # of members that ended and were not waited for
        self._shares = (_PROC / "self" / "smaps_rollup").exists()

    @property
    def pids(self) -> frozenset[int]:
        """Members at the last sample."""
        return frozenset(self._members)

    def sample(self) -> dict[str, Any]:
        """Look who is there: columns of device.csv."""
        members = self._look()
        waited = sum(max(members[pid].waited_ticks - old.waited_ticks, 0) for pid, old in self._members.items() if _same(members, pid, old))
        ended = sum(old.ticks for pid, old in self._members.items() if not _same(members, pid, old))
        self._lost_ticks += max(ended - waited, 0)
        self._members = members
        return {"tree_processes": len(members), "tree_cpu_s": self.cpu_s()}

    def memory(self) -> dict[str, Any]:
        """Memory of those who were there at the last look. Dear: the kernel walks over every page, 13 ms for a GB.

        tree_source: pss (proportional set size), each process with its part of what it shares, or rss, each with all of it.
        """
        sizes = [self._memory(pid, process) for pid, process in self._members.items()]
        if not sizes:
            return {}
        source = "pss" if all(proportional for _, proportional in sizes) else "rss"
        return {"tree_bytes": sum(size for size, _ in sizes), "tree_source": source}

    def cpu_s(self, waited_s: float = 0.0) -> float:
        """CPU time so far. waited_s: what the kernel says when the leader has been waited for; ending children are missing before."""
        return max(sum(process.ticks for process in self._members.values()) / _TICKS_PER_S, waited_s) + self._lost_ticks / _TICKS_PER_S

    def _look(self) -> dict[int, _Process]:
        present = sorted(int(name) for name in os.listdir(_PROC) if name.isdigit())
        self._foreign.intersection_update(present)
        members: dict[int, _Process] = {}
        for pid in present:
            if pid in self._foreign:
                continue
            process = _read(pid)
            if process is None:
                continue
            old = self._members.get(pid)
            if process.session == self._leader or process.parent in members or (old and old.started == process.started):
                members[pid] = process
            else:
                self._foreign.add(pid)
        return members

    def _memory(self, pid: int, process: _Process) -> tuple[int, bool]:
        """Memory of one process, and whether it is its proportional set size."""
        if self._shares and process.rss_bytes:
            try:
                with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
                    return next((int(line.split()[1]) * 1024 for line in stream if line.startswith(b"Pss:")), 0), True
            except (FileNotFoundError, ProcessLookupError):  # has just ended
                return 0, True
            except PermissionError:  # of another user, or with more rights than we have
                pass
        return process.rss_bytes, not process.rss_bytes  # one that has ended and waits to be waited for has no memory of either kind


def _same(members: dict[int, _Process], pid: int, old: _Process) -> bool:
    return pid in members and members[pid].started == old.started


def _read(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Process(
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        own_ticks=int(fields[11]) + int(fields[12]),
        waited_ticks=int(fields[13]) + int(fields[14]),
        rss_bytes=int(fields[21]) * _PAGE_BYTES,
    )
