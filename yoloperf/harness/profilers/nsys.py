"""Nsight Systems: the profiler of GPUs from Volta on, where it is installed.

`nsys profile` writes a report, nsight.nsys-rep; after the run `nsys stats` turns it into the tables of profile.csv. Its
process tree is its own: an agent, not nsys, is the parent of the trainer. Hence GNU time stands inside, around the trainer;
the trainer is not told to die with its parent; and what outlives nsys is found by its TMPDIR, which no other run has.
"""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psutil

from yoloperf.core.process import SUPERVISED
from yoloperf.core.rundir import RunDir, write_atomic
from yoloperf.harness.gpu import gpus
from yoloperf.harness.profilers import gnu_time, outside

_OUTPUT = "profile.csv"
_REPORT = "nsight"  # not profile.*: what lies under that name is parsed, and this is for nsys-ui
_SUFFIXES = (".nsys-rep", ".qdrep")  # .qdrep until 2021.3
# Reports of kernels, copies and CUDA calls under their names since 2023 and before
_TABLES = (("cuda_gpu_kern_sum", "cuda_gpu_mem_time_sum", "cuda_api_sum"), ("gpukernsum", "gpumemtimesum", "cudaapisum"))
_KERNELS = re.compile(r'^"?Time ?\(%\)"?,.*\bInstances\b.*\n"?\d', re.MULTILINE)  # the head of that table and a first row
_EMPTY = re.compile(r"SKIPPED: .*(does not contain .*(?:kernel|trace).*)", re.IGNORECASE)
_COMPLAINT = re.compile(r"^nsys\b|^(?:FATAL )?ERROR:|^Failed to|Importer error|operation not permitted|permission denied", re.IGNORECASE)
_STATS_TIMEOUT_S = 600.0
_CHECKPOINT_S = 10.0  # what a trainer may take to write one
# Places besides PATH: NVIDIA's packages, CUDA toolkits, and the copy inside Nsight Compute (all that Colab has)
_PLACES = (
    "opt/nvidia/nsight-systems*/*/bin/nsys",
    "usr/local/cuda*/bin/nsys",
    "opt/nvidia/nsight-compute/*/host/target-linux-x64/nsys",
)
_NEEDED = ("--capture-range-end", "--cuda-graph-trace")


@functools.cache
def find(root: Path = Path("/")) -> tuple[str | None, str | None]:
    """Path of an nsys that can be used, and why there is none: asked for its flags, since toolkits hold wrappers that lead nowhere."""
    on_path = shutil.which("nsys")
    candidates = [on_path] if on_path else []
    candidates += [str(path) for place in _PLACES for path in sorted(root.glob(place), reverse=True)]
    refused = None
    for path in dict.fromkeys(candidates):
        try:
            done = subprocess.run([path, "profile", "--help"], capture_output=True, text=True, check=False, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            refused = refused or f"{path} does not start: {error}"
            continue
        said = done.stdout + done.stderr
        missing = [flag for flag in _NEEDED if flag not in said]
        if not missing:
            return path, None
        why = f"knows no {missing[0]}: a version of 2022 or later does" if "--capture-range" in said else f"does not work: {_last(said)}"
        refused = refused or f"{path} {why}"
    return None, refused or "nsys is not installed (`yoloperf doctor` says how)"


def scratch_parent() -> Path | None:
    """A folder for temporary files in which programs may be started, which nsys does there; None where there is none."""
    for folder in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")):
        if os.access(folder, os.W_OK | os.X_OK) and not os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return Path(folder)
    return None


@dataclass(frozen=True)
class NsysProfiler:
    """Profiles `steps` steps; the tables are profile.csv, and nsight.nsys-rep opens in nsys-ui."""

    steps: int
    name = "nsys"
    why_auto = "Nsight Systems is installed and there is a GPU"
    waits_for_trainer = False

    def unavailable(self) -> str | None:
        if gpus().reason:
            return gpus().reason
        refused = find()[1]
        if refused:
            return refused
        return None if scratch_parent() else "nsys starts programs in TMPDIR, which no temporary folder here allows: set TMPDIR"

    def prepare(self, run: RunDir) -> None:
        for left in run.path.glob(f"{_REPORT}.*"):
            left.unlink()
        self.end(run)
        shutil.rmtree(self._scratch(run), ignore_errors=True)
        self._scratch(run).mkdir(mode=0o700)

    def wrap(self, argv: list[str], run: RunDir) -> list[str]:
        flags = [
            "--trace=cuda",
            "--sample=none",  # it and cpuctxsw need rights that containers do not have
            "--cpuctxsw=none",
            "--cuda-graph-trace=node",  # else a whole graph is one row
            "--capture-range=cudaProfilerApi",
            "--capture-range-end=stop",  # by default the trainer is killed there
            "--force-overwrite=true",
            f"--output={outside.literal(run.path / _REPORT)}",
        ]
        # A folder of the run's own: on shared machines /tmp/nvidia belongs to whoever came first
        environment = [f"TMPDIR={self._scratch(run)}", f"{SUPERVISED}=0"]
        return ["env", *environment, find()[0] or "nsys", "profile", *flags, *gnu_time.wrap(argv)]

    def train_flags(self) -> list[str]:
        return outside.train_flags(self.steps)

    def end(self, run: RunDir) -> None:
        """A stop reaches nsys only: the trainer, in a session of its own, is asked here, and writes its checkpoint and its last word."""
        scratch, left = str(self._scratch(run)), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("TMPDIR") == scratch:
                    process.terminate()
                    left.append(process)
        for process in psutil.wait_procs(left, _CHECKPOINT_S)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def collect(self, run: RunDir) -> str | None:
        try:
            return self._collect(run)
        finally:
            shutil.rmtree(self._scratch(run), ignore_errors=True)

    def _collect(self, run: RunDir) -> str | None:
        report = next((path for suffix in _SUFFIXES if (path := run.path / f"{_REPORT}{suffix}").exists()), None)
        if report is None:
            return f"nsys wrote no report: {_complaint(run.console) or 'the profiled steps were not reached, or could not be traced'}"
        empty = said = None
        for tables in _TABLES:
            text, failure = self._stats(report, tables, run)
            if failure is None and _KERNELS.search(text):
                write_atomic(run.path / _OUTPUT, text)
                return None
            found = _EMPTY.search(text + "\n" + (failure or ""))
            empty = empty or (found[1].rstrip(".") if found else None)
            said = said or failure
        if empty:
            return (
                f"the capture of nsys {empty}: it saw the program but not the GPU; under WSL and gVisor, put "
                "CuptiUseRawGpuTimestamps=false into the file that `nsys -z` names"
            )
        return f"nsys stats made no kernel table of {report.name}: {said or 'it holds no kernels'}"

    def _stats(self, report: Path, tables: tuple[str, ...], run: RunDir) -> tuple[str, str | None]:
        """What `nsys stats` printed, and why it failed."""
        export = report.with_suffix(".sqlite")
        # An export that lies there may be of another report of this name, and nsys would read it instead
        flags = ["--report", ",".join(tables), "--format", "csv", "--force-export=true"]
        try:
            done = subprocess.run(
                [find()[0] or "nsys", "stats", *flags, str(report)],
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=_STATS_TIMEOUT_S,
                env={**os.environ, "TMPDIR": str(self._scratch(run))},
            )
        except subprocess.TimeoutExpired:
            return "", f"it did not end within {_STATS_TIMEOUT_S:.0f} s"
        except OSError as error:
            return "", str(error)
        finally:
            export.unlink(missing_ok=True)
        return done.stdout, None if done.returncode == 0 else _last(done.stderr) or _last(done.stdout) or f"exit code {done.returncode}"

    def _scratch(self, run: RunDir) -> Path:
        """Short, since nsys makes sockets there, whose paths have at most 107 characters."""
        name = hashlib.sha256(f"{os.getuid()} {run.path.resolve()}".encode()).hexdigest()[:12]
        return (scratch_parent() or Path(tempfile.gettempdir())) / f"yoloperf-nsys-{name}"


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _complaint(console: Path) -> str | None:
    """The last line near the end of the console in which nsys, or the kernel through it, says what it could not do."""
    lines = console.read_text(errors="replace").splitlines()[-200:] if console.exists() else []
    return next((line.strip().rstrip(".") for line in reversed(lines) if _COMPLAINT.search(line)), None)
