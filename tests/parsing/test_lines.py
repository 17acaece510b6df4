"""How a text log is read, whatever its formats: redraws, colours, encodings, cut ends, several runs in a file."""

import gzip
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.parsing.content import CHUNK_BYTES
from yoloperf.parsing.draft import Draft
from yoloperf.parsing.lines import MAX_LINE_BYTES, LogReader
from yoloperf.parsing.parse import ParseResult, parse_paths

Read = Callable[..., ParseResult]
HEADER = "     Epoch   gpu_mem       box       obj       cls     total   targets  img_size\n"
STUDY = (GOLDEN / "yolov3_2020_nvprof_time.txt").read_bytes()


def row(epoch: str, box: float, done: int = 9, total: int = 9) -> str:
    bar = f"{100 * done // total:3}%|xxx| {done}/{total} [00:0{done}<00:00,  1.00it/s]"
    return f"{epoch:>10}     1.00G{box:10.4g}     0.200     0.300     0.600        10       416: {bar}"


def without_place(result: ParseResult) -> tuple[object, ...]:
    runs = [{**vars(run), "run_id": None, "source": None} for run in result.runs]
    epochs = [{**vars(epoch), "run_id": None} for epoch in result.epochs]
    return runs, epochs, [{**vars(kernel), "run_id": None} for kernel in result.kernels]


def test_the_last_of_several_redraws_counts(read: Read) -> None:
    result = read(HEADER + "\r" + "\r".join(row("0/1", 1.0 - done / 10, done) for done in range(10)) + "\n")
    assert [epoch.box_loss for epoch in result.epochs] == [0.1]


def test_a_bar_and_what_follows_it_on_one_line_are_both_read(read: Read) -> None:
    bar = "               Class      Images     Targets           P           R      mAP@.5  mAP@.5:.95: 100%|x| 2/2 [00:04<00:00, 2s/it]"
    result = read(HEADER + "\r" + row("0/0", 0.5, 3) + "\r" + row("0/0", 0.25) + "\r" + bar + "\n")
    assert [(epoch.box_loss, epoch.train_s, epoch.val_s) for epoch in result.epochs] == [(0.25, 9.0, 4.0)]


def test_a_message_glued_to_a_bar_is_found(read: Read) -> None:
    message = "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT ***\n"
    run = read(HEADER + "\r" + row("0/4", 0.5, 2) + "\x1b[A" + message).runs[0]
    assert (run.status, run.slurm_job_id) == ("timeout", "7")


def test_what_an_event_says_is_a_number_or_nothing(read: Read) -> None:
    (epoch,) = read(':::YOLOPERF {"key": "epoch", "epoch": 1, "box_loss": NaN, "map50": Infinity, "lr": 0.5}\n').epochs
    assert (epoch.box_loss, epoch.map50, epoch.lr) == (None, None, 0.5)


BLOCK = '\tCommand being timed: "python train.py --batch 6 --epochs 5"\n\tUser time (seconds): 101.50\n\tExit status: 0\n'
DEFAULT = "9.00user 0.50system 0:02.00elapsed {}%CPU (0avgtext+0avgdata 2048maxresident)k\n0inputs+0outputs (0major+1minor)pagefaults\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # What GNU time 1.9 prints of a trainer that was killed in its bar: the block itself says exit status 0
        ("Command terminated by signal 9\n" + BLOCK, ("failed", 137, 101.5)),
        ("Command exited with non-zero status 3\n" + BLOCK, ("failed", 3, 101.5)),
        ("Command exited with non-zero status 3\n" + DEFAULT.format(475), ("failed", 3, 9.0)),
        (DEFAULT.format("?"), ("incomplete", None, 9.0)),
        ("slurm_script: line 28: 3970195 Killed                  python train.py\n", ("failed", None, None)),
    ],
)
def test_how_a_command_ended_is_found_behind_its_bar(read: Read, message: str, expected: tuple[str, int | None, float | None]) -> None:
    result = read(HEADER + "\r" + row("0/4", 0.5, 2) + message)
    assert [(run.status, run.exit_code, run.user_s) for run in result.runs] == [expected]
    assert not result.runs[0].notes


@pytest.mark.parametrize("block", [BLOCK, BLOCK.replace("\t", "")], ids=["as printed", "without its tabs"])
def test_a_time_block_that_other_output_cuts_apart_is_whole(read: Read, block: str) -> None:
    warning = "/usr/lib/resource_tracker.py:216: UserWarning: 12 leaked semaphores\n  warnings.warn('leaked: %d'\n"
    for between in (warning, "Results saved to x\n"):
        run = read("Starting training for 5 epochs\n" + between.join(block.splitlines(keepends=True))).runs[0]
        assert (run.status, run.user_s) == ("ok", 101.5)


@pytest.mark.parametrize("name", ["nsys_2021_two_processes.txt", "nsys_2024.txt", "nvprof_units_row.csv", "nvprof_glued_units.csv"])
def test_a_head_that_is_none_does_not_change_the_table_before(read: Read, name: str) -> None:
    lines = (GOLDEN / name).read_bytes().split(b"\n")
    whole = read(b"\n".join(lines)).kernels
    for number, head in enumerate(lines):
        if b"Name" in head:
            damaged = head.replace(b"Name", b"N\0me")
            for place in range(number + 1, len(lines)):
                found = read(b"\n".join([*lines[:place], b"", damaged, *lines[place:]])).kernels
                assert {(kernel.name, kernel.total_s) for kernel in found} <= {(kernel.name, kernel.total_s) for kernel in whole}


def test_a_command_line_that_contradicts_the_trainer_costs_no_times(read: Read) -> None:
    run = read("Namespace(batch_size=9)\n" + BLOCK).runs[0]
    assert (run.batch_size, run.user_s, run.exit_code) == (None, 101.5, 0)


def test_a_number_that_only_the_end_shows_to_be_none_is_reported(read: Read) -> None:
    result = read(HEADER + row("0/0", 0.5).replace("1.00G", "9" * 310 + "G") + "\n1 epochs completed in 0.001 hours.\n")
    assert "yolo-console: cannot convert float infinity" in result.rejected[0].reason


def test_a_line_with_the_ends_of_two_jobs_is_the_first_ones(read: Read) -> None:
    end = "slurmstepd: error: *** JOB {} ON n1 CANCELLED AT 2024-01-01T00:00:00 DUE TO TIME LIMIT ***"
    result = read(end.format(6) + "\n" + end.format(7) + end.format(8) + "\n")
    assert [run.slurm_job_id for run in result.runs] == ["6", "7"]


def test_an_event_glued_to_a_bar_is_found(read: Read) -> None:
    text = '\r 10%|x| 1/9 [00:01<00:08]:::YOLOPERF {"key": "epoch", "epoch": 1, "map50": 0.5}\n'
    assert read(text).epochs[0].map50 == 0.5


def test_validation_rows_printed_late_belong_to_their_epochs_by_order(read: Read) -> None:
    rows = [f"                 all          10         100         0.{n}         0.{n}         0.{n}        0.0{n}\n" for n in range(1, 6)]
    epochs = [HEADER + row(f"{number}/4", 0.5) + "\n" for number in range(5)]
    late = read("".join(epochs) + "5 epochs completed in 0.001 hours.\n" + "".join(rows))
    flushed_midway = read("".join(epochs[:4]) + "".join(rows[:3]) + epochs[4] + "5 epochs completed in 0.001 hours.\n" + "".join(rows[3:]))
    live = read("".join(e + r for e, r in zip(epochs, rows, strict=True)) + "5 epochs completed in 0.001 hours.\n")
    for result in (late, flushed_midway, live):
        assert [(epoch.epoch, epoch.map50) for epoch in result.epochs] == [(n, n / 10) for n in range(1, 6)]


def test_a_lost_live_validation_row_leaves_a_hole_and_shifts_nothing(read: Read) -> None:
    rows = [f"                 all          10         100         0.{n}         0.{n}         0.{n}        0.0{n}\n" for n in range(1, 5)]
    rows[1] = ""
    text = "".join(HEADER + row(f"{number}/3", 0.5) + "\n" + rows[number] for number in range(4))
    assert [epoch.map50 for epoch in read(text + "4 epochs completed in 0.001 hours.\n").epochs] == [0.1, None, 0.3, 0.4]


def test_an_epoch_that_is_validated_twice_shifts_nothing(read: Read) -> None:
    rows = [f"                 all          10         100         0.{n}         0.{n}         0.{n}        0.0{n}\n" for n in range(1, 5)]
    rows[1] += rows[1].replace("0.2", "0.9")
    text = "".join(HEADER + row(f"{number}/3", 0.5) + "\n" + rows[number] for number in range(4))
    assert [epoch.map50 for epoch in read(text + "4 epochs completed in 0.001 hours.\n").epochs] == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    "recode",
    [
        lambda data: data.decode().encode("utf-16"),
        lambda data: data.decode().encode("utf-16") + b"\x41",  # half a character at the end
        lambda data: b"\xef\xbb\xbf" + data,
        gzip.compress,
    ],
    ids=["utf-16", "utf-16 cut", "byte order mark", "gzip"],
)
def test_encodings_and_packing_change_nothing(read: Read, recode: Callable[[bytes], bytes]) -> None:
    assert without_place(read(recode(STUDY), "b.log")) == without_place(read(STUDY))


def test_windows_line_ends_change_nothing(read: Read) -> None:
    assert without_place(read(STUDY.replace(b"\n", b"\r\n"), "b.log")) == without_place(read(STUDY))


def test_a_damaged_gzip_file_gives_what_it_has(read: Read) -> None:
    result = read(gzip.compress(STUDY)[:-40])
    assert result.runs[0].status == "incomplete"
    assert result.runs[0].batch_size == 6
    assert "damaged" in result.rejected[0].reason


def test_chunks_cut_anywhere_change_nothing() -> None:
    whole = list(LogReader(lambda: Draft("x")).read([STUDY]))
    for size in (7, 100, 4096):
        pieces = [STUDY[start : start + size] for start in range(0, len(STUDY), size)]
        found = list(LogReader(lambda: Draft("x")).read(pieces))
        assert [vars(draft) for draft in found] == [vars(draft) for draft in whole]


def test_an_endless_line_of_redraws_needs_no_endless_memory() -> None:
    piece = ("\r" + row("0/1", 0.5, 3)).encode() * 1000
    draws = [HEADER.encode(), *[piece] * (3 * MAX_LINE_BYTES // len(piece)), ("\r" + row("0/1", 0.125) + "\n").encode()]
    (draft,) = LogReader(lambda: Draft("x")).read(draws)
    assert draft.epochs[1]["box_loss"] == 0.125
    assert draft.line == 2


def test_an_endless_line_without_redraws_is_rejected(read: Read) -> None:
    result = read(b"x" * (MAX_LINE_BYTES + 2 * CHUNK_BYTES) + b"\n")
    assert not result.runs
    assert "a line longer than" in result.rejected[0].reason


def test_several_runs_in_a_file_are_several_rows(read: Read) -> None:
    result = read(STUDY + STUDY.replace(b"61.25", b"99.75"))
    assert [run.user_s for run in result.runs] == [61.25, 99.75]
    assert [len([k for k in result.kernels if k.run_id == run.run_id]) for run in result.runs] == [6, 6]
    first, second = (str(run.run_id) for run in result.runs)
    assert second == first + "#2"


def test_a_traceback_before_a_time_block_is_about_that_block(read: Read) -> None:
    blocks = ""
    for name in ("KeyError: 'a'", "ValueError: b"):
        blocks += f'Traceback (most recent call last):\n  File "x.py", line 1, in <module>\n{name}\n'
        blocks += (GOLDEN / "gnu_time_failed.txt").read_text()
    assert [run.reason for run in read(blocks).runs] == ["KeyError: 'a'", "ValueError: b"]


def test_a_contradiction_leaves_the_value_empty_and_is_reported(read: Read) -> None:
    text = STUDY.replace(b"batch_size=6,", b"batch_size=9,").replace(b"total_batch_size=6,", b"total_batch_size=9,")
    result = read(text)
    assert result.runs[0].batch_size is None
    assert result.runs[0].obj_loss == 0.2709
    assert [(item.line, item.reason.split(":")[0]) for item in result.rejected] == [(4, "batch_size 9 contradicts batch_size 6 of line 1")]


def test_the_file_name_fills_what_the_log_leaves_open(read: Read) -> None:
    text = HEADER + row("0/9", 0.5) + "\n"
    run = read(text, "public_cloud_bs4_ep10_lr1_tiny.txt").runs[0]
    assert (run.platform, run.batch_size, run.epochs, run.model) == ("public_cloud", 4, 10, "yolov3-tiny")
    assert run.notes == "batch_size from the file name; model from the file name"


def test_the_log_is_believed_before_the_file_name(read: Read) -> None:
    run = read(STUDY, "bare_metal_bs4_ep10_lr1.txt").runs[0]
    assert (run.batch_size, run.epochs, run.model) == (6, 3, "yolov3-tiny")
    assert "batch_size 6 from the log; the file name says 4" in str(run.notes)


def test_unknown_lines_are_counted_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("hello\n\n" + HEADER + "what is this\n")
    found: list[tuple[str, int, bytes]] = []
    result = parse_paths([path], lambda *line: found.append(line))
    assert found == [(str(path), 1, b"hello"), (str(path), 4, b"what is this")]
    assert result.runs[0].unknown_lines == 2


def test_a_log_that_ends_in_a_table_row_gives_no_half_number(read: Read) -> None:
    whole = read(STUDY)
    start = STUDY.index(b"User time") + len(b"User time (seconds): 6")
    result = read(STUDY[:start])
    assert result.runs[0].user_s is None
    assert result.runs[0].status == "incomplete"
    assert result.runs[0].biggest_kernel_avg_s == whole.runs[0].biggest_kernel_avg_s


@pytest.mark.parametrize("line", [" " * 30_000 + "1s system ", "1" * 30_000 + "s system ", "Scanning " + "a" * 30_000, "CPU (" * 6_000])
def test_an_odd_line_takes_no_time(read: Read, line: str) -> None:
    began = perf_counter()
    read("Starting training for 3 epochs\nUsing " + line + "\n" + line + "\n")
    assert perf_counter() - began < 0.5


def test_only_an_exit_status_of_zero_is_whole_without_a_line_end(read: Read) -> None:
    block = (GOLDEN / "gnu_time_failed.txt").read_bytes()
    assert read(block.rstrip(b"\n")).runs[0].exit_code == 3  # said by the line before the block
    ok = (GOLDEN / "gnu_time_ok.txt").read_bytes()
    assert read(ok.rstrip(b"\n")).runs[0].status == "ok"
    assert read(ok.replace(b"status: 0\n", b"status: 1")).runs[0].exit_code is None


@pytest.mark.parametrize(
    ("text", "status"),
    [
        *[("1:01:33", 3693.0), ("53:12.28", 3192.28), ("0:00.06", 0.06), ("15:05", None), ("x", None)],
        *[("0m 2.00s", 2.0), ("1h 2m 03s", 3723.0), ("5m 02s", None)],  # BusyBox
    ],
)
def test_elapsed_time(text: str, status: float | None, read: Read) -> None:
    block = (GOLDEN / "gnu_time_ok.txt").read_text()
    old = next(line for line in block.splitlines() if "Elapsed" in line)
    new = old.rpartition(": ")[0] + ": " + text
    assert read(block.replace(old, new)).runs[0].wall_s == status


def test_a_run_that_survived_an_exception_is_judged_by_its_end(read: Read) -> None:
    caught = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nRuntimeError: CUDA out of memory. Tried to allocate\n'
    on = HEADER + row("0/0", 0.5) + "\n" + caught + HEADER + row("0/0", 0.25) + "\n"
    assert read(on + "1 epochs completed in 0.001 hours.\n").runs[0].status == "ok"
    assert read(on).runs[0].status == "incomplete"
    assert read(on + caught).runs[0].status == "oom"


def test_no_kernel_names_are_mixed_up_between_runs(read: Read) -> None:
    result = read(STUDY * 3)
    names = [[k.name for k in result.kernels if k.run_id == run.run_id] for run in result.runs]
    assert all(a == b for a, b in pairwise(names))


def test_validation_rows_flushed_after_an_exception_do_not_make_it_survived(read: Read) -> None:
    stopped = "Traceback (most recent call last):\nRuntimeError: CUDA out of memory. Tried to allocate 1.00 GiB\n"
    flushed = "                 all          10         100         0.5         0.5         0.5        0.05\n"
    run = read(HEADER + row("0/4", 0.5) + "\n" + HEADER + stopped + flushed).runs[0]
    assert (run.status, run.map50) == ("oom", 0.5)


def test_a_profile_written_elsewhere_is_not_missing(read: Read) -> None:
    begun = "==7== NVPROF is profiling process 7, command: python3 train.py\n" + HEADER + row("0/0", 0.5) + "\n"
    done = "1 epochs completed in 0.001 hours.\n"
    assert read(begun + done).runs[0].reason == "the log ends before the nvprof result does"
    assert read(begun + done + "==7== Generated result file: /tmp/other.nvvp\n").runs[0].status == "ok"
