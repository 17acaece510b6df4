"""Model FLOPs utilisation: the run's own work and rate against the card of the device it ran on."""

import json
from pathlib import Path
from typing import Any

import pytest

from yoloperf.core.record import RunRecord
from yoloperf.parsing.parse import parse_paths

T4 = {"gpu_name": "Tesla T4", "device": "cuda:0", "precision_mode": "fp16", "flops_per_image": 2.0e11}


def run_of(folder: Path, environment: dict[str, Any], start: dict[str, Any], end: dict[str, Any]) -> RunRecord:
    """The record of a run folder with these events."""
    folder.mkdir()
    content = {"spec": {}, "status": "ok", "environment": environment, "attempts": [{}]}
    (folder / "run.json").write_text(json.dumps(content))
    events = [{"key": "run_start", "time_s": 1.0, **start}, {"key": "run_end", "time_s": 2.0, "status": "ok", **end}]
    (folder / "console.log").write_text("".join(f":::YOLOPERF {json.dumps(event)}\n" for event in events))
    result = parse_paths([folder])
    assert not result.rejected
    return result.runs[0]


@pytest.mark.parametrize(
    ("environment", "start", "mfu"),
    [
        ({}, T4, 2.0e11 * 50 / 65e12),
        ({}, {**T4, "precision_mode": "fp32"}, 2.0e11 * 50 / 8.1e12),
        ({}, {**T4, "processes": 4}, 2.0e11 * 50 / (4 * 65e12)),
        ({}, {**T4, "gpu_name": "NVIDIA A100-SXM4-40GB", "precision_mode": "fp32"}, 2.0e11 * 50 / 156e12),  # TF32, as cuDNN does it
        ({"gpu_name": "Tesla T4"}, {key: value for key, value in T4.items() if key != "gpu_name"}, 2.0e11 * 50 / 65e12),
        ({}, {**T4, "precision_mode": "bf16"}, None),  # a T4 has no such peak
        ({}, {**T4, "gpu_name": "NVIDIA GeForce RTX 4090"}, None),
        ({"cpu_name": "AMD EPYC"}, {**T4, "gpu_name": "NVIDIA GeForce RTX 4090"}, None),
        ({"cpu_name": "AMD EPYC"}, {"precision_mode": "fp32", "flops_per_image": 2.0e11}, None),
        ({}, {**T4, "flops_per_image": None}, None),
    ],
)
def test_utilisation_is_the_share_of_the_peak_of_the_arithmetic(
    tmp_path: Path, environment: dict[str, Any], start: dict[str, Any], mfu: float | None
) -> None:
    found = run_of(tmp_path / "run", environment, start, {"images_per_s": 50.0}).mfu
    assert found == (None if mfu is None else pytest.approx(mfu))


def test_a_run_without_a_rate_has_no_utilisation(tmp_path: Path) -> None:
    assert run_of(tmp_path / "run", {}, T4, {"images_per_s": None}).mfu is None


def test_a_run_on_the_processor_of_a_machine_with_a_gpu_is_none_of_the_gpus(tmp_path: Path) -> None:
    environment = {"gpu_name": "Tesla T4", "gpu_mem_bytes": 2**34, "cpu_name": "AMD EPYC"}
    start = {**T4, "device": "cpu", "gpu_name": None, "precision_mode": "fp32"}
    record = run_of(tmp_path / "run", environment, start, {"images_per_s": 5.0})
    assert (record.gpu_name, record.gpu_mem_bytes, record.mfu) == (None, None, None)


def test_operations_of_ultralytics_are_those_of_the_size_it_trains_with(tmp_path: Path) -> None:
    """It counts a forward pass at 640 px whatever the size; YOLOv3's 283.0 are 358.7 for a training image at 416 px."""
    head = "Ultralytics 8.4.190 🚀 Python-3.11.7 torch-2.15.0 CPU (AMD EPYC)\n"
    arguments = "engine/trainer: batch=4, data=bccd.yaml, epochs=1, imgsz=416, model=yolov3.yaml, task=detect\n"
    summaries = "YOLOv3 summary: 180 layers, 103,694,777 parameters, 103,694,761 gradients, 283.0 GFLOPs\n"
    summaries += "YOLOv3 summary (fused): 96 layers, 103,666,553 parameters, 0 gradients, 282.2 GFLOPs\n"
    (tmp_path / "log.txt").write_text(head + arguments + summaries)
    (record,) = parse_paths([tmp_path / "log.txt"]).runs
    assert record.flops_per_image == pytest.approx(358.7e9, rel=1e-4) and record.precision_mode == "fp32"
    (tmp_path / "log.txt").write_text(head.replace("CPU (AMD EPYC)", "CUDA:0 (Tesla T4, 15102MiB)") + arguments + summaries)
    (record,) = parse_paths([tmp_path / "log.txt"]).runs
    assert record.precision_mode is None
