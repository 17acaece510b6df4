"""Reports of Nsight Systems in the shapes of its versions; columns stand as `nsys stats` prints them."""

from collections.abc import Callable

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.parsing.parse import ParseResult, parse_paths

Read = Callable[..., ParseResult]

# fmt: off
TRACE_2020 = """\
 Start(sec)  Duration(nsec)  CorrId  GrdX  BlkX  Reg/Trd    Bytes    SrcMemKd        Device        Ctx  Strm              Name
 ----------  --------------  ------  ----  ----  -------  ---------  --------  ------------------  ---  ----  -------------------------
   0.355442           5,120      57                               1  Device    A100-PCIE-40GB (0)    1     7  [CUDA memcpy DtoH]
   0.364801         222,080      74     1    33       36                       A100-PCIE-40GB (0)    1    13  scale(double *, int)
   0.364901           1,000      75     1    33       36                       A100-PCIE-40GB (0)    1    13  shift(double *, int)
   0.365001         300,000      76     1    33       36                       A100-PCIE-40GB (0)    1    13  scale(double *, int)
"""
TRACE_2024 = """\
 ** CUDA GPU Trace (cuda_gpu_trace):

 Start (ns)   Duration (ns)  CorrId  GrdX   Bytes (MB)  SrcMemKd            Device            Ctx  GreenCtx  Strm              Name
 -----------  -------------  ------  -----  ----------  --------  ---------------------------  ---  --------  ----  --------------------
 291,473,497          5,120     131              0.000  Pageable  NVIDIA GeForce RTX 3060 (0)    1               7  [CUDA memcpy DtoH]
 291,545,786        222,080     132      1                        NVIDIA GeForce RTX 3060 (0)    1               7  scale(double *, int)
 291,685,531          1,000     133      1                        NVIDIA GeForce RTX 3060 (0)    1               7  shift(double *, int)
 291,785,531        300,000     134      1                        NVIDIA GeForce RTX 3060 (0)    1               7  scale(double *, int)
"""
# fmt: on
ACTIVITIES = [
    ("gpu", "scale(double *, int)", 2, pytest.approx(522_080e-9)),
    ("gpu", "[CUDA memcpy DtoH]", 1, pytest.approx(5_120e-9)),
    ("gpu", "shift(double *, int)", 1, pytest.approx(1_000e-9)),
]


def rows(result: ParseResult) -> list[tuple[object, ...]]:
    return [(kernel.domain, kernel.name, kernel.calls, kernel.total_s) for kernel in result.kernels]


@pytest.mark.parametrize("text", [TRACE_2020, TRACE_2024], ids=["2020, no title", "2024"])
def test_a_printed_trace_is_cut_below_its_heads(read: Read, text: str) -> None:
    result = read(text)
    assert rows(result) == ACTIVITIES
    assert (result.rejected, result.runs[0].unknown_lines) == ([], 0)


def test_a_trace_whose_columns_moved_is_rejected_and_not_guessed(read: Read) -> None:
    result = read(TRACE_2024.replace("        222,080", "222,080"))
    assert "scale(double *, int)" in {kernel.name for kernel in result.kernels}
    assert [item.line for item in result.rejected] == [6]
    assert "do not stand below their column heads" in result.rejected[0].reason


SUMMARY = """\
 ** CUDA Summary (API/Kernels/MemOps) (cuda_api_gpu_sum):

 Time (%)  Total Time (ns)  Instances   Avg (ns)   Med (ns)  Min (ns)  Max (ns)   StdDev (ns)   Category      Operation
 --------  ---------------  ---------  ----------  --------  --------  ---------  -----------  -----------  -------------
     99.0          990,000          3   330,000.0  213000.0    194000    580,000     104332.7  CUDA_API     cudaMalloc
      0.6            6,000         10       600.0     600.0       500        700          1.0  CUDA_KERNEL  step(float *, int)
      0.4            4,000          2     2,000.0    2000.0      1000      3,000          1.0  MEMORY_OPER  [CUDA memcpy Host-to-Device]
"""
CSV = """\
Time (%),Total Time (ns),Instances,Avg (ns),Med (ns),Min (ns),Max (ns),StdDev (ns),Category,Operation
99.0,990000,3,330000.0,213000.0,194000,580000,104332.7,CUDA_API,cudaMalloc
0.6,6000,10,600.0,600.0,500,700,1.0,CUDA_KERNEL,"step(float *, int)"
0.4,4000,2,2000.0,2000.0,1000,3000,1.0,MEMORY_OPER,[CUDA memcpy Host-to-Device]
"""


@pytest.mark.parametrize("text", [SUMMARY, CSV], ids=["text", "bare CSV"])
def test_a_report_of_calls_and_kernels_is_taken_apart(read: Read, text: str) -> None:
    result = read(text)
    assert [(kernel.domain, kernel.name, kernel.share) for kernel in result.kernels] == [
        ("api", "cudaMalloc", 1.0),
        ("gpu", "step(float *, int)", pytest.approx(0.6)),
        ("gpu", "[CUDA memcpy Host-to-Device]", pytest.approx(0.4)),
    ]
    assert result.runs[0].biggest_kernel_name == "step(float *, int)"


@pytest.mark.parametrize(
    ("columns", "row", "kernels"),
    [
        ("Name,Result,CorrID,Pid,Tid,T-Pri,Thread Name", "cudaMallocHost,0,121,100,100,20,python", 0),
        ("Name,Ret Val,Pid,Tid,Priority,Thread Name", "poll,0,100,100,20,python", 0),
        ("CorrId,GrdX,Device,Ctx,Strm,Name", "121,64,Tesla T4 (0),1,7,step", 1),
    ],
    ids=["cuda_api_trace", "osrt_trace", "cuda_gpu_trace"],
)
def test_a_bare_trace_of_calls_is_none_of_kernels(read: Read, columns: str, row: str, kernels: int) -> None:
    result = read(f"Start (ns),Duration (ns),{columns}\n1000,791065304,{row}\n")
    assert len(result.kernels) == kernels
    assert result.runs[0].profile_reason == (None if kernels else "the nsys output holds no report of CUDA kernels")


def test_reports_of_cuda_belong_to_the_process_whose_system_calls_follow() -> None:
    result = parse_paths([GOLDEN / "nsys_2021_two_processes.txt"])
    first, second = result.runs
    assert (first.biggest_kernel_name, first.profile_reason) == (None, "the nsys output holds no report of CUDA kernels")
    assert (second.biggest_kernel_name, second.profile_reason) == ("add(float const*, float const*, int)", None)
    assert {kernel.run_id for kernel in result.kernels} == {second.run_id}
