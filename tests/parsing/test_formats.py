"""What every format keeps to, and those that are no text."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yoloperf.parsing.formats import file_formats, line_formats
from yoloperf.parsing.formats.base import LineFormat
from yoloperf.parsing.parse import ParseResult, parse_paths
from yoloperf.parsing.verbs import formats

Read = Callable[..., ParseResult]


def test_every_format_is_one_module_and_listed_once() -> None:
    names = [kind.name for kind in line_formats()] + [kind.name for kind in file_formats()]
    modules = {kind.__module__ for kind in line_formats()} | {kind.__module__ for kind in file_formats()}
    assert len(modules) == len(set(names)) == len(names) >= 20
    assert set(formats()) == {*names, "run-folder"}
    assert all(formats().values())


HEADS = [(kind, method, head) for kind in line_formats() for method, *heads in kind.heads for head in heads]


@pytest.mark.parametrize(("kind", "method", "head"), HEADS, ids=[f"{kind.name} {head.decode()[:40]}" for kind, _, head in HEADS])
def test_a_head_names_a_method_and_fails_fast(kind: type[LineFormat], method: str, head: bytes) -> None:
    assert callable(getattr(kind, method))
    assert re.compile(head).groups == 0
    # A literal or a class that is not repeated: the engine rules the branch out by its first byte
    assert re.match(rb"(?:\\[^sSwWDbBAZ]|\[[^]]+\]|[^\\\[(.^$])(?![*+?{])", head), head


@pytest.mark.parametrize("kind", line_formats(), ids=lambda kind: kind.name)
def test_marks_name_a_method(kind: type[LineFormat]) -> None:
    assert kind.heads or kind.anywhere
    for mark, method in kind.anywhere:
        assert callable(getattr(kind, method))
        assert len(mark) > 3


def test_a_new_format_takes_one_class(monkeypatch: pytest.MonkeyPatch, read: Read) -> None:
    class Bell(LineFormat):
        name = "bell"
        description = "a bell"
        heads = (("ring", rb"ding "),)

        def ring(self, line: bytes) -> bool:
            self.run.set("workers", int(line.split()[1]))
            return True

    from yoloperf.parsing import lines

    everything = (*line_formats(), Bell)
    monkeypatch.setattr(lines, "line_formats", lambda: everything)
    dispatch = lines._Dispatch()
    monkeypatch.setattr(lines, "_dispatch", lambda: dispatch)
    assert (read("ding 3\n").runs[0].format, read("ding 3\n").runs[0].workers) == ("bell", 3)


def trace(events: list[dict[str, Any]], **head: Any) -> str:
    return json.dumps({"schemaVersion": 1, **head, "traceEvents": events})


def kernel(name: str, start: float, duration: float, category: str = "kernel") -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 0, "tid": 7, "ts": start, "dur": duration}


def test_a_chrome_trace_is_summed_by_kernel(read: Read) -> None:
    device = {"deviceProperties": [{"id": 0, "name": "NVIDIA L4", "totalGlobalMem": 24000000000}], "cuda_runtime_version": 12040}
    events = [
        kernel("sm80_xmma_gemm", 1, 100),
        kernel("sm80_xmma_gemm", 200, 300),
        kernel("Memcpy HtoD (Pageable -> Device)", 600, 50, "gpu_memcpy"),
        kernel("cudaLaunchKernel", 0, 10, "cuda_runtime"),
        kernel("ProfilerStep#1", 0, 9000, "user_annotation"),
        {"ph": "f", "cat": "ac2g", "name": "ac2g", "ts": 3, "id": 1},
    ]
    result = read(trace(events, **device), "t.json")
    (run,) = result.runs
    assert (run.gpu_name, run.gpu_mem_bytes, run.cuda) == ("NVIDIA L4", 24000000000, "12.4")
    assert (run.biggest_kernel_name, run.biggest_kernel_avg_s) == ("sm80_xmma_gemm", 2e-4)
    rows = [(k.domain, k.name, k.calls, k.total_s, k.min_s, k.max_s) for k in result.kernels]
    assert rows == [
        ("gpu", "sm80_xmma_gemm", 2, 4e-4, 1e-4, 3e-4),
        ("gpu", "Memcpy HtoD (Pageable -> Device)", 1, 5e-5, 5e-5, 5e-5),
        ("api", "cudaLaunchKernel", 1, 1e-5, 1e-5, 1e-5),
    ]


def test_operators_in_a_trace_count_without_those_that_they_call(read: Read) -> None:
    events = [kernel("outer", 0, 100, "cpu_op"), kernel("inner", 10, 30, "cpu_op"), kernel("inner", 50, 20, "cpu_op")]
    rows = {k.name: (k.calls, k.total_s) for k in read(trace(events), "t.json").kernels}
    assert rows == {"outer": (1, 5e-5), "inner": (2, 5e-5)}


def test_operators_out_of_order_are_left_out_and_said_so(read: Read) -> None:
    events = [kernel("b", 50, 10, "cpu_op"), kernel("a", 0, 100, "cpu_op"), kernel("k", 0, 1)]
    result = read(trace(events), "t.json")
    assert [k.name for k in result.kernels] == ["k"]
    assert "not in the order of time" in str(result.runs[0].notes)


def test_a_trace_that_ends_early_gives_what_it_has(read: Read) -> None:
    text = trace([kernel(f"k{number}", number, 1) for number in range(5)])
    result = read(text[: text.index("k3")], "t.json")
    assert [k.name for k in result.kernels] == ["k0", "k1", "k2"]
    assert result.runs[0].status == "incomplete"
    assert "ends early" in result.rejected[0].reason


def test_the_list_of_the_autograd_profiler_is_a_trace_too(read: Read) -> None:
    events = [{"name": "conv", "ph": "X", "ts": 0, "dur": 9, "tid": 1, "pid": "CPU functions", "args": {}}]
    events += [{"name": "volta_sgemm", "ph": "X", "ts": 3, "dur": 5, "tid": 1, "pid": "CUDA functions", "args": {}}]
    assert {(k.domain, k.name) for k in read(json.dumps(events), "t.json").kernels} == {("cpu", "conv"), ("gpu", "volta_sgemm")}


def test_a_trace_without_kernels_says_so(read: Read) -> None:
    (run,) = read(trace([kernel("cudaMalloc", 0, 1, "cuda_runtime")]), "t.json").runs
    assert run.profile_reason == "the trace holds no GPU kernels"


def nsys_database(path: Path, kernels: list[tuple[int, int, int]], strings: dict[int, str]) -> None:
    """An export with the tables and columns of Nsight Systems that are read."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT)")
    database.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER, end INTEGER, deviceId INTEGER, demangledName INTEGER)")
    database.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER, end INTEGER, copyKind INTEGER, bytes INTEGER)")
    database.execute("CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER, end INTEGER, nameId INTEGER)")
    database.execute("CREATE TABLE TARGET_INFO_GPU (name TEXT, totalMemory INTEGER)")
    database.executemany("INSERT INTO StringIds VALUES (?, ?)", strings.items())
    database.executemany("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, 0, ?)", kernels)
    database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (0, 1000, 2, 64)")
    database.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (0, 500, 3)")
    database.execute("INSERT INTO TARGET_INFO_GPU VALUES ('Tesla T4', 15812263936)")
    database.commit()
    database.close()


def test_an_nsys_export_is_summed(tmp_path: Path) -> None:
    path = tmp_path / "export with a ? in its name.bin"
    strings = {1: "volta_sgemm_128x64_nt", 2: "nms(float*)", 3: "cudaLaunchKernel"}
    nsys_database(path, [(0, 2000, 1), (5000, 9000, 1), (100, 1100, 2)], strings)
    result = parse_paths([path])
    (run,) = result.runs
    assert (run.format, run.gpu_name, run.gpu_mem_bytes) == ("nsys-sqlite", "Tesla T4", 15812263936)
    assert (run.biggest_kernel_name, run.biggest_kernel_avg_s, run.biggest_kernel_share) == ("volta_sgemm_128x64_nt", 3e-6, 0.75)
    assert [(k.domain, k.name, k.calls, k.total_s, k.min_s, k.max_s, k.share) for k in result.kernels] == [
        ("gpu", "volta_sgemm_128x64_nt", 2, 6e-6, 2e-6, 4e-6, 0.75),
        ("gpu", "nms(float*)", 1, 1e-6, 1e-6, 1e-6, 0.125),
        ("gpu", "[CUDA memcpy DtoH]", 1, 1e-6, 1e-6, 1e-6, 0.125),
        ("api", "cudaLaunchKernel", 1, 5e-7, 5e-7, 5e-7, 1.0),
    ]


def test_other_and_damaged_databases_are_rejected(tmp_path: Path) -> None:
    other, damaged, empty = (tmp_path / f"{name}.sqlite" for name in ("other", "damaged", "empty"))
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE t (x)")
    database.commit()
    database.close()
    nsys_database(damaged, [(0, 1, 1)] * 5000, {1: "k"})
    damaged.write_bytes(damaged.read_bytes()[:5000])
    nsys_database(empty, [], {})
    result = parse_paths([other, damaged, empty])
    reasons = {Path(item.path).stem: item.reason for item in result.rejected}
    assert "not of Nsight Systems" in reasons["other"]
    assert "damaged" in reasons["damaged"]
    assert [run.biggest_kernel_name for run in result.runs] == ["[CUDA memcpy DtoH]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nreal\t0m56.895s\nuser\t0m11.272s\nsys\t0m6.233s\n", (56.895, 11.272, 6.233, None, None)),
        ("real 62.50\nuser 60.25\nsys 1.75\n", (62.5, 60.25, 1.75, None, None)),
        ("python train.py  0.02s user 0.01s system 95% cpu 0.034 total\n", (0.034, 0.02, 0.01, 95.0, None)),
        ("12.50user 0.75system 1:13.25elapsed 18%CPU (0avgtext+0avgdata 2048maxresident)k\n", (73.25, 12.5, 0.75, 18.0, 2 * 2**20)),
        ("12.5u 0.7s 1:13.25 18.0% 0+0k 0+0io 0pf+0w\n", (73.25, 12.5, 0.7, 18.0, None)),
    ],
    ids=["bash", "posix", "zsh", "gnu", "csh"],
)
def test_the_shells_own_time(read: Read, text: str, expected: tuple[float | None, ...]) -> None:
    (run,) = read("working\n" + text).runs
    assert (run.wall_s, run.user_s, run.system_s, run.cpu_percent, run.max_rss_bytes) == expected
    assert run.status is None  # none of them says how the command ended
