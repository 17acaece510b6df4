"""Logs of nvidia-smi: several GPUs, columns in any order, figures that are none."""

import time
from collections.abc import Callable

import pytest

from yoloperf.parsing.formats.nvidia_smi_csv import _head
from yoloperf.parsing.parse import ParseResult

Read = Callable[..., ParseResult]
MIB = 2**20

INDEXED = """\
timestamp, index, name, utilization.gpu [%], memory.used [MiB], memory.total [MiB], power.draw [W]
2025/12/09 22:56:22.231, 0, NVIDIA A100-SXM4-80GB, 80 %, 40000 MiB, 81920 MiB, 200.00 W
2025/12/09 22:56:22.233, 1, NVIDIA A100-SXM4-80GB, 60 %, 30000 MiB, 81920 MiB, 300.00 W
2025/12/09 22:56:23.231, 0, NVIDIA A100-SXM4-80GB, 100 %, 20000 MiB, 81920 MiB, 400.00 W
2025/12/09 22:56:23.233, 1, NVIDIA A100-SXM4-80GB, 80 %, 50000 MiB, 81920 MiB, 300.00 W
"""
DMON = """\
# gpu    pwr  gtemp     sm    mem     fb   bar1
# Idx      W      C      %      %     MB     MB
    0    200     50     80     10  40000      5
    1    300     50     60     10  30000      5
    0    400     50    100     10  20000      5
    1    300     50     80     10  50000      5
"""


def states(*gpus: tuple[int, int, int]) -> str:
    head = "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n"
    rows = [
        f"|   {index}  NVIDIA A100-SXM4-80GB     Off  | 00000000:1A:00.0 Off |                    0 |\n"
        f"| N/A   45C    P0   {watts}W / 400W | {used}MiB / 81920MiB |     {util}%      Default |\n"
        for index, (util, used, watts) in enumerate(gpus)
    ]
    return head + "".join(rows) + "\n"


TABLE = states((80, 40000, 200), (60, 30000, 300)) + states((100, 20000, 400), (80, 50000, 300))


@pytest.mark.parametrize("text", [INDEXED, DMON, TABLE], ids=["csv", "dmon", "table"])
def test_of_several_gpus_power_and_memory_are_summed(read: Read, text: str) -> None:
    result = read(text)
    (run,) = result.runs
    assert result.rejected == []
    assert (run.gpu_util_pct, run.gpu_power_w, run.gpu_mem_peak_bytes) == (80.0, 600.0, 90000 * MIB)
    assert run.gpu_mem_bytes == (None if text is DMON else 81920 * MIB)


def test_what_one_gpu_does_not_tell_has_no_sum(read: Read) -> None:
    (run,) = read(INDEXED.replace("300.00 W", "[N/A]")).runs
    assert (run.gpu_power_w, run.gpu_mem_peak_bytes) == (None, 90000 * MIB)


ANONYMOUS = INDEXED.replace(" index,", "").replace(" 0, NV", " NV").replace(" 1, NV", " NV")


@pytest.mark.parametrize(
    "text",
    [ANONYMOUS.replace(".233", ".231"), ANONYMOUS.replace("NVIDIA A100-SXM4-80GB, 60", "Quadro P400, 60")],
    ids=["the same millisecond", "another name"],
)
def test_gpus_that_cannot_be_told_apart_have_no_sum_and_it_is_noted(read: Read, text: str) -> None:
    (run,) = read(text).runs
    assert (run.gpu_util_pct, run.gpu_power_w, run.gpu_mem_peak_bytes, run.gpu_mem_bytes) == (80.0, None, None, 81920 * MIB)
    assert "without their index" in str(run.notes)


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        (INDEXED, "Loss 1, 2, 0.5, 0.1, 7, 8, 9\nstep 9, 1, 2, acc 3, 4, 5, 6\n"),
        ("memory.used [MiB], power.draw [W]\n40000 MiB, 200.00 W\n40000 MiB, 200.00 W\n", "Epoch 1, loss 0.5\n"),
        (DMON, "Epoch 1 of 9 at 10 o'clock\n"),
    ],
    ids=["csv", "csv without index", "dmon"],
)
def test_what_a_trainer_prints_between_samples_is_none(read: Read, text: str, foreign: str) -> None:
    lines = text.splitlines(keepends=True)
    (plain,), (mixed,) = read(text).runs, read("".join([*lines[:-1], foreign, lines[-1]])).runs
    for name in ("gpu_util_pct", "gpu_power_w", "gpu_mem_peak_bytes"):
        assert getattr(mixed, name) == getattr(plain, name)
    assert mixed.unknown_lines == foreign.count("\n")


@pytest.mark.parametrize("first", ["clocks.sm [MHz]", "fan.speed [%]", "serial", "vbios_version", "mig.mode.current", "ecc.mode.current"])
def test_any_field_of_a_query_may_stand_first(read: Read, first: str) -> None:
    (run,) = read(f"{first}, utilization.gpu [%], memory.used [MiB]\n1380, 97 %, 10000 MiB\n").runs
    assert (run.gpu_util_pct, run.gpu_mem_peak_bytes) == (97.0, 10000 * MIB)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp, memory.used [MiB]\n1, 1e308 MiB\n",
        "# gpu fb\n 0 1e305\n",
        "| NVIDIA-SMI 5 |\n|  0%   45C    P8             15W /  450W |       " + 309 * "9" + "MiB /  24564MiB |      0%      Default |\n",
    ],
    ids=["csv", "dmon", "table"],
)
def test_a_size_that_no_memory_has_is_a_rejected_line(read: Read, text: str) -> None:
    result = read(text)
    assert [run.gpu_mem_peak_bytes for run in result.runs] == [None]
    assert [item.line for item in result.rejected] == [2]


def test_a_long_column_head_takes_no_quadratic_time() -> None:
    began = time.perf_counter()
    assert _head("a" + 300_000 * " " + "b") == ("", "")
    assert time.perf_counter() - began < 1
