"""Services that a study starts for itself: `yoloperf serve` as a process of its own, on a port of its own, gone with the study."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    named = [word for model in models for word in ("--model", model)]
    serve = [sys.executable, "-m", "yoloperf", "serve", "--port", "0", "--drain-s", "0", *named, *flags]
    command = [sys.executable, "-m", "yoloperf.core.process", str(os.getpid()), *serve]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        log: list[str] = []
        reader = threading.Thread(target=log.extend, args=(process.stderr,), daemon=True)
        reader.start()
        try:
            url = next((line.removeprefix(_SAYS).strip() for line in process.stdout if line.startswith(_SAYS)), None)
            if url is None:
                reader.join(5)
                raise UserError(f"the service did not start: {log[-1].strip() if log else 'it said nothing'}")
            yield Service(url, process)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
