"""PyTorch-YOLOv3 (eriklindernoren's package of 2018 to 2021): epochs and mAP on the console."""

import re

from yoloperf.parsing.command import take_arguments
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import clock, text

_EPOCH = re.compile(rb"Training Epoch (\d+):\s+(\d+)%.*?(\d+)/(\d+) \[([\d:]+)<", re.DOTALL)
_VALIDATION = re.compile(rb"Validating:\s+\d+%.*?(\d+)/(\d+) \[([\d:]+)<", re.DOTALL)
_MAP = re.compile(rb"---- mAP ([\d.]+) ----")
_ARGUMENT = re.compile(r"\b(\w+)=('[^']*'|[^,()]*)")


class PytorchYolov3(LineFormat):
    name = "pytorch-yolov3"
    description = "PyTorch-YOLOv3 (eriklindernoren): epochs and mAP@0.5 on the console"
    heads = (
        ("epoch", rb"Training Epoch \d+:"),
        ("validation", rb"Validating:\s+\d+%"),
        ("mean_average_precision", rb"---- mAP [\d.]+ ----"),
        ("arguments", rb"Command line arguments: Namespace\("),
        ("known", rb"---- (?:Training|Evaluating) Model ----", rb"---- Saving checkpoint to", rb"Computing AP:"),
    )
    reads_cut_line = True  # a bar counts when it is full

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.current: int | None = None

    def arguments(self, line: bytes) -> Answer:
        if self.another(self.current is not None):
            return Signal.NEXT_RUN
        self.run.trainer_started = True
        self.run.default("engine", "pytorch-yolov3")
        pairs = {name: value.strip("'") for name, value in _ARGUMENT.findall(text(line))}
        weights = pairs.get("pretrained_weights", "None")
        take_arguments(self.run, {"epochs": pairs.get("epochs", ""), "weights": weights, "cfg": pairs.get("model", "")})
        return True

    def epoch(self, line: bytes) -> Answer:
        match = _EPOCH.match(line)
        if match is None:
            return False
        self.current = int(match[1])
        if match[3] == match[4]:
            self.run.epoch(self.current)["train_s"] = clock(match[5])
        self.run.alive_line = self.run.line
        return True

    def validation(self, line: bytes) -> Answer:
        match = _VALIDATION.match(line)
        if match and match[1] == match[2] and self.current is not None:
            self.run.epoch(self.current)["val_s"] = clock(match[3])
        return match is not None

    def mean_average_precision(self, line: bytes) -> Answer:
        match = _MAP.match(line)
        if match and self.current is not None:
            self.run.epoch(self.current)["map50"] = float(match[1])
        return match is not None

    def known(self, line: bytes) -> Answer:
        return True

    def finish(self) -> None:
        if self.current is not None and self.current == self.run.facts.get("epochs"):
            self.run.trainer_done = self.current in self.run.epochs
