"""The line that installs what is missing, for the machine at hand: its package manager, its rights, Colab or not."""

import os
import platform
import re
import shutil
import subprocess

_CUDA_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
_TORCH_WHEELS = "https://download.pytorch.org/whl"


def gnu_time() -> str:
    return _by_manager(apt="time", dnf="time", brew="gnu-time") or "install GNU time with this system's package manager"


def nvprof() -> str:
    """CUDA 12 is the last that has it; Ubuntu and Debian have one of their own, nvidia-profiler."""
    if _conda():
        return 'conda install -y -c nvidia "cuda-nvprof<13"'
    name = _newest("^cuda-nvprof-12-[0-9]+$") or _newest("^nvidia-profiler$")
    return _from_nvidia(name, "cuda-nvprof-12-6", dnf="cuda-nvprof-12-6")


def nsys() -> str:
    if _conda():
        return "conda install -y -c nvidia nsight-systems"
    name = _newest("^nsight-systems-20[0-9.]+$") or _newest("^nsight-systems-cli$") or _newest("^nsight-systems$")
    # Their version is part of the name, so the newest is asked for where the list of names is not at hand yet
    newest = "$(apt-cache --names-only search '^nsight-systems-20' | sort -V | tail -n 1 | cut -d ' ' -f 1)"
    return _from_nvidia(name, newest, dnf="nsight-systems-cli")


def torch(cuda: str | None = None) -> str:
    """A wheel of torch: of the given CUDA, such as "cu126", or the newest."""
    index = f" --index-url {_TORCH_WHEELS}/{cuda}" if cuda else ""
    return f"{_shell()}pip install --upgrade torch torchvision{index}"


def package(*names: str) -> str:
    return f"{_shell()}pip install {' '.join(names)}"


def privileged(command: str) -> str:
    """A command that only root may give, as this user gives it."""
    return f"{_shell()}{_sudo()}{command}"


def _from_nvidia(known: str | None, name: str, dnf: str) -> str:
    """known: package that apt can install as it is; name: what it is called in NVIDIA's repository, which is added first."""
    if known:
        return _by_manager(apt=known) or ""
    distribution = _distribution()
    if distribution and platform.machine() == "x86_64":
        keyring = "cuda-keyring_1.1-1_all.deb"
        sudo = _sudo()
        steps = [
            f"wget {_CUDA_REPOSITORY}/{distribution}/x86_64/{keyring}",
            f"{sudo}dpkg -i {keyring}",
            f"{sudo}apt-get update",
            f'{sudo}apt-get install -y "{name}"' if "$" in name else f"{sudo}apt-get install -y {name}",
        ]
        return _shell() + " && ".join(steps)
    return _by_manager(dnf=dnf) or "on a cluster: `module avail cuda nsight`; else see https://developer.nvidia.com/cuda-downloads"


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


def _distribution() -> str | None:
    """The distribution as NVIDIA's repository names it, such as ubuntu2204 or debian12."""
    if not shutil.which("apt-get"):
        return None
    try:
        facts = platform.freedesktop_os_release()
    except OSError:
        return None
    version = facts.get("VERSION_ID", "").replace(".", "")
    return f"{facts['ID']}{version}" if facts.get("ID") in ("ubuntu", "debian") and version else None


def _conda() -> bool:
    return bool(os.environ.get("CONDA_PREFIX")) and shutil.which("conda") is not None


def _sudo() -> str:
    return "" if os.geteuid() == 0 else "sudo "


def _shell() -> str:
    """In a notebook of Colab, a shell command begins with an exclamation mark."""
    return "!" if os.environ.get("COLAB_RELEASE_TAG") else ""
