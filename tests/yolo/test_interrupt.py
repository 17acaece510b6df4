import os
import signal
import subprocess
import sys

import pytest

from yoloperf.yolo.interrupt import Interrupts, Stopped


def test_signals_of_one_moment_are_one_ask() -> None:
    interrupts = Interrupts()
    with pytest.raises(Stopped) as stopped, interrupts.listening(), interrupts.held():
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm's, to every process of the job
        os.kill(os.getpid(), signal.SIGINT)  # the harness's, which got the same
        assert interrupts.asked
    assert (stopped.value.signal, stopped.value.status) == (signal.SIGTERM, "preempted")


def test_a_later_one_ends_the_process() -> None:
    program = """
import os, signal, time
from yoloperf.yolo.interrupt import Interrupts
interrupts = Interrupts()
with interrupts.listening(), interrupts.held():
    os.kill(os.getpid(), signal.SIGUSR1)
    time.sleep(1.05)
    os.kill(os.getpid(), signal.SIGINT)
    print("survived")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")
