"""MLPerf training logs: `:::MLLOG {json}` (v0.7 and later), `:::MLL` (v0.6), `:::MLPv0.5.0`."""

import ast
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal

_V06 = re.compile(r":::MLL ([\d.]+) (\w+): (.*)", re.DOTALL)
_V05 = re.compile(r":::MLPv0\.5\.\d+ (\w+) ([\d.]+) \([^)]*\) (\w+)(?:: (.*))?", re.DOTALL)
_NUMBERS = {
    "global_batch_size": "batch_size",
    "input_batch_size": "batch_size",
    "train_samples": "train_images",
    "eval_samples": "val_images",
    "seed": "seed",
    "epoch_count": "epochs",
}
# Benchmarks whose accuracy is COCO mean average precision over IoU 0.5 to 0.95
_COCO = {"ssd", "maskrcnn", "mask_rcnn"}


class Mllog(LineFormat):
    name = "mllog"
    description = "MLPerf training: :::MLLOG, :::MLL and :::MLPv0.5 lines"
    anywhere = ((b":::ML", "event"),)
    reads_cut_line = True  # JSON shows whether it is whole

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.benchmark = ""
        self.began: float | None = None
        self.stopped: float | None = None
        self.success = False
        self.accuracy: dict[Any, float] = {}
        self.last_accuracy: float | None = None

    def event(self, line: bytes) -> Answer:
        content = line[line.index(b":::ML") :].decode("utf-8", "replace").strip()
        event = _parse(content)
        if event is None or (self.run.cut and content.startswith(":::MLP")):
            return self.run.reject(f"not an MLPerf event: {content[:80]}")
        key, time_s, value, metadata = event
        # v0.6 states what is submitted first, and without a time
        begins = key == "submission_benchmark" or (key in ("init_start", "run_start") and time_s)
        if self.another(self.stopped is not None and begins):
            return Signal.NEXT_RUN
        if key == "run_start":
            self.run.trainer_started = True
            self.began = self.began or time_s
        elif key == "run_stop":
            self._stop(time_s, value, metadata)
        elif key in ("submission_benchmark", "submission_platform"):
            self._text(key, value)
        elif key in ("eval_accuracy", "eval_result"):
            if not self.success:  # what was evaluated after the stop is not of the time that is reported
                self._evaluate(value, metadata)
        elif key in _NUMBERS and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            self.run.default(_NUMBERS[key], value)
        return True

    def _text(self, key: str, value: Any) -> None:
        if key == "submission_benchmark":
            self.benchmark = str(value)
        self.run.default("model" if key == "submission_benchmark" else "platform", str(value))

    def _stop(self, time_s: float | None, value: Any, metadata: dict[str, Any]) -> None:
        self.stopped = time_s or self.stopped
        status = metadata.get("status", value.get("success") if isinstance(value, dict) else None)
        if status in ("success", True):
            self.success = self.run.trainer_done = True
            self.run.done_line = self.run.line
        elif status is not None:
            self.run.cause("failed", f"MLPerf run_stop: {status}")

    def _evaluate(self, value: Any, metadata: dict[str, Any]) -> None:
        if isinstance(value, dict):
            metadata, value = {**metadata, "epoch_num": value.get("epoch")}, value.get("value")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return
        self.last_accuracy = float(value)
        epoch = metadata.get("epoch_num")
        if self.benchmark in _COCO and isinstance(epoch, int | float) and float(epoch).is_integer() and epoch > 0:
            self.run.epoch(int(epoch))["map50_95"] = float(value)

    def finish(self) -> None:
        self.run.default("engine", "mlperf")
        if self.began:
            self.run.default("started_at", datetime.fromtimestamp(self.began, UTC).isoformat(timespec="milliseconds"))
        if self.began and self.stopped and self.stopped > self.began:
            self.run.default("wall_s", round(self.stopped - self.began, 3))
            self.run.notes.append("wall time from run_start to run_stop")
        if self.last_accuracy is not None:
            self.run.notes.append(f"last eval_accuracy {self.last_accuracy:.6g}")
        if self.run.epochs:
            self.run.default("epochs_done", max(self.run.epochs))


def _parse(content: str) -> tuple[str, float | None, Any, dict[str, Any]] | None:
    """(key, time in seconds or None, value, metadata) of a line."""
    if content.startswith(":::MLLOG"):
        record = _json(content[8:])
        if not isinstance(record, dict) or not isinstance(record.get("key"), str):
            return None
        time_ms = record.get("time_ms")
        metadata = record.get("metadata")
        seconds = time_ms / 1000 if isinstance(time_ms, int | float) and not isinstance(time_ms, bool) and 0 < time_ms < 1e14 else None
        return record["key"], seconds, record.get("value"), metadata if isinstance(metadata, dict) else {}
    match = _V06.match(content)
    if match:
        record = _json(match[3])
        if not isinstance(record, dict):
            return None
        metadata = record.get("metadata")
        return match[2], _seconds(match[1]), record.get("value"), metadata if isinstance(metadata, dict) else {}
    match = _V05.match(content)
    if match:
        return match[3], _seconds(match[2]), _literal(match[4]), {}
    return None


def _json(content: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _seconds(content: str) -> float | None:
    try:
        value = float(content)
    except ValueError:
        return None
    return value if 0 < value < 1e11 else None  # 0.0 stands for a time that was not taken


def _literal(content: str | None) -> Any:
    """A value of v0.5, which printed Python or JSON."""
    if content is None:
        return None
    found = _json(content)
    if found is not None:
        return found
    try:
        return ast.literal_eval(content)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return content
