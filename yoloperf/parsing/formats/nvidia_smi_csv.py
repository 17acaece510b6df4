"""nvidia-smi --query-gpu --format=csv, with its own header or one that a script wrote above `noheader` rows."""

import re
from collections.abc import Iterable

from yoloperf.parsing.device import Device
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.quantity import number, text

_UNIT = re.compile(r"\s*[\[(]\s*([%\w]+)\s*[\])]\s*$")
_NAMES = {
    "utilization.gpu": "util",
    "gpu_utilization": "util",
    "gpu_util": "util",
    "gpu utilization": "util",
    "utilization": "util",
    "memory.used": "used",
    "memory_used": "used",
    "memory used": "used",
    "mem_used": "used",
    "memory.total": "total",
    "memory_total": "total",
    "memory total": "total",
    "memory max": "total",
    "power.draw": "power",
    "power.draw.instant": "power",
    "power.draw.average": "power",
    "power_draw": "power",
    "power used": "power",
    "power": "power",
    "name": "name",
    "gpu_name": "name",
    "driver_version": "driver",
    "index": "index",
}
_MEASURED = {"util", "used", "power", "total"}
_TO_BYTES = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "mb": 2**20, "gb": 2**30}


class NvidiaSmiCsv(LineFormat):
    name = "nvidia-smi-csv"
    description = "nvidia-smi --query-gpu csv: utilisation, memory, power; also below a header of one's own"
    heads = (
        ("header", rb"[dDgGiInNpPtTuU][\w.]{1,15}\s*,"),
        ("header", rb"utilization\.\w+(?: \[|,|\s*$)", rb"memory\.\w+(?: \[|,|\s*$)", rb"power\.draw[.\w]*(?: \[|,|\s*$)"),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = []
        self.units: list[str] = []
        self.device = Device()

    def header(self, line: bytes) -> Answer:
        heads = text(line).split(",")
        names = [_NAMES.get(_UNIT.sub("", head).strip().lower(), "") for head in heads]
        if not _MEASURED & set(names):
            return False
        self.columns = names
        self.units = [match[1].lower() if (match := _UNIT.search(head)) else "" for head in heads]
        return self._row

    def _row(self, line: bytes) -> bool:
        cells = [cell.strip() for cell in text(line).split(",")]
        if len(cells) != len(self.columns) or not any(character.isdigit() for character in line.decode("utf-8", "replace")):
            return False
        if any(_NAMES.get(_UNIT.sub("", cell).strip().lower()) in _MEASURED for cell in cells):  # the header again, or another query's
            return False
        values: dict[str, float] = {}
        for column, unit, cell in zip(self.columns, self.units, cells, strict=True):
            if column == "name":
                self.run.default("gpu_name", cell)
            elif column == "driver":
                self.run.default("driver", cell)
            elif column in _MEASURED:
                value = _value(cell, unit, column)
                if value is not None:
                    values[column] = value
        self.device.sample(values)
        return True

    def finish(self) -> None:
        if self.columns:
            self.device.take(self.run)


def _value(cell: str, unit: str, column: str) -> float | None:
    """A cell with or without its unit, in per cent, W or bytes; None for [N/A] and [Not Supported]."""
    words: Iterable[str] = cell.split()
    first, own = (*words, "", "")[:2]
    value = number(first.rstrip("%").encode())
    if value is None or column in ("util", "power"):
        return value
    return value * _TO_BYTES.get((own or unit).lower(), 2**20)  # without units, nvidia-smi means MiB
