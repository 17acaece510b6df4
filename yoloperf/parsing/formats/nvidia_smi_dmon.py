"""nvidia-smi dmon: columns by its header of two lines, which is repeated and differs between drivers."""

from yoloperf.parsing.device import Device
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.quantity import number

_NAMES = {b"sm": "util", b"pwr": "power", b"fb": "used"}


class NvidiaSmiDmon(LineFormat):
    name = "nvidia-smi-dmon"
    description = "nvidia-smi dmon: utilisation of the multiprocessors, power, memory"
    heads = (("header", rb"#\s*(?:Date\s+Time\s+)?gpu\s"), ("units", rb"#\s*(?:YYYYMMDD\s+HH:MM:SS\s+)?Idx\s"))

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[bytes] = []
        self.device = Device()

    def header(self, line: bytes) -> Answer:
        self.columns = line.lstrip(b"# ").split()
        return self._row

    def units(self, line: bytes) -> Answer:
        return self._row if self.columns else False

    def _row(self, line: bytes) -> bool:
        if line.lstrip().startswith(b"#"):
            return b"Idx" in line
        cells = line.split()
        gpu = self.columns.index(b"gpu")
        if len(cells) != len(self.columns) or not cells[gpu].isdigit():
            return False
        values = {}
        for column, cell in zip(self.columns, cells, strict=True):
            value = number(cell)
            if column in _NAMES and value is not None:
                values[_NAMES[column]] = value * 2**20 if column == b"fb" else value
        self.device.sample(values, cells[gpu].decode())
        return True

    def finish(self) -> None:
        self.device.take(self.run)
