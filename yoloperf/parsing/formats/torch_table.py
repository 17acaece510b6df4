"""Tables of torch.profiler and of the older autograd profiler, PyTorch 1.1 to today.

CPU operators and GPU kernels are rows of one table: a kernel has device time but no time on the host. Only own
("self") times are summed, since the totals of operators hold those of the operators that they call.
"""

import re

from yoloperf.parsing.draft import Draft, KernelRow
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.operators import operator
from yoloperf.parsing.quantity import number, seconds, text

_RULER = re.compile(rb"(\s*-{5,})(?:\s+-{3,})+\s*$")
_API = re.compile(rb"(?:cuda|hip|cu)[A-Z]\w*$")
_GAP = re.compile(rb"\s{2,}")
_DEVICES = ("CUDA", "XPU", "MPS", "PrivateUse1", "HPU", "MTIA", "device")


class TorchTable(LineFormat):
    name = "torch-profiler-table"
    description = "tables of torch.profiler, autograd profiler and torch.utils.bottleneck, PyTorch 1.1 to today"
    heads = (
        ("table", rb"Name\s{2,}(?:Overload Name\s{2,})?(?:Self )?(?:CPU|CUDA)"),
        ("footer", rb"Self (?:CPU|CUDA|XPU) time total: ", rb"CUDA time total: ", rb"-----[-]*(?:  -{3,}){3}"),
        ("mode", rb"autograd profiler output \((?:CPU|CUDA) mode\)"),
        ("environment", rb"PyTorch \d[\w.+]* (?:\w+ )?compiled w/ CUDA"),
    )

    reads_cut_line = True  # refuses the rows themselves

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = []
        self.rows: list[dict[str, bytes]] = []
        self.name_end = 0  # where the column of names ends, by the ruler
        self.whole = False  # the ruler below the rows was met
        self.device = ""
        self.cuda_mode = False
        self.seen: set[KernelRow] = set()

    def environment(self, line: bytes) -> Answer:
        match = re.match(rb"PyTorch (\S+) .*?CUDA (\S+)", line)
        if match and not self.run.cut:
            self.run.default("torch", text(match[1]))
            self.run.default("cuda", text(match[2]))
        return True

    def mode(self, line: bytes) -> Answer:
        self._close()
        self.cuda_mode = b"CUDA mode" in line
        return True

    def footer(self, line: bytes) -> Answer:
        if _RULER.match(line):
            self.whole = bool(self.rows)
        return bool(self.columns)

    def table(self, line: bytes) -> Answer:
        if self.run.cut:
            return False
        self._close()
        self.whole, self.name_end = False, 0
        self.columns = [text(cell) for cell in _GAP.split(line.strip())]
        self.device = next((name for name in _DEVICES if f"Self {name}" in self.columns or f"{name} total" in self.columns), "")
        self.run.default("profiler", "torch")
        return self._row

    def _row(self, line: bytes) -> bool:
        if self.run.cut:
            return self.run.reject("the last line has no end: left out")
        ruler = _RULER.match(line)
        if ruler:
            self.whole = bool(self.rows)
            self.name_end = ruler.end(1)
            return True
        if self.rows and not self.whole and 0 < self.name_end < len(line) and not line[: self.name_end].strip():
            return True  # more of the stack in the row above
        cells = _GAP.split(line.strip())
        if self.columns[1] == "Overload Name" and cells[1:2] and cells[1].endswith(b"%"):
            cells.insert(1, b"")  # most operators have one form only
        # The last column of old tables, Input Shapes, may be empty
        if not len(self.columns) - 1 <= len(cells) <= len(self.columns) or not any(cell[-1:] == b"s" for cell in cells[1:]):
            return False
        row = dict(zip(self.columns, cells, strict=False))
        if seconds(row.get("Self CPU", row.get("Self CPU total", b"0s"))) is None or self._calls(row) is None:
            return False
        self.rows.append(row)
        return True

    @staticmethod
    def _calls(row: dict[str, bytes]) -> int | None:
        calls = row.get("# of Calls", row.get("Number of Calls", b""))
        return int(calls) if calls.isdigit() else None

    def _close(self) -> None:
        """Turn the table's rows into kernels, now that it is known which of them are annotations."""
        rows, self.rows = self.rows, []
        host = {row["Name"] for row in rows if self._host_time(row)}
        kernels = [row for row in rows if self._is_kernel(row, host)]
        operators = [row for row in rows if self._host_time(row)]
        if self.whole and 2 * sum(map(self._device_time, kernels)) < sum(map(self._device_time, operators)):
            kernels = operators  # a table cut to its top rows, or one from before kernels had rows
            if self._has_own_times():
                self.run.notes.append("GPU time by operator: the table lists few kernels")
        for row in operators:
            if not self.cuda_mode:
                share = row.get("Self CPU %", row.get("Self CPU total %"))
                self._add("api" if _API.match(row["Name"]) else "cpu", row, self._host_time(row), share)
        for row in kernels:
            total, share = self._device_time(row), row.get(f"Self {self.device} %", row.get(f"{self.device} total %"))
            if total and not row["Name"].startswith(b"ProfilerStep"):
                self._add("gpu", row, total, share)

    def _has_own_times(self) -> bool:
        return f"Self {self.device}" in self.columns

    @staticmethod
    def _host_time(row: dict[str, bytes]) -> float:
        return seconds(row.get("Self CPU", row.get("Self CPU total", b""))) or 0.0

    def _device_time(self, row: dict[str, bytes]) -> float:
        return seconds(row.get(f"Self {self.device}", row.get(f"{self.device} total", b""))) or 0.0 if self.device else 0.0

    def _is_whole(self, domain: str, row: dict[str, bytes]) -> bool:
        """Whether the printed average, which is that of the total time, is that of the own time, too."""
        return domain == "gpu" and row.get(f"Self {self.device}", row.get(f"{self.device} total")) == row.get(f"{self.device} total")

    def _is_kernel(self, row: dict[str, bytes], host: set[bytes]) -> bool:
        """A row with device time only. A user's annotation is drawn twice, as a host scope and as a device range of the same name."""
        name = row["Name"]
        return (
            self._device_time(row) > 0
            and not self._host_time(row)
            and name not in host
            and not name.startswith((b"ProfilerStep", b"aten::", b"Optimizer.", b"## "))
        )

    def _add(self, domain: str, row: dict[str, bytes], total: float, share: bytes | None) -> None:
        calls, name = self._calls(row), text(row["Name"])
        average = seconds(row.get(f"{self.device} time avg", b"")) if self._is_whole(domain, row) else None
        if average is None and calls:
            average = total / calls
        part = number(share.rstrip(b"%") + b"e-2") if share else None
        kernel: KernelRow = ("torch", domain, name, calls, total, average, None, None, part, None if domain == "api" else operator(name))
        if kernel not in self.seen:  # scripts print the same profile several times, in another order
            self.seen.add(kernel)
            self.run.kernels.append(kernel)

    def finish(self) -> None:
        self._close()
