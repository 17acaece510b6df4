"""What `yoloperf serve` was started with."""

from dataclasses import dataclass, field
from pathlib import Path

from yoloperf.service.limits import Limits


@dataclass(frozen=True)
class Settings:
    """image_root: folder whose images may be named by their path; token: what clients must present; logs: where training runs go."""

    host: str = "127.0.0.1"
    port: int = 8080
    runtime: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    streams: int = 4  # batches inferred side by side, each on its part of the threads, where the runtime can
    image_root: Path | None = None
    token: str | None = None
    max_batch: int = 16
    max_wait_s: float = 0.005
    queue: int = 64
    limits: Limits = field(default_factory=Limits)
    drain_s: float = 2.0
    allow_training: bool = False
    logs: Path = Path("logs")
    training_threads: int | None = None  # CPU threads of a training run; None: every core
