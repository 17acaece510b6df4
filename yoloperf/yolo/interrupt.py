"""What may happen to a training from outside: signals that ask it to end, held back while a step or a checkpoint is under way, so
that nothing is lost, and a terminal or pager that is closed."""

import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any

_ONE_ASK_S = 1.0  # a scheduler that ends a job signals each of its processes, and the harness passes on what it got: one ask


def asking() -> list[signal.Signals]:
    """Ctrl-C; a shutdown, scancel or preemption; Slurm's --signal; a closed terminal, unless `nohup` keeps it from the training."""
    hang_up = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, *hang_up]


@contextmanager
def outlasting() -> Iterator[None]:
    """Within the block what is printed goes nowhere once the terminal or the pager that read it is closed (`| head`)."""
    with redirect_stdout(_Outlasting(sys.stdout)), redirect_stderr(_Outlasting(sys.stderr)):
        try:
            yield
        finally:
            sys.stdout.flush()


class _Outlasting:
    """A stream of text that is dropped when nobody reads it any more."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._while_read(self._stream.write, text) or 0

    def flush(self) -> None:
        self._while_read(self._stream.flush)

    def _while_read(self, act: Any, *given: str) -> Any:
        try:
            return act(*given)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # a pipe's, a terminal's
                raise
            # what is still buffered would fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Stopped(BaseException):
    """The training was asked to end; like KeyboardInterrupt it passes every `except Exception`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def status(self) -> str:
        """The run's status: a person's Ctrl-C cancels it, anything else preempts it."""
        return "cancelled" if self.signal == signal.SIGINT else "preempted"

    @property
    def exit_code(self) -> int:
        return 128 + self.signal


class Interrupts:
    """Turns the first signal of `asking` into Stopped; another one, a second later, ends the process at once."""

    def __init__(self) -> None:
        self._asked: int | None = None
        self._asked_at = 0.0
        self._held = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked is not None:
            if time.monotonic() - self._asked_at > _ONE_ASK_S:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._asked, self._asked_at = number, time.monotonic()
        if not self._held:
            raise Stopped(number)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Main thread only. A signal that the parent had set to be ignored is heard as well, but for SIGHUP."""
        before = {number: signal.signal(number, self._note) for number in asking()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def asked(self) -> int | None:
        """The signal that was held back: its holder should come to a state that can be kept, and leave its block."""
        return self._asked

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within the block signals wait; they take effect at its end."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._asked is not None:
            raise Stopped(self._asked)
