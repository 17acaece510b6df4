"""What the harness costs: a command under GNU time with sampling beside it, profiler off, against the bare command.

Both are run in turn, each first in every other round, so that a machine that slows down slows both. The command uses the CPU only
and always does the same: Python arithmetic, or anything else behind --. Run it on a quiet machine: the spread says whether it was.

    python bench/harness.py --rounds 10
    python bench/harness.py --rounds 3 -- python train.py --data smear.yaml --cfg yolov3-tiny --epochs 1 --threads 1
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from yoloperf.harness.launch import local
from yoloperf.harness.profilers import gnu_time
from yoloperf.harness.sampling.sampler import Sampler

WORK = "total = 0\nfor number in range({}):\n    total += number * number"


def bare_s(argv: list[str]) -> float:
    """Wall time of the command alone."""
    start = time.perf_counter()
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    return time.perf_counter() - start


def harnessed_s(argv: list[str], folder: Path, device: str) -> tuple[float, float, float]:
    """Wall time of the command as a cell of a sweep runs it, from before its start to its summed-up samples.

    Also CPU time of this process meanwhile, and of it that of the sampling.
    """
    descriptor = os.open(folder / "run.lock", os.O_CREAT | os.O_RDWR)
    start, cpu_start = time.perf_counter(), time.process_time()
    with Sampler(folder / "device.csv", 1, device) as sampler:
        ended = local.run(gnu_time.wrap(argv), folder / "console.log", descriptor, None, lambda: 0, sampler.tick)
        resources = sampler.finish(ended.user_s + ended.system_s, None)
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    os.close(descriptor)
    if ended.exit_code:
        raise SystemExit(f"the command failed: {(folder / 'console.log').read_text()[-2000:]}")
    return wall_s, cpu_s, resources["sampling_cpu_s"]


def loops(seconds: float) -> int:
    """How many rounds of the work take about this long here."""
    probe = 2_000_000
    return round(probe * seconds / min(bare_s([sys.executable, "-c", WORK.format(probe)]) for _ in range(3)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="pairs of runs (default: 10)")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long the built-in command runs, roughly (default: 5)")
    parser.add_argument("--device", default="auto", help="as of train.py: which GPU is sampled (default: auto)")
    parser.add_argument("command", nargs="*", help="command to run instead")
    args = parser.parse_args()
    argv = args.command or [sys.executable, "-c", WORK.format(loops(args.seconds))]

    pairs, watching, sampling = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number in tqdm(range(args.rounds), desc="pairs of runs", file=sys.stderr):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            first = bare_s(argv) if number % 2 == 0 else None
            wall_s, cpu_s, sampling_s = harnessed_s(argv, folder, args.device)
            pairs.append((first if first is not None else bare_s(argv), wall_s))
            watching.append(cpu_s / wall_s)
            sampling.append(sampling_s / wall_s)
    ratios = sorted(wall_s / bare for bare, wall_s in pairs)
    result = {
        "rounds": args.rounds,
        "accounting": gnu_time.find() or "wait4",
        "bare_s": round(statistics.median(bare for bare, _ in pairs), 3),
        "harness_s": round(statistics.median(wall_s for _, wall_s in pairs), 3),
        "ratio_median": round(statistics.median(ratios), 4),
        "ratio_range": [round(ratios[0], 4), round(ratios[-1], 4)],
        "ratio_quartiles": [round(value, 4) for value in statistics.quantiles(ratios, n=4)[::2]] if len(ratios) > 1 else None,
        "harness_share_of_a_core": round(statistics.median(watching), 5),
        "sampling_share_of_a_core": round(statistics.median(sampling), 5),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
