"""The table that plain `nvidia-smi` prints, once or in a loop."""

import re

from yoloperf.parsing.device import Device
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.quantity import text

_VERSIONS = re.compile(rb"\| NVIDIA-SMI \S+\s+Driver Version: (\S+)(?:\s+CUDA Version: (\S+))?")
_GPU = re.compile(rb"\|\s+(\d+)\s+(\S.*?)\s+(?:On|Off|N/A|TCC|WDDM)\s+\|")
_STATE = re.compile(rb"\|.*?(?:(\d+)W|N/A) / +(?:\d+W|N/A) \| +(\d+)MiB / +(\d+)MiB \| +(?:(\d+)%|N/A) ")


class NvidiaSmiTable(LineFormat):
    name = "nvidia-smi-table"
    description = "the table of plain nvidia-smi, once or repeated: utilisation, memory, power, driver"
    heads = (("versions", rb"\| NVIDIA-SMI \d"), ("state", rb"\|\s+(?:\d+%|N/A)\s+\d+C\s+P\d"))

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.gpu = "0"  # index of the one whose state follows
        self.device = Device()

    def versions(self, line: bytes) -> Answer:
        match = _VERSIONS.match(line)
        if match:
            self.run.default("driver", text(match[1]))
        return self._row

    def state(self, line: bytes) -> Answer:
        return self._state(line)

    def _row(self, line: bytes) -> bool:
        match = _GPU.match(line)
        if match:
            self.gpu = text(match[1])
            self.run.default("gpu_name", text(match[2]))
        return self._state(line) or line[:1] in (b"|", b"+")

    def _state(self, line: bytes) -> bool:
        match = _STATE.match(line)
        if match is None:
            return False
        power, used, total, util = match.groups()
        values = {"used": float(used) * 2**20, "total": float(total) * 2**20}
        if power:
            values["power"] = float(power)
        if util:
            values["util"] = float(util)
        self.device.sample(values, self.gpu)
        return True

    def finish(self) -> None:
        self.device.take(self.run)
