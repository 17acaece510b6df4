"""Locks on folders (flock): the kernel lets go of them when their holder dies, however it dies."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from yoloperf.core.errors import UserError

_POLL_S = 0.05
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Busy(UserError):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, what: str, wait_s: float = 0.0) -> Iterator[int]:
    """Hold the lock `path` and yield its descriptor; children that inherit it keep the lock when this process is killed.

    Raises Busy naming the holder when somebody else has it for longer than `wait_s`, UserError when the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    try:
        deadline = time.monotonic() + wait_s
        while not _try(descriptor, fcntl.LOCK_EX, path):
            if time.monotonic() >= deadline:
                raise Busy(f"{what} is being run by {_holder(path)}: wait for it or stop it")
            time.sleep(_POLL_S)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; make room or choose another folder") from error
        try:
            yield descriptor
        finally:
            # closing alone would leave it to a straggling child that inherited the descriptor
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock. Shared for an instant, so it disturbs nobody who is willing to wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH, path)
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise UserError(f"the file system of {path} has no file locks ({error.strerror}): choose another folder") from error
        raise
    return True


def _holder(path: Path) -> str:
    return path.read_text().strip() or "another process"
