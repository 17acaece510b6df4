"""A bounded look at the kernels of training steps with torch.profiler, reduced to a summary per kernel."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from yoloperf.core.rundir import write_atomic

_WARMUP_STEPS = 2  # CUPTI's first records are many times too long


def profile_steps(step: Callable[[], object], steps: int, device: torch.device) -> dict[str, Any]:
    """Run `step` (one training step) `steps` times under the profiler, after a warm-up, and summarise.

    Returns profiler, domain ("gpu": device kernels; "cpu": operators by their own time), steps, kernels (name, calls, total_s,
    avg_s, min_s, max_s; longest total first), wall_s of the whole pass, and reason: why there are no kernels, or None.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    started = time.perf_counter()
    for _ in range(_WARMUP_STEPS):
        step()
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
    kernels: dict[str, list[float]] = {}
    for event in profiler.events() or []:
        if on_gpu and event.device_type == DeviceType.CUDA:
            kernels.setdefault(event.name, []).append(event.time_range.elapsed_us() * 1e-6)
        elif not on_gpu and not event.is_user_annotation:
            kernels.setdefault(event.name, []).append(event.self_cpu_time_total * 1e-6)
    rows = sorted((_summary(name, times) for name, times in kernels.items() if sum(times) > 0), key=lambda row: -row["total_s"])
    wall_s = time.perf_counter() - started
    if not rows:
        return empty_summary(steps, device, f"torch.profiler recorded no {'GPU kernels' if on_gpu else 'operators'}")
    return {**empty_summary(steps, device, None), "wall_s": wall_s, "kernels": rows}


def mark_steps(step: Callable[[], object], steps: int, device: torch.device) -> dict[str, Any]:
    """Run `step` `steps` times between cudaProfilerStart and cudaProfilerStop, for nsys or nvprof around this process.

    Returns a summary as profile_steps does, its kernels left to that profiler.
    """
    if device.type != "cuda":
        return empty_summary(steps, device, "no GPU: a profiler around the process has no kernels to see", "range")
    started = time.perf_counter()
    for _ in range(_WARMUP_STEPS):
        step()
    torch.cuda.synchronize(device)
    with torch.cuda.profiler.profile():
        for _ in range(steps):
            step()
        torch.cuda.synchronize(device)
    return {**empty_summary(steps, device, None, "range"), "wall_s": time.perf_counter() - started}


def empty_summary(steps: int, device: torch.device, reason: str | None, profiler: str = "torch") -> dict[str, Any]:
    """A summary without kernels, for the reason given."""
    domain = "gpu" if device.type == "cuda" else "cpu"
    return {"profiler": profiler, "domain": domain, "steps": steps, "wall_s": None, "kernels": [], "reason": reason}


def _summary(name: str, times: list[float]) -> dict[str, Any]:
    total = sum(times)
    return {"name": name, "calls": len(times), "total_s": total, "avg_s": total / len(times), "min_s": min(times), "max_s": max(times)}


def write_profile(path: Path, summary: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(summary, indent=1) + "\n")


def show_profile(summary: dict[str, Any], most: int = 8) -> str:
    """The longest kernels as a table for people."""
    total = sum(row["total_s"] for row in summary["kernels"])
    kind = "GPU kernel" if summary["domain"] == "gpu" else "CPU operator"
    lines = [f"{'share':>7} {'calls':>6} {'average':>11}  {kind} ({summary['steps']} profiled steps)"]
    for row in summary["kernels"][:most]:
        lines.append(f"{100 * row['total_s'] / total:6.1f}% {row['calls']:6d} {row['avg_s'] * 1e3:8.3f} ms  {row['name'][:90]}")
    return "\n".join(lines) if summary["kernels"] else f"no kernel summary: {summary['reason']}"
