import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from yoloperf.cli import load, parser_for
from yoloperf.core.rundir import RunDir
from yoloperf.harness import verbs

DRIVE = Path(__file__).with_name("drive.py")
ROOT = Path(__file__).resolve().parents[2]


class House:
    """A sweep file, a logs folder, and what one does with them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "grid.yaml"
        self.logs = folder / "logs"
        self.folder = self.logs / "here" / "grid"
        self.flags = [str(self.file), "--platform", "here", "--logs", str(self.logs)]
        self.processes: list[subprocess.Popen[str]] = []

    def write(self, axes: dict[str, Any] | None = None, **fixed_or_keys: Any) -> None:
        """Write the sweep file: axes, keys of a sweep file, and everything else as fixed values."""
        keys = {key: fixed_or_keys.pop(key) for key in ("include", "exclude", "repeats", "timeout_s") if key in fixed_or_keys}
        fixed = {"cfg": "yolov3-tiny", "hyp": "ok", "epochs": 2, **fixed_or_keys}
        fixed = {key: value for key, value in fixed.items() if key not in (axes or {})}
        self.file.write_text(yaml.safe_dump({"name": "grid", "fixed": fixed, "axes": axes or {}, **keys}))

    def sweep(self, *flags: str) -> tuple[int, dict[str, Any]]:
        return self.verb("sweep", *flags)

    def verb(self, name: str, *flags: str) -> tuple[int, dict[str, Any]]:
        args = parser_for(name, load(name)).parse_args([*self.flags, *flags])
        trainer = [sys.executable, str(DRIVE.with_name("standin.py"))]
        code, result = verbs.sweep_cells(args, trainer) if name == "sweep" else load(name).run(args)
        return code, json.loads(json.dumps(result, allow_nan=False))

    def start(self, *flags: str, **options: Any) -> subprocess.Popen[str]:
        """The sweep as a process of its own."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(DRIVE), *self.flags, *flags]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        process = subprocess.Popen(command, text=True, env=environment, **options)
        self.processes.append(process)
        return process

    def runs(self) -> dict[str, dict[str, Any]]:
        """Trial -> run.json."""
        return {path.parent.name: json.loads(path.read_text()) for path in sorted(self.folder.glob("*/run.json"))}

    def run(self, trial: str) -> RunDir:
        return RunDir(self.folder / trial)

    def work(self, trial: str) -> list[tuple[int, int]]:
        """Epoch and process of every epoch begun."""
        try:
            lines = (self.folder / trial / "work.txt").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(epoch), int(pid)) for epoch, pid in (line.split() for line in lines)]

    def states(self) -> dict[str, str]:
        return {cell["trial"]: cell["state"] for cell in self.verb("status")[1]["sweeps"][0]["cells"]}


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    house = House(tmp_path)
    yield house
    for process in house.processes:
        with process:
            process.kill()


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first truthy answer; fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = what()
        if answer:
            return answer
        time.sleep(0.01)
    pytest.fail("waited in vain")


def chain(spec_hash: str, steps: int) -> str:
    """What the stand-in's weights are after so many steps without an interruption."""
    weights = spec_hash
    for step in range(1, steps + 1):
        weights = hashlib.sha256(f"{weights} {step}".encode()).hexdigest()
    return weights


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def helpers() -> Any:
    """wait_for and alive, without importing a conftest."""
    return sys.modules[__name__]
