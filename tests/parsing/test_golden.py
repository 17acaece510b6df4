"""Every format against a small log whose values were read by eye.

GNU time's blocks and torch's table and trace are captured; the other logs are written in the grammar of real
ones, with numbers of their own.
"""

from dataclasses import asdict
from typing import Any

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.core.record import KernelRecord
from yoloperf.parsing.parse import ParseResult, parse_paths

MIB, GIB = 2**20, 2**30

RUNS: dict[str, list[dict[str, Any]]] = {
    "yolov3_2020_nvprof_time.txt": [
        {
            "format": "gnu-time+nvprof+yolo-console+yolo-setup",
            "engine": "yolov3",
            "model": "yolov3-tiny",
            "dataset": "cells",
            "weights": "yolov3-tiny.pt",
            "batch_size": 6,
            "epochs": 3,
            "epochs_done": 3,
            "img_size": 320,
            "workers": 4,
            "train_images": 30,
            "val_images": 11,
            "torch": "1.7.0+cu101",
            "cuda": "10.1",
            "gpu_name": "Tesla P40",
            "gpu_mem_bytes": 22919 * MIB,
            "gpu_mem_peak_bytes": 580_000_000,
            "status": "ok",
            "reason": None,
            "exit_code": 0,
            "wall_s": 70.4,
            "user_s": 61.25,
            "system_s": 7.75,
            "cpu_percent": 98.0,
            "max_rss_bytes": 3345678 * 1024,
            "box_loss": 0.08125,
            "obj_loss": 0.2709,
            "cls_loss": 0.02233,
            "precision": 0.5,
            "recall": 0.275,
            "map50": 0.31,
            "map50_95": 0.105,
            "profiler": "nvprof",
            "biggest_kernel_domain": "gpu",
            "biggest_kernel_name": "void cudnn::detail::wgrad_alg0_engine<__half, int=128, int=5, bool=1>(int, int, float*)",
            "biggest_kernel_avg_s": 0.002,
            "biggest_kernel_share": 0.4,
            "images_per_s": 6.0,
            "mfu": None,
            "command": "nvprof python train.py --img 320 --batch 6 --epochs 3 --data cells.yaml --weights yolov3-tiny.pt",
        }
    ],
    "yolov5_v7_live.txt": [
        {
            "engine": "yolov5",
            "model": "yolov5s",
            "dataset": "coco128",
            "batch_size": 24,
            "epochs": 90,
            "epochs_done": 2,
            "img_size": 512,
            "seed": 3,
            "workers": 6,
            "precision_mode": "amp",
            "python": "3.9.16",
            "torch": "1.13.1+cu117",
            "cuda": "11.7",
            "gpu_name": "NVIDIA GeForce RTX 3080",
            "gpu_mem_bytes": 10015 * MIB,
            "train_images": 128,
            "val_images": 64,
            "status": "ok",
            "precision": 0.62,
            "recall": 0.53,
            "map50": 0.575,
            "map50_95": 0.322,
            "notes": "stopped early; best weights: precision 0.66, recall 0.51, map50 0.57, map50_95 0.33",
        }
    ],
    "ultralytics_8_interrupted.txt": [
        {
            "engine": "ultralytics",
            "model": "yolov8n",
            "dataset": "blood",
            "batch_size": 12,
            "epochs": 3,
            "epochs_done": 2,
            "status": "cancelled",
            "reason": "KeyboardInterrupt",
            "box_loss": 1.2,
            "obj_loss": None,
            "cls_loss": 1.4,
            "dfl_loss": 1.1,
            "map50_95": 0.42,
            "gpu_mem_peak_bytes": round(2.7 * GIB),
            "gpu_name": "NVIDIA L4",
        }
    ],
    # Metrics are P, R, mAP@0.5, F1: no mAP@0.5:0.95 there, and no losses on stdout
    "yolov3_spring2020_stdout.txt": [
        {
            "model": "yolov3-spp",
            "batch_size": 20,
            "epochs": 2,
            "epochs_done": 2,
            "status": "ok",
            "precision": 0.44,
            "recall": 0.62,
            "map50": 0.515,
            "map50_95": None,
            "box_loss": None,
            "gpu_name": "GeForce RTX 2060",
            "gpu_mem_bytes": 5934 * MIB,
        }
    ],
    "clearml_capture.txt": [{"batch_size": 8, "epochs_done": 2, "status": "ok", "box_loss": 0.09, "map50_95": 0.1, "val_images": 50}],
    "darknet_alexeyab_map.txt": [
        {
            "engine": "darknet",
            "model": "yolov4-cells",
            "batch_size": 64,
            "iterations": 3,
            "epochs": None,
            "total_loss": 1185.0,
            "status": "ok",
            "precision": 0.71,
            "recall": 0.38,
            "map50": 0.6125,
        }
    ],
    "darknet_pjreddie.txt": [
        {"engine": "darknet", "model": "yolov3-mine", "batch_size": 16, "iterations": 2, "total_loss": 899.1125, "status": "incomplete"}
    ],
    "results_two_runs.txt": [
        {"epochs": 2, "epochs_done": 2, "status": "ok", "img_size": 640, "box_loss": 0.08, "map50": 0.2, "map50_95": 0.05},
        {"epochs": 3, "epochs_done": 1, "status": "incomplete", "obj_loss": 0.02, "precision": 0.1, "gpu_mem_peak_bytes": 3_000_000_000},
    ],
    "results_f1.txt": [{"epochs": 5, "epochs_done": 2, "status": "incomplete", "map50": 0.35, "map50_95": None, "img_size": 384}],
    "results_v5.csv": [{"epochs_done": 2, "status": None, "obj_loss": 0.065, "map50": 0.375, "map50_95": 0.125}],
    "results_8_3.csv": [{"engine": "ultralytics", "epochs_done": 2, "box_loss": 1.0, "cls_loss": None, "dfl_loss": 1.1, "map50_95": 0.55}],
    "mlperf_v07.txt": [
        {
            "engine": "mlperf",
            "platform": "4xL4",
            "model": "ssd",
            "batch_size": 96,
            "status": "ok",
            "wall_s": 100.5,
            "started_at": "2023-11-14T22:13:21.000+00:00",
            "map50_95": 0.25,
        }
    ],
    "mlperf_v06.txt": [{"status": "incomplete", "wall_s": None, "map50_95": 0.2}],
    "mlperf_v05_aborted.txt": [{"status": "failed", "batch_size": 2048, "wall_s": 400.5, "map50_95": None}],
    "gnu_time_ok.txt": [{"status": "ok", "exit_code": 0, "command": "true"}],
    "gnu_time_failed.txt": [{"status": "failed", "reason": "exit status 3", "exit_code": 3, "command": "sh -c exit 3"}],
    # After a signal the block itself says exit status 0
    "gnu_time_killed.txt": [{"status": "failed", "reason": "terminated by signal 9 (SIGKILL)", "exit_code": 137}],
    "macos_time_l.txt": [{"status": None, "wall_s": 0.5, "user_s": 0.25, "system_s": 0.05, "max_rss_bytes": 40 * MIB}],
    "slurm_two_jobs.err": [
        {"slurm_job_id": "5001", "status": "timeout", "reason": "Slurm: time limit at 2024-02-03T04:05:06 on gpu-7"},
        {"slurm_job_id": "5002", "status": "oom"},
        {"slurm_job_id": "5003", "status": "cancelled"},
        {"slurm_job_id": "5004", "status": "preempted"},
        {"slurm_job_id": "5005", "status": "failed", "reason": "Slurm: node failure at 2024-02-05T00:00:00 on node5"},
    ],
    "cuda_out_of_memory.txt": [
        {
            "status": "oom",
            "reason": "RuntimeError: CUDA out of memory. Tried to allocate 100.00 MiB "
            "(GPU 0; 7.80 GiB total capacity; 6.00 GiB already allocated)",
            "batch_size": 64,
            "epochs_done": None,
            "wall_s": 31.5,
            "user_s": 12.25,
            "system_s": 3.125,
        }
    ],
    "nvidia_smi_query.csv": [
        {
            "gpu_name": "NVIDIA L4",
            "gpu_util_pct": 40.0,
            "gpu_power_w": 50.5,
            "gpu_mem_peak_bytes": 3000 * MIB,
            "gpu_mem_bytes": 23034 * MIB,
            "driver": "535.104.05",
            "status": None,
        }
    ],
    "nvidia_smi_own_header.csv": [{"gpu_util_pct": 30.0, "gpu_mem_peak_bytes": GIB, "gpu_mem_bytes": 16 * GIB, "gpu_power_w": None}],
    "nvidia_smi_dmon.log": [{"gpu_util_pct": 50.0, "gpu_power_w": 100.0, "gpu_mem_peak_bytes": None}],
    "nvidia_smi_table.txt": [
        {"gpu_name": "Tesla V100-SXM2...", "gpu_util_pct": 60.0, "gpu_power_w": 120.0, "gpu_mem_peak_bytes": 4 * GIB, "driver": "470.82.01"}
    ],
    "nvprof_too_new_a_gpu.txt": [
        {
            "profiler": "nvprof",
            "profile_reason": "nvprof is not supported on devices with compute capability 8.0 and higher.",
            "biggest_kernel_name": None,
            "batch_size": 4,
        }
    ],
    "nvprof_no_kernels.txt": [
        {
            "profile_reason": "The user does not have permission to profile on the target device. See the following link for instructions.",
            "biggest_kernel_name": None,
        }
    ],
    "nsys_profile_stats.txt": [{"profiler": "nsys", "profile_reason": "the capture does not contain CUDA kernel data"}],
}

_WGRAD, _WINOGRAD = "convolution weight gradient", "convolution"
KERNELS: dict[str, list[tuple[Any, ...]]] = {
    # domain, name, calls, total_s, avg_s, min_s, max_s, share, operator
    "yolov3_2020_nvprof_time.txt": [
        (
            "gpu",
            "void cudnn::detail::wgrad_alg0_engine<__half, int=128, int=5, bool=1>(int, int, float*)",
            800,
            1.6,
            2e-3,
            150.5e-6,
            9.75e-3,
            0.4,
            _WGRAD,
        ),
        (
            "gpu",
            "maxwell_fp16_scudnn_winograd_fp16_fp32_128x128_ldg1_ldg4_tile228n_nt",
            1000,
            1.4,
            1.4e-3,
            900e-6,
            2.1e-3,
            0.35,
            _WINOGRAD,
        ),
        ("gpu", "[CUDA memcpy DtoH]", 300, 0.6, 2e-3, 512e-9, 30.25e-3, 0.15, "copy"),
        (
            "gpu",
            "_ZN2at6native29vectorized_elementwise_kernelILi4EZZZNS0_8_GLOBAL26leaky_relu_backward_kernelEvE_EEviT0_T1_",
            4000,
            0.4,
            1e-4,
            1.248e-6,
            350e-6,
            0.1,
            "activation",
        ),
        ("api", "cudaLaunchKernel", 50000, 5.0, 1e-4, 4e-6, 0.08, 0.9999, None),
        ("api", "", 2, 491e-9, 245e-9, 220e-9, 271e-9, 0.0001, None),
    ],
    "nvprof_cuda8.txt": [
        ("gpu", "void thrust::detail::scale<int, float>(float*, int)", 150, 0.03, 2e-4, 190.5e-6, 410e-6, 0.75, "elementwise"),
        ("gpu", "[CUDA memcpy HtoD]", 4, 0.01, 2.5e-3, 640e-9, 9e-3, 0.25, "copy"),
        ("api", "cudaMalloc", 2, 0.18, 0.09, 1e-5, 179.99e-3, 0.9, None),
        ("api", "cudaLaunch", 150, 0.02, 133.33e-6, 1e-4, 1.5e-3, 0.1, None),
    ],
    "nvprof_gpu_trace.txt": [
        ("gpu", "void scale<double>(double*, double)", 2, 6e-3, 3e-3, 2e-3, 4e-3, 12 / 13, None),
        ("gpu", "[CUDA memcpy DtoH]", 1, 5e-4, 5e-4, 5e-4, 5e-4, 1 / 13, "copy"),
    ],
    "nvprof_units_row.csv": [
        ("gpu", "step(int, float*, float*)", 3000, 0.24, 80e-6, 60.5e-6, 1.25e-3, 0.8, None),
        ("gpu", "[CUDA memcpy DtoH]", 10, 0.06, 6e-3, 0.5e-6, 9e-3, 0.2, "copy"),
        ("api", "cudaLaunchKernel", 3010, 0.512, 170.099e-6, 5e-6, 0.09, 1.0, None),
    ],
    # The last line has no end, and its name shows that it is whole
    "nvprof_glued_units.csv": [
        ("gpu", "[CUDA memcpy HtoD]", 30, 0.3, 0.01, 9.5e-3, 12.25e-3, 0.6, "copy"),
        ("gpu", "relax(float*, float*, int, int)", 100, 0.2, 2e-3, 1.5e-3, 2.75e-3, 0.4, None),
    ],
    "nvprof_no_kernels.txt": [("api", "cudaFree", 4, 2e-3, 5e-4, 1e-6, 1.9e-3, 1.0, None)],
    "nsys_2021_two_processes.txt": [
        ("api", "cudaLaunchKernel", 10, 5e-3, 5e-4, 10.5e-6, 2e-3, 1.0, None),
        ("gpu", "add(float const*, float const*, int)", 10, 3e-3, 3e-4, 100.25e-6, 5e-4, 0.6, None),
        ("gpu", "volta_sgemm_128x64_nt", 4, 1e-3, 2.5e-4, 2e-4, 3e-4, 0.2, "matrix product"),
        ("gpu", "[CUDA memcpy HtoD]", 8, 1e-3, 1.25e-4, 6.5e-5, 1.9e-4, 0.2, "copy"),
    ],
    "nsys_2024.txt": [
        ("api", "cudaLaunchKernel", 100, 8e-3, 8e-5, 10.5e-6, 9e-4, 1.0, None),
        ("gpu", "sm90_xmma_fprop_implicit_gemm_bf16bf16", 30, 9e-4, 3e-5, 25.5e-6, 5e-5, 0.9, "convolution forward"),
        ("gpu", "void at::native::vectorized_elementwise_kern…", 50, 1e-4, 2e-6, 1.5e-6, 4e-6, 0.1, "elementwise"),
    ],
    "nsys_box_then_csv.txt": [
        ("gpu", "relax(float*, int)", 12, 6e-3, 5e-4, 4e-4, 7e-4, 0.6, None),
        ("gpu", "norm(float*, int)", 8, 4e-3, 5e-4, 4e-4, 7e-4, 0.4, None),
    ],
    "nsys_profile_stats.txt": [("api", "cudaDeviceSynchronize", 3, 0.012, 4e-3, 3e-3, 5e-3, 1.0, None)],
    # An annotation is drawn twice, as a host scope and as a device range: the range is no kernel
    "torch_1_12_cuda_table.txt": [
        ("cpu", "ProfilerStep*", 2, 2e-3, 1e-3, None, None, 0.02, None),
        ("cpu", "my_block", 2, 1e-3, 5e-4, None, None, 0.01, None),
        ("cpu", "aten::cudnn_convolution", 10, 0.01, 1e-3, None, None, 0.1, "convolution forward"),
        ("api", "cudaLaunchKernel", 300, 0.03, 1e-4, None, None, 0.3, None),
        ("gpu", "ampere_scudnn_128x64_relu_small_nn_v1", 10, 0.024, 2.4e-3, None, None, 0.6, "convolution forward"),
        ("gpu", "void at::native::vectorized_elementwise_kernel<4, at...", 10, 0.012, 1.2e-3, None, None, 0.3, "elementwise"),
        ("gpu", "Memcpy HtoD (Pageable -> Device)", 4, 4e-3, 1e-3, None, None, 0.1, "copy"),
    ],
    "torch_1_5_bottleneck.txt": [
        ("cpu", "lstm", 1, 0.03, 0.03, None, None, 0.6, None),
        ("cpu", "mm", 1, 0.02, 0.02, None, None, 0.4, "matrix product"),
        ("gpu", "lstm", 1, 0.0355, 0.0355, None, None, 0.7, None),
        ("gpu", "mm", 1, 0.01525, 0.01525, None, None, 0.3, "matrix product"),
    ],
}

EPOCHS: dict[str, list[dict[str, Any]]] = {
    # All validation rows stand behind the last epoch: only their order says whose they are
    "yolov3_2020_nvprof_time.txt": [
        {"epoch": 1, "box_loss": 0.1112, "obj_loss": 0.3051, "cls_loss": 0.04001, "precision": 0.0, "map50": 0.0211, "map50_95": 0.0052},
        {"epoch": 2, "box_loss": 0.0955, "cls_loss": 0.02915, "precision": 0.125, "recall": 0.0333, "map50": 0.0715, "map50_95": 0.0149},
        {"epoch": 3, "box_loss": 0.08125, "obj_loss": 0.2709, "recall": 0.275, "map50": 0.31, "map50_95": 0.105, "train_s": 5.0},
    ],
    "yolov5_v7_live.txt": [
        {"epoch": 1, "box_loss": 0.05, "precision": 0.61, "map50": 0.565, "map50_95": 0.312, "train_s": 6.0, "val_s": 2.0},
        {"epoch": 2, "box_loss": 0.04, "precision": 0.62, "map50": 0.575, "map50_95": 0.322, "train_s": 16.0, "val_s": 2.0},
    ],
    # The warning cut a drawing of epoch 2 short; epoch 3 never ended and has no losses
    "ultralytics_8_interrupted.txt": [
        {"epoch": 1, "box_loss": 1.3, "cls_loss": 1.9, "dfl_loss": 1.15, "precision": 0.71, "train_s": 2.1, "val_s": 0.1},
        {"epoch": 2, "box_loss": 1.2, "cls_loss": 1.4, "dfl_loss": 1.1, "precision": 0.72, "train_s": 2.2, "val_s": 0.2},
    ],
    "yolov3_spring2020_stdout.txt": [{"epoch": 1, "map50": 0.402, "map50_95": None}, {"epoch": 2, "map50": 0.515, "map50_95": None}],
    "clearml_capture.txt": [{"epoch": 1, "box_loss": 0.1, "map50": 0.2}, {"epoch": 2, "box_loss": 0.09, "map50": None}],
    # A resumed run begins anywhere; yolov5 counts from 0, and its biases' rate is not that of the weights
    "results_v5.csv": [{"epoch": 8, "box_loss": 0.11, "lr": 0.003}, {"epoch": 9, "box_loss": 0.1, "lr": 0.002, "map50": 0.375}],
    "results_8_3.csv": [{"epoch": 1, "cls_loss": 1.2}, {"epoch": 2, "cls_loss": None, "lr": 8e-5, "recall": 0.65}],
    "mlperf_v07.txt": [{"epoch": 1, "map50_95": 0.125}, {"epoch": 2, "map50_95": 0.25}],
}


def _read(name: str) -> ParseResult:
    return parse_paths([GOLDEN / name])


@pytest.mark.parametrize("name", RUNS)
def test_runs(name: str) -> None:
    result = _read(name)
    assert len(result.runs) == len(RUNS[name])
    for run, expected in zip(result.runs, RUNS[name], strict=True):
        assert {key: asdict(run)[key] for key in expected} == expected
    assert result.rejected == []


@pytest.mark.parametrize("name", EPOCHS)
def test_epochs(name: str) -> None:
    epochs = _read(name).epochs
    assert len(epochs) == len(EPOCHS[name])
    for epoch, expected in zip(epochs, EPOCHS[name], strict=True):
        assert {key: asdict(epoch)[key] for key in expected} == expected


def values(kernel: KernelRecord) -> tuple[Any, ...]:
    return (
        kernel.domain,
        kernel.name,
        kernel.calls,
        kernel.total_s,
        kernel.avg_s,
        kernel.min_s,
        kernel.max_s,
        kernel.share,
        kernel.operator,
    )


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name: str) -> None:
    found = [values(kernel) for kernel in _read(name).kernels]
    assert [row[:3] for row in found] == [row[:3] for row in KERNELS[name]]
    for row, expected in zip(found, KERNELS[name], strict=True):
        assert row[3:8] == tuple(None if value is None else pytest.approx(value, rel=1e-12) for value in expected[3:8])
        assert row[8] == expected[8]


def test_every_golden_log_has_an_expectation() -> None:
    expected = {*RUNS, *KERNELS, *EPOCHS, *CAPTURED}
    assert {path.name for path in GOLDEN.iterdir() if path.suffix in (".txt", ".csv", ".log", ".err", ".json")} >= expected
    assert {path.name for path in GOLDEN.iterdir() if path.name.startswith(PREFIXES)} <= expected


# Captured from PyTorch 2.15 on a CPU: the same two training steps as a table and as a trace
CAPTURED = {"torch_2_15_cpu_table.txt", "torch_2_15_cpu_trace.json"}
PREFIXES = ("yolo", "ultralytics_8", "darknet", "results", "mlperf", "gnu_time", "macos", "slurm", "cuda", "nv", "nsys", "torch")


def test_a_trace_sums_to_the_table_of_the_same_steps() -> None:
    table, trace = (_read(name) for name in sorted(CAPTURED))
    by_name = {kernel.name: kernel for kernel in trace.kernels}
    assert table.runs[0].biggest_kernel_name == trace.runs[0].biggest_kernel_name == "aten::mkldnn_convolution"
    operators = [kernel for kernel in table.kernels if (kernel.name or "").startswith("aten::")]
    assert len(operators) >= 8
    for kernel in operators:
        # Calls may differ: the table counts an operator that calls itself once
        assert by_name[kernel.name].total_s == pytest.approx(kernel.total_s, abs=2e-6)  # the table rounds to microseconds from 1 ms on
