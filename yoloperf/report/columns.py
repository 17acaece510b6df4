"""What the columns of runs.csv are to a report: which name a row, which are figures, which the 2020 study showed."""

from collections.abc import Iterable, Sequence
from dataclasses import Field
from typing import Any

from yoloperf.core.errors import choose
from yoloperf.core.record import RunRecord, columns, shown

RUN_COLUMNS: dict[str, Field[Any]] = columns(RunRecord)

# heading of a group of neighbours in the registry -> its first column; docs/metrics.md is cut along these
SECTIONS = {
    "Which run": "run_id",
    "What was trained": "engine",
    "How it ended": "status",
    "Time and memory of the process": "wall_s",
    "Throughput": "train_images",
    "Device": "gpu_name",
    "Kernels": "profiler",
    "Losses and detection quality": "box_loss",
    "Where it ran": "hostname",
}

# what tells one row from another, in the order in which people ask; shown where it varies
IDENTITY = ("platform", "engine", "model", "dataset", "img_size", "precision_mode", "accumulate", "lr_scale", "hyp")
GRID = ("batch_size", "epochs")

STUDY = (
    *GRID,
    "user_s",
    "cpu_percent",
    "max_rss_bytes",
    "biggest_kernel_avg_s",
    "precision",
    "recall",
    "obj_loss",
    "cls_loss",
)

# facts about the set-up that stand among the measured columns of the registry
_SET_UP = {
    *("train_images", "val_images", "flops_per_image", "gpu_name", "gpu_mem_bytes", "profiler", "profile_reason"),
    *("tree_source", "throttle_reasons", "gpu_other_processes", "energy_source"),
}


def _between(first: str, end: str) -> list[str]:
    names = list(RUN_COLUMNS)
    return names[names.index(first) : names.index(end)]


# measured by the run, so of no worth in the row of a run that failed
FIGURES = frozenset(_between(SECTIONS["Time and memory of the process"], SECTIONS["Where it ran"])) - _SET_UP

# which side of a figure is the good one; a column that is not here has none
_LOWER = (
    *("wall_s", "user_s", "system_s", "tree_cpu_s", "startup_s", "step_time_s", "data_time_s"),
    *("max_rss_bytes", "tree_peak_bytes", "gpu_mem_peak_bytes", "throttled_share", "energy_j", "cpu_energy_j", "biggest_kernel_avg_s"),
    *("box_loss", "obj_loss", "cls_loss"),
)
_HIGHER = ("images_per_s", "mfu", "precision", "recall", "map50", "map50_95")
BETTER = dict.fromkeys(_LOWER, "lower") | dict.fromkeys(_HIGHER, "higher")


def require(name: str) -> str:
    """`name` if it is a column of runs.csv; otherwise UserError with the nearest."""
    return choose(name, RUN_COLUMNS, "column")


def distinct(runs: Iterable[RunRecord], name: str) -> list[Any]:
    """The values of a column without repetition, numbers in order, absent ones left out."""
    return sorted({getattr(run, name) for run in runs} - {None})


def varying(runs: Sequence[RunRecord], names: Iterable[str]) -> list[str]:
    """Those columns in which at least two rows differ; an absent value differs from a present one."""
    return [name for name in names if len({getattr(run, name) for run in runs}) > 1]


def differing(runs: Sequence[RunRecord], names: Iterable[str]) -> list[str]:
    """Those columns that are known to have two values or more."""
    return [name for name in names if len(distinct(runs, name)) > 1]


def present(runs: Iterable[RunRecord], names: Iterable[str]) -> list[str]:
    """Those columns that have a value in at least one row."""
    runs = list(runs)
    return [name for name in names if any(getattr(run, name) is not None for run in runs)]


def fullest(runs: Iterable[RunRecord], names: Iterable[str]) -> list[str]:
    """The one of these columns that most finished runs have, the first of equals; none where no run has any.

    Beside runs that recorded less, such as the published ones, it is what all can be compared by.
    """
    runs = [run for run in runs if not failed(run)]
    counts = {name: sum(getattr(run, name) is not None for run in runs) for name in names}
    best = max(counts.values())
    return [name for name, count in counts.items() if count == best][:1] if best else []


def telling(runs: Sequence[RunRecord], names: Iterable[str]) -> list[str]:
    """As few of these columns as tell apart what all of them together tell apart, the first ones preferred."""
    kept: list[str] = []
    groups = 1
    for name in names:
        apart = len({tuple(getattr(run, column) for column in (*kept, name)) for run in runs})
        if apart > groups:
            kept.append(name)
            groups = apart
    return kept


def in_order(runs: Iterable[RunRecord], names: Sequence[str]) -> list[RunRecord]:
    """Rows sorted by these columns; an absent value comes last."""
    return sorted(runs, key=lambda run: [(value is None, value if value is not None else 0) for value in (getattr(run, n) for n in names)])


def title(name: str, runs: Iterable[RunRecord] = ()) -> str:
    """A column's heading; that of the biggest kernel says whether it is a GPU activity or a CPU operator."""
    if name == "biggest_kernel_avg_s":
        kinds = {run.biggest_kernel_domain for run in runs if run.biggest_kernel_avg_s is not None}
        if kinds == {"gpu"}:
            return "biggest GPU activity avg"
        if kinds == {"cpu"}:
            return "biggest CPU operator avg"
    return str(RUN_COLUMNS[name].metadata["title"])


def place(runs: Iterable[RunRecord]) -> str:
    """Platform, model and whatever else all these rows have in common and a heading should say."""
    runs = list(runs)
    model, platform, gpu = (", ".join(distinct(runs, name)) for name in ("model", "platform", "gpu_name"))
    where = f"{platform} ({gpu})" if platform and gpu else platform or gpu
    return " on ".join(part for part in (model, where) if part) or "runs"


def failed(run: RunRecord) -> bool:
    """True where the run ended otherwise than ok; a log that does not say how it ended is taken at its figures."""
    return run.status not in ("ok", None)


def label(run: RunRecord, names: Iterable[str]) -> str:
    """A run in a few words, such as "batch 8, 20 epochs"."""
    words = {"batch_size": "batch {}", "epochs": "{} epochs", "img_size": "{} px", "seed": "seed {}"}
    words |= {"lr_scale": "lr x{}", "accumulate": "accumulate {}"}
    parts = []
    for name in names:
        value = getattr(run, name)
        if value is not None:
            text = words.get(name, "{}").format(shown(RUN_COLUMNS[name], value))
            parts.append("1 epoch" if text == "1 epochs" else text)
    return ", ".join(parts) or str(run.run_id)
