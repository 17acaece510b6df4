from pathlib import Path

import pytest

from yoloperf.harness.launch.local import Ended
from yoloperf.harness.outcome import judge, read_console


def event(text: str) -> str:
    return f':::YOLOPERF {{"key": {text}}}\n'


OK = event('"run_end", "status": "ok", "reason": null')
BLOCK = '\tCommand being timed: "x"\n\tUser time (seconds): 1.0\n\tExit status: 0\n'


@pytest.mark.parametrize(
    ("log", "exit_code", "kills", "expected"),
    [
        (OK + BLOCK, 0, 0, ("ok", None)),
        (event('"run_end", "status": "oom", "reason": "does not fit"'), 1, 0, ("oom", "does not fit")),
        (OK + "then it broke\n" + BLOCK, 1, 0, ("failed", "exit code 1: then it broke")),
        (event('"run_end", "status": "failed", "reason": "no data"') + "more\n", 2, 0, ("failed", "exit code 2: no data")),
        ("10%\r20%\rKilled soon\r\n\n" + event('"first_step"'), 137, 0, ("failed", "killed by signal 9: Killed soon")),
        ("", 137, 1, ("oom", "killed by the kernel: the machine ran out of memory")),
        ("", 143, 1, ("failed", "killed by signal 15")),
        ("", 0, 0, ("failed", "exit code 0, but no run_end event says ok")),
    ],
)
def test_the_end_of_a_log_and_the_exit_code_make_the_status(
    tmp_path: Path, log: str, exit_code: int, kills: int, expected: tuple[str, str | None]
) -> None:
    file = tmp_path / "console.log"
    before = b"\xff of an attempt before\n" + OK.encode()
    file.write_bytes(before + log.encode())
    console = read_console(file, len(before))
    assert judge(console, exit_code, None, kills) == expected


def test_a_run_that_ended_well_while_it_was_being_stopped_is_ok(tmp_path: Path) -> None:
    file = tmp_path / "console.log"
    file.write_text(OK)
    ended = Ended(0, False, "stop", 1.0, 1.0, 0.0, 1)
    assert judge(read_console(file), 0, ended) == ("ok", None)
    assert judge(read_console(file), 130, ended) == ("cancelled", "stopped on request")


def test_epochs_count_on_from_those_of_earlier_attempts(tmp_path: Path) -> None:
    file = tmp_path / "console.log"
    assert read_console(file).epochs_done == 0
    file.write_text(event('"run_start", "start_epoch": 3'))
    assert read_console(file).epochs_done == 3
    file.write_text(event('"run_start", "start_epoch": 3') + event('"epoch", "epoch": 4'))
    assert read_console(file).epochs_done == 4
