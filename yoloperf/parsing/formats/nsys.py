"""Nsight Systems: the reports of `nsys stats` and `nsys profile --stats=true`, as text, boxes or CSV.

A report is known by its title, by the line that announces it, or (bare CSV) by its columns. Names of reports
changed in 2022 (gpukernsum -> cuda_gpu_kern_sum); times are in the unit that the column head names.
"""

import re

from yoloperf.parsing.draft import Draft, KernelRow
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.operators import operator
from yoloperf.parsing.quantity import EXPONENT, UNIT_NAMES, cells, number, text
from yoloperf.parsing.summary import Summary

_TITLE = re.compile(rb" \*\* (.+?) \((\w+)\):")
_OLD_TITLE = re.compile(rb"[A-Z][\w ()+-]*(?:Statistics|Summary)(?: \(by [\w ]+\))?:\s*$")
_ANNOUNCED = re.compile(rb"(?:Processing \[[^]]*\] with \[(?:[^]]*/)?(\w+?)(?:\.py)?\b[^]]*\]|\[\d+/\d+\] Executing '(\w+)' stats report)")
_RULER = re.compile(rb"\s*-{3,}(?:\s+-{3,})+\s*$")
_SKIPPED = re.compile(rb"SKIPPED: (.*)", re.DOTALL)


def _heads(first: bytes, second: bytes) -> tuple[bytes, ...]:
    """The beginning of a table's head as text, in a box, as CSV and as quoted CSV."""
    return first + rb"\s+" + second, rb"\|\s*" + first + rb"\s+\|\s*" + second, first + b"," + second, b'"' + first + b'","' + second


_UNIT = re.compile(r"\((\w+)\)\s*$")
# Column heads without unit and spaces, as the versions call them
_COLUMNS = {
    "time(%)": "share",
    "time": "share",
    "totaltime": "total",
    "instances": "calls",
    "numcalls": "calls",
    "count": "calls",
    "operations": "calls",
    "avg": "avg",
    "average": "avg",
    "min": "min",
    "minimum": "min",
    "max": "max",
    "maximum": "max",
    "name": "name",
    "operation": "name",
    "start": "start",
    "duration": "duration",
}


def _domain(report: str) -> str:
    """gpu, gpu+ (several categories in one report), api, trace, or nothing for reports without CUDA times."""
    report = report.lower().replace(" ", "")
    if "size" in report or "_gb_" in report or "exec" in report or "trace" in report:
        return "trace" if "gputrace" in report or "gpu_trace" in report else ""
    if re.search(r"gpu_?kern|cudakernelstat|gpu_?mem_?time|cudamemoryoperationstatistics\(bytime", report):
        return "gpu"
    if re.search(r"gpu_?sum$|gpusummary", report):
        return "gpu+"
    return "api" if re.search(r"cuda_?api_?sum|cudaapistat", report) else ""


class Nsys(LineFormat):
    name = "nsys"
    description = "Nsight Systems: nsys stats reports (text, box, CSV; names of 2020 to today), kernels, copies, CUDA API, GPU trace"
    heads = (
        ("title", rb"\*\* .+ \(\w+\):", rb"CUDA [\w ()+-]*:\s*$", rb"Operating System [\w ]*:\s*$", rb"NVTX [\w ()-]*:\s*$"),
        ("title", rb"Open(?:GL|ACC|MP) [\w ()-]*:\s*$", rb"Vulkan [\w ()-]*:\s*$"),
        ("announced", rb"Processing \[", rb"\[\d+/\d+\] Executing '"),
        ("skipped", rb"SKIPPED: "),
        ("progress", rb"Generating '?\S", rb"Exporting ", rb"Importing ", rb"Processing events", rb"Saving ", rb"Collecting "),
        ("header", *_heads(rb"Time ?\(%\)", rb"Total Time")),
        ("header", *_heads(rb"Total(?: \(\w+\))?", rb"(?:Operations|Count)")),
        ("header", *_heads(rb"Start ?\(\w+\)", rb"Duration")),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.report: str = run.carried.get("nsys report", "")
        self.seen: dict[str, str] = {}  # report -> how it was printed
        self.repeated = False  # the table at hand says again what another form of it said
        self.columns: list[str] = []
        self.spans: list[tuple[int, int]] = []  # of the columns of a text table, by the ruler below its head
        self.exponents: list[bytes] = []
        self.csv = self.box = self.host_calls = False
        self.own: dict[str, list[KernelRow]] = {"gpu": [], "api": []}
        self.combined: dict[str, list[KernelRow]] = {"gpu": [], "api": []}
        self.trace = Summary("nsys", "gpu")
        self.reason: str | None = None

    def title(self, line: bytes) -> Answer:
        match = _TITLE.match(line)
        if not match and not _OLD_TITLE.match(line):
            return False
        report = text(match[2] if match else line)
        self.report = report
        self.run.default("profiler", "nsys")
        return True

    def announced(self, line: bytes) -> Answer:
        match = _ANNOUNCED.match(line)
        if match:
            self.report = text(match[1] or match[2])
        return match is not None

    def skipped(self, line: bytes) -> Answer:
        match = _SKIPPED.match(line)
        if match and re.search(rb"CUDA (?:kernel|trace)|GPU (?:kernel|trace)|kernel data", match[1], re.I):
            self.reason = re.sub(r"^\S+ does not", "the capture does not", text(match[1]).rstrip("."))
        return match is not None

    def progress(self, line: bytes) -> Answer:
        return bool(self.seen) or any(mark in line for mark in (b"nsys", b".qdrep", b".sqlite"))

    def header(self, line: bytes) -> Answer:
        content = text(line)
        self.box = content.startswith("|")
        self.csv = not self.box and content.count(",") >= 4
        if self.box:
            heads = [cell.strip() for cell in content.strip("|").split("|")]
        elif self.csv:
            heads = cells(content)
        else:
            heads = re.split(r"\s{2,}", content)
        names = [re.sub(r"\s", "", head.lower()) for head in heads]
        self.columns = [_COLUMNS.get(name) or _COLUMNS.get(re.sub(r"\(\w+\)$", "", name), name) for name in names]
        self.spans = []
        if "name" not in self.columns:
            self.columns = []  # its rows are not those of the table before
            return False
        report, form = self.report or ",".join(self.columns), "box" if self.box else "csv" if self.csv else "text"
        # The same report once more is another process's; so is one of CUDA after one of the system, which stood last until 2021
        late = content.startswith("Time(%)") and _domain(report) and any(known.startswith("Operating System") for known in self.seen)
        if self.another(self.seen.get(report) == form or late):
            self.run.pending["nsys report"] = self.report
            return Signal.NEXT_RUN
        self.repeated = self.seen.setdefault(report, form) != form
        self.run.default("profiler", "nsys")
        self.host_calls = "numcalls" in names
        units = [match[1].encode() if (match := _UNIT.search(head)) else b"" for head in heads]
        whole = next((unit for unit in units if unit), b"ns")
        self.exponents = [EXPONENT.get(UNIT_NAMES.get(unit or whole, unit or whole), b"e-9") for unit in units]
        return self._row

    def _row(self, line: bytes) -> bool:
        content = text(line)
        if not content or content[0] in "*=":
            return False
        if content.startswith("+-"):
            return True
        if _RULER.match(line):
            self.spans = [match.span() for match in re.finditer("-+", line.decode())]
            return True
        found = self._cells(line, content)
        if len(found) != len(self.columns):
            if self.spans and "duration" in self.columns and content[0].isdigit() and len(content) > self.spans[-1][0]:
                self.reason = "rows of the trace do not stand below their column heads"
                return self.run.reject(f"{self.reason}: {content[:80]}")
            return False
        if not found[0][:1].isdigit():
            return False
        row = dict(zip(self.columns, found, strict=True))
        domain = _domain(self.report) if self.report else self._domain_of(row)
        if not domain or self.repeated:
            return True
        if "duration" in row:
            return self._activity(row)
        return self._summary_row(row, domain)

    def _cells(self, line: bytes, content: str) -> list[str]:
        if self.box:
            return [cell.strip() for cell in content.strip("|").split("|", len(self.columns) - 1)]
        if self.csv:
            found = cells(content)
            return found if len(found) <= len(self.columns) else content.split(",", len(self.columns) - 1)
        if "duration" in self.columns:
            return self._under_ruler(line)
        return content.split(None, len(self.columns) - 1)

    def _under_ruler(self, line: bytes) -> list[str]:
        """Cells of a trace, which may be empty or hold blanks: what stands below each dash. None where a cell stands elsewhere."""
        drawn = line.decode("utf-8", "replace")
        ends = [0, *(end for _, end in self.spans)]
        if any(drawn[end:start].strip() for end, (start, _) in zip(ends, self.spans, strict=False)):
            return []
        return [drawn[start:end].strip() for start, end in self.spans[:-1]] + [drawn[start:].strip() for start, _ in self.spans[-1:]]

    def _domain_of(self, row: dict[str, str]) -> str:
        """Domain of a table without a title, by its columns; host calls that are not CUDA's are left out."""
        if "duration" in row:  # a trace of calls has durations, too
            return "trace" if {"corrid", "grdx"} <= row.keys() else ""
        if "category" in row:
            return "gpu+"
        if self.host_calls:
            return "api" if re.match(r"cu[A-Z]|cuda[A-Z]", row["name"]) else ""
        return "gpu" if "calls" in row else ""

    def _summary_row(self, row: dict[str, str], domain: str) -> bool:
        values = {}
        for name in ("total", "avg", "min", "max"):
            if name in row:
                exponent = self.exponents[self.columns.index(name)]
                values[name] = number(row[name].replace(",", "").encode() + exponent)
        calls = row.get("calls", "").replace(",", "")
        share = number(row.get("share", "").encode() + b"e-2")
        if values.get("total") is None or not calls.isdigit():
            return False
        kind = "api" if domain == "api" or row.get("category", "").endswith("API") else "gpu"
        name = row["name"]
        total, average, least, most = (values.get(key) for key in ("total", "avg", "min", "max"))
        what = operator(name) if kind == "gpu" else None
        kernel: KernelRow = ("nsys", kind, name, int(calls), total, average, least, most, share, what)
        (self.combined if domain == "gpu+" else self.own)[kind].append(kernel)
        return True

    def _activity(self, row: dict[str, str]) -> bool:
        duration = number(row["duration"].replace(",", "").encode() + self.exponents[self.columns.index("duration")])
        if duration is None:
            return False
        self.trace.add(row["name"], duration)
        return True

    def finish(self) -> None:
        gpu = self.own["gpu"] or self.combined["gpu"] or self.trace.kernels()
        self.run.kernels += self.own["api"] or _with_shares(self.combined["api"])
        self.run.kernels += _with_shares(gpu)  # kernels and copies are two reports, each with its own 100 %
        if not gpu and self.seen:
            self.run.default("profile_reason", self.reason or "the nsys output holds no report of CUDA kernels")


def _with_shares(rows: list[KernelRow]) -> list[KernelRow]:
    whole = sum(row[4] or 0.0 for row in rows)
    return [(*row[:8], row[4] / whole if whole and row[4] is not None else None, row[9]) for row in rows]
