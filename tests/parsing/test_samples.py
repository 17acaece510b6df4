"""Real logs that others made, where they are at hand. Values were read off the files by eye; the logs are not ours to keep here."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from yoloperf.parsing.check_table import check, read_published
from yoloperf.parsing.parse import ParseResult, parse_paths

MIB = 2**20

# Beginning of the path below the samples -> columns of its runs
EXPECTED: dict[str, list[dict[str, Any]]] = {
    "time_v/01": [{"status": "failed", "exit_code": 1, "wall_s": wall} for wall in (0.06, 0.07, 0.05, 0.06)],
    "time_v/04": [
        {"status": "ok", "user_s": 6892.83, "wall_s": 6933.0},
        {"status": "ok", "user_s": 935.25, "wall_s": 940.49},
        {"status": "ok", "user_s": 967.20, "wall_s": 978.68},
        {"status": "ok", "user_s": 6535.25, "wall_s": 6634.0},
    ],
    "time_v/12": [{"user_s": 6076.02, "wall_s": 7189.0, "max_rss_bytes": 145908 * 1024}, {"user_s": 3.28, "wall_s": 4.51}],
    "nvprof/03": [{"biggest_kernel_name": "[CUDA memcpy DtoH]", "biggest_kernel_domain": "gpu"}],
    "nvprof/04": [{"profile_reason": "No kernels were profiled", "biggest_kernel_name": None}],
    "nvprof/06": [{"biggest_kernel_avg_s": 44.781e-6, "biggest_kernel_share": 0.68636191}],
    "nvprof/11": [{"biggest_kernel_name": "fill(void)", "biggest_kernel_avg_s": 5.506e-6, "biggest_kernel_share": 0.4975}],
    "nvprof/17": [{"biggest_kernel_name": "[CUDA memcpy HtoD]", "biggest_kernel_avg_s": 12.052e-3, "biggest_kernel_share": 0.4779}],
    # Four processes; in 2021 the reports of CUDA stood before those of the system
    "nsys/01": [*[{"biggest_kernel_name": None}] * 3, {"biggest_kernel_name": "[CUDA memcpy HtoD]", "profile_reason": None}],
    "nsys/03": [{"biggest_kernel_avg_s": 4950.2e-9}],
    "nsys/04": [{"biggest_kernel_name": "ampere_sgemm_128x64_tn", "biggest_kernel_avg_s": 3299833.8e-9}],
    "yolov5_console/01": [{"status": "incomplete", "epochs": 100, "epochs_done": None, "batch_size": 8, "box_loss": None}],
    "yolov5_console/02": [{"status": "ok", "epochs": 600, "epochs_done": 103, "batch_size": 256, "map50_95": 0.711, "cuda": "12.1"}],
    "yolov5_console/03": [{"status": "ok", "epochs_done": 258, "batch_size": 128, "model": "yolov3-tiny", "train_images": 912}],
    "yolov5_console/06": [{"status": "ok", "epochs_done": 30, "precision": 0.473, "recall": 0.27, "map50": 0.257, "map50_95": None}],
    "ultralytics_console/01": [{"status": "incomplete", "epochs": 50, "epochs_done": 40, "batch_size": 64, "engine": "ultralytics"}],
    "ultralytics_console/02": [{"status": "ok", "epochs_done": 50, "precision": 0.974, "recall": 0.966, "map50": 0.991, "map50_95": 0.865}],
    "ultralytics_console/03": [{"status": "cancelled", "reason": "KeyboardInterrupt:"}],
    "ultralytics_console/07": [{"status": "cancelled", "epochs": 50, "gpu_name": "Apple M4", "val_images": 240}],
    "ultralytics_console/08": [{"status": "ok", "epochs_done": 15}],
    "yolo_results_txt/01": [{"epochs": 200, "epochs_done": 98, "status": "incomplete", "map50": 0.736, "map50_95": None}],
    "yolo_results_txt/03": [{"epochs": 45, "status": "ok", "map50": 0.9431, "map50_95": 0.682}],
    "yolo_results_txt/05": [{"epochs": 1}, {"epochs": 1}, {"epochs": 1}, {"epochs": 2, "map50": 0.6548}],
    "yolov5_results_csv/01": [{"epochs_done": 2, "obj_loss": 0.068013, "map50_95": 0.025654}],
    "ultralytics_results_csv/01": [{"epochs_done": 25, "dfl_loss": 1.6412, "map50_95": 0.45929}],
    "ultralytics_results_csv/07": [{"epochs_done": 102, "map50": 0.82831}],
    "darknet/01": [{"engine": "darknet", "iterations": 1028, "batch_size": 64, "total_loss": 0.303765, "status": "cancelled"}],
    "darknet/04": [{"model": "yolov3-voc", "iterations": 6000, "batch_size": 1, "total_loss": 0.752329, "status": "incomplete"}],
    # An evaluation of epoch 65 follows run_stop
    "mllog/02": [{"status": "ok", "batch_size": 1024, "model": "ssd", "epochs_done": 59, "map50_95": 0.23322376608848572}],
    "mllog/03": [{"status": "ok", "batch_size": 2496, "wall_s": 5293.9, "map50_95": None}],
    "mllog/04": [{"status": "ok", "batch_size": 4096, "wall_s": 122.358}],
    "mllog/07": [{"status": "ok", "batch_size": 256, "wall_s": 5100.436, "epochs": 8}],
    "nvidia_smi/01": [{"gpu_util_pct": pytest.approx(40.9048, abs=1e-4), "gpu_power_w": pytest.approx(39.9683, abs=1e-4)}],
    "nvidia_smi/02": [{"gpu_name": "NVIDIA A100-SXM4-80GB", "gpu_mem_peak_bytes": 14517 * MIB, "gpu_mem_bytes": 81920 * MIB}],
    "torchprof/07": [{"gpu_name": "NVIDIA GeForce RTX 3090", "profile_reason": "the trace holds no GPU kernels", "cuda": "12.8"}],
    "torchprof/10": [{"biggest_kernel_name": "Memcpy DtoH (Device -> Pageable)", "biggest_kernel_share": 0.4361}],
    "slurm/01": [{"status": "cancelled", "slurm_job_id": "25883692"}],
    "slurm/02": [{"status": "oom", "slurm_job_id": "685425"}],
    "slurm/03": [{"status": "timeout", "slurm_job_id": "682310"}],
    "slurm/05": [{"status": "oom", "slurm_job_id": "16012458"}],
    "slurm/07": [{"status": "timeout", "slurm_job_id": "20457810"}, {"status": "timeout", "slurm_job_id": "20468948"}],
    "slurm/09": [{"status": "oom", "wall_s": 56.895, "user_s": 11.272, "system_s": 6.233}],
    "slurm/18": [{"status": "failed", "slurm_job_id": "246465"}],
    "slurm/24": [{"status": None}],
    "slurm/28": [{"status": "failed", "reason": "torch.AcceleratorError: CUDA error: device-side assert triggered"}],
}


@pytest.mark.parametrize("start", EXPECTED)
def test_a_sample_as_read_by_eye(samples: Path, start: str) -> None:
    folder, _, number = start.partition("/")
    files = sorted((samples / folder).glob(f"{number}_*"))
    if not files:
        pytest.skip(f"no sample {start}")
    runs = parse_paths(files).runs
    assert len(runs) == len(EXPECTED[start])
    for run, expected in zip(runs, EXPECTED[start], strict=True):
        assert {name: asdict(run)[name] for name in expected} == expected


def test_every_sample_is_parsed_or_rejected_with_a_reason(samples: Path) -> None:
    files = [path for path in samples.glob("*/*") if path.is_file()]
    result = parse_paths(files)
    told = {str(run.source) for run in result.runs} | {item.path for item in result.rejected} | {str(path) for path in result.duplicates}
    assert told == {str(path) for path in files}
    assert all(item.reason for item in result.rejected)


@pytest.fixture(scope="module")
def study(samples: Path) -> ParseResult:
    """The logs of the 2020 study."""
    folder = samples / "source_project" / "logs"
    if not folder.is_dir():
        pytest.skip("no source_project/logs among the samples")
    return parse_paths([folder])


def test_the_studys_logs_are_whole(study: ParseResult) -> None:
    assert len(study.runs) >= 30
    assert study.rejected == []
    for run in study.runs:
        assert (run.status, run.epochs_done, run.dataset, run.img_size) == ("ok", run.epochs, "bccd", 416)
        assert (run.train_images, run.val_images, run.torch) in ((255, 73, "1.7.0"), (255, 73, "1.7.0+cu101"))
        epochs = [epoch for epoch in study.epochs if epoch.run_id == run.run_id]
        assert [epoch.epoch for epoch in epochs] == list(range(1, (run.epochs or 0) + 1))
        for epoch in epochs:
            assert None not in (epoch.box_loss, epoch.obj_loss, epoch.cls_loss, epoch.precision, epoch.recall, epoch.map50, epoch.map50_95)
            assert (epoch.map50 or 0) >= (epoch.map50_95 or 0)


def test_the_published_table_is_borne_out_by_its_logs(study: ParseResult, samples: Path) -> None:
    table = samples.parent / "reference" / "published-2020-t4-p40.csv"
    if not table.exists():
        pytest.skip("no published table beside the samples")
    result = check(read_published(table), study)
    assert result.compared == len(study.runs) - len(result.other_logs)
    assert result.cells == 8 * result.compared
    assert result.differences == []
    assert {kernel.device for kernel in result.named_kernels} == {"Tesla P40", "Tesla T4"}
    assert len(result.misleading) == result.compared - sum(kernel.biggest_in for kernel in result.named_kernels) > 0


def test_less_than_a_twentieth_of_the_studys_gpu_time_is_unknown(study: ParseResult) -> None:
    kernels = [kernel for kernel in study.kernels if kernel.domain == "gpu"]
    unknown = sum(kernel.total_s or 0 for kernel in kernels if kernel.operator is None)
    assert unknown < 0.05 * sum(kernel.total_s or 0 for kernel in kernels)
