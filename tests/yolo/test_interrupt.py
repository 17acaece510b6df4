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


@pytest.mark.parametrize(("before", "code"), [("SIG_DFL", 129), ("SIG_IGN", 0)])
def test_a_closed_terminal_is_an_ask_unless_nohup_keeps_it_away(before: str, code: int) -> None:
    program = f"""
import os, signal
signal.signal(signal.SIGHUP, signal.{before})
from yoloperf.yolo.interrupt import Interrupts, Stopped
try:
    with Interrupts().listening():
        os.kill(os.getpid(), signal.SIGHUP)
except Stopped as stopped:
    raise SystemExit(stopped.exit_code)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code


def test_what_nobody_reads_is_dropped() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = """
import sys
from yoloperf.yolo.interrupt import outlasting
with outlasting():
    for number in range(3):
        print(number, flush=number < 2)
    print("went on", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "went on\n")


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
