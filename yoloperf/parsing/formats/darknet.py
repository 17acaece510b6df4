"""Darknet's training log (pjreddie's and AlexeyAB's) and what `detector map` prints.

Darknet counts iterations (batches), not epochs. Its loss is the sum over the batch's boxes, classes and objectness.
"""

import re
from array import array
from statistics import median

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import number, text

_LOSS = re.compile(
    rb"\s*(\d+): (-?[\d.]+|-?nan|-?inf), (-?[\d.]+|-?nan|-?inf) avg(?: loss)?, ([\d.]+) rate, ([\d.]+) seconds, (\d+) images"
    rb"(?:, (-?[\d.]+) hours left)?\s*$"
)
_LOADED = re.compile(rb"Loaded: ([\d.]+) seconds")
_MAP = re.compile(rb" ?mean[_ ]average[_ ]precision \(mAP@0\.(\d+)\) = ([\d.]+)")
_LAST = re.compile(rb" ?Last accuracy mAP@0\.50? = ([\d.]+) ?%")
_THRESHOLD = re.compile(rb" ?for (?:conf_)?thresh = [\d.]+, precision = ([\d.]+|-?nan), recall = ([\d.]+|-?nan)")


class Darknet(LineFormat):
    name = "darknet"
    description = "Darknet (pjreddie, AlexeyAB): training iterations and `detector map`"
    heads = (
        ("iteration", rb"\d\d*+: (?:-?[\d.]+|-?nan|-?inf), (?:-?[\d.]+|-?nan|-?inf) avg"),
        ("loaded", rb"Loaded: [\d.]+ seconds"),
        ("mean_average_precision", rb"mean[_ ]average[_ ]precision \(mAP@"),
        ("last_accuracy", rb"Last accuracy mAP@"),
        ("threshold", rb"for (?:conf_)?thresh = [\d.]+, precision = "),
        ("saved", rb"Saving weights to \S+_final\.weights"),
        ("known", rb"Region \S+ Avg", rb"v[34] \(\S+ ", rb"total_bbox = ", rb"Resizing", rb"\d\d*+ x \d+\s*$", rb"\d\d\d\d?\s*$"),
        ("setup", rb"Learning Rate: ", rb"layer +filters"),
        ("known", rb"\d\d*+ (?:conv|max|route|Shortcut|upsample|yolo|detection|Region)\b"),
        ("known", rb"class_id = ", rb"detections_count = ", rb"IoU threshold = ", rb"calculation mAP", rb"\(next mAP", rb"rank = "),
        ("known", rb"Saving weights to", rb"Loading weights", rb"Done!", rb"seen \d", rb"Total BFLOPS", rb"for (?:conf_)?thresh"),
        ("known", rb"Very small path to the image", rb"CUDA allocate done", rb"try to allocate additional workspace_size"),
        ("network", rb"[\w.-][\w.-]*\s*$"),
    )

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.iterations = 0
        self.seen = False
        self.loss: float | None = None
        self.steps = array("d")
        self.waits = array("d")

    def iteration(self, line: bytes) -> Answer:
        match = _LOSS.match(line)
        if match is None:
            return False
        count, images = int(match[1]), int(match[6])
        if self.another(count <= self.iterations):
            return Signal.NEXT_RUN
        self.run.trainer_started = True
        self.iterations = count
        if count and images % count == 0:
            self.run.set("batch_size", images // count)
        self.loss = number(match[3])
        self.steps.append(float(match[5]))
        self.run.alive_line = self.run.line
        return True

    def loaded(self, line: bytes) -> Answer:
        match = _LOADED.match(line)
        if match and self.iterations:
            self.waits.append(float(match[1]))
        return True

    def mean_average_precision(self, line: bytes) -> Answer:
        match = _MAP.match(line)
        if match and match[1] in (b"5", b"50"):
            self.run.replace("map50", float(match[2]))
        return match is not None

    def last_accuracy(self, line: bytes) -> Answer:
        match = _LAST.match(line)
        if match and "map50" not in self.run.facts:
            self.run.replace("map50", float(match[1] + b"e-2"))
        return match is not None

    def threshold(self, line: bytes) -> Answer:
        match = _THRESHOLD.match(line)
        if match is None:
            return False
        for column, value in (("precision", number(match[1])), ("recall", number(match[2]))):
            if value is not None:
                self.run.replace(column, value)
        return True

    def network(self, line: bytes) -> Answer:
        """The first line names the network; any single word may be one, so its name must show it."""
        if b"yolo" not in line or self.run.trainer_started and not self.iterations:
            return False
        if self.another(self.iterations):
            return Signal.NEXT_RUN
        self.seen = True
        self.run.default("model", text(line))
        return True

    def saved(self, line: bytes) -> Answer:
        self.run.trainer_done = True
        self.run.done_line = self.run.line
        return True

    def setup(self, line: bytes) -> Answer:
        self.seen = True
        return True

    def known(self, line: bytes) -> Answer:
        """Lines that say nothing that is kept: numbers and words that mean nothing in another log."""
        return self.seen or self.iterations > 0

    def finish(self) -> None:
        if not self.iterations and "map50" not in self.run.facts:
            return
        self.run.default("engine", "darknet")
        if self.iterations:
            self.run.default("iterations", self.iterations)
            self.run.default("total_loss", self.loss)
            step = median(self.steps)
            wait = median(self.waits) if self.waits else None
            self.run.default("data_time_s", wait)
            if wait is not None:
                self.run.default("step_time_s", step + wait)
            if "batch_size" in self.run.facts and step:
                self.run.default("images_per_s", self.run.facts["batch_size"] / (step + (wait or 0.0)))
