"""Python tracebacks and CUDA's out-of-memory messages: why a run failed.

An exception counts as the end of the run only where the run did not go on afterwards: see End.alive_line.
"""

import re

from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import text

_RANK = re.compile(rb"^(?:\[(?:rank)?\d+\]:|\d+:) ?")
_EXCEPTION = re.compile(
    rb"([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|Warning|Iteration|Killed)|[A-Za-z_]\w*(?:\.\w+)+)(?::\s?(.*))?\s*$", re.DOTALL
)
_MEMORY = re.compile(rb"CUDA out of memory|OutOfMemoryError|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|HIP out of memory")
_FRAME = re.compile(rb"\s|$|-+>|[\w./<>-]+ in \S|[\w./-]+\.py in |File |-{5,}|During handling|The above exception")
_NOT_THE_CAUSE = (b"ChildFailedError", b"subprocess.CalledProcessError", b"SystemExit: 0")


class PythonErrors(LineFormat):
    name = "python-error"
    description = "Python tracebacks, CUDA out of memory and other CUDA errors: status and reason"
    anywhere = ((b"Traceback (most recent call last)", "traceback"),)
    heads = (
        ("cuda", rb"torch\.[\w.]*Error: (?:CUDA|HIP) ", rb"RuntimeError: (?:CUDA|HIP) ", rb"OutOfMemoryError: CUDA "),
        ("cuda", rb"AcceleratorError: ", rb"\[rank\d+\]: [\w.]*Error: (?:CUDA|HIP) "),
        ("exception", rb"[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)(?::|\s*$)"),
        ("went_on", rb"\[I [^]]*\] (?:Trial \d+ finished|A new study)"),
        ("interrupted", rb"\^C\s*$"),
    )
    reads_cut_line = True  # says what happened, not how much

    prefix = b""

    def traceback(self, line: bytes) -> Answer:
        self.run.open.add("traceback")
        start = line.rpartition(b"\r")[2]
        rank = _RANK.match(start)
        self.prefix = rank[0] if rank else b""
        return self._line

    def _line(self, line: bytes) -> bool | Signal:
        """Frames are indented; the first line that is not names the exception."""
        content = line[len(self.prefix) :] if self.prefix and line.startswith(self.prefix) else line
        match = _EXCEPTION.match(content)
        if match:
            return self._exception(content, match)
        if "traceback" in self.run.open and _FRAME.match(content):
            return True
        return Signal.BLOCK_ENDS  # of what follows other output only an exception's own name is believed

    def _exception(self, line: bytes, match: re.Match[bytes]) -> bool:
        self.run.open.discard("traceback")
        if match[1].endswith(b"Warning"):
            return True
        reason = text(line)[:300]
        if match[1].endswith(b"KeyboardInterrupt"):
            self.run.cause("cancelled", reason)
        elif _MEMORY.search(line):
            self.run.cause("oom", reason)
        elif not any(name in line for name in _NOT_THE_CAUSE):
            self.run.cause("failed", reason)
        return True

    def exception(self, line: bytes) -> Answer:
        """The name of an exception whose frames were interrupted by other output."""
        match = _EXCEPTION.match(line)
        return "traceback" in self.run.open and match is not None and self._exception(line, match)

    def cuda(self, line: bytes) -> Answer:
        self.run.open.discard("traceback")
        content = _RANK.sub(b"", line, count=1)
        self.run.cause("oom" if _MEMORY.search(content) else "failed", text(content)[:300])
        return True

    def went_on(self, line: bytes) -> Answer:
        self.run.alive_line = self.run.line
        return True

    def interrupted(self, line: bytes) -> Answer:
        self.run.cause("cancelled", "interrupted (^C)")
        return True

    def finish(self) -> None:
        if "traceback" in self.run.open:  # cut before the exception's name
            self.run.open.discard("traceback")
            self.run.cause("failed", "a Python exception; the log ends within its traceback")
