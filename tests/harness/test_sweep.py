import fcntl
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from yoloperf.core.errors import UserError
from yoloperf.harness.launch import local
from yoloperf.harness.profilers import gnu_time, make_profiler

BS4 = "yolov3-tiny_smear_bs4_ep2_lr1_s0"
BS8 = "yolov3-tiny_smear_bs8_ep2_lr1_s0"


def test_every_cell_is_done_once(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(axes={"batch": [4, 8], "epochs": [1, 2]})
    code, result = house.sweep()
    assert code == 0
    assert result["counts"] == {"cells": 4, "done": 4, "ok": 4}
    assert [cell["epochs_done"] for cell in result["cells"]] == [1, 2, 1, 2]
    assert "auto: it works on every device" in capsys.readouterr().out
    before = house.runs()
    assert house.sweep()[0] == 0
    assert house.runs() == before


def test_run_json_and_console_tell_the_whole_run(house: Any) -> None:
    house.write(batch=4)
    house.sweep("--profile-steps", "3")
    run = house.run(BS4)
    content = run.read()
    assert content["status"] == "ok" and content["exit_code"] == 0 and content["reason"] is None
    assert (content["platform"], content["sweep"], content["trial"], content["profiler"]) == ("here", "grid", BS4, "torch")
    assert content["spec"]["batch_size"] == 4 and len(content["spec_hash"]) == 12
    assert content["argv"][-4:] == ["--save-dir", str(run.path), "--profile-steps", "3"]
    assert content["environment"]["hostname"]
    (attempt,) = content["attempts"]
    assert attempt["wall_s"] == content["wall_s"] > 0.06
    assert attempt["max_rss_bytes"] > 2**22 and attempt["user_s"] > 0
    console = run.console.read_text()
    assert console.index("run_start") < console.index("training yolov3-tiny") < console.index('"key": "epoch"')
    assert run.profile.exists()
    if gnu_time.find():
        assert attempt["accounting"] == "GNU time" and console.endswith("\tExit status: 0\n")


def test_without_gnu_time_the_kernel_accounts(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gnu_time, "find", lambda: None)
    house.write(batch=4)
    assert house.sweep()[0] == 0
    content = house.run(BS4).read()
    assert content["argv"][0] == sys.executable
    (attempt,) = content["attempts"]
    assert attempt["accounting"] == "wait4" and attempt["user_s"] > 0.02 and attempt["max_rss_bytes"] > 2**22


def test_a_dry_run_prints_the_exact_commands_and_writes_nothing(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(axes={"batch": [4, 8]})
    code, result = house.sweep("--dry-run")
    assert code == 0 and not house.logs.exists()
    printed = capsys.readouterr().out.splitlines()
    lines = printed[: printed.index(next(line for line in printed if line.startswith("grid on here: 0 of 2 cells done (2 missing)")))]
    house.sweep()
    assert [shlex.split(line) for line in lines] == [run["argv"] for run in house.runs().values()]
    assert list(result["commands"].values()) == lines


def test_a_dry_run_for_slurm_takes_the_profiler_that_only_a_node_has(house: Any) -> None:
    house.write(batch=4)
    code, result = house.sweep("--dry-run", "--launcher", "slurm", "--profiler", "nsys")
    assert code == 0 and "nsys profile" in result["commands"][BS4]


def test_out_of_memory_is_a_result(house: Any) -> None:
    house.write(batch=4, hyp="oom")
    code, result = house.sweep()
    assert code == 0
    (cell,) = result["cells"]
    assert (cell["state"], cell["reason"]) == ("oom", "batch size 4 does not fit")
    house.sweep()
    assert len(house.work(BS4)) == 1


def test_a_failed_cell_does_not_end_the_sweep_and_goes_on_from_its_checkpoint_next_time(house: Any) -> None:
    house.write(axes={"hyp": ["ok", "crash"], "batch": [4, 8]})
    code, result = house.sweep()
    assert code == 1
    states = {cell["trial"]: (cell["state"], cell["reason"]) for cell in result["cells"]}
    assert states[f"{BS4}_hypcrash"] == ("failed", "exit code 1: RuntimeError: the device fell off the bus")
    assert result["counts"] == {"cells": 4, "done": 2, "ok": 2, "failed": 2}
    assert house.sweep()[0] == 0
    content = house.run(f"{BS4}_hypcrash").read()
    assert [(each["status"], each["resumed"]) for each in content["attempts"]] == [("failed", False), ("ok", True)]
    assert [epoch for epoch, _ in house.work(f"{BS4}_hypcrash")] == [1, 2, 2]


def test_a_failure_before_the_first_checkpoint_begins_anew_and_its_log_is_kept(house: Any) -> None:
    house.write(batch=4, hyp="fail")
    house.sweep()
    house.sweep()
    content = house.run(BS4).read()
    assert len(content["attempts"]) == 1 and not content["attempts"][0]["resumed"]
    (aside,) = house.folder.glob(f"superseded/{BS4}-*")
    assert "no such data set" in (aside / "console.log").read_text()


def test_a_full_disk_costs_an_epoch_and_not_the_run(house: Any) -> None:
    house.write(batch=4, hyp="full")
    code, result = house.sweep()
    assert code == 1 and result["cells"][0]["why"] == (
        "will go on after epoch 1: exit code 2: cannot write last.pt: No space left on device"
    )
    assert house.sweep()[0] == 0
    assert [epoch for epoch, _ in house.work(BS4)] == [1, 2, 2]
    content = house.run(BS4).read()
    assert [attempt["status"] for attempt in content["attempts"]] == ["failed", "ok"]


def test_two_equal_failures_at_the_start_end_the_sweep(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(axes={"batch": [4, 8, 16]}, hyp="fail")
    code, result = house.sweep()
    assert code == 1
    assert result["counts"] == {"cells": 3, "done": 0, "failed": 2, "missing": 1}
    assert "failed in the same way, so the rest was not tried: exit code 2: standin: no such data set" in capsys.readouterr().out


def test_exit_code_0_without_run_end_is_a_failure(house: Any) -> None:
    house.write(batch=4, hyp="silent")
    code, result = house.sweep()
    assert code == 1 and result["cells"][0]["reason"] == "exit code 0, but no run_end event says ok"


def test_a_timeout_kills_the_children_too(house: Any, helpers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "PATIENCE_S", 0.2)
    monkeypatch.setattr(local, "_AFTER_TERM_S", 0.2)
    house.write(batch=4, hyp="stubborn", timeout_s=1)
    code, result = house.sweep()
    assert code == 1
    assert result["cells"][0]["state"] == "timeout"
    pids = [pid for _, pid in house.work(BS4)]
    assert len(set(pids)) == 2
    helpers.wait_for(lambda: not any(map(helpers.alive, pids)))
    (attempt,) = house.run(BS4).read()["attempts"]
    assert attempt["exit_code"] > 128
    if gnu_time.find():
        assert attempt["user_s"] is None, "GNU time was killed, so the kernel does not know what the trainer used"


def test_a_timed_out_trainer_that_heeds_sigint_is_accounted_for_and_continued(house: Any) -> None:
    house.write(batch=4, hyp="slow", epochs=3, timeout_s=0.6)
    trial = BS4.replace("ep2", "ep3")
    for _ in range(4):
        code, result = house.sweep()
        if code == 0:
            break
        assert result["cells"][0]["state"] == "timeout"
        assert house.run(trial).read()["attempts"][-1]["accounting"]
    attempts = house.run(trial).read()["attempts"]
    assert code == 0 and len(attempts) > 1 and attempts[-1]["resumed"]


def test_ctrl_c_stops_in_order_and_the_next_call_goes_on(house: Any, helpers: Any) -> None:
    house.write(axes={"batch": [4, 8]}, hyp="slow")
    process = house.start()
    helpers.wait_for(lambda: len(house.work(BS4)) == 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert process.returncode == 130
    assert output.splitlines()[-1].startswith(f"stopped; go on with: yoloperf sweep {house.file} --platform here")
    assert "failed" not in output
    assert house.states() == {BS4: "cancelled", BS8: "missing"}
    assert not any(helpers.alive(pid) for _, pid in house.work(BS4))
    assert house.sweep()[0] == 0
    first, second = house.run(BS4).read()["attempts"]
    assert (first["status"], second["status"], second["resumed"]) == ("cancelled", "ok", True)
    assert [epoch for epoch, _ in house.work(BS4)] == [1, 2, 2]


def test_sigterm_stops_in_order_too(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="slow")
    process = house.start()
    helpers.wait_for(lambda: house.work(BS4))
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 130 and house.states() == {BS4: "cancelled"}


def test_a_terminal_that_is_closed_stops_in_order_too(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="slow")
    ours, theirs = os.openpty()
    process = house.start(stdout=theirs, stderr=theirs)
    os.close(theirs)
    helpers.wait_for(lambda: house.work(BS4))
    process.send_signal(signal.SIGHUP)
    os.close(ours)  # nothing can be written to it from now on
    assert process.wait(10) == 130 and house.states() == {BS4: "cancelled"}
    assert house.run(BS4).last_weights.exists()


def test_nohup_outlives_its_terminal(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="slow")
    process = house.start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    helpers.wait_for(lambda: house.work(BS4))
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=10)
    assert process.returncode == 0 and house.states() == {BS4: "ok"}


def test_a_second_sweep_refuses_and_names_the_first(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="hang")
    first = house.start()
    helpers.wait_for(lambda: house.work(BS4))
    assert house.states() == {BS4: "running"}
    second = house.start()
    output, _ = second.communicate(timeout=10)
    assert second.returncode == 2
    assert f"is being run by process {first.pid} on " in output and len(output.splitlines()) == 1
    assert len(house.work(BS4)) == 1


@pytest.mark.parametrize("logs", ["/proc/nowhere", "file/below"])
def test_a_folder_that_takes_nothing_is_told_before_anything_starts(house: Any, tmp_path: Path, logs: str) -> None:
    (tmp_path / "file").write_text("")
    house.write(batch=4)
    house.flags[-1] = str(tmp_path / logs)
    with pytest.raises(UserError, match="cannot write .*choose another folder"):
        house.sweep()


def test_a_full_disk_is_told_before_anything_starts(house: Any) -> None:
    house.write(batch=4)
    house.folder.mkdir(parents=True)
    limited = f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); sys.argv = {['drive', *house.flags]}; "
    drive = Path(__file__).with_name("drive.py")
    command = [sys.executable, "-c", f"{limited}runpy.run_path({str(drive)!r}, run_name='__main__')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "make room" in done.stderr
    assert not house.runs()


def test_unknown_names_are_refused(house: Any) -> None:
    house.write(batch=4)
    for flags, message in (
        (["--launcher", "slurn"], "unknown launcher"),
        (["--profiler", "torhc"], "did you mean 'torch'"),
        (["--profile-steps", "0"], "must be at least 1"),
        (["--platform", "a/b"], "such as a-b"),
    ):
        with pytest.raises(UserError, match=message):
            house.sweep(*flags)
    house.write(axes={"batch": [4, 0]})
    with pytest.raises(UserError, match="batch_size must be a whole number"):
        house.sweep()
    assert not house.logs.exists()


def test_no_profiler_leaves_the_trainer_alone(house: Any) -> None:
    house.write(batch=4)
    house.sweep("--profiler", "none")
    assert "--profile-steps" not in house.run(BS4).read()["argv"]
    assert make_profiler("none", 10)[1] == "asked for"


def test_a_terminal_shows_a_live_line(house: Any) -> None:
    house.write(axes={"batch": [4, 8]}, hyp="slow", epochs=4)
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = house.start(stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # Linux's end of a pseudo-terminal
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    trial = BS4.replace("ep2", "ep4")
    assert re.search(rf"0/2 done, 1 running \| epoch [234]/4 of {trial}", text)
    assert "1/2 done, 1 running, about" in text
    assert "ok         " + trial in text


def test_json_is_the_last_line_and_the_only_one(house: Any) -> None:
    house.write(batch=4)
    command = [sys.executable, "-m", "yoloperf", "sweep", *house.flags, "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["counts"] == {"cells": 1, "done": 0, "missing": 1}
