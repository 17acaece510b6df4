"""How long the one page takes, and how large it gets, by number of runs: the runs of a table again and again, each under a name of its own.

    python bench/report.py logs/published-2020/runs.csv --rows 64 10000
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from yoloperf.core.record import RunRecord, to_csv
from yoloperf.report.load import load


def page(runs: list[RunRecord], rows: int, folder: Path) -> dict[str, float]:
    """Seconds of `yoloperf report` from a table of that many runs, and bytes of its page."""
    table, html = folder / f"{rows}.csv", folder / f"{rows}.html"
    many = [replace(run, run_id=f"{run.run_id}/{number}", seed=number) for number, run in enumerate(islice(cycle(runs), rows))]
    table.write_text(to_csv(RunRecord, many))
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "yoloperf", "report", str(table), "-o", str(html)], check=True, stdout=subprocess.DEVNULL)
    return {"rows": rows, "wall_s": round(time.monotonic() - began, 2), "page_bytes": html.stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="runs.csv to repeat")
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 10_000])
    args = parser.parse_args()
    runs = load([args.table]).runs
    with tempfile.TemporaryDirectory() as folder:
        for rows in args.rows:
            print(json.dumps(page(runs, rows, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
