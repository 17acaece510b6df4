from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from yoloperf.core.record import EpochRecord, RunRecord, to_csv

MODELS, PLATFORMS, BATCHES, EPOCHS = ("yolov3", "yolov3-tiny"), ("cloud", "baremetal"), (4, 8), (1, 5)


def make(platform: str, model: str, batch: int, epochs: int) -> RunRecord:
    """A run whose figures follow from its cell, so that a test can tell where a number came from."""
    return RunRecord(
        run_id=f"{platform}/{model}_bs{batch}_ep{epochs}",
        platform=platform,
        model=model,
        batch_size=batch,
        epochs=epochs,
        status="ok",
        user_s=10.0 + 40.0 * epochs / batch,
        cpu_percent=99.0,
        max_rss_bytes=2**30 * batch // 4,
        biggest_kernel_domain="gpu",
        biggest_kernel_name=f"{platform}_winograd_128x128",
        biggest_kernel_avg_s=1e-4 * batch,
        precision=0.0,
        recall=1.0,
        obj_loss=0.12345,
        cls_loss=0.00345,
    )


@pytest.fixture
def study() -> list[RunRecord]:
    """Two platforms x two models x two batch sizes x two epoch counts; one cell ran out of memory."""
    runs = [make(*cell) for cell in product(PLATFORMS, MODELS, BATCHES, EPOCHS)]
    lost = {item: None for item in ("user_s", "cpu_percent", "biggest_kernel_name", "biggest_kernel_avg_s", "precision", "recall")}
    lost |= {"obj_loss": None, "cls_loss": None, "biggest_kernel_domain": None}
    runs[-1] = replace(runs[-1], status="oom", reason="CUDA out of memory <16 GiB> & 100 % | full_up", **lost)
    return runs


@pytest.fixture
def epochs(study: list[RunRecord]) -> list[EpochRecord]:
    return [
        EpochRecord(run_id=run.run_id, epoch=k, box_loss=0.1 / k, obj_loss=0.2 / k, cls_loss=0.01 / k, map50=1 - 1 / k)
        for run in study
        if run.status == "ok"
        for k in range(1, (run.epochs or 0) + 1)
    ]


@pytest.fixture
def runs_csv(tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(to_csv(RunRecord, study))
    path.with_name("epochs.csv").write_text(to_csv(EpochRecord, epochs))
    return path
