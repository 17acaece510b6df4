"""nvprof --print-gpu-trace: one line an activity, summed here by name."""

import re

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat
from yoloperf.parsing.quantity import EXPONENT, text
from yoloperf.parsing.summary import Summary

# Start, duration, then columns that differ between versions; the name follows the stream's number
_ROW = re.compile(
    rb"\s*\d+(?:\.\d+)?(?:ns|us|ms|s)\s+(\d+(?:\.\d+)?)(ns|us|ms|s)\s+.*?\(\d+\)\s+(?:\d+|-)\s+(?:\d+|-)\s+(\S.*)$", re.DOTALL
)
_CORRELATION = re.compile(r" \[\d+\]$")


class NvprofTrace(LineFormat):
    name = "nvprof-gpu-trace"
    description = "nvprof --print-gpu-trace: every GPU activity, summed by kernel"
    heads = (
        ("table", rb"Start\s+Duration\s+Grid Size"),
        ("legend", rb"Regs: ", rb"SSMem: ", rb"DSMem: ", rb"SrcMemType: ", rb"DstMemType: ", rb"Size: ", rb"Throughput: "),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.summary = Summary("nvprof", "gpu")

    def table(self, line: bytes) -> Answer:
        return self._row

    def _row(self, line: bytes) -> bool:
        match = _ROW.match(line)
        if match is None:
            return False
        self.summary.add(_CORRELATION.sub("", text(match[3])), float(match[1] + EXPONENT[match[2]]))
        return True

    def legend(self, line: bytes) -> Answer:
        return bool(self.summary.rows)

    def finish(self) -> None:
        self.run.kernels += self.summary.kernels()
