"""The line that installs what is missing, for the machine at hand: its package manager, its rights, Colab or not."""

import os
import re
import shutil
import subprocess

_CUDA_PAGE = "https://developer.nvidia.com/cuda-downloads"
_TORCH_PAGE = "https://pytorch.org/get-started/locally"


def gnu_time() -> str:
    return _by_manager(apt="time", dnf="time", brew="gnu-time") or "install GNU time with this system's package manager"


def nvprof() -> str:
    """CUDA 12 is the last that has it; Ubuntu and Debian have one of their own, nvidia-profiler."""
    if _conda():
        return 'conda install -y -c nvidia "cuda-nvprof<13"'
    name = _newest("^cuda-nvprof-12-[0-9]+$") or _newest("^nvidia-profiler$")
    return _of_nvidia(name, "cuda-nvprof-12-6")


def nsys() -> str:
    if _conda():
        return "conda install -y -c nvidia nsight-systems"
    name = _newest("^nsight-systems-20[0-9.]+$") or _newest("^nsight-systems-cli$") or _newest("^nsight-systems$")
    return _of_nvidia(name, "nsight-systems-cli")


def torch(cuda: str | None = None) -> str:
    """A wheel of torch: of the given CUDA, such as "cu126", or the newest."""
    if cuda:
        return f"{_shell()}pip install --upgrade torch torchvision, the {cuda} wheels of both: {_TORCH_PAGE} has the whole line"
    return f"{_shell()}pip install --upgrade torch torchvision"


def package(*names: str) -> str:
    return f"{_shell()}pip install {' '.join(names)}"


def privileged(command: str) -> str:
    """A command that only root may give, as this user gives it."""
    return f"{_shell()}{_sudo()}{command}"


def _of_nvidia(known: str | None, package: str) -> str:
    """known: what apt can install as it is; package: what it is called in NVIDIA's repository, which may have to be added first."""
    line = _by_manager(apt=known or package, dnf=package)
    if line is None:
        return f"on a cluster: `module avail cuda nsight`; else see {_CUDA_PAGE}"
    return line if known else f"add NVIDIA's repository ({_CUDA_PAGE}), then {line}"


def _by_manager(apt: str | None = None, dnf: str | None = None, brew: str | None = None) -> str | None:
    if apt and shutil.which("apt-get"):
        return f"{_shell()}{_sudo()}apt-get install -y {apt}"
    if dnf and shutil.which("dnf"):
        return f"{_sudo()}dnf install -y {dnf}"
    return f"brew install {brew}" if brew and shutil.which("brew") else None


def _newest(pattern: str) -> str | None:
    """The last package, by version, whose name matches, of those that apt knows."""
    if not shutil.which("apt-cache"):
        return None
    done = subprocess.run(["apt-cache", "--names-only", "search", pattern], capture_output=True, text=True, check=False)
    names = [line.split()[0] for line in done.stdout.splitlines() if line.strip()]
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)], default=None)


def _conda() -> bool:
    return bool(os.environ.get("CONDA_PREFIX")) and shutil.which("conda") is not None


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "


def _shell() -> str:
    """In a notebook of Colab, a shell command begins with an exclamation mark."""
    return "!" if os.environ.get("COLAB_RELEASE_TAG") else ""
