"""Where and how the arithmetic is done: device, precision, threads, and an allocator that does not fault pages at every step."""

import argparse
import contextlib
import ctypes
import functools
import mmap
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import cv2
import torch

from yoloperf.core.errors import UserError
from yoloperf.core.limits import available_cores, memory_limit
from yoloperf.core.spec import PRECISIONS

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # mallopt parameters of glibc's malloc.h
_FP16_CAPABILITY, _BF16_CAPABILITY = (7, 0), (8, 0)  # tensor cores for fp16 from Volta, for bf16 from Ampere


@dataclass(frozen=True)
class Compute:
    """The device of this process with the arithmetic of its convolutions: "fp32", "bf16" or "fp16"."""

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Context in which convolutions run in the chosen precision; a no-op in fp32.

        Weights are cast anew in every context, which uses each of them once: a CUDA graph must not find the casts of another.
        """
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.precision == "bf16" else torch.float16, cache_enabled=False)

    def synchronise(self) -> None:
        """Wait until the device has done everything it was given, so that a clock may be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_memory_bytes(self) -> int | None:
        """Largest device memory held by tensors so far; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


@functools.cache
def keep_memory() -> None:
    """Tell glibc's malloc to keep freed memory, and the kernel to back it with huge pages.

    By default every tensor above 128 KiB is mapped and unmapped again, and the kernel zeroes its pages each time: a quarter
    of a training step on a CPU; and the first step pays for each page of 4 KiB (docs/decisions.md has the measurements). Best
    called before the first allocation.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)
    libc.mallopt(_M_ARENA_MAX, 1)
    _ask_for_huge_pages(libc)


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Grow the heap to half of this process's memory at once, for what is not mapped cannot be advised; untouched pages cost nothing.

    PyTorch's own way, THP_MEM_ALLOC_ENABLE, aligns every large tensor to 2 MiB, and where one was freed the next of its size does
    not fit: the heap grew from step to step.
    """
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    memory = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
    size = min(memory, memory_limit() or memory) // 2
    start = libc.malloc(size)
    if start is None:  # `ulimit -v`, or a kernel that promises no more than it has
        return
    first_page = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    libc.madvise(first_page, start + size - first_page, mmap.MADV_HUGEPAGE)
    libc.free(start)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that `prepare` takes."""
    parser.add_argument("--device", default="auto", help="auto, cpu or a CUDA device index")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="arithmetic of the convolutions")
    parser.add_argument("--threads", type=int, help="CPU threads (default: every core)")


def prepare(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Compute:
    """Choose device and precision and set the process up for them. Raises UserError where they cannot be had."""
    keep_memory()
    if threads is not None and threads < 1:
        raise UserError(f"threads must be at least 1, not {threads}: leave it out to use every core")
    threads = threads or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    cv2.setNumThreads(1)  # images are worked on by a thread each
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
    return Compute(chosen, _precision(chosen, precision), threads)


def pinned(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host as a GPU copies it without anyone waiting: in page-locked memory, for `.to(device, non_blocking=True)`."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def choose_device(text: str) -> torch.device:
    """The device of this process: of several in a list, or under torchrun, the one of its number on this machine.

    Raises UserError where one of them is not there.
    """
    if text == "cpu" or (text in ("auto", "") and not torch.cuda.is_available()):
        return torch.device("cpu")
    own, processes = int(os.environ.get("LOCAL_RANK", 0)), os.environ.get("LOCAL_WORLD_SIZE")
    names = [str(number) for number in range(int(processes or 1))] if text in ("auto", "") else text.split(",")
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names):
        raise UserError(f"device {text!r}: choose auto, cpu, or the index of a CUDA device such as 0 (several: 0,1)")
    if processes and int(processes) != len(names):
        raise UserError(f"device {text}: torchrun started {processes} processes on this machine; name as many devices, or auto")
    count = torch.cuda.device_count()
    missing = [name for name in names if int(name) >= count]
    if missing:
        there = f"CUDA devices 0 to {count - 1}" if count else "no CUDA device"
        raise UserError(f"device {missing[0]}: PyTorch {torch.__version__} sees {there} here; use --device cpu or auto")
    return torch.device("cuda", int(names[own]))


def _precision(device: torch.device, precision: str) -> str:
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        fastest = "bf16" if capability >= _BF16_CAPABILITY else "fp16" if capability >= _FP16_CAPABILITY else "fp32"
    else:
        fastest = "bf16" if _cpu_has_bf16() else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise UserError(f"precision fp16 is unusably slow on a CPU: choose {fastest}, or auto")
    return fastest if precision == "auto" else precision


def _cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 matrices itself (AVX512-BF16 or AMX); emulated bf16 is slower than fp32."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
