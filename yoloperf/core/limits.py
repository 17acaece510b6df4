"""What this process is allowed of the machine: cores and memory within its affinity and its control groups.

A container, a Slurm job and a systemd unit are control groups, often nested; the tightest limit on the way up holds.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOT = Path("/")
_UNLIMITED = 2**60  # version 1 writes the largest whole number of pages where there is no limit


def available_cores(root: Path = _ROOT) -> int:
    """Logical cores that this process may run on: its affinity, or its CPU quota rounded down, at least 1.

    root: of /proc and /sys.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups(root, "cpu"):
        words = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):  # no limit is "max", or -1 in version 1
            cores = min(cores, int(words[0]) // int(words[1]))
    return max(1, cores)


def memory_limit(root: Path = _ROOT) -> int | None:
    """Bytes of memory beyond which this process is killed, None where only the machine's memory is the limit."""
    found = []
    for folder in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            found += [int(word) for word in _words(folder / name)[:1] if word.isdecimal() and int(word) < _UNLIMITED]
    return min(found, default=None)


class Neighbours:
    """How busy other processes keep the machine, from its making on."""

    def __init__(self) -> None:
        self._others_s, self._began = _others_s(), time.perf_counter()

    def free_cores(self) -> float:
        """Cores of the machine that they left on the mean; what this process and its children did counts as free."""
        return (os.cpu_count() or 1) - (_others_s() - self._others_s) / (time.perf_counter() - self._began)


def _others_s() -> float:
    machine = psutil.cpu_times()
    return machine.user + machine.nice + machine.system - sum(os.times()[:4])


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and of those around it, for version 2 and for the controller of version 1.

    Inside a container the path in /proc may be the host's, of which only the top is mounted: what is missing is passed over.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    top = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mounts = [top / controllers, top / controller] if controllers else [top, top / "unified"]
        for mount in mounts:
            group = mount / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder == mount or mount in folder.parents)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
