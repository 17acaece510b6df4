"""A part that measures in no time, and the offload verb with it as the only part: `python -m tests.offload.fake ARGUMENTS`."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloperf.cli import main
from yoloperf.core.errors import UserError, choose
from yoloperf.core.record import to_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload import study as studies
from yoloperf.offload.part import Cell, Chart, Done, Finding, Results, Table
from yoloperf.offload.study import Study
from yoloperf.report.evidence import SUPPORTED


class Fake:
    """settings: cells, seconds of each but the first, broken: a file whose existence makes cell "2" fail."""

    name = "load"
    title = "Load <b>of nothing</b>"

    def cells(self, study: Study) -> list[Cell]:
        settings = {"cells": 4, "seconds": 0.0, "broken": None} | study.parts[self.name]
        for key in study.parts[self.name]:
            choose(key, ("cells", "seconds", "broken"), "setting of load")
        return [Cell(str(k), {"k": k, "seconds": settings["seconds"] if k else 0.0}) for k in range(settings["cells"])]

    def measure(self, cell: Cell, study: Study, folder: Path) -> dict[str, Any]:
        rows = [RequestRecord(cell=cell.name, number=n, sent_bytes=1000 * cell.settings["k"], round_trip_s=0.01 * n) for n in range(3)]
        write_atomic(folder / "requests.csv", to_csv(RequestRecord, rows[:1]))
        time.sleep(cell.settings["seconds"])
        broken = study.parts[self.name].get("broken")
        if cell.name == "2" and broken and Path(broken).exists():
            raise UserError("the service\n is down: start it")
        write_atomic(folder / "requests.csv", to_csv(RequestRecord, rows))
        with Path("log.txt").open("a") as log:
            log.write(f"{cell.name}\n")
        return {"rate": 10.0 * cell.settings["k"], "nothing": None}

    def results(self, done: Sequence[Done], study: Study) -> Results:
        if not done:
            return Results([], [], [])
        rows = [{"cell": item.cell.name, "up to": f"{item.summary['rate'] + 1:.1f} kbit/s", "n": str(len(item.requests))} for item in done]
        values = [{"x": int(item.cell.name), "y": item.summary["rate"]} for item in done]
        axes = {axis: {"field": axis, "type": "quantitative"} for axis in "xy"}
        spec = {"data": {"values": values}, "mark": {"type": "line", "point": True}, "encoding": axes}
        chart = Chart("rate", "How does the rate go?", spec)
        claim = Finding(f"It takes up to {values[-1]['y']:g} requests/s & more", SUPPORTED, [item.cell.name for item in done])
        findings = [claim, Finding("A figure, no claim: 3 x 4 = 12")]
        return Results([Table("rates", "Rates", rows, "of nothing")], [chart], findings)


PART = Fake()

if __name__ == "__main__":
    studies.PARTS["load"] = "tests.offload.fake"
    sys.exit(main(["offload", *sys.argv[1:]]))
