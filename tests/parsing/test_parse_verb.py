"""`yoloperf parse`: folders of mixed logs into three tables, bad input reported, nothing half-written."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parsing.conftest import GOLDEN
from tests.parsing.test_runfolder import make
from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, from_csv, to_csv
from yoloperf.core.rundir import SUPERSEDED, RunDir
from yoloperf.parsing import output
from yoloperf.parsing.output import write_records
from yoloperf.parsing.parse import parse_paths
from yoloperf.parsing.sources import find

STUDY = GOLDEN / "yolov3_2020_nvprof_time.txt"


def parse(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object]]:
    code = main(["parse", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_tables_hold_the_records_that_the_library_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs"
    make(logs / "p" / "s" / "t", profile={"profiler": "torch", "domain": "cpu", "kernels": []})
    (logs / "deep" / "er").mkdir(parents=True)
    for path in GOLDEN.iterdir():
        (logs / "deep" / "er" / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "out" / "runs.csv"
    code, result = parse(capsys, logs, "-o", out)
    library = parse_paths([logs])
    assert (code, result["rejected"], result["runs"]) == (0, 0, len(library.runs))
    assert out.read_text() == to_csv(RunRecord, library.runs)
    assert (out.parent / "epochs.csv").read_text() == to_csv(EpochRecord, library.epochs)
    assert (out.parent / "kernels.csv").read_text() == to_csv(KernelRecord, library.kernels)
    assert sorted(path.name for path in out.parent.iterdir()) == ["epochs.csv", "kernels.csv", "runs.csv"]


def test_several_processes_write_the_same_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_records([GOLDEN], tmp_path / "one" / "runs.csv", jobs=1)
    monkeypatch.setattr(output, "PARALLEL_BYTES", 0)
    totals = write_records([GOLDEN], tmp_path / "two" / "runs.csv", jobs=2)
    assert totals.runs > 30
    for name in ("runs.csv", "epochs.csv", "kernels.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_same_log_twice_is_one_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(STUDY.read_bytes())
    code, result = parse(capsys, tmp_path, tmp_path / "a.txt", "-o", tmp_path / "out" / "runs.csv")
    assert (code, result["runs"], result["duplicates"]) == (0, 1, 1)


def test_a_second_log_of_a_cell_is_a_second_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(STUDY.read_bytes())
    (tmp_path / "b.txt").write_bytes(STUDY.read_bytes().replace(b"61.25", b"61.75"))
    assert [run.user_s for run in parse_paths([tmp_path]).runs] == [61.25, 61.75]


def test_bad_files_are_reported_and_the_rest_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.txt").write_bytes(STUDY.read_bytes())
    (tmp_path / "empty.log").touch()
    (tmp_path / "noise.bin").write_bytes(random.Random(0).randbytes(5000))
    (tmp_path / "prose.txt").write_text("nothing that a machine wrote\n")
    (tmp_path / "rows.csv").write_text("epoch,time,train/box_loss,metrics/mAP50(B)\n")
    (tmp_path / "half.txt").write_bytes("hé".encode()[:-1])
    code, result = parse(capsys, tmp_path, "--rejected", "-o", tmp_path / "out" / "runs.csv")
    rejections = result["rejections"]
    assert isinstance(rejections, list)
    reasons = {Path(item["path"]).name: item["reason"] for item in rejections}
    assert code == 1
    assert result["runs"] == 1
    assert reasons == {
        "empty.log": "the file is empty",
        "noise.bin": "a binary file of no known format",
        "prose.txt": "no line of a known format (`yoloperf parse --formats` lists them)",
        "half.txt": "no line of a known format (`yoloperf parse --formats` lists them)",
        "rows.csv": "a header without rows",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_path_without_permission_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(STUDY.read_bytes())
    path.chmod(0)
    assert parse_paths([path]).rejected[0].reason == "Permission denied"


def test_a_file_that_vanishes_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.symlink_to(tmp_path / "gone")
    assert parse_paths([path]).rejected[0].reason == "No such file or directory"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert parse_paths([tmp_path]).rejected == []
    assert parse_paths([tmp_path / "pipe"]).rejected[0].reason == "not a file"


def test_a_folder_that_may_not_be_entered_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "scandir", refused)
    assert [(item.path, item.reason) for item in parse_paths([tmp_path]).rejected] == [(str(tmp_path), "Permission denied")]


def test_a_name_of_any_bytes_can_be_written(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.log"))
    path.write_bytes(STUDY.read_bytes())
    write_records([path], tmp_path / "out" / "runs.csv")
    assert "caf\ufffd.log" in (tmp_path / "out" / "runs.csv").read_text()


@pytest.mark.parametrize("name", ["epochs.csv", "kernels.csv"])
def test_a_table_does_not_overwrite_another(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is the name of another table"):
        write_records([STUDY], tmp_path / name)


def test_tables_of_two_names_in_a_folder_keep_their_epochs(tmp_path: Path) -> None:
    write_records([GOLDEN], tmp_path / "runs.csv")
    before = (tmp_path / "epochs.csv").read_bytes()
    write_records([STUDY], tmp_path / "one.csv")
    assert (tmp_path / "epochs.csv").read_bytes() == before != (tmp_path / "one-epochs.csv").read_bytes()


def test_a_terminal_of_another_encoding_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("café\nStarting training for 3 epochs\n")
    argv = [sys.executable, "-m", "yoloperf", "parse", "--unknown", "a.log"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"unknown: a.log line 1: caf\xe9" in done.stdout


def test_zeros_at_the_end_of_a_log_do_not_make_it_binary(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(STUDY.read_bytes() + b"\0" * 40_000)
    assert parse_paths([path]).runs[0].user_s == 61.25


def test_a_path_that_is_not_there_is_the_users_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parse", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["parse"]) == 2
    assert main(["parse", str(STUDY), "--jobs", "0"]) == 2


def test_what_lies_beside_logs_is_left_aside_in_folders_only(tmp_path: Path) -> None:
    for name, content in (("README.md", b"# x"), ("plot.png", b"\x89PNG\r\n"), ("best.pt", b"PK\x03\x04"), ("a.log", STUDY.read_bytes())):
        (tmp_path / name).write_bytes(content)
    write_records([tmp_path / "a.log"], tmp_path / "runs.csv")
    (tmp_path / "saved.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "runs.csv").read_bytes())  # by a spreadsheet
    found = find([tmp_path])
    assert [str(source) for source in found.sources] == [str(tmp_path / "a.log")]
    assert {path.name for path in found.aside} == {"README.md", "plot.png", "best.pt", "runs.csv", "saved.csv", "epochs.csv", "kernels.csv"}
    assert parse_paths([tmp_path / "plot.png"]).rejected


def test_run_folders_are_found_in_order_and_superseded_ones_are_not(tmp_path: Path) -> None:
    for name in ("b/run2", "a/run1", f"a/{SUPERSEDED}/run1-abc", "a/run1/weights"):
        RunDir(tmp_path / name).write({"status": "ok"})
    found = [source.path if isinstance(source, RunDir) else source for source in find([tmp_path]).sources]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a/run1", "b/run2"]


def test_superseded_runs_are_left_out(tmp_path: Path) -> None:
    make(tmp_path / "t")
    make(tmp_path / "superseded" / "t-abc")
    assert len(parse_paths([tmp_path]).runs) == 1


def test_nothing_is_touched_when_the_tables_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_records([STUDY], tmp_path / "file" / "runs.csv")
    kept = tmp_path / "runs.csv"
    kept.write_text("before")
    with pytest.raises(UserError, match="does not exist"):
        write_records([tmp_path / "nowhere"], kept)
    assert kept.read_text() == "before"


def test_a_named_kernel_and_shares_by_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "maxwell_fp16_scudnn_winograd_fp16_fp32_128x128_ldg1_ldg4_tile228n_nt"
    code, result = parse(capsys, STUDY, "--kernel", name, "--operators", "-o", tmp_path / "runs.csv")
    assert code == 0
    assert result["kernel_avg_s"] == {str(STUDY): 1.4e-3}
    assert result["operators"] == {
        "Tesla P40": pytest.approx(
            {"convolution weight gradient": 0.4, "convolution": 0.35, "copy": 0.15, "activation": 0.1, "unknown": 0.0}
        )
    }


def test_unknown_lines_are_listed_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, result = parse(capsys, STUDY, "--unknown", "-o", tmp_path / "runs.csv")
    unknown = result["unknown"]
    assert isinstance(unknown, list)
    assert [(item["line"], item["text"].strip()[:12]) for item in unknown][1] == (23, "warnings.war")
    assert "unknown" not in parse(capsys, STUDY, "-o", tmp_path / "runs.csv")[1]


def test_formats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["parse", "--formats"]) == 0
    printed = capsys.readouterr().out
    assert "nvprof-gpu-trace" in printed
    assert "run-folder" in printed


def test_people_are_told_what_was_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        (tmp_path / f"{number}.log").touch()
    assert main(["parse", str(tmp_path), "-o", str(tmp_path / "out" / "runs.csv")]) == 1
    printed = capsys.readouterr().out
    assert printed.count("not read: ") == 20
    assert "... and 5 more: add --rejected" in printed


def test_tables_come_back_as_they_went_in(tmp_path: Path) -> None:
    write_records([GOLDEN], tmp_path / "runs.csv")
    runs = parse_paths([GOLDEN]).runs
    assert from_csv(RunRecord, (tmp_path / "runs.csv").read_text()) == runs
