import csv
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from tests.harness.conftest import ROOT, House
from tests.slurm.cluster import Cluster, missing_packages

SMALL = ("--gres", "none", "--mem", "300", "--cpus", "1", "--time", "10")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    packages = missing_packages()
    if packages:
        missing(f"no Slurm here: apt-get install -y --no-install-recommends {' '.join(packages)}")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


class SlurmHouse(House):
    """A sweep whose cells run as jobs of the cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster
        self._pausing: dict[str, float] = {}

    def submit(self, *flags: str) -> dict[str, Any]:
        code, result = self.sweep("--launcher", "slurm", *SMALL, *flags)
        assert code == 0
        return result

    def submitted(self, *flags: str) -> set[tuple[str, int]]:
        """Submit, and tell the cells by recipe and batch size."""
        return {_key(trial) for trial in self.submit(*flags)["submitted"]}

    def states(self) -> dict[Any, str]:
        return {_key(trial): state for trial, state in super().states().items()}

    def runs(self) -> dict[Any, dict[str, Any]]:
        return {_key(trial): content for trial, content in super().runs().items()}

    def rows(self) -> dict[tuple[str, int], dict[str, str]]:
        """runs.csv, as the collecting job wrote it."""
        with (self.folder / "runs.csv").open() as stream:
            return {_key(row["trial"]): row for row in csv.DictReader(stream)}

    def queue(self) -> list[list[str]]:
        """Job, state and reason of this sweep's jobs that have not ended, the collecting ones among them."""
        names = [path.read_text().split('"name": "')[1].split('"')[0] for path in self.folder.glob(".slurm/*/submission.json")]
        joined = ",".join([*names, *(f"{name}-collect" for name in names)])
        done = self.cluster.run("squeue", "-h", "-r", "-n", joined, "-o", "%i|%T|%r")
        assert not names or done.returncode == 0, done.stderr
        return [line.split("|") for line in done.stdout.splitlines()] if names else []

    def hurry(self) -> None:
        """Slurm lets a requeued job pause for two minutes, so that nothing of it is left on its node: two seconds are enough here."""
        pausing = [job for job, state, reason in self.queue() if (state, reason) == ("PENDING", "BeginTime")]
        self._pausing = {job: self._pausing.get(job, time.monotonic()) for job in pausing}
        for job, since in self._pausing.items():
            if time.monotonic() - since > 2:
                self.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def wait(self, what: Callable[[], Any], seconds: float = 30.0, hurry: bool = False) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if hurry:
                self.hurry()
            answer = what()
            if answer:
                return answer
            time.sleep(0.1)
        pytest.fail(f"waited in vain; {self.queue()}; {self.states()}")

    def wait_for_end(self, seconds: float = 60.0) -> None:
        """Until the collecting job has ended, too."""
        self.wait(lambda: not self.queue(), seconds, hurry=True)

    def task_pid(self, trial: str) -> int:
        """The batch process of a running cell: the trainer's parent's parent where GNU time is between, else its parent."""
        pid = self.work(trial)[-1][1]
        while True:
            stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            pid = int(stat[1])
            if b"yoloperf" in Path(f"/proc/{pid}/cmdline").read_bytes() and b"\0task\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid


def _key(trial: str) -> tuple[str, int]:
    """Recipe and batch size from a trial's name; hyp is in the name where it varies."""
    recipe = trial.rpartition("_hyp")[2] if "_hyp" in trial else ""
    return recipe, int(trial.split("_bs")[1].split("_")[0])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Iterator[SlurmHouse]:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, cluster.environ[name])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    lab = SlurmHouse(tmp_path, cluster)
    yield lab
    for job, _, _ in lab.queue():
        cluster.run("scancel", job)
    cluster.run("scontrol", "update", "NodeName=node1", "State=RESUME")  # should a test have ended with a node that is down
