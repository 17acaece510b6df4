"""nvprof --csv: a header, a row of units (one a column), rows; also CSV that people made of the printed table.

Three shapes are met: units in a row of their own; units and per cent signs in the cells; no Type column, for
GPU activities only. Names may be unquoted and hold commas.
"""

import re

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.formats.nvprof import whole_name
from yoloperf.parsing.operators import operator
from yoloperf.parsing.quantity import EXPONENT, cells, number, seconds, text
from yoloperf.parsing.summary import Summary

_TIMES = ("Time", "Avg", "Min", "Max")
_SECTIONS = ("GPU activities", "API calls", "OpenACC")


class NvprofCsv(LineFormat):
    name = "nvprof-csv"
    description = "nvprof --csv: summary or GPU trace, units in a row of their own or in the cells"
    heads = (
        ("table", rb'"Type","Time\(%\)"', rb"Time\(%\),Time,Calls", rb'"Time\(%\)","Time","Calls'),
        ("table", rb"Type,Time\(%\)", rb'"Start","Duration","Grid', rb"Start,Duration,Grid"),
        ("memory", rb'"Device","Count","Avg Size"'),
    )
    reads_cut_line = True  # refuses rows whose name is not whole

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = []
        self.units: list[bytes] = []
        self.trace = Summary("nvprof", "gpu")

    first = True

    def table(self, line: bytes) -> Answer:
        columns = cells(text(line))
        if not ({*_TIMES, "Time(%)", "Calls"} <= {*columns} or "Duration" in columns) or "Name" not in columns:
            return False
        self.columns = columns
        self.units = []
        self.first = True
        return self._row

    def memory(self, line: bytes) -> Answer:
        """Unified memory: sizes and page faults, no kernels."""
        return lambda row: row.count(b",") >= 6

    def _row(self, line: bytes) -> bool:
        found = self._cells(line)
        if found is None:
            return False
        if self.first and not any(character.isdigit() for cell in found for character in cell):
            self.units = [cell.encode() for cell in found]
            return True
        self.first = False
        row = dict(zip(self.columns, found, strict=True))
        if "Duration" in row:
            return self._activity(row)
        values = {name: self._seconds(name, row[name]) for name in _TIMES if name in row}
        share = number(row["Time(%)"].rstrip("%").encode() + b"e-2")
        if share is None or not row.get("Type", "GPU activities").startswith(_SECTIONS):
            return False
        if None in values.values() or not re.fullmatch(r"\d+", row["Calls"]):
            return self.run.reject(f"no row of an nvprof summary: {text(line)[:80]}")
        domain = "gpu" if row.get("Type", "GPU activities") == "GPU activities" else "api"
        name = row["Name"]
        total, average, least, most = (values.get(column) for column in _TIMES)
        what = operator(name) if domain == "gpu" else None
        self.run.kernels.append(("nvprof", domain, name, int(row["Calls"]), total, average, least, most, share, what))
        return True

    def _cells(self, line: bytes) -> list[str] | None:
        """Cells of a row, one a column: a name that stands last takes the commas that are left. None where it is no row, or cut."""
        content = text(line)
        if content.startswith("="):
            return None
        found = cells(content)
        name_is_last = self.columns[-1] == "Name"  # since CUDA 9, Correlation_ID follows it in a trace
        if len(found) < len(self.columns) or (len(found) > len(self.columns) and not name_is_last):
            return None
        if len(found) > len(self.columns):
            found = content.split(",", len(self.columns) - 1)
        quoted = content.endswith('"') and content.count('"') % 2 == 0
        if self.run.cut and name_is_last and not quoted and not whole_name(found[-1]):
            return None
        return [cell.strip() for cell in found]

    def _seconds(self, column: str, cell: str) -> float | None:
        if not self.units:
            return seconds(cell.encode())
        exponent = EXPONENT.get(self.units[self.columns.index(column)])
        return None if exponent is None else number(cell.encode() + exponent)

    def _activity(self, row: dict[str, str]) -> bool:
        duration = self._seconds("Duration", row["Duration"])
        if duration is None:
            return self.run.reject(f"no duration: {row['Duration'][:80]}")
        self.trace.add(re.sub(r" \[\d+\]$", "", row["Name"]), duration)
        return True

    def finish(self) -> None:
        self.run.kernels += self.trace.kernels()
