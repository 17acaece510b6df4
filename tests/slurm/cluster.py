"""A real one-node Slurm with two GPUs that are not there, for as long as a test session lasts.

It needs Debian's packages and no systemd, no cgroups and no accounting database; everything it writes lies in one folder.
Partitions: `gpu` (the default) and `urgent`, whose jobs preempt those of `gpu` and have them requeued.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

DAEMONS = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}  # program -> package
NODE = "node1"
_SBIN = "/usr/sbin:/sbin"

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PlugStackConfig={folder}/plugstack.conf
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=200
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,batch_sched_delay=0,sched_interval=1,sched_min_interval=0
MinJobAge=3600
KillWait=5
CompleteWait=0
ReturnToService=2
MessageTimeout=6
TCPTimeout=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
{loopback}
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs=8 Sockets=1 CoresPerSocket=8 ThreadsPerCore=1 RealMemory=8000 Gres=gpu:2
PartitionName=gpu Nodes={node} Default=YES MaxTime=60 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={node} MaxTime=60 DefaultTime=1 PriorityTier=10 PreemptMode=OFF
"""


def missing_packages() -> list[str]:
    path = f"{os.environ['PATH']}:{_SBIN}"
    return [package for program, package in DAEMONS.items() if shutil.which(program, path=path) is None]


class Cluster:
    """Its folder's path must be short: a socket's name has 108 bytes at most."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.environ = {**os.environ, "PATH": f"{os.environ['PATH']}:{_SBIN}", "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._configure()
        names = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
        # --force: it would refuse a folder below a private one, as pytest's are
        self._call("munged", "--force", "--num-threads=2", *(f"--{flag}={self.folder / name}" for flag, name in names.items()))
        self.start_controller()
        self._call("slurmd", "-N", NODE, "-f", str(self.conf))
        self._wait(lambda: self.run("sinfo", "-h", "-o", "%T").stdout.split()[:1] == ["idle"], "the node to become idle")

    def start_controller(self) -> None:
        self._call("slurmctld", "-f", str(self.conf))
        self._wait(lambda: " UP" in self.run("scontrol", "ping").stdout, "slurmctld to answer")

    def kill_controller(self) -> None:
        pid = int((self.folder / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        self._wait(lambda: not _alive(pid), "slurmctld to die")

    def stop(self) -> None:
        """Cancel all jobs and end the daemons; what does not end is killed."""
        self.run("scontrol", "update", f"NodeName={NODE}", "State=DRAIN", "Reason=end")
        self.run("scancel", "--user", pwd.getpwuid(os.getuid()).pw_name)
        deadline = time.monotonic() + 15
        while self.run("squeue", "-h").stdout and time.monotonic() < deadline:
            time.sleep(0.1)
        for name in ("slurmd", "slurmctld", "munged"):
            path = self.folder / f"{name}.pid"
            if path.exists():
                _end(int(path.read_text()))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, check=False, timeout=60)

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        for index in range(2):
            (self.folder / f"nvidia{index}").symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"NodeName={NODE} Name=gpu File={self.folder}/nvidia[0-1]\n")
        (self.folder / "plugstack.conf").write_text("# none\n")
        # left to choose, slurmd takes a cgroup plugin that wants systemd; `disabled` is no choice yet in old versions
        version = int(self.run("slurmctld", "-V").stdout.split()[1].split(".")[0])
        (self.folder / "cgroup.conf").write_text(f"CgroupPlugin={'disabled' if version >= 24 else 'cgroup/v1'}\n")
        try:
            local = socket.gethostbyname(socket.gethostname()).startswith("127.")
        except socket.gaierror:
            local = False
        values = {
            "host": host,
            "node": NODE,
            "user": pwd.getpwuid(os.getuid()).pw_name,
            "folder": self.folder,
            "ctld_port": _free_port(),
            "slurmd_port": _free_port(),
            # bound to the address of the host's name alone, where that is the loopback one
            "loopback": "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny" if local else "",
        }
        self.conf.write_text(_CONF.format(**values))

    def _call(self, *command: str) -> None:
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{command[0]} did not start: {done.stderr or done.stdout}{self._logs()}")

    def _wait(self, what: Callable[[], bool], name: str, seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain for {name}{self._logs()}")
            time.sleep(0.05)

    def _logs(self) -> str:
        return "".join(f"\n--- {path.name}\n{path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log")))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _end(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if _alive(pid):
            os.kill(pid, number)
        deadline = time.monotonic() + 5
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
