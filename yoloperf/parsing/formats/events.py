"""Our own `:::YOLOPERF {json}` lines: see yoloperf.core.events."""

import math
from collections.abc import Mapping
from typing import Any

from yoloperf.core import events
from yoloperf.core.record import EpochRecord, RunRecord, columns
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal

_RUN = columns(RunRecord)
_EPOCH = columns(EpochRecord)
_PREFIX = events.PREFIX.encode()
# spec field -> column, where the two differ
_SPEC = {"precision": "precision_mode", "data": "dataset", "cfg": "model"}
_OWN = {"status", "reason", "run_id", "precision", "recall"}


class Events(LineFormat):
    name = "yoloperf"
    description = "our own events: `:::YOLOPERF {json}` lines of train.py"
    anywhere = ((_PREFIX, "event"),)
    reads_cut_line = True  # JSON shows whether it is whole

    started = False

    def event(self, line: bytes) -> Answer:
        text = line.partition(_PREFIX)[2].decode("utf-8", "replace")
        event = events.parse(text)
        if event is None:
            return self.run.reject(f"not an event: {text[:80]}")
        if event["key"] == "run_start":
            if self.another(self.started and not event.get("start_epoch")):
                return Signal.NEXT_RUN
            self.started = True
        handler = getattr(self, f"_{event['key']}", None)
        if handler:
            handler(event)
        return True

    def _run_start(self, event: Mapping[str, Any]) -> None:
        self.run.trainer_started = True
        self.run.trainer_done = False
        spec = event.get("spec")
        self._take(spec if isinstance(spec, dict) else {}, _RUN, skip={"precision", "data", "cfg", "device", *_OWN})
        self._take(event, _RUN, skip=_OWN)
        if event.get("device") == "cpu":  # the machine's GPU, which run.json names, was not used
            for name in ("gpu_name", "gpu_mem_bytes"):
                self.run.replace(name, None)

    def _first_step(self, event: Mapping[str, Any]) -> None:
        self._take(event, _RUN, skip=_OWN)

    def _epoch(self, event: Mapping[str, Any]) -> None:
        number = event.get("epoch")
        if isinstance(number, int) and not isinstance(number, bool):
            self.run.epoch(number).update({name: value for name, value in event.items() if fits(_EPOCH, name, value)})

    def _run_end(self, event: Mapping[str, Any]) -> None:
        self._take(event, _RUN, skip=_OWN)
        if event.get("status") == "ok":
            self.run.trainer_done = True
        elif event.get("status"):
            self.run.cause(str(event["status"]), str(event.get("reason") or "the trainer gives no reason"))

    def _take(self, values: Mapping[str, Any], columns: Mapping[str, Any], skip: set[str]) -> None:
        for name, value in values.items():
            if name not in skip and fits(columns, name, value):
                self.run.replace(name, value)


def fits(columns: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether the value is of the column's type, and a finite number: an event is text from a file, not to be trusted."""
    if name not in columns or name == "run_id" or value is None or isinstance(value, bool):
        return False
    kind = str(columns[name].type).split(" ")[0]
    if not isinstance(value, {"int": int, "float": int | float, "str": str}[kind]):
        return False
    return not isinstance(value, float) or math.isfinite(value)
