"""Checks of `yoloperf doctor` on what a training reads and writes: data set, disks, memory, the folder of logs."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from yoloperf.core import lock
from yoloperf.core.datafolder import look
from yoloperf.core.errors import UserError
from yoloperf.core.limits import memory_limit
from yoloperf.core.roofline import MODELS
from yoloperf.core.storage import filesystem
from yoloperf.core.units import show_bytes
from yoloperf.harness.estimate import KEPT_BYTES, PEAK_BYTES
from yoloperf.harness.finding import Finding

_GETS = {"smear": "yoloperf data synth", "bccd": "yoloperf data fetch bccd", "coco": "yoloperf data fetch coco"}


@dataclass(frozen=True)
class Plan:
    """What is to be trained: a data YAML or None, the side of the images, a model, the folder of logs."""

    data: str | None
    img_size: int
    model: str
    logs: Path


def check_data(plan: Plan) -> Iterator[Finding]:
    if plan.data is None:
        return
    place, name = look(plan.data), Path(plan.data).stem
    if place is None:
        why = "no data YAML of this name, or its folder is not on this machine"
        step = _GETS.get(name, f"put it there, or correct `path` in {plan.data}")
        yield Finding("data set", "missing", name, why, step, fatal=True)
        return
    if place.train_images is None or place.val_images is None:
        yield Finding("data set", "note", f"{name} in {place.root}", "its images could not be counted: yoloperf data check")
        return
    count = place.train_images + place.val_images
    decoded = count * 3 * plan.img_size**2
    yield Finding("data set", "ok", f"{name}: {place.train_images} + {place.val_images} images in {place.root} ({filesystem(place.root)})")
    may_write = os.access(place.root, os.W_OK) and place.root.stat().st_mode & 0o222  # which binds root too, as in datasets/
    folder = place.root if may_write else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    free = _free(folder)
    what = f"{show_bytes(free)} free in {folder}; decoded at {plan.img_size} px the images take up to {show_bytes(decoded)}"
    if free < decoded:
        yield Finding("disk for images", "missing", what, "they are decoded at every use instead, which is slower", "make room")
    else:
        yield Finding("disk for images", "ok", what)
    memory = min(psutil.virtual_memory().available, memory_limit() or psutil.virtual_memory().total)
    what = f"{show_bytes(memory)} of memory"
    if memory < decoded:
        why = f"the decoded images, up to {show_bytes(decoded)}, do not fit: they come from the disk in every epoch"
        yield Finding("memory", "note", what, why)
    else:
        yield Finding("memory", "ok", what, "the decoded images stay in it")


def check_disk(plan: Plan) -> Finding:
    free, parameters = _free(plan.logs), MODELS[plan.model][1]
    needs, leaves = int(PEAK_BYTES * parameters), int(KEPT_BYTES * parameters)
    what = f"{show_bytes(free)} free in {plan.logs}; a run of {plan.model} takes up to {show_bytes(needs)} and leaves {show_bytes(leaves)}"
    if free < needs:
        return Finding("disk for runs", "missing", what, next_step="make room, or choose another folder with --logs", fatal=True)
    return Finding("disk for runs", "ok", what)


def check_logs(plan: Plan) -> Finding:
    """Whether runs can be written there, and locks keep two sweeps apart."""
    parent = _existing(plan.logs)
    kind = filesystem(parent)
    try:
        with tempfile.TemporaryDirectory(dir=parent, prefix=".yoloperf-doctor-") as folder:
            path = Path(folder) / "lock"
            with lock.held(path, "the doctor's lock"):
                excludes = lock.is_held(path)
    except (OSError, UserError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return Finding("folder of logs", "missing", f"{plan.logs}: {said}", next_step="choose another folder with --logs", fatal=True)
    if not excludes:
        why = "two sweeps at once could run the same cell"
        return Finding(
            "folder of logs", "missing", f"{plan.logs} ({kind}): locks hold nobody back", why, "choose another folder with --logs"
        )
    shared = kind is not None and kind.startswith(("nfs", "lustre", "cifs", "smb", "fuse", "beegfs", "gpfs"))
    note = "a shared file system: whether its locks hold across machines depends on how it is mounted" if shared else None
    return Finding("folder of logs", "ok", f"{plan.logs} ({kind}) can be written, and locks work", note)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def _free(path: Path) -> int:
    return shutil.disk_usage(_existing(path)).free
