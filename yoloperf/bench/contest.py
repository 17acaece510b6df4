"""Trainers side by side: the same images, model class, size and batch, one after the other, round after round."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec
from yoloperf.datasets.config import load_data_config
from yoloperf.datasets.convert import convert
from yoloperf.harness.profilers import gnu_time
from yoloperf.harness.profilers.none import NoProfiler
from yoloperf.harness.supervise import Context, run_cell
from yoloperf.harness.sweepfile import Cell
from yoloperf.parsing.parse import parse_paths

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Contender:
    """A trainer as it takes part. changed: fields of the spec that differ for it; command: of a peer that is no engine."""

    name: str
    changed: dict[str, Any]
    command: str | None = None


@dataclass(frozen=True)
class Outcome:
    """One command of one contender. images_per_s: training images over the duration of the last epoch's steps, by its own clock;
    images_per_s_of_all: the same of all epochs together."""

    status: str
    reason: str | None
    images_per_s: float | None
    wall_s: float | None
    max_rss_bytes: int | None
    tree_peak_bytes: int | None
    map50: float | None
    threads: int | None
    arithmetic: str | None
    flops_per_image: float | None
    images_per_s_of_all: float | None


FIGURES = ("images_per_s", "wall_s", "max_rss_bytes", "tree_peak_bytes", "map50")


def subset(data: str, folder: Path, images: int | None) -> Path:
    """The data set in YOLO layout, which every trainer reads, cut to its first `images` training images and a tenth of that to validate.

    Returns its YAML. Raises UserError where it has fewer, and where the folder exists.
    """
    config = load_data_config(data)
    config = replace(config, splits={name: path for name, path in config.splits.items() if name in SPLITS})
    convert(config, folder)
    if images is not None:
        for split, count in zip(SPLITS, (images, max(1, images // 10)), strict=True):
            files = sorted((folder / "images" / split).iterdir())
            if len(files) < count:
                raise UserError(f"{config.name} has {len(files)} {split} images, fewer than {count}")
            for file in files[count:]:
                file.unlink()
                (folder / "labels" / split / f"{file.stem}.txt").unlink()
    return folder / f"{config.name}.yaml"


def run(contender: Contender, spec: TrialSpec, folder: Path) -> Outcome:
    """Run the contender once, from the start, its logs below `folder`."""
    spec = replace(spec, **contender.changed)
    if contender.command is not None:
        return _run_command(contender.command, spec, folder / contender.name)
    run = RunDir(folder / "bench" / "train" / contender.name)
    run_cell(Cell(contender.name, spec), run, Context("train", "bench", NoProfiler()))
    return _outcome(run.path)


def _run_command(command: str, spec: TrialSpec, folder: Path) -> Outcome:
    """A peer's own command line, told of the threads by its flags and OpenMP's; what its log tells is read by the parser."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "data": Path(spec.data).resolve(),
        "model": spec.model,
        "batch": spec.batch_size,
        "epochs": spec.epochs,
        "img": spec.img_size,
        "threads": spec.threads,
        "save_dir": folder / "peer",
    }
    try:
        words = shlex.split(command.format(**values))
    except (KeyError, IndexError, ValueError) as error:
        known = ", ".join(f"{{{name}}}" for name in values)
        raise UserError(f"peer command {command!r} cannot be filled in ({error}); it may use {known}") from error
    log = folder / "peer.txt"
    with log.open("wb") as output:
        said: dict[str, Any] = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        subprocess.run(gnu_time.wrap(words), **said, env={**os.environ, "OMP_NUM_THREADS": str(spec.threads)}, check=False)
    return _outcome(log)


def _outcome(log: Path) -> Outcome:
    found = parse_paths([log])
    if not found.runs:
        return Outcome("failed", f"no run in {log}", *[None] * 9)
    row: RunRecord = found.runs[-1]
    epochs = sorted((epoch for epoch in found.epochs if epoch.run_id == row.run_id), key=lambda epoch: epoch.epoch or 0)
    seconds = [epoch.train_s for epoch in epochs]
    return Outcome(
        status=row.status or "incomplete",
        reason=row.reason,
        images_per_s=_rate(row.train_images, seconds[-1:]),
        **{name: getattr(row, name) for name in FIGURES[1:]},
        threads=row.threads,
        arithmetic=row.precision_mode,
        flops_per_image=row.flops_per_image,
        images_per_s_of_all=_rate(row.train_images, seconds),
    )


def _rate(images: int | None, seconds: Sequence[float | None]) -> float | None:
    """Images a second of epochs that took so long, each with all images; None where one's time is not known."""
    known = [each for each in seconds if each]
    return images * len(known) / sum(known) if images and known and len(known) == len(seconds) else None


def contest(
    contenders: Sequence[Contender], rounds: Sequence[TrialSpec], folder: Path, tell: Callable[[str, int, Outcome], None]
) -> dict[str, list[Outcome]]:
    """Every contender once a round, in turn, so that a machine whose speed drifts treats them alike.

    rounds: the spec of each round; tell: hears of every outcome, with its contender and the number of the round.
    """
    results: dict[str, list[Outcome]] = {contender.name: [] for contender in contenders}
    for number, spec in enumerate(rounds, 1):
        for contender in contenders:
            outcome = run(contender, spec, folder / f"batch-{spec.batch_size}" / f"round-{number}")
            results[contender.name].append(outcome)
            tell(contender.name, number, outcome)
    return results


def middle(outcomes: Sequence[Outcome], name: str) -> float | None:
    """Median of a figure over the rounds; None where a round lacks it."""
    values = [getattr(outcome, name) for outcome in outcomes]
    return None if None in values or not values else median(values)


def ratios(results: dict[str, list[Outcome]], of: str, to: str) -> list[float]:
    """images_per_s of one contender over another's, round by round."""
    pairs = zip(results.get(of, []), results.get(to, []), strict=False)
    return [one.images_per_s / other.images_per_s for one, other in pairs if one.images_per_s and other.images_per_s]


def lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells as aligned text, the first column to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join((first.strip().ljust(widths[0]), *others))
