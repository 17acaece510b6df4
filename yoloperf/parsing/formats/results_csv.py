"""results.csv of yolov5 and of ultralytics 8.x: columns are read by name, as their order and number changed."""

from yoloperf.parsing.draft import Draft
from yoloperf.parsing.formats.base import Answer, LineFormat, Signal
from yoloperf.parsing.quantity import number

_COLUMNS = {
    "train/box_loss": "box_loss",
    "train/obj_loss": "obj_loss",
    "train/cls_loss": "cls_loss",
    "train/dfl_loss": "dfl_loss",
    "metrics/precision": "precision",
    "metrics/recall": "recall",
    "metrics/mAP_0.5": "map50",
    "metrics/mAP_0.5:0.95": "map50_95",
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
}


class ResultsCsv(LineFormat):
    name = "yolo-results-csv"
    description = "results.csv of YOLOv5 and of ultralytics 8.x: losses, validation and learning rate of every epoch"
    heads = (("header", rb"epoch,\s*(?:time,\s*)?(?:train|metrics)/"), ("row", rb"\d\d*+\s*+,\s*+[-\d.]"))

    def __init__(self, run: Draft) -> None:
        super().__init__(run)
        self.columns: list[str] = run.carried.get("columns of results.csv", [])
        self.rows: list[tuple[int, dict[str, float | None]]] = []

    def header(self, line: bytes) -> Answer:
        if self.another(self.rows):
            return Signal.NEXT_RUN
        self.columns = [cell.strip().decode("utf-8", "replace") for cell in line.split(b",")]
        return self._row

    def row(self, line: bytes) -> Answer:
        """A row that the table refused, or one behind other output."""
        if self._begins_again(line.partition(b",")[0]):
            self.run.pending["columns of results.csv"] = self.columns
            return Signal.NEXT_RUN
        return self._row(line) and self._row

    def _begins_again(self, epoch: bytes) -> bool:
        """The first epoch again is another run, which the trainer appended without a header."""
        return self.another(self.rows and self.rows[0][0] == int(epoch) < self.rows[-1][0])

    def _row(self, line: bytes) -> bool:
        cells = line.split(b",")
        if not self.columns or not cells[0].strip().isdigit() or self._begins_again(cells[0]):
            return False
        if len(cells) != len(self.columns):
            return self.run.reject(f"{len(cells)} cells under {len(self.columns)} columns")
        row = {name: number(cell) for name, cell in zip(self.columns, cells, strict=True)}
        values = {column: row[name] for name, column in _COLUMNS.items() if name in row}
        # One rate a parameter group: during warm-up the biases' falls from above, so the weights' is the lowest
        rates = [rate for name, rate in row.items() if name.startswith(("x/lr", "lr/pg")) and rate is not None]
        values["lr"] = min(rates, default=None)
        self.rows.append((int(cells[0]), values))
        return True

    def finish(self) -> None:
        if not self.columns:
            return
        if "metrics/mAP50(B)" in self.columns:
            self.run.default("engine", "ultralytics")
        # yolov5 and the first 8.0 count from 0; a resumed yolov5 run may begin anywhere
        base = 1 if "train/obj_loss" in self.columns or any(epoch == 0 for epoch, _ in self.rows) else 0
        for epoch, values in self.rows:
            self.run.epoch(epoch + base).update(values)
        if not self.rows:
            self.run.formats.pop(self.name, None)
            self.run.reject("a header without rows")
