"""Chrome traces of torch.profiler (Kineto) and of the autograd profiler before it; packed or not, read event by event.

Times are microseconds, whatever `displayTimeUnit` says. Work on the GPU has the categories kernel, gpu_memcpy and
gpu_memset. Operators on the CPU call each other: their own time is what their calls leave.
"""

import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from yoloperf.parsing.content import DAMAGED, Content, chunks
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import FileFormat
from yoloperf.parsing.summary import Summary

MAX_EVENT_CHARS = 1 << 24
_GPU = {"kernel", "gpu_memcpy", "gpu_memset", "Kernel", "Memcpy", "Memset"}
_API = {"cuda_runtime", "cuda_driver", "Runtime"}
_CPU = {"cpu_op", "Operator"}
_START = re.compile(rb'\s*(?:\[\s*\{.*?"ph"\s*:\s*"\w"|\{.*?"traceEvents"\s*:)', re.DOTALL)
_DEVICE = re.compile(r'"name"\s*:\s*"([^"]+)"\s*,\s*"totalGlobalMem"\s*:\s*(\d+)')
_CUDA = re.compile(r'"cuda_runtime_version"\s*:\s*(\d+)')
_SPACE = re.compile(r"[\s,]*")


class ChromeTrace(FileFormat):
    name = "chrome-trace"
    description = "Chrome trace (JSON, also gzip) of torch.profiler or the autograd profiler, summed by kernel and operator"

    @staticmethod
    def sniff(head: bytes) -> bool:
        return _START.match(next(chunks(io.BufferedReader(io.BytesIO(head))), b"")) is not None

    @staticmethod
    def read(path: Path, stream: Content, new_run: Callable[[], Draft]) -> Iterator[Draft]:
        run = new_run()
        run.formats[ChromeTrace.name] = None
        run.default("profiler", "torch")
        summaries = {domain: Summary("torch", domain, 1e6) for domain in ("gpu", "api", "cpu")}
        own = _OwnTime(summaries["cpu"])
        try:
            for event in _events(stream, run):
                _add(event, summaries, own)
        except ValueError as error:
            run.open.add("trace")
            run.reject(str(error))
        own.close()
        if not own.in_order:
            summaries["cpu"].rows.clear()
            run.notes.append("operators of the CPU left out: the trace is not in the order of time")
        for summary in summaries.values():
            run.kernels += summary.kernels()
        if not run.kernels and not run.rejected and "gpu_name" not in run.facts:
            raise ValueError("a trace without kernels, CUDA calls or operators: none of torch.profiler's")
        if not summaries["gpu"].rows and (summaries["api"].rows or "gpu_name" in run.facts):
            run.default("profile_reason", "the trace holds no GPU kernels")
        yield run


def _add(event: dict[str, Any], summaries: dict[str, Summary], own: "_OwnTime") -> None:
    name, duration, category = event.get("name"), event.get("dur"), event.get("cat")
    if event.get("ph") != "X" or not isinstance(name, str) or not _is_number(duration):
        return
    place = event.get("pid")  # the autograd profiler had no categories
    if category in _GPU or (category is None and place == "CUDA functions"):
        summaries["gpu"].add(name, duration)
    elif category in _API:
        summaries["api"].add(name, duration)
    elif (category in _CPU or (category is None and place == "CPU functions")) and _is_number(start := event.get("ts")):
        own.add((place, event.get("tid")), name, start, duration)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18


class _OwnTime:
    """Time of nested operators without the operators that they call. Events of a thread must come in order of their start."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        self.open: dict[Any, list[list[Any]]] = {}  # thread -> stack of [name, start, end, time of callees]
        self.in_order = True

    def add(self, thread: Any, name: str, start: float, duration: float) -> None:
        stack = self.open.setdefault(thread, [])
        if stack and start < stack[-1][1]:
            self.in_order = False
        while stack and start >= stack[-1][2]:
            self._end(stack.pop())
        if stack:
            stack[-1][3] += duration
        stack.append([name, start, start + duration, 0.0])

    def _end(self, operator: list[Any]) -> None:
        name, start, end, callees = operator
        self.summary.add(name, max(end - start - callees, 0.0))

    def close(self) -> None:
        for stack in self.open.values():
            while stack:
                self._end(stack.pop())


def _events(stream: Content, run: Draft) -> Iterator[dict[str, Any]]:
    """Events of the trace, one at a time. Raises ValueError where the file is damaged or ends early."""
    decoder = json.JSONDecoder()
    parts = chunks(stream)
    text, pending = _skip_to_events(parts, run)
    position = 0
    while True:
        position = _space_end(text, position)
        if text[position : position + 1] == "]":
            return
        try:
            event, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            if len(text) - position > MAX_EVENT_CHARS:
                raise ValueError("no trace event where one should be") from None
            more, pending = _more(parts, pending)
            if not more:
                raise ValueError("the trace ends early") from None
            text, position = text[position:] + more, 0
            continue
        if isinstance(event, dict):
            yield event


def _space_end(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _more(parts: Iterator[bytes], pending: bytes) -> tuple[str, bytes]:
    """More text; the bytes of a character that is not whole yet are kept for the next call."""
    try:
        chunk = next(parts, b"")
    except DAMAGED as error:
        raise ValueError(f"the trace is damaged: {error}") from error
    data = pending + chunk
    if not chunk:
        return "", b""
    end = len(data)
    while end > 0 and len(data) - end < 3 and data[end - 1] & 0xC0 == 0x80:
        end -= 1
    if end > 0 and data[end - 1] >= 0xC0:
        end -= 1
    else:
        end = len(data)
    return data[:end].decode("utf-8", "replace"), data[end:]


def _skip_to_events(parts: Iterator[bytes], run: Draft) -> tuple[str, bytes]:
    """Text behind the bracket that opens the list of events; what stands before it says the device."""
    text, pending = _more(parts, b"")
    while True:
        if text.lstrip()[:1] == "[":
            return text.lstrip()[1:], pending
        key = re.search(r'"traceEvents"\s*:\s*\[', text)
        if key:
            _take_device(text[: key.start()], run)
            return text[key.end() :], pending
        more, pending = _more(parts, pending)
        if not more or len(text) > MAX_EVENT_CHARS:
            raise ValueError("no list of trace events")
        text += more


def _take_device(text: str, run: Draft) -> None:
    device, cuda = _DEVICE.search(text), _CUDA.search(text)
    if device:
        run.default("gpu_name", device[1])
        run.default("gpu_mem_bytes", int(device[2]))
    if cuda:
        run.default("cuda", f"{int(cuda[1]) // 1000}.{int(cuda[1]) % 1000 // 10}")
