"""What prepare() does to the process's memory."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import resource
from pathlib import Path
from yoloperf.yolo.device import keep_memory
import torch

def used():
    return resource.getrusage(resource.RUSAGE_SELF)

before = used().ru_maxrss
keep_memory()
print("grown_kib", used().ru_maxrss - before)
torch.zeros(11 * 2**20)
start = used()
for _ in range(20):
    torch.zeros(11 * 2**20)
print("faults", used().ru_minflt - start.ru_minflt)
print("huge_kib", Path("/proc/self/smaps_rollup").read_text().split("AnonHugePages:")[1].split()[0])
"""


def test_freed_memory_is_used_again_and_lies_on_huge_pages() -> None:
    found = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True).stdout
    values = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", found)}
    assert values["grown_kib"] < 16 * 1024  # the heap's new pages are not there before someone uses them
    assert values["faults"] < 2000  # 225,000 pages of 4 KiB where freed memory goes back to the kernel
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not huge.is_file() or "[never]" in huge.read_text():
        pytest.skip("this kernel gives no huge pages")
    assert values["huge_kib"] > 40 * 1024


def test_where_the_heap_may_not_grow_so_far_it_goes_without() -> None:
    program = (
        "import resource; from yoloperf.yolo.device import keep_memory; import torch; "
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30)); keep_memory(); print(torch.ones(2**20).sum().item())"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "1048576.0\n"
