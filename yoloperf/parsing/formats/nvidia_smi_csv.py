"""nvidia-smi --query-gpu --format=csv, with its own header or one that a script wrote above `noheader` rows."""

import re
from collections.abc import Iterable

from yoloperf.parsing.device import Device
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.quantity import number, text

_UNIT = re.compile(r"[\[(]\s*+([%\w]++)\s*+[\])]$")
_MILLISECOND = re.compile(r"\d\.\d{3}$")
_SUFFIX = re.compile(r"(?<=[a-z])(?:_|\s)?(mib|mb|gib|gb|percent|pct|%|watts?|w)$")
# Names without separators and units, as nvidia-smi and scripts call them
_NAMES = {
    **dict.fromkeys(("utilizationgpu", "gpuutilization", "gpuutil", "utilgpu", "util", "utilization", "smutil"), "util"),
    **dict.fromkeys(("memoryused", "memused", "usedmemory", "gpumemoryused", "gpumemused", "memusedgpu"), "used"),
    **dict.fromkeys(("memorytotal", "memtotal", "totalmemory", "memorymax", "gpumemorytotal"), "total"),
    **dict.fromkeys(("powerdraw", "powerdrawinstant", "powerdrawaverage", "powerused", "power", "powerusage"), "power"),
    **dict.fromkeys(("name", "gpuname"), "name"),
    **dict.fromkeys(("index", "gpuindex", "gpuid", "uuid", "gpuuuid", "pcibusid", "gpubusid", "serial", "gpuserial"), "gpu"),
    "driverversion": "driver",
    "timestamp": "time",
}
_MEASURED = {"util", "used", "power", "total"}
_TO_BYTES = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "mb": 2**20, "gb": 2**30}


class NvidiaSmiCsv(LineFormat):
    name = "nvidia-smi-csv"
    description = "nvidia-smi --query-gpu csv: utilisation, memory, power; also below a header of one's own"
    heads = (
        ("header", rb"[dDgGiInNpPtTuU][\w.]{1,15}\s*,"),
        ("header", rb"utilization\.\w+(?: \[|,|\s*$)", rb"memory\.\w+(?: \[|,|\s*$)", rb"power\.draw[.\w]*(?: \[|,|\s*$)"),
        ("header", rb"[a-z]\w{1,40}\.[\w.]{1,60}(?: \[[%\w]{1,5}\])?,", rb"serial,", rb"count,", rb"compute_\w{3,4},", rb"vbios_version,"),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = []
        self.units: list[str] = []
        self.last: dict[str, str] = {}  # column -> cell of the row before
        self.device = Device()

    def header(self, line: bytes) -> Answer:
        heads = [_head(cell) for cell in text(line).split(",")]
        if not _MEASURED & {name for name, _ in heads}:
            return False
        self.columns = [name for name, _ in heads]
        self.units = [unit for _, unit in heads]
        self.last = {}
        return self._row

    def _row(self, line: bytes) -> bool:
        cells = [cell.strip() for cell in text(line).split(",")]
        if len(cells) != len(self.columns) or not any(character.isdigit() for character in line.decode("utf-8", "replace")):
            return False
        if any(_head(cell)[0] in _MEASURED for cell in cells):  # the header again, or another query's
            return False
        row = dict(zip(self.columns, cells, strict=True))
        if " " in row.get("gpu", "") or not row.get("time", "0")[:1].isdigit():  # a line of a program that prints between the rows
            return False
        values: dict[str, float] = {}
        for column, unit, cell in zip(self.columns, self.units, cells, strict=True):
            value = _value(cell, unit, column) if column in _MEASURED else None
            if value is not None:
                values[column] = value
            elif column in _MEASURED and cell[:1] not in ("", "[", "N"):  # [N/A], [Not Supported], N/A
                return False
        self.run.default("gpu_name", row.get("name"))
        self.run.default("driver", row.get("driver"))
        self.device.sample(values, row.get("gpu", ""))
        self.device.mixed |= "gpu" not in row and self._is_another(row)
        self.last = row
        return True

    def _is_another(self, row: dict[str, str]) -> bool:
        """Whether a row is of another GPU than the one before, as far as it shows: nvidia-smi asks a GPU once a millisecond at most."""
        same_time = _MILLISECOND.search(row.get("time", "")) and row["time"] == self.last.get("time")
        return bool(self.last and (row.get("name") != self.last.get("name") or same_time))

    def finish(self) -> None:
        if self.columns:
            self.device.take(self.run)


def _head(cell: str) -> tuple[str, str]:
    """What a column of this name holds ("" for anything else), and its unit."""
    unit = _UNIT.search(cell)
    name = _UNIT.sub("", cell).strip().lower()
    suffix = _SUFFIX.search(name)
    found = _NAMES.get(re.sub(r"[^a-z]", "", name)) or _NAMES.get(re.sub(r"[^a-z]", "", _SUFFIX.sub("", name)), "")
    return found, (unit[1] if unit else suffix[1] if suffix else "").lower()


def _value(cell: str, unit: str, column: str) -> float | None:
    """A cell with or without its unit, in per cent, W or bytes; None for [N/A] and [Not Supported]."""
    words: Iterable[str] = cell.split()
    first, own = (*words, "", "")[:2]
    value = number(first.rstrip("%").encode())
    if value is None or column in ("util", "power"):
        return value
    return value * _TO_BYTES.get((own or unit).lower(), 2**20)  # without units, nvidia-smi means MiB
