"""Services that a study starts for itself: `yoloperf serve` as a process of its own, on a port of its own, gone with the study."""

import collections
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from yoloperf.core.errors import UserError

_SAYS = "serving on "


@dataclass(frozen=True)
class Service:
    """A service that runs. process: None where somebody else started it."""

    url: str
    process: subprocess.Popen[str] | None = None


@contextlib.contextmanager
def running(models: Sequence[str], *flags: str) -> Iterator[Service]:
    """Serve models ("NAME=WEIGHTS") until the block ends. flags: further ones of `yoloperf serve`. Raises UserError where it cannot."""
    with replicas(1, models, *flags) as services:
        yield services[0]


@contextlib.contextmanager
def replicas(count: int, models: Sequence[str], *flags: str) -> Iterator[list[Service]]:
    """The same several times, each a process of its own; they start together."""
    with contextlib.ExitStack() as stack:
        starting = [stack.enter_context(_process(models, flags)) for _ in range(count)]
        yield [Service(_address(process, log), process) for process, log in starting]


@contextlib.contextmanager
def _process(models: Sequence[str], flags: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], "_Log"]]:
    named = [word for model in models for word in ("--model", model)]
    serve = [sys.executable, "-m", "yoloperf", "serve", "--port", "0", "--drain-s", "0", *named, *flags]
    command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), *serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        log = _Log(process.stderr)
        try:
            yield process, log
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


class _Log:
    """The last lines of a stream, read on while it is open so that nobody who writes to it has to wait."""

    def __init__(self, stream: IO[str]) -> None:
        self.lines: collections.deque[str] = collections.deque(maxlen=50)
        self.reader = threading.Thread(target=self.lines.extend, args=(stream,), daemon=True)
        self.reader.start()

    def last(self) -> str:
        self.reader.join(5)
        return self.lines[-1].strip() if self.lines else "it said nothing"


def _address(process: subprocess.Popen[str], log: _Log) -> str:
    assert process.stdout
    url = next((line.removeprefix(_SAYS).strip() for line in process.stdout if line.startswith(_SAYS)), None)
    if url is None:
        raise UserError(f"the service did not start: {log.last()}")
    return url
