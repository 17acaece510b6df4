"""Profiles as profilers write them in ways that the golden logs do not show."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parsing.conftest import GOLDEN
from tests.parsing.test_formats import kernel, nsys_database, trace
from yoloperf.parsing.parse import ParseResult, parse_paths

Read = Callable[..., ParseResult]


def rows(result: ParseResult) -> list[tuple[object, ...]]:
    return [(kernel.domain, kernel.name, kernel.calls, kernel.total_s) for kernel in result.kernels]


NVPROF_TRACE = """\
==7== Profiling result:
"Start","Duration","Grid X","Size","Device","Context","Stream","Name","Correlation_ID"
us,us,,KB,,,,,
1.000000,1.500000,,1.003906,"Tesla T4 (0)","1","7","[CUDA memset]",274
9.000000,15.50000,1,,"Tesla T4 (0)","1","7","void fill(int, float)",275
"""


def test_a_trace_of_nvprof_may_end_in_the_correlation(read: Read) -> None:
    expected = [("gpu", "void fill(int, float)", 1, 15.5e-6), ("gpu", "[CUDA memset]", 1, 1.5e-6)]
    assert rows(read(NVPROF_TRACE)) == expected
    assert rows(read(NVPROF_TRACE.removesuffix("5\n"))) == expected, "the name of a cut line is whole"
    assert rows(read(NVPROF_TRACE.removesuffix(",275\n"))) == expected[1:]


def nvprof_result(process: int, total: str) -> str:
    return f"""\
=={process}== Profiling application: python train.py
=={process}== Profiling result:
            Type  Time(%)      Time     Calls       Avg       Min       Max  Name
 GPU activities:  100.00%  {total}         2  1.0000ms  1.0000ms  1.0000ms  step
      API calls:  100.00%  {total}         2  1.0000ms  1.0000ms  1.0000ms  cudaMalloc

"""


def test_each_process_that_nvprof_follows_is_a_run(read: Read) -> None:
    begin = "".join(f"=={process}== NVPROF is profiling process {process}, command: python train.py\n" for process in (7, 8))
    result = read(begin + nvprof_result(7, "2.0000ms") + nvprof_result(8, "4.0000ms"))
    assert [(run.profiler, run.status, run.biggest_kernel_share) for run in result.runs] == [("nvprof", None, 1.0)] * 2
    assert [(kernel.run_id[-2:], kernel.domain, kernel.total_s) for kernel in result.kernels] == [
        ("og", "gpu", 2e-3),
        ("og", "api", 2e-3),
        ("#2", "gpu", 4e-3),
        ("#2", "api", 4e-3),
    ]


def test_lines_behind_a_table_of_nvprof_are_no_rows_of_it(read: Read) -> None:
    table = (GOLDEN / "nvprof_units_row.csv").read_text().partition("==31== Unified")[0]
    result = read(table + "batch 1, 2, 3, 4, 5, 6, 7, 8, 9 done\n")
    assert (len(result.kernels), result.rejected, result.runs[0].unknown_lines) == (3, [], 1)


def test_an_export_of_a_capture_that_was_stopped(tmp_path: Path) -> None:
    """Calls under way have no end; a kernel's name may be missing from the strings."""
    path = tmp_path / "a.sqlite"
    nsys_database(path, [(0, 3000, 1), (0, 2000, 9), (0, 1000, 4)], {1: "step", 3: "cudaLaunchKernel"})
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO StringIds VALUES (4, NULL)")
        for table in ("KERNEL (start, demangledName)", "MEMCPY (start, copyKind)", "RUNTIME (start, nameId)"):
            database.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_{table} VALUES (5, 3)")
    database.close()
    result = parse_paths([path])
    assert result.rejected == []
    assert sorted(rows(result), key=str) == [
        ("api", "cudaLaunchKernel", 1, 5e-7),
        ("gpu", "", 2, 3e-6),
        ("gpu", "[CUDA memcpy DtoH]", 1, 1e-6),
        ("gpu", "step", 1, 3e-6),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + trace([kernel("step", 0, 5)]).encode(),
        trace([kernel("step", 0, 5)]).encode("utf-16"),
        json.dumps([{"name": "process_name", "args": {"name": "python"}, "ph": "M", "pid": 1}, kernel("step", 0, 5)]).encode(),
    ],
    ids=["byte order mark", "UTF-16", "arguments before the phase"],
)
def test_a_chrome_trace_is_known_in_any_dress(read: Read, content: bytes) -> None:
    assert rows(read(content, "t.json")) == [("gpu", "step", 1, 5e-6)]


def test_a_chrome_trace_of_another_program_is_rejected(read: Read) -> None:
    result = read(json.dumps({"traceEvents": [kernel("main (x.py:1)", 0, 5, "FEE")], "viztracer_metadata": {"version": "0.15"}}), "t.json")
    assert result.runs == []
    assert "none of torch.profiler's" in result.rejected[0].reason


STACKS = """\
------------------------  ------------  ------------  ------------  ------------------------------
                    Name    Self CPU %      Self CPU    # of Calls  Source Location
------------------------  ------------  ------------  ------------  ------------------------------
            aten::conv2d        80.00%       8.000ms             3  <built-in method conv2d>
                                                                    torch/nn/modules/conv.py(564)

             aten::addmm        20.00%       2.000ms             3  <built-in function linear>
                                                                    torch/nn/modules/linear.py(130)

------------------------  ------------  ------------  ------------  ------------------------------
Self CPU time total: 10.000ms
""".replace(")\n\n", ")\n" + 98 * " " + "\n")
OVERLOADS = """\
------------------------  ---------------  ------------  ------------  ------------
                    Name    Overload Name    Self CPU %      Self CPU    # of Calls
------------------------  ---------------  ------------  ------------  ------------
            aten::conv2d                         80.00%       8.000ms             3
             aten::addmm              out        20.00%       2.000ms             3
------------------------  ---------------  ------------  ------------  ------------
Self CPU time total: 10.000ms
"""


@pytest.mark.parametrize("text", [STACKS, OVERLOADS], ids=["stacks", "overloads"])
def test_a_table_of_torch_with_a_column_more(read: Read, text: str) -> None:
    result = read("training\n" + text)
    assert rows(result) == [("cpu", "aten::conv2d", 3, 8e-3), ("cpu", "aten::addmm", 3, 2e-3)]
    assert (result.rejected, result.runs[0].unknown_lines) == ([], 2)  # the first line, and the ruler above the head
