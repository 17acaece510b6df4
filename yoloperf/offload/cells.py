"""The folder of a study: DIR/<part>/<cell>/{cell.json,requests.csv}, and which of its cells are done."""

import fnmatch
import hashlib
import importlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.record import from_csv
from yoloperf.core.request import RequestRecord
from yoloperf.core.rundir import write_atomic
from yoloperf.offload.part import Cell, Done, Part
from yoloperf.offload.study import PARTS, Place, Study
from yoloperf.yolo.weight_files import find_weights

_DIGITS = 12


@dataclass(frozen=True)
class Job:
    """A cell of a part, where it is kept and what it depends on: hash of the settings, and digest of the weights, None where they are not
    at hand."""

    part: Part
    cell: Cell
    folder: Path
    hash: str
    weights: str | None = None

    @property
    def name(self) -> str:
        return f"{self.part.name}/{self.cell.name}"

    def read(self) -> dict[str, Any] | None:
        """cell.json; None where there is none, it cannot be read, or it is of other settings or weights."""
        try:
            content = json.loads((self.folder / "cell.json").read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(content, dict) or content.get("settings_hash") != self.hash:
            return None
        measured = content.get("weights_digest")
        return None if measured and self.weights and measured != self.weights else content

    @property
    def requests(self) -> Path:
        return self.folder / "requests.csv"

    @property
    def is_done(self) -> bool:
        return (self.read() or {}).get("status") == "ok"

    def clear(self) -> None:
        """What was measured before goes, cell.json first: whatever happens now, half a cell is never taken for a whole one."""
        (self.folder / "cell.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def write(self, content: dict[str, Any]) -> None:
        head: dict[str, Any] = {"part": self.part.name, "cell": self.cell.name, "settings": self.cell.settings, "settings_hash": self.hash}
        head["weights_digest"] = self.weights
        write_atomic(self.folder / "cell.json", json.dumps(head | content, indent=1, allow_nan=False) + "\n")


def load_parts(study: Study) -> list[Part]:
    """The parts that the study has settings for."""
    return [importlib.import_module(PARTS[name]).PART for name in PARTS if name in study.parts]


def jobs(study: Study, parts: Sequence[Part], folder: Path) -> list[Job]:
    """Every cell of these parts. Raises UserError for settings that a part refuses."""
    digest = cache(_weights_digest)  # for now: the file may be another the next time
    found = [_job(part, cell, study, folder, digest) for part in parts for cell in part.cells(study)]
    names = [job.name for job in found]
    assert len(set(names)) == len(names), f"two cells have one name: {names}"
    return found


def matching(every: Sequence[Job], patterns: Sequence[str]) -> set[str]:
    """Names of the cells that a pattern such as `scaling/*` fits. Raises UserError for a pattern that fits none."""
    found: set[str] = set()
    for pattern in patterns:
        fits = {job.name for job in every if fnmatch.fnmatchcase(job.name, pattern) or job.part.name == pattern}
        if not fits:
            some = ", ".join(job.name for job in every[:5])
            raise UserError(f"--redo {pattern}: no cell has such a name; there are {some}{', ...' if len(every) > 5 else ''}")
        found |= fits
    return found


def done(every: Sequence[Job], part: Part) -> list[Done]:
    """The cells of a part that were measured, as their files tell."""
    found = []
    for job in every:
        content = job.read() if job.part is part else None
        if content is not None and content["status"] == "ok":
            found.append(Done(job.cell, content["summary"], _rows(job)))
    return found


def _rows(job: Job) -> list[RequestRecord]:
    try:
        return from_csv(RequestRecord, job.requests.read_text()) if job.requests.exists() else []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{job.requests} cannot be read ({error}): measure it again with --redo {job.name}") from error


def _job(part: Part, cell: Cell, study: Study, folder: Path, digest: Callable[[str], str | None]) -> Job:
    weights = digest(cell.settings.get("model", study.model))
    return Job(part, cell, folder / part.name / cell.name, _hash(part.name, cell, study), weights)


def _weights_digest(model: str) -> str | None:
    """Of the file of "NAME=WEIGHTS"; None where it is not here: a study is read on other machines, too."""
    try:
        with find_weights(model.partition("=")[2]).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:_DIGITS]
    except (UserError, OSError):
        return None


def _hash(part: str, cell: Cell, study: Study) -> str:
    """What the outcome depends on: the cell's settings, and of the study what every part measures with. A link or a price is not of
    it: a cell that uses one has it in its settings, or reads it afterwards."""
    common = [study.model, study.data, study.split, study.images, study.seed, *map(_measured, (study.local, study.remote))]
    text = json.dumps([part, cell.settings, common], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _measured(place: Place) -> dict[str, Any]:
    return {name: value for name, value in place.measured().items() if name not in ("name", "power_w", "price_per_hour")}
