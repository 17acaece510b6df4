"""May two runs be compared? What else differs between them besides what is compared."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from yoloperf.core.record import RunRecord, shown
from yoloperf.report.columns import RUN_COLUMNS, failed

# the work itself: runs that differ here did not do the same
WORK = (
    *("model", "weights", "dataset", "dataset_hash", "train_images", "val_images"),
    *("img_size", "batch_size", "epochs", "accumulate", "lr_scale", "hyp"),
)
# what changes time or quality while the work stays the same
CONDITIONS = (
    *("platform", "gpu_name", "cpu_name", "cpu_count", "driver", "cuda", "cudnn", "torch", "engine", "precision_mode"),
    *("processes", "threads", "workers", "data_filesystem", "profiler", "attempts"),
)
# what disturbs a measurement, from this value on; a run that did not record it is not under suspicion
DISTURBING = {"throttled_share": 0.05, "gpu_other_processes": 1}
# what is part of the thing compared, so that it differs by its nature
IMPLIED = {"platform": {"gpu_name", "gpu_mem_bytes", "cpu_name", "driver"}, "model": {"weights"}, "engine": {"weights"}}
# without these two equal, no verdict is clean
NEEDED = ("dataset_hash", "precision_mode", "torch", "cpu_count")


def condition(run: RunRecord, name: str) -> Any:
    """What a run was made under. The processor counts where it is the device; a record that knows of no processes had one."""
    if name == "cpu_name" and run.gpu_name:
        return None
    if name == "gpu_name" and run.cpu_name:
        return run.gpu_name or "none recorded"
    return run.processes or 1 if name == "processes" else getattr(run, name)


def differing_on_a_platform(runs: Iterable[RunRecord], names: Iterable[str]) -> list[str]:
    """Those columns in which finished runs of one platform are known to differ; one that only newer records have is none of them.

    The number of workers counts at one batch size: yolov3 and yolov5 start no more of them than a batch has images.
    """
    known: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    names = list(names)
    for run in runs:
        if failed(run):  # it may have ended before it said what it ran on
            continue
        for name in names:
            known[name, run.platform, run.batch_size if name == "workers" else None].add(condition(run, name))
    several = {name for (name, *_), values in known.items() if len(values - {None}) > 1}
    return [name for name in names if name in several]


@dataclass(frozen=True)
class Fairness:
    """Verdict on two runs: "yes", "with care" or "no", and the columns that decide it.

    `work` and `conditions` map a column to the two values that differ, `disturbed` to the two values of which one or both are
    too large; `unknown` are columns that one of them lacks.
    """

    verdict: str
    work: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    conditions: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    disturbed: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def sentence(self) -> str:
        """The verdict with its reasons, in one line."""
        reasons = list(self.failed)
        if self.work:
            reasons.append("they did different work: " + _differences(self.work))
        if self.conditions:
            reasons.append("conditions differ: " + _differences(self.conditions))
        if self.disturbed:
            reasons.append("disturbed: " + _differences(self.disturbed))
        if self.unknown:
            reasons.append("not recorded for both: " + ", ".join(RUN_COLUMNS[name].metadata["title"] for name in self.unknown))
        answer = {"yes": "may be compared", "with care": "may be compared with care", "no": "must not be compared"}[self.verdict]
        return "; ".join([answer, *reasons])


def _differences(items: dict[str, tuple[Any, Any]]) -> str:
    parts = []
    for name, (first, second) in items.items():
        column = RUN_COLUMNS[name]
        one, two = ("not recorded" if value is None else shown(column, value) for value in (first, second))
        parts.append(f"{column.metadata['title']} {one} and {two}")
    return ", ".join(parts)


def judge(first: RunRecord, second: RunRecord, compared: Iterable[str] = ()) -> Fairness:
    """Fairness of setting two runs side by side in order to learn what the columns `compared` do."""
    allowed = set(compared)
    for name in tuple(allowed):
        allowed |= IMPLIED.get(name, set())
    work = _differing(first, second, [name for name in WORK if name not in allowed])
    conditions = _differing(first, second, [name for name in CONDITIONS if name not in allowed])
    unknown = tuple(name for name in NEEDED if name not in allowed and None in (getattr(first, name), getattr(second, name)))
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in DISTURBING}
    disturbed = {name: pair for name, pair in pairs.items() if any((value or 0) >= DISTURBING[name] for value in pair)}
    lost = tuple(f"{run.run_id or 'a run'} is {run.status}" for run in (first, second) if failed(run))
    verdict = "no" if work or lost else "with care" if conditions or unknown or disturbed else "yes"
    return Fairness(verdict, work, conditions, unknown, lost, disturbed)


def _differing(first: RunRecord, second: RunRecord, names: Iterable[str]) -> dict[str, tuple[Any, Any]]:
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in names}
    return {name: pair for name, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
