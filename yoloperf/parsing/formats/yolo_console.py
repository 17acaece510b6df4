"""The epochs of ultralytics trainers on the console: YOLOv3 and YOLOv5 from 2020 to today, and 8.x.

A row of an epoch is redrawn with running means: only the last drawing counts. Validation rows were printed to
a buffered stdout in 2020 and then stand far behind their epoch; which row belongs to which epoch is decided at
the end of the run, see _validated.
"""

import re
from dataclasses import dataclass
from typing import Any

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import clock, number

_ROW = re.compile(rb"\s*+(\d++)/(\d++)\s++(\d++\.?+\d*+)G((?:\s++[-+.\deinfa]++){2,12}+)\s*+:(.*+)", re.DOTALL)
_BAR = re.compile(rb"\s*+(\d++)%.*?(?<!\d)(\d++)/(\d++)(?: \[([\d:]++)<|\s.*?(?<![\d:.])([\d:.]++s?)\s*$)?", re.DOTALL)
_HEADER = re.compile(rb"\s*Epoch\s+(?:gpu_mem|GPU_mem)\s+(.*?)\s*$")
_NUMBER = re.compile(rb"[\d.e+-]+$|nan$")
_COMPLETED = re.compile(rb"(\d+) epochs completed in ([\d.]+) hours")
_LOSSES = {
    "GIoU": "box_loss",
    "box": "box_loss",
    "box_loss": "box_loss",
    "obj": "obj_loss",
    "obj_loss": "obj_loss",
    "cls": "cls_loss",
    "cls_loss": "cls_loss",
    "dfl_loss": "dfl_loss",
}
_METRICS = ("precision", "recall", "map50", "map50_95")
_MEASURABLE_S = 5.0  # bars show whole seconds: below, a rate would be off by more than 10 %
_VALIDATION_BAR = re.compile(rb".*?:\s+(\d+%.*)", re.DOTALL)


@dataclass(frozen=True)
class _Validation:
    epoch: int | None  # the epoch that was drawn last
    after_training: bool
    values: list[float | None]


class YoloConsole(LineFormat):
    name = "yolo-console"
    description = "ultralytics YOLOv3, YOLOv5 and 8.x: epochs, losses and validation on the console, 2020 to today"
    heads = (
        ("row", rb"\d\d*+/\d++\s++[\d.]++G\s++[-\d.naif]"),
        ("header", rb"Epoch\s+(?:gpu_mem|GPU_mem)\s"),
        ("validation_bar", rb"Class\s+Images\s+(?:Targets|Labels|Instances)\s"),
        ("validation_row", rb"all\s+[\d.e+]+\s+[\d.e+]+\s"),
        ("completed", rb"\d\d*+ epochs completed in "),
        ("final_validation", rb"Validating \S"),
        ("stopped_early", rb"EarlyStopping: Training stopped early", rb"Training stopped early", rb"Stopping training early"),
    )
    reads_cut_line = True  # a row counts only with what follows its numbers

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = []
        self.rows: dict[int, dict[str, Any]] = {}  # as numbered by the trainer
        self.ended: set[int] = set()
        self.current: int | None = None
        self.headers = 0
        self.validations: list[_Validation] = []
        self.final: list[float | None] | None = None
        self.f1 = False  # the fourth metric is F1, as in spring 2020
        self.is_final = False

    def header(self, line: bytes) -> Answer:
        match = _HEADER.match(line)
        if not match or self.run.cut:
            return False
        if self.another(self.run.trainer_done):
            return Signal.NEXT_RUN
        self.columns = match[1].decode("ascii", "replace").split()
        self.headers += 1
        self.run.trainer_started = True
        self._end(self.current)
        return True

    def row(self, line: bytes) -> Answer:
        match = _ROW.match(line)
        if match is None:
            return False
        epoch, last = int(match[1]), int(match[2])
        values = match[4].split()
        if epoch > last or (self.columns and len(values) != len(self.columns)):
            return False
        if self.another(self.current is not None and (epoch < self.current or self.run.trainer_done)):
            return Signal.NEXT_RUN
        if epoch != self.current:
            self._end(self.current)
            self.current = epoch
            self.rows[epoch] = {}
        row = self.rows[epoch]
        row["last"] = last
        row["gpu_mem"] = float(match[3])
        for column, value in zip(self.columns, values, strict=False):
            row[column] = value
        bar = _BAR.match(match[5])
        if bar:
            if bar[2] == bar[3]:
                self.ended.add(epoch)
                row["train_s"] = clock(bar[4] or bar[5] or b"")
            else:
                row.pop("train_s", None)
        self.run.epochs_seen = self.run.trainer_started = True
        self.run.alive_line = self.run.line
        return True

    def _end(self, epoch: int | None) -> None:
        if epoch is not None:
            self.ended.add(epoch)

    def validation_bar(self, line: bytes) -> Answer:
        self._end(self.current)
        self.f1 = self.f1 or b" F1" in line
        drawn = _VALIDATION_BAR.match(line)
        bar = _BAR.match(drawn[1]) if drawn else None
        if bar and bar[2] == bar[3] and self.current in self.rows and not self.run.trainer_done:
            self.rows[self.current]["val_s"] = clock(bar[4] or bar[5] or b"")
        return True

    def validation_row(self, line: bytes) -> Answer:
        cells = line.split()
        if self.run.cut or len(cells) < 7 or not all(map(_NUMBER.match, cells[1:7])):
            return False
        values = [number(cell) for cell in cells[3:7]]
        images = cells[1]
        if images.isdigit():
            self.run.replace("val_images", int(images))
        if self.is_final:
            self.final = values
        else:
            self._end(self.current)
            epoch = self.current if self.current is not None else self.headers - 1 if self.headers else None
            self.validations.append(_Validation(epoch, self.run.trainer_done, values))
        return _is_class_row  # rows of single classes follow the one of all

    def completed(self, line: bytes) -> Answer:
        match = _COMPLETED.match(line)
        if match is None:
            return False
        self._end(self.current)
        self.run.trainer_done = True
        self.run.done_line = self.run.line
        self.run.facts["epochs_done"] = int(match[1])
        return True

    def final_validation(self, line: bytes) -> Answer:
        self.is_final = b"best" in line or self.run.trainer_done
        return True

    def stopped_early(self, line: bytes) -> Answer:
        self.run.notes.append("stopped early")
        return True

    def finish(self) -> None:
        first = min(self.rows, default=0)
        # yolov3 and yolov5 count epochs from 0, 8.x from 1; only the former have an objectness loss
        base = 1 if first == 0 or "obj" in self.columns or "obj_loss" in self.columns else 0
        self._take_rows(base)
        validated = self._validated(first)
        for epoch, values in validated.items():
            if epoch in self.rows or not self.rows:
                self.run.epoch(epoch + base).update(values)
        if validated and not self.run.trainer_done:  # an epoch ends with its validation
            self.run.default("epochs_done", len(validated))
        if self.final:
            shown = ", ".join(f"{name} {value:g}" for name, value in zip(_METRICS, self.final, strict=False) if value is not None)
            self.run.notes.append(f"best weights: {shown}")

    def _take_rows(self, base: int) -> None:
        peak, images, rate = 0.0, self.run.facts.get("train_images"), None
        for epoch, row in self.rows.items():
            self.run.default("epochs", row["last"] + base)
            peak = max(peak, row["gpu_mem"])
            if epoch not in self.ended:
                continue
            found = self.run.epoch(epoch + base)
            found |= {name: number(row[column]) for column, name in _LOSSES.items() if column in row}
            found |= {name: row[name] for name in ("train_s", "val_s") if name in row}
            if images and (found.get("train_s") or 0.0) >= _MEASURABLE_S:
                rate = found["images_per_s"] = images / found["train_s"]
            if peak and self._gigabyte():
                found["gpu_mem_peak_bytes"] = round(peak * self._gigabyte())

        self.run.default("images_per_s", rate)

    def _gigabyte(self) -> int:
        """What the trainer divides the bytes reserved by torch by: 1e9, and 2**30 since some release of 8.3 (0: not known)."""
        version = self.run.trainer_version or ((8, 3) if "dfl_loss" in self.columns else (0,))
        return 10**9 if version < (8, 3) else 0 if version < (8, 4) else 2**30

    def _validated(self, first: int) -> dict[int, dict[str, float | None]]:
        """Validation values by the trainer's number of the epoch.

        Live output: every row follows its epoch. Buffered output (stdout of 2020 into a file): rows come in
        blocks behind later epochs, and only their order tells, the first row being the first epoch's.
        """
        rows = [row for row in self.validations if row.epoch is not None]
        if not rows and self.validations and not self.headers:
            self._take_bare_validation(self.validations[-1].values)
        if any((row.values[3] or 0) > (row.values[2] or 0) for row in rows):
            self.f1 = True  # mAP@0.5:0.95 is a mean that cannot exceed mAP@0.5: this is the older column
        live = [row for row in rows if not row.after_training]
        by_epoch = {row.epoch or 0: row.values for row in reversed(live)}  # of several an epoch's first one: it may be validated again
        if live and (len(by_epoch) == len(live) or (self.rows and by_epoch.keys() >= set(range(first, max(by_epoch) + 1)))):
            if len(rows) > len(live) and self.current is not None:
                by_epoch.setdefault(self.current, rows[len(live)].values)
            found = list(by_epoch.items())
        else:
            found = [(first + index, row.values) for index, row in enumerate(rows)]
        names = _METRICS[:3] if self.f1 else _METRICS
        return {epoch: dict(zip(names, values, strict=False)) for epoch, values in found}

    def _take_bare_validation(self, values: list[float | None]) -> None:
        """A validation without a training: values of the run itself."""
        for name, value in zip(_METRICS[:3] if self.f1 else _METRICS, values, strict=False):
            self.run.default(name, value)


def _is_class_row(line: bytes) -> bool:
    """A name (which may hold spaces), images, instances and at least four metrics."""
    cells = line.split()
    return len(cells) >= 7 and cells[0] != b"all" and all(map(_NUMBER.match, cells[-6:]))
