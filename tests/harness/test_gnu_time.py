import subprocess

import pytest

from yoloperf.harness.profilers import gnu_time

pytestmark = pytest.mark.skipif(gnu_time.find() is None, reason="no GNU time here")


@pytest.mark.parametrize(
    ("script", "code"), [("echo said", 0), ("echo said; exit 3", 3), ("echo said; kill -9 $$", 137), ("echo said; kill $$", 143)]
)
def test_a_real_block_is_split_off_and_tells_the_exit_code(script: str, code: int) -> None:
    done = subprocess.run(gnu_time.wrap(["sh", "-c", script]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    printed, block = gnu_time.split(done.stdout)
    assert printed == "said\n"
    assert gnu_time.exit_code(block) == code
    assert gnu_time.exit_code(block[:-10]) is None, "a block cut short says nothing about the end"


def test_a_trainer_killed_in_its_progress_bar_is_seen() -> None:
    glued = 'Epoch 1:  50%|xx| 4/8Command terminated by signal 9\n\tCommand being timed: "sh"\n\tExit status: 0\n'
    printed, block = gnu_time.split(glued)
    assert (printed, gnu_time.exit_code(block)) == ("Epoch 1:  50%|xx| 4/8", 137)


def test_a_log_without_a_block_is_all_print() -> None:
    assert gnu_time.split("Command failed\nagain\n") == ("Command failed\nagain\n", "")
