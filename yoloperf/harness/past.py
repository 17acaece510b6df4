"""The runs that are behind a platform, as far as their own folders tell: what the next ones can be told from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir
from yoloperf.core.spec import TrialSpec, from_mapping
from yoloperf.harness.outcome import read_console


@dataclass(frozen=True)
class Past:
    """A finished run, from its own folder. Times in s; train_s and val_s are those of an epoch, rest_s what is neither."""

    trial: str
    platform: str
    spec: TrialSpec
    startup_s: float
    train_s: float
    val_s: float
    rest_s: float
    train_images: int | None
    parameters: int | None
    flops_per_image: float | None
    gpu_name: str | None
    cpu_name: str | None
    started_at: str
    log_bytes: int

    def predict(self, spec: TrialSpec, epochs: int, images: int | None) -> float | None:
        """Time of another cell of this model, work growing with images and pixels; None where the images are not known."""
        share = 1.0
        if spec.data != self.spec.data:
            if not images or not self.train_images:
                return None
            share = images / self.train_images
        share *= (spec.img_size / self.spec.img_size) ** 2
        return self.startup_s + self.rest_s + epochs * share * (self.train_s + self.val_s)


def finished_runs(logs: Path) -> list[Past]:
    """Every run below the folder that ended well in one attempt and said how long its epochs took."""
    found = []
    for path in sorted(logs.glob("*/*/*/run.json")):
        past = _past(RunDir(path.parent))
        found += [past] if past else []
    return found


def _past(run: RunDir) -> Past | None:
    content = run.read() or {}
    attempts, wall_s = content.get("attempts"), content.get("wall_s")
    if content.get("status") != "ok" or not isinstance(attempts, list) or len(attempts) != 1 or not isinstance(wall_s, int | float):
        return None
    try:
        spec = from_mapping(content.get("spec") or {})
    except UserError:
        return None
    events = read_console(run.console).events
    start: dict[str, Any] = next((event for event in events if event["key"] == "run_start"), {})
    first: dict[str, Any] = next((event for event in events if event["key"] == "first_step"), {})
    epochs = [event for event in events if event["key"] == "epoch" and isinstance(event.get("train_s"), int | float)]
    if not epochs:
        return None
    train_s, val_s = (sum(event.get(key) or 0.0 for event in epochs) / len(epochs) for key in ("train_s", "val_s"))
    startup_s = float(first.get("startup_s") or 0.0)
    environment = content.get("environment") or {}
    return Past(
        trial=run.path.name,
        platform=run.path.parts[-3],
        spec=spec,
        startup_s=startup_s,
        train_s=train_s,
        val_s=val_s,
        rest_s=max(0.0, wall_s - startup_s - len(epochs) * (train_s + val_s)),
        train_images=start.get("train_images"),
        parameters=start.get("parameters"),
        flops_per_image=start.get("flops_per_image"),
        gpu_name=start.get("gpu_name") if "gpu_name" in start else environment.get("gpu_name"),
        cpu_name=environment.get("cpu_name"),
        started_at=str(content.get("started_at")),
        log_bytes=sum(file.stat().st_size for file in run.path.iterdir() if file.is_file()),
    )
