"""Where one run of a file ends and the next begins, though nothing but the order of its lines says so."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.parsing.parse import ParseResult, parse_paths

Read = Callable[..., ParseResult]
BASH = "\nreal\t0m{}.000s\nuser\t0m9.000s\nsys\t0m1.000s\n"
GNU = "{}.00user 0.00system 0:02.00elapsed 50%CPU (0avgtext+0avgdata 2048maxresident)k\n"
ZSH = "python train.py  {}.00s user 0.50s system 99% cpu 3.000 total\n"
TRAINING = "Starting training for 2 epochs...\n"


@pytest.mark.parametrize(("line", "column"), [(BASH, "wall_s"), (GNU, "user_s"), (ZSH, "user_s")], ids=["bash", "GNU", "zsh"])
def test_every_command_that_is_timed_is_a_run(read: Read, line: str, column: str) -> None:
    result = read(line.format(1) + TRAINING + line.format(2) + line.format(3))
    assert [(getattr(run, column), run.epochs) for run in result.runs] == [(1.0, None), (2.0, 2), (3.0, None)]


def test_time_around_time_is_about_one_run(read: Read) -> None:
    (run,) = read((GOLDEN / "gnu_time_failed.txt").read_text() + BASH.format(59)).runs
    assert (run.exit_code, run.wall_s) == (3, parse_paths([GOLDEN / "gnu_time_failed.txt"]).runs[0].wall_s)


@pytest.mark.parametrize(("rows", "expected"), [("0123 01", [4, 2]), ("12 12 1", [2, 2, 1]), ("3455", [3]), ("00", [1])])
def test_a_run_that_was_appended_to_results_csv_is_one_of_its_own(read: Read, rows: str, expected: list[int]) -> None:
    header = "epoch,train/box_loss,train/obj_loss,metrics/mAP_0.5\n"
    result = read(header + "".join(f"{epoch},0.1,0.2,0.{epoch}\n" for epoch in rows.replace(" ", "")), "results.csv")
    assert [run.epochs_done for run in result.runs] == expected
    assert [epoch.map50 for epoch in result.epochs if epoch.run_id == result.runs[-1].run_id][-1] == int(rows[-1]) / 10


def test_results_csv_of_a_run_folder_is_one_run(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "ok", "attempts": [{}, {}]}')
    (tmp_path / "console.log").write_text("epoch,train/box_loss,train/obj_loss\n0,0.1,0.1\n1,0.1,0.1\n0,0.1,0.1\n")
    (run,) = parse_paths([tmp_path]).runs
    assert run.epochs_done == 2


def test_two_runs_of_pytorch_yolov3_are_not_mixed(read: Read) -> None:
    def run(epochs: int, map50: float) -> str:
        head = f"Command line arguments: Namespace(batch_size=8, epochs={epochs}, model='config/yolov3.cfg', pretrained_weights=None)\n"
        bars = "".join(f"Training Epoch {n}: 100%|x| 9/9 [00:11<00:00, 1s/it]\n---- mAP {map50} ----\n" for n in range(1, epochs + 1))
        return head + bars

    result = read(run(3, 0.1) + run(2, 0.9))
    assert [(run.epochs, run.epochs_done, run.map50) for run in result.runs] == [(3, 3, 0.1), (2, 2, 0.9)]


@pytest.mark.parametrize(("last", "expected"), [("12345  instructions retired", 11552), ("12345  voluntary context switches", None)])
def test_the_memory_of_time_l_is_read_where_its_unit_is_known(read: Read, last: str, expected: int | None) -> None:
    """macOS counts bytes, FreeBSD KiB; only macOS prints what its processors count."""
    head = "        0.08 real         0.07 user         0.00 sys\n     11552  maximum resident set size\n"
    assert read(head + f"       120  average shared memory size\n     {last}\n").runs[0].max_rss_bytes == expected
