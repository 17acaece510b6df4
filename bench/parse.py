"""How fast logs are read, on one core, against `wc -l` on the same files, and how much memory a large one takes.

CPU time is measured, the best of several rounds, so that a busy machine does not change the figure. A file larger
than memory cannot be made everywhere: --large-mib repeats the logs in one file of that size and reads it through
the command line.

    python bench/parse.py LOGS/ --large-mib 1024
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from yoloperf.parsing.output import write_records
from yoloperf.parsing.parse import read_source
from yoloperf.parsing.sources import find

MB = 1e6


def best(measure: Callable[[], float], rounds: int) -> float:
    return min(measure() for _ in range(rounds))


def own_cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def child_cpu_s(argv: list[str]) -> float:
    """CPU time of a command, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def read_large(logs: list[Path], size_bytes: int, folder: Path) -> dict[str, float]:
    """Repeat the logs in one file of about this size; read it with `yoloperf parse`."""
    path, written = folder / "large.log", 0
    with path.open("wb") as stream:
        while written < size_bytes:
            for log in logs:
                written += stream.write(log.read_bytes())
    argv = [sys.executable, "-m", "yoloperf", "parse", str(path), "-o", str(folder / "large" / "runs.csv"), "--json"]
    start = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    result = json.loads(process.stdout.read().splitlines()[-1])
    process.stdout.close()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return {
        "bytes": written,
        "runs": result["runs"],
        "kernels": result["kernels"],
        "wall_s": round(time.monotonic() - start, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "max_rss_mb": round(usage.ru_maxrss * 1024 / MB, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", type=Path, help="logs, or folders of them")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--large-mib", type=int, default=0, help="also read one file of this size (default: no)")
    args = parser.parse_args()

    logs = [source for source in find(args.logs).sources if isinstance(source, Path)]
    size = sum(path.stat().st_size for path in logs)
    wc_s = best(lambda: child_cpu_s(["wc", "-l", *map(str, logs)]), args.rounds)
    read_s = best(lambda: own_cpu_s(lambda: [item for path in logs for item in read_source(path)]), args.rounds)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "runs.csv"
        tables_s = best(lambda: own_cpu_s(lambda: write_records(logs, out, jobs=1)), args.rounds)
        result: dict[str, object] = {
            "files": len(logs),
            "bytes": size,
            "wc_mb_per_s": round(size / wc_s / MB, 1) if wc_s else None,
            "read_mb_per_s": round(size / read_s / MB, 1),
            "read_and_write_tables_mb_per_s": round(size / tables_s / MB, 1),
        }
        if args.large_mib:
            result["large"] = read_large(logs, args.large_mib << 20, Path(scratch))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
