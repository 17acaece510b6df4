"""nvprof's printed output: its messages and the summary of GPU activities and API calls.

The table has a Type column since CUDA 9; before that, GPU activities and API calls are two tables.
"""

import re

from yoloperf.parsing.command import take_command
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.operators import operator
from yoloperf.parsing.quantity import EXPONENT, text

# Possessive quantifiers throughout: a table has hundreds of rows, and nothing in them to go back for
_TIME = rb"(\d{1,18}+\.?+\d{0,18}+)([num]?+s)"
_ROW = re.compile(
    rb"\s*+(?:([A-Z][\w ()]*+):\s*+)?+(\d++\.\d++)% ++" + _TIME + rb" ++(\d++) ++" + rb" ++".join([_TIME] * 3) + rb"(?:  (.*+))?+$",
    re.DOTALL,
)
_LABEL = re.compile(rb"\s*(GPU activities|API calls|OpenACC[^:]*):\s*$")
_MESSAGE = re.compile(rb"==(?:(\d+)==|======) +(.*)", re.DOTALL)
_PROCESS = re.compile(rb"NVPROF is profiling process (\d+)(?:, command: (.*))?", re.DOTALL)
_FAILED = re.compile(rb"Error: Application (?:returned non-zero code (-?\d+)|received signal (\d+))")
# Warnings and errors after which there is no table, or an empty one
_NO_PROFILE = re.compile(rb"not supported on devices|permission|ERR_NVGPUCTRPERM|No kernels were profiled|profiling (?:failed|error)", re.I)


class Nvprof(LineFormat):
    name = "nvprof"
    description = "nvprof: messages and printed summary of GPU activities and API calls, CUDA 7 to 12"
    heads = (
        ("message", rb"==\d", rb"======== "),
        ("table", rb"Type\s+Time\(%\)\s+Time\s+Calls\s+Avg\s+Min\s+Max\s+Name", rb"Time\(%\)\s+Time\s+Calls\s+Avg\s+Min\s+Max\s+Name"),
        ("nothing", rb"No kernels were profiled", rb"No API activities were profiled"),
        ("samples", rb"Time\(%\)\s+Time\s+Name\s*$"),
        ("counters", rb"Invocations\s+(?:Metric|Event) Name"),
        ("not_kernels", rb'Device "', rb"Count\s+Avg Size\s+Min Size"),
    )
    reads_cut_line = True  # refuses rows whose name is not whole

    section = "gpu"
    reason: str | None = None
    profiled = False
    process: bytes | None = None  # whose result was printed

    def message(self, line: bytes) -> Answer:
        found = _MESSAGE.match(line)
        if not found:
            return False
        process_id, said = found.groups()
        if self.run.cut:
            return False
        # Child processes run beside their parent: each prints its result at the end
        if self.another(said.startswith(b"Profiling ") and self.process and process_id not in (None, self.process)):
            return Signal.NEXT_RUN
        process = _PROCESS.match(said)
        if process:
            if self.another(self.profiled):
                return Signal.NEXT_RUN
            self.run.open.add("nvprof result")
            self.run.default("profiler", "nvprof")
            if process[2]:
                self.run.default("command", text(process[2]))
                take_command(self.run, text(process[2]))
        elif said.startswith(b"Profiling result"):
            self.section = "gpu"
            self.profiled, self.process = True, process_id
            self.run.default("profiler", "nvprof")
            self.run.open.discard("nvprof result")
        elif said.startswith(b"Generated result file"):  # -o: the result is elsewhere
            self.run.open.discard("nvprof result")
        elif said.startswith(b"API calls"):
            self.section = "api"
        elif said.startswith((b"Warning: ", b"Error: ")):
            self._complaint(said)
        return True

    def _complaint(self, said: bytes) -> None:
        failed = _FAILED.match(said)
        if failed:
            reason = f"exit status {int(failed[1])}" if failed[1] else f"signal {int(failed[2])}"
            self.run.cause("failed", f"nvprof: the application ended with {reason}")
        elif _NO_PROFILE.search(said):
            self.reason = text(said.partition(b": ")[2])
            self.run.default("profiler", "nvprof")
            self.run.open.discard("nvprof result")

    def nothing(self, line: bytes) -> Answer:
        if line.startswith(b"No kernels"):
            self.reason = self.reason or "No kernels were profiled"
        return True

    def table(self, line: bytes) -> Answer:
        return self._row

    def _row(self, line: bytes) -> bool:
        match = _ROW.match(line)
        if match is None:
            label = _LABEL.match(line)
            if label:  # wrapped by hand: the row follows
                self.section = _SECTIONS.get(label[1], "api")
            return label is not None
        label_, share, total, unit, calls, average, average_unit, least, least_unit, most, most_unit, raw = match.groups()
        if label_ is not None:
            self.section = _SECTIONS.get(label_, "api")
        known = _NAMES.get(raw)
        if known is None:
            known = _remember(raw)
        if self.run.cut and not whole_name(known[0]):
            return self.run.reject("the last line has no end: left out")
        self.run.kernels.append(
            (
                "nvprof",
                self.section,
                known[0],
                int(calls),
                float(total + EXPONENT[unit]),
                float(average + EXPONENT[average_unit]),
                float(least + EXPONENT[least_unit]),
                float(most + EXPONENT[most_unit]),
                float(share + b"e-2"),
                known[1] if self.section == "gpu" else None,
            )
        )
        return True

    def samples(self, line: bytes) -> Answer:
        self.reason = self.reason or "nvprof sampled the host only"
        return self.not_kernels(line)

    def counters(self, line: bytes) -> Answer:
        self.reason = self.reason or "nvprof counted metrics or events and took no times"
        return self.not_kernels(line)

    def not_kernels(self, line: bytes) -> Answer:
        """A table without the times of kernels."""
        return lambda row: (bool(row.strip()) and not row.startswith(b"==")) or Signal.BLOCK_ENDS

    def finish(self) -> None:
        if self.reason and not any(row[1] == "gpu" for row in self.run.kernels):
            self.run.default("profile_reason", self.reason)


# Names repeat from log to log: decoded and mapped once
_NAMES: dict[bytes | None, tuple[str, str | None]] = {}
_MOST_NAMES = 1 << 15


def _remember(raw: bytes | None) -> tuple[str, str | None]:
    if len(_NAMES) >= _MOST_NAMES:
        _NAMES.clear()
    name = raw.decode("utf-8", "replace") if raw else ""
    _NAMES[raw] = name, operator(name)
    return _NAMES[raw]


def whole_name(name: str) -> bool:
    """Whether a name at the cut end of a file is surely not the beginning of a longer one."""
    return name in _WHOLE_CALLS or (name.endswith((")", "]")) and name.count("(") == name.count(")"))


_SECTIONS = {b"GPU activities": "gpu"}
# Calls that stand last in nvprof's table and with which no other call's name begins
_WHOLE_CALLS = {
    "cuDeviceGetUuid",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetPCIBusId",
    "cuDeviceTotalMem",
    "cuDriverGetVersion",
    "cuModuleGetLoadingMode",
    "cudaDriverGetVersion",
    "cudaGetDeviceCount",
}
