"""device.csv and the resources of attempts into columns of the row."""

from pathlib import Path
from typing import Any

import pytest

from tests.parsing.test_runfolder import CONSOLE, block, event, make
from yoloperf.core.samples import header, row
from yoloperf.parsing.parse import parse_paths

GIB = 2**30
START = 1_795_245_000.0


def attempt(number: int, watts: int, seconds: int = 10, gpu: bool = True) -> str:
    """Samples of an attempt: a second apart, a counter, a host row every time."""
    lines = []
    for second in range(seconds + 1):
        stamp = {"time_s": START + 1000 * number + second, "attempt": number}
        lines.append(row({**stamp, "tree_cpu_s": 2.0 * second, "tree_bytes": (number + second) * GIB, "tree_source": "pss"}))
        if gpu:
            device = {"gpu": "0", "gpu_util_pct": 80 if second else 0, "gpu_energy_j": 500.0 + watts * second, "clock_reasons": "none"}
            if second > seconds / 2:
                device["clock_reasons"] = "sw_power_cap"
            lines.append(row({**stamp, **device, "gpu_mem_used_bytes": 3 * GIB, "gpu_mem_bytes": 15 * GIB}))
    return "".join(lines)


def test_a_file_of_samples_alone_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    path.write_text(header() + attempt(1, 60))
    result = parse_paths([path])
    assert result.rejected == []
    (run,) = result.runs
    assert (run.format, run.status) == ("device-samples", None)
    assert (run.energy_j, run.energy_source, run.gpu_power_w, run.gpu_util_pct) == (600.0, "counter", 60.0, 80.0)
    assert (run.throttled_share, run.throttle_reasons) == (0.5, "sw_power_cap")
    assert (run.tree_peak_bytes, run.tree_source, run.tree_cpu_s) == (11 * GIB, "pss", 20.0)
    assert (run.gpu_mem_peak_bytes, run.gpu_mem_bytes) == (3 * GIB, 15 * GIB)


def test_lines_that_are_no_samples_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    whole = attempt(1, 60)
    bad = ["1795245696.189,1,,,\n", ",".join(["x"] * 19) + "\n", "nan,1" + 17 * "," + "\n", "\0\xff\n"]
    path.write_bytes((header() + whole + "".join(bad) + header() + "1795246020.5,1" + 17 * ",").encode("latin-1"))
    result = parse_paths([path])
    assert [item.line for item in result.rejected] == [24, 25, 26, 27, 29]
    assert result.runs[0].energy_j == 600.0
    assert result.runs[0].rejected_lines == 5


RESOURCES = {
    "tree_peak_bytes": 5 * GIB,
    "tree_source": "pss",
    "tree_cpu_s": 70.5,
    "gpu_util_pct": 50.0,
    "gpu_power_w": 40.0,
    "gpu_clock_mhz": 1500.0,
    "throttled_share": 0.25,
    "throttle_reasons": "hw_thermal",
    "gpu_other_processes": 1,
    "energy_j": 400.0,
    "energy_source": "counter",
    "cpu_energy_j": 900.0,
    "sampled_s": 10.0,
    "reason": {},
}


def attempts(*resources: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [{"accounting": None, **({} if each is None else {"resources": each})} for each in resources]


def test_resources_of_run_json_are_columns(tmp_path: Path) -> None:
    (run,) = parse_paths([make(tmp_path / "x", attempts=attempts(RESOURCES))]).runs
    for name in set(RESOURCES) - {"sampled_s", "reason"}:
        assert getattr(run, name) == RESOURCES[name]


def test_attempts_are_joined(tmp_path: Path) -> None:
    second = {
        **RESOURCES,
        "energy_j": 100.0,
        "tree_peak_bytes": 6 * GIB,
        "gpu_util_pct": 100.0,
        "sampled_s": 30.0,
        "energy_source": "polled",
    }
    (run,) = parse_paths([make(tmp_path / "x", attempts=attempts(RESOURCES, second))]).runs
    assert (run.energy_j, run.energy_source, run.tree_cpu_s, run.cpu_energy_j) == (500.0, "polled", 141.0, 1800.0)
    assert (run.tree_peak_bytes, run.gpu_util_pct, run.throttled_share) == (6 * GIB, 87.5, 0.25)


def test_an_attempt_whose_sweep_was_killed_has_the_figures_of_its_samples(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", attempts=attempts(None, RESOURCES))
    (folder / "device.csv").write_text(header() + attempt(1, 60) + attempt(2, 1000))
    (run,) = parse_paths([folder]).runs
    assert (run.energy_j, run.energy_source, run.tree_peak_bytes) == (1000.0, "counter", 11 * GIB)
    assert run.gpu_util_pct == 65.0
    assert (run.gpu_clock_mhz, run.cpu_energy_j) == (None, None)  # the first attempt's are not known
    assert "device-samples" in str(run.format)


def test_an_attempt_that_nobody_sampled_leaves_the_run_without_figures(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", attempts=attempts(RESOURCES, None))
    (folder / "device.csv").write_text(header() + attempt(1, 60))
    (run,) = parse_paths([folder]).runs
    assert (run.energy_j, run.tree_cpu_s, run.gpu_util_pct, run.energy_source) == (None, None, None, None)


def test_a_tree_is_not_smaller_than_its_largest_process(tmp_path: Path) -> None:
    console = CONSOLE + block("1.00", "1.00", "0:02.00", 6 * 2**20)
    folder = make(tmp_path / "x", console, attempts=[{"accounting": "GNU time", "resources": RESOURCES}])
    (run,) = parse_paths([folder]).runs
    assert run.max_rss_bytes == run.tree_peak_bytes == 6 * GIB


def test_the_trainers_own_word_on_memory_counts_more(tmp_path: Path) -> None:
    console = CONSOLE + event(key="run_end", status="ok", gpu_mem_peak_bytes=2 * GIB)
    folder = make(tmp_path / "x", console, attempts=attempts({**RESOURCES, "gpu_mem_peak_bytes": 3 * GIB}))
    assert parse_paths([folder]).runs[0].gpu_mem_peak_bytes == 2 * GIB


def test_why_figures_of_a_gpu_are_missing_is_noted(tmp_path: Path) -> None:
    reasons = {
        "gpu_util_pct": "NVML: Not Supported",
        "energy_j": "NVML: Not Supported",
        "cpu_energy_j": "RAPL: none here",
        "tree_peak_bytes": "x",
    }
    resources = {"tree_cpu_s": 1.0, "sampled_s": 1.0, "reason": reasons}
    (run,) = parse_paths([make(tmp_path / "x", environment={"gpu_name": "T4"}, attempts=attempts(resources))]).runs
    assert "gpu_util_pct, energy_j empty: NVML: Not Supported" in str(run.notes)
    assert "RAPL" not in str(run.notes)
    (run,) = parse_paths([make(tmp_path / "y", attempts=attempts({**resources, "reason": {"gpu": "no driver"}}))]).runs
    assert "no driver" not in str(run.notes), "a machine without a GPU lacks nothing"


@pytest.mark.parametrize(
    "resources",
    [None, 5, "x", [], {"energy_j": "400"}, {"energy_j": True, "sampled_s": "1"}, {"tree_peak_bytes": 1.5}, {"reason": [1]}],
)
def test_resources_that_are_none_are_left_aside(tmp_path: Path, resources: Any) -> None:
    folder = make(tmp_path / "x", environment={"gpu_name": "T4"}, attempts=[{"accounting": None, "resources": resources}])
    (run,) = parse_paths([folder]).runs
    assert (run.energy_j, run.tree_peak_bytes) == (None, None)


@pytest.mark.parametrize("source", ["of dreams", "pss"])
def test_a_source_that_does_not_exist_is_no_source(tmp_path: Path, source: str) -> None:
    (run,) = parse_paths([make(tmp_path / "x", attempts=attempts({**RESOURCES, "tree_source": source}))]).runs
    assert run.tree_source == (source if source == "pss" else None)


def test_samples_of_nvidia_smi_are_read_as_before(tmp_path: Path) -> None:
    folder = make(tmp_path / "x", attempts=attempts(None))
    (folder / "device.csv").write_text("timestamp, name, utilization.gpu [%], power.draw [W]\n2026/11/21, T4, 40 %, 30.00 W\n")
    (run,) = parse_paths([folder]).runs
    assert (run.gpu_util_pct, run.gpu_power_w, run.gpu_name) == (40.0, 30.0, "T4")
