"""The facts that every reader produces and every table, plot and document reads.

A field's metadata is its row in the column registry: title, unit, how it is shown, where it comes from.
Absent is None everywhere: in the record, in CSV (an empty cell) and in JSON (null). The module is as long as the registry is: it reads
as one table, and a part of it elsewhere would be a second place to look for a column.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import Field, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from yoloperf.core.units import show_bytes, show_seconds

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# 1: first version
SCHEMA_VERSION = 1

STATUSES = ("ok", "oom", "timeout", "preempted", "cancelled", "failed", "incomplete")


def show_fraction(value: float) -> str:
    return f"{value:.3f}"


def show_percent(value: float) -> str:
    return f"{value:.0f} %"


def show_number(value: float) -> str:
    return f"{value:.4g}"


def show_share(value: float) -> str:
    return f"{100 * value:.1f} %"


def show_power(value: float) -> str:
    return f"{value:.0f} W"


def show_energy(value: float) -> str:
    return f"{value:.0f} J" if value < 10_000 else f"{value / 1000:.0f} kJ"


def show_rate(value: float) -> str:
    return f"{show_bytes(value)}/s"


def column(title: str, source: str, doc: str, unit: str = "", show: Callable[[Any], str] = str) -> Any:
    return field(default=None, metadata={"title": title, "source": source, "doc": doc, "unit": unit, "show": show})


@dataclass(frozen=True)
class RunRecord:
    """One execution of a trial on one platform: a row of runs.csv."""

    run_id: str | None = column(
        "run",
        "parser",
        "Identity of the run: platform/sweep/trial of a run folder; for a single log, its path. The same log twice is one row.",
    )
    schema_version: int | None = column("schema", "parser", "Version of this record type.")
    source: str | None = column("source", "parser", "File or folder that the row was read from.")
    format: str | None = column("format", "parser", "Log formats found in the source, separated by +.")
    platform: str | None = column("platform", "run.json, file name", "Where the run took place, as named by the user.")
    sweep: str | None = column("sweep", "run.json", "Name of the sweep.")
    trial: str | None = column("trial", "run.json", "Readable name of the grid cell.")
    spec_hash: str | None = column("spec", "run.json", "Identity of the grid cell: hash of its spec.")
    engine: str | None = column("engine", "events, console", "Trainer that ran: yoloperf, ultralytics, yolov5, yolov3, darknet, ...")
    model: str | None = column("model", "events, console", "Architecture.")
    dataset: str | None = column("data", "events, console", "Data set name.")
    dataset_hash: str | None = column(
        "data hash", "events", "Hash over image sizes, names and labels: equal hashes mean the same images and boxes."
    )
    batch_size: int | None = column("batch size", "events, console", "Images in a batch, over all devices.")
    epochs: int | None = column("epochs", "events, console", "Epochs asked for.")
    epochs_done: int | None = column("epochs done", "events, console", "Epochs that ended.")
    iterations: int | None = column("iterations", "console", "Optimiser steps done, where the trainer counts no epochs (Darknet).")
    img_size: int | None = column("image size", "events, console", "Side of the network input.", "px")
    accumulate: int | None = column("accumulate", "events, console", "Batches whose gradients make one optimiser step.")
    lr_scale: float | None = column("lr scale", "events", "Factor on the recipe's learning rate.", "", show_number)
    hyp: str | None = column("recipe", "run.json", "Recipe of learning rate, loss and augmentation, as the spec names it.")
    seed: int | None = column("seed", "events, console", "Random seed.")
    precision_mode: str | None = column("arithmetic", "events, console", "Arithmetic of the convolutions: fp32, tf32, bf16, fp16, amp.")
    workers: int | None = column("workers", "events, console", "Loader threads or processes.")
    threads: int | None = column("threads", "events", "CPU threads of the trainer.")
    processes: int | None = column("processes", "events, console", "Processes of the trainer, one a device; images_per_s is that of all.")
    weights: str | None = column("weights", "events, console", "Initial weights.")
    status: str | None = column("status", "run.json, log ending", f"One of {', '.join(STATUSES)}.")
    reason: str | None = column("reason", "run.json, log ending", "Why the status is not ok, in a line.")
    exit_code: int | None = column("exit code", "GNU time, run.json", "Exit code of the command; 128 + n after signal n.")
    attempts: int | None = column("attempts", "run.json", "Times the cell was started; more than one after a kill or a requeue.")
    started_at: str | None = column("started", "run.json", "Start of the run, ISO 8601 with zone.")
    command: str | None = column("command", "GNU time, run.json", "Command line that was run.")
    wall_s: float | None = column("wall time", "GNU time, run.json", "Elapsed time of the whole command.", "s", show_seconds)
    user_s: float | None = column("user time", "GNU time", "CPU time in user mode, all threads and waited-for children.", "s", show_seconds)
    system_s: float | None = column("system time", "GNU time", "CPU time in the kernel.", "s", show_seconds)
    cpu_percent: float | None = column("CPU", "GNU time", "(user + system) / wall; above 100 with several threads.", "%", show_percent)
    max_rss_bytes: int | None = column("max RSS", "GNU time", "Peak resident memory of the largest single process.", "B", show_bytes)
    tree_cpu_s: float | None = column("tree CPU time", "harness sampling", "CPU time of the whole process tree.", "s", show_seconds)
    tree_peak_bytes: int | None = column(
        "tree peak", "harness sampling", "Peak of the memory of the whole process tree, at least max_rss_bytes.", "B", show_bytes
    )
    tree_source: str | None = column(
        "tree source",
        "harness sampling",
        "What tree_peak_bytes sums: pss (proportional set size, shared memory counts once) or rss (it counts in every process).",
    )
    uncounted_cpu_s: float | None = column(
        "uncounted CPU time",
        "derived",
        "tree_cpu_s - (user_s + system_s): CPU time of processes that nobody waited for, which GNU time does not count.",
        "s",
        show_seconds,
    )
    uncounted_bytes: int | None = column(
        "uncounted memory",
        "derived",
        "tree_peak_bytes - max_rss_bytes: what the whole tree had beyond its largest process, which is all that GNU time tells of.",
        "B",
        show_bytes,
    )
    startup_s: float | None = column("start-up", "events", "Process start to the first training step.", "s", show_seconds)
    train_images: int | None = column("train images", "events, console", "Images in the training split.")
    val_images: int | None = column("val images", "events, console", "Images in the validation split.")
    images_per_s: float | None = column(
        "images/s",
        "events, console",
        "Training images per second, warm-up steps and validation left out (other trainers: of the last epoch, by its progress bar).",
        "1/s",
        show_number,
    )
    step_time_s: float | None = column(
        "step time", "events", "Median time of an optimiser step, data included, warm-up left out.", "s", show_seconds
    )
    data_time_s: float | None = column(
        "data time",
        "events",
        "Median time that a step waits for its images; of ours on a GPU, the device's time between two steps.",
        "s",
        show_seconds,
    )
    flops_per_image: float | None = column(
        "FLOP/image",
        "events, console",
        "Floating-point operations of the convolutions for one training image, forward and backward (2 per multiply-add; of ultralytics 8, "
        "three times what it prints of a forward pass at 640 px, scaled to the image size).",
        "FLOP",
        show_number,
    )
    mfu: float | None = column(
        "MFU",
        "derived",
        "Model FLOPs utilisation: flops_per_image * images_per_s / peak of the device; empty where the peak is unknown.",
        "",
        show_share,
    )
    gpu_name: str | None = column("GPU", "events, console", "Device name.")
    gpu_mem_bytes: int | None = column("GPU memory", "events, console", "Memory of the device.", "B", show_bytes)
    gpu_mem_peak_bytes: int | None = column(
        "GPU peak", "events, console, NVML", "Peak of the device memory in use by the run.", "B", show_bytes
    )
    gpu_util_pct: float | None = column("GPU util", "NVML", "Mean utilisation.", "%", show_percent)
    gpu_clock_mhz: float | None = column("GPU clock", "NVML", "Mean clock of the multiprocessors.", "MHz", show_number)
    throttled_share: float | None = column(
        "throttled", "NVML", "Share of the time in which power, heat or the hardware held the clock back.", "", show_share
    )
    throttle_reasons: str | None = column("throttled by", "NVML", "What held it back, the longest first.")
    gpu_other_processes: int | None = column("others on GPU", "NVML", "Most processes of others on the device at a time.")
    gpu_power_w: float | None = column("GPU power", "NVML", "Mean power draw, of several GPUs together.", "W", show_power)
    energy_j: float | None = column(
        "energy",
        "NVML, RAPL",
        "Energy of the GPUs during the run; of a run on the CPU, that of the processors.",
        "J",
        show_energy,
    )
    energy_source: str | None = column(
        "energy source",
        "NVML, RAPL",
        "Where energy_j comes from: counter of the GPU, polled power, rapl. Never a guess from a rated power.",
    )
    cpu_energy_j: float | None = column(
        "CPU energy",
        "RAPL",
        "Energy of all processor packages (and memory) of the machine during the run, others' work included.",
        "J",
        show_energy,
    )
    profiler: str | None = column("profiler", "run.json, log", "Profiler that produced the kernel summary.")
    profile_reason: str | None = column("profile note", "profiler", "Why there is no kernel summary.")
    profile_s: float | None = column(
        "profiled pass", "profile.json", "Duration of the separate profiled pass at the end of the run; part of wall_s.", "s", show_seconds
    )
    biggest_kernel_domain: str | None = column("kernel domain", "profiler", "gpu for a GPU activity, cpu for an operator on a CPU.")
    biggest_kernel_name: str | None = column("biggest kernel", "profiler", "Kernel (GPU) or operator (CPU) with the largest total time.")
    biggest_kernel_avg_s: float | None = column(
        "biggest kernel avg", "profiler", "Average time of one call of that kernel.", "s", show_seconds
    )
    biggest_kernel_share: float | None = column(
        "biggest kernel share", "profiler", "Its share of the total time of its domain.", "", show_share
    )
    total_loss: float | None = column("loss", "console", "Running mean of the whole loss, as Darknet prints it last.", "", show_number)
    box_loss: float | None = column(
        "box", "events, console", "Box loss, mean over the last epoch (other trainers: as printed last).", "", show_number
    )
    obj_loss: float | None = column(
        "objectness", "events, console", "Objectness loss, likewise; empty for anchor-free heads.", "", show_number
    )
    cls_loss: float | None = column("classification", "events, console", "Classification loss, likewise.", "", show_number)
    dfl_loss: float | None = column(
        "distribution focal", "console", "Distribution focal loss of anchor-free heads, likewise.", "", show_number
    )
    precision: float | None = column(
        "precision", "events, console", "At IoU 0.5 and the score of the best F1, mean over classes; last validation.", "", show_fraction
    )
    recall: float | None = column("recall", "events, console", "At the same score.", "", show_fraction)
    map50: float | None = column(
        "mAP@0.5", "events, console", "COCO mean average precision at IoU 0.5; last validation.", "", show_fraction
    )
    map50_95: float | None = column(
        "mAP@0.5:0.95", "events, console", "COCO mean average precision over IoU 0.5 to 0.95; last validation.", "", show_fraction
    )
    hostname: str | None = column("host", "run.json", "Machine.")
    cpu_name: str | None = column("CPU model", "run.json", "Processor.")
    cpu_count: int | None = column("cores", "run.json", "Logical cores that the run may use.")
    mem_bytes: int | None = column("memory", "run.json", "Memory of the machine.", "B", show_bytes)
    mem_limit_bytes: int | None = column(
        "memory limit",
        "run.json",
        "Memory that the control group of the run allows; empty where the machine's is the limit.",
        "B",
        show_bytes,
    )
    container: str | None = column("container", "run.json", "What the run was wrapped in: docker, podman, apptainer, kubernetes.")
    data_filesystem: str | None = column("file system", "run.json", "Type of the file system that holds the data set.")
    data_read_bytes_per_s: float | None = column(
        "data read rate",
        "run.json",
        "Bytes per second at which some of the data set's files could be read before the run, the page cache as it was.",
        "B/s",
        show_rate,
    )
    driver: str | None = column("driver", "run.json", "GPU driver version.")
    cuda: str | None = column("CUDA", "events, console", "CUDA version that the trainer was built with.")
    cudnn: str | None = column("cuDNN", "events, run.json", "cuDNN version: the trainer's word, else that of the installed package.")
    torch: str | None = column("torch", "events, console", "PyTorch version.")
    python: str | None = column("Python", "events, console", "Python version.")
    git_commit: str | None = column("commit", "run.json", "Commit of the trainer's working tree; + when it had local changes.")
    slurm_job_id: str | None = column("Slurm job", "run.json", "Job id, with the array task.")
    rejected_lines: int | None = column("rejected", "parser", "Lines that claim a known format and could not be read.")
    unknown_lines: int | None = column("unknown", "parser", "Lines that no known format claims.")
    notes: str | None = column("notes", "parser", "What the reader had to decide, such as a value taken from the file name.")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one run: a row of epochs.csv."""

    run_id: str | None = column("run", "parser", "The run.")
    epoch: int | None = column("epoch", "events, console", "Number of the epoch, from 1.")
    lr: float | None = column("learning rate", "events, console", "Learning rate of the weights at the end of the epoch.", "", show_number)
    box_loss: float | None = column("box", "events, console", "Box loss, mean over the epoch.", "", show_number)
    obj_loss: float | None = column("objectness", "events, console", "Objectness loss, mean over the epoch.", "", show_number)
    cls_loss: float | None = column("classification", "events, console", "Classification loss, mean over the epoch.", "", show_number)
    dfl_loss: float | None = column("distribution focal", "console", "Distribution focal loss of anchor-free heads.", "", show_number)
    precision: float | None = column("precision", "events, console", "As in runs.csv.", "", show_fraction)
    recall: float | None = column("recall", "events, console", "As in runs.csv.", "", show_fraction)
    map50: float | None = column("mAP@0.5", "events, console", "As in runs.csv.", "", show_fraction)
    map50_95: float | None = column("mAP@0.5:0.95", "events, console", "As in runs.csv.", "", show_fraction)
    train_s: float | None = column(
        "train time", "events, console", "Duration of the epoch's training steps, warm-up included.", "s", show_seconds
    )
    val_s: float | None = column("validation time", "events, console", "Duration of the validation.", "s", show_seconds)
    images_per_s: float | None = column(
        "images/s", "events, console", "Training images per second, warm-up steps left out.", "1/s", show_number
    )
    step_time_s: float | None = column("step time", "events", "Median time of a step, data included.", "s", show_seconds)
    data_time_s: float | None = column(
        "data time",
        "events",
        "Median time that a step waits for its images; of ours on a GPU, the device's time between two steps.",
        "s",
        show_seconds,
    )
    gpu_mem_peak_bytes: int | None = column("GPU peak", "events, console", "Peak of the device memory up to this epoch.", "B", show_bytes)


@dataclass(frozen=True)
class KernelRecord:
    """One kernel or operator of one run's profile: a row of kernels.csv."""

    run_id: str | None = column("run", "parser", "The run.")
    profiler: str | None = column("profiler", "profiler", "Tool that measured it.")
    domain: str | None = column("domain", "profiler", "gpu: on the device; api: driver and runtime calls; cpu: operators on the host.")
    name: str | None = column("name", "profiler", "Kernel or operator, as the tool prints it.")
    calls: int | None = column("calls", "profiler", "Number of calls.")
    total_s: float | None = column("total", "profiler", "Time of all calls.", "s", show_seconds)
    avg_s: float | None = column("average", "profiler", "Time of one call.", "s", show_seconds)
    min_s: float | None = column("min", "profiler", "Shortest call.", "s", show_seconds)
    max_s: float | None = column("max", "profiler", "Longest call.", "s", show_seconds)
    share: float | None = column("share", "profiler", "Part of the total time of its domain.", "", show_share)
    operator: str | None = column(
        "operator",
        "derived",
        "What the kernel does, so that GPUs compare although no kernel name is the same: convolution forward, batch norm, copy, ...",
    )


Record = TypeVar("Record", bound="DataclassInstance")


def columns(record_type: type) -> dict[str, Field[Any]]:
    """Name -> field of a record type; `.metadata` holds title, unit, source, doc and show."""
    return {item.name: item for item in fields(record_type)}


def shown(item: Field[Any], value: Any) -> str:
    """A value as people read it; an absent one is empty."""
    return "" if value is None else item.metadata["show"](value)


def to_csv(record_type: type, records: Iterable[Any]) -> str:
    """Records as CSV text with a header; None becomes an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(columns(record_type)), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(asdict(record))
    return out.getvalue()


def from_csv(record_type: type[Record], text: str) -> list[Record]:
    """Read what to_csv wrote. A column that this version does not know is left out; one that it lacks is None, and so is NaN or infinity."""
    kinds = {name: _kind(item) for name, item in columns(record_type).items()}
    records = []
    for row in csv.DictReader(io.StringIO(text)):
        values = {name: kinds[name](cell) for name, cell in row.items() if name in kinds and cell}
        records.append(record_type(**values))
    return records


def _kind(item: Field[Any]) -> Callable[[str], Any]:
    name = str(item.type)
    if not name.startswith(("int", "float")):
        return str
    number = int if name.startswith("int") else float
    return lambda cell: number(value) if math.isfinite(value := float(cell)) else None
