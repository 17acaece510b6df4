"""Processes that must not outlive the one that watches over them.

`python -m yoloperf.core.process PID COMMAND...` runs a command that dies with the thread of process PID that started it: for
parents with threads of their own, which cannot safely run Python between fork and exec.
"""

import ctypes
import os
import signal
import sys

SUPERVISED = "YOLOPERF_SUPERVISED"  # set to 1 in the environment of a run: its processes call die_with_parent()

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None  # loaded here: nothing may be after a fork


def die_with_parent(parent_pid: int | None = None) -> None:
    """Ask the kernel to kill this process when its parent ends, and end here if the parent is gone already.

    Without `parent_pid` the parent counts as gone when it is no member of this process's group, which the
    launcher opened for the run (a group's leader has nobody to ask: its launcher passes `parent_pid`).
    Linux ties this to the thread that started the process; elsewhere nothing happens.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None:
        orphaned = os.getppid() != parent_pid
    else:
        orphaned = os.getpgrp() != os.getpid() and os.getpgid(os.getppid()) != os.getpgrp()
    if orphaned:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # the kernel remembers across an exec
