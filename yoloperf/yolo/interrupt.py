"""Signals that ask a training to end: held back while a step or a checkpoint is under way, so that nothing is lost."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ONE_ASK_S = 1.0  # a scheduler that ends a job signals each of its processes, and the harness passes on what it got: one ask
ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # Ctrl-C; a shutdown, scancel or preemption; Slurm's --signal


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
    """Turns the first SIGINT, SIGTERM or SIGUSR1 into Stopped; another one, a second later, ends the process at once."""

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
        """Main thread only. A signal that the parent had set to be ignored is heard as well."""
        before = {number: signal.signal(number, self._note) for number in ASKING}
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
