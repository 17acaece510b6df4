"""results.txt of yolov3 and yolov5 until 2021: one row of 15 columns an epoch, no header, runs appended."""

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import number

_COLUMNS = ("box_loss", "obj_loss", "cls_loss", "total", "targets", "img_size", "precision", "recall", "map50", "map50_95")
_KEPT = ("box_loss", "obj_loss", "cls_loss", "precision", "recall", "map50", "map50_95")


class ResultsTxt(LineFormat):
    name = "yolo-results-txt"
    description = "results.txt of YOLOv3 and YOLOv5 (2020 to 2021): losses and validation of every epoch"
    heads = (("row", rb"\d\d*+/\d++\s++[\d.]++G(?:\s++[-+\d.einfa]++){13}+\s*$"),)

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.previous = -1
        self.f1 = False

    def row(self, line: bytes) -> Answer:
        cells = line.split()
        epoch, last = (int(part) for part in cells[0].split(b"/"))
        if epoch > last:
            return False
        if self.another(epoch <= self.previous or self.run.facts.get("epochs", last + 1) != last + 1):
            return Signal.NEXT_RUN
        self.previous = epoch
        self.run.trainer_started = True
        self.run.trainer_done = epoch == last
        self.run.default("epochs", last + 1)
        self.run.default("epochs_done", None)
        values = dict(zip(_COLUMNS, map(number, cells[2:]), strict=False))
        # The fourth metric was F1 in spring 2020 and mAP@0.5:0.95 since, which cannot exceed mAP@0.5
        self.f1 = self.f1 or (values["map50_95"] or 0) > (values["map50"] or 0)
        size = values["img_size"]
        if size and size.is_integer():
            self.run.replace("img_size", int(size))
        found = self.run.epoch(epoch + 1)
        found |= {name: values[name] for name in _KEPT}
        memory = number(cells[1].rstrip(b"G"))
        if memory:
            found["gpu_mem_peak_bytes"] = round(memory * 1e9)
        return True

    def finish(self) -> None:
        peak = 0
        for _, values in sorted(self.run.epochs.items()):
            if self.f1:
                values["map50_95"] = None
            peak = max(peak, values.get("gpu_mem_peak_bytes") or 0)
            if peak:
                values["gpu_mem_peak_bytes"] = peak
