"""check-table: a published table against logs that bear it out, or do not."""

import csv
import json
from pathlib import Path

import pytest

from tests.parsing.conftest import GOLDEN
from yoloperf.cli import main
from yoloperf.parsing.check_table import check, read_published, same
from yoloperf.parsing.parse import parse_paths

STUDY = GOLDEN / "yolov3_2020_nvprof_time.txt"
ROW = {
    "platform": "baremetal",
    "device": "Tesla P40",
    "model": "yolov3-tiny",
    "batch_size": "6",
    "epochs": "3",
    "status": "ok",
    "user_time_s": "61.25",
    "cpu_percent": "98",
    "max_rss_kib": "3345678",
    "biggest_kernel_avg_us": "1400",
    "precision": "0.5",
    "recall": "0.275",
    "objectness": "0.2709",
    "classification": "0.02233",
}
WINOGRAD = "maxwell_fp16_scudnn_winograd_fp16_fp32_128x128_ldg1_ldg4_tile228n_nt"


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(ROW))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_table_that_its_log_bears_out(tmp_path: Path) -> None:
    result = check(read_published(write(tmp_path / "t.csv", ROW)), parse_paths([STUDY]))
    assert (result.rows, result.compared, result.cells, result.differences, result.without_log) == (1, 1, 8, [], [])


def test_a_named_kernel_that_is_not_the_biggest_is_said(tmp_path: Path) -> None:
    result = check(read_published(write(tmp_path / "t.csv", ROW)), parse_paths([STUDY]))
    (named,) = result.named_kernels
    assert (named.device, named.name, named.rows, named.biggest_in) == ("Tesla P40", WINOGRAD, 1, 0)
    (row,) = result.misleading
    assert (row.published_kernel, row.published_us, row.biggest_us) == (WINOGRAD, 1400.0, 2000.0)
    assert "wgrad_alg0_engine" in row.biggest_kernel


@pytest.mark.parametrize(
    ("column", "value", "log"),
    [
        ("user_time_s", "61.26", 61.25),
        ("cpu_percent", "97", 98.0),
        ("max_rss_kib", "3345679", 3345678.0),
        ("recall", "0.274", 0.275),
        ("objectness", "0.271", 0.2709),
        ("classification", "0.02234", 0.02233),
        ("biggest_kernel_avg_us", "1400.1", None),
        ("precision", "", 0.5),
    ],
)
def test_every_cell_that_differs_is_listed(tmp_path: Path, column: str, value: str, log: float | None) -> None:
    result = check(read_published(write(tmp_path / "t.csv", {**ROW, column: value})), parse_paths([STUDY]))
    (found,) = result.differences
    assert (found.column, found.log) == (column, log)


@pytest.mark.parametrize(
    ("first", "second", "digits", "expected"),
    [(0.3475, 0.347, 3, True), (0.3475, 0.348, 3, True), (0.3476, 0.347, 3, False), (0.0, 0.0, 3, True), (0.0, 1e-9, 3, False)],
)
def test_equal_within_the_printed_digits(first: float, second: float, digits: int, expected: bool) -> None:
    assert same(first, second, digits) is same(second, first, digits) is expected


def test_rows_without_a_log_and_logs_of_no_row(tmp_path: Path) -> None:
    failed = {**ROW, "batch_size": "16", "status": "failed"}
    (tmp_path / "again.txt").write_bytes(STUDY.read_bytes().replace(b"61.25", b"99.00"))
    result = check(read_published(write(tmp_path / "t.csv", ROW, failed)), parse_paths([STUDY, tmp_path / "again.txt"]))
    assert result.without_log == ["Tesla P40 yolov3-tiny batch 16 epochs 3 (published as failed)"]
    assert result.differences == []  # the log that fits is the row's
    assert result.other_logs == [str(tmp_path / "again.txt")]


def test_the_verb_says_it_all_and_its_exit_code_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "t.csv", {**ROW, "user_time_s": "60"})
    assert main(["check-table", str(table), str(STUDY)]) == 1
    printed = capsys.readouterr().out
    assert "differs: Tesla P40 yolov3-tiny batch 6 epochs 3: user_time_s published 60, log 61.25" in printed
    assert "the biggest in 0 of 1 logs" in printed
    assert main(["check-table", "--json", str(write(table, ROW)), str(STUDY)]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == 8


def test_a_table_as_a_spreadsheet_leaves_it(tmp_path: Path) -> None:
    """With a byte order mark, and rows that end where their last value stands."""
    device_first = {"device": ROW["device"], **ROW}
    values = list(device_first.values())
    rows = [list(device_first), values, values[:-3], [*values[:2], "6"]]
    (tmp_path / "t.csv").write_text("\ufeff" + "".join(",".join(row) + "\n" for row in rows))
    result = check(read_published(tmp_path / "t.csv"), parse_paths([STUDY]))
    assert (result.rows, result.compared, len(result.without_log)) == (3, 2, 1)
    assert [found.column for found in result.differences] == ["recall", "objectness", "classification"]


@pytest.mark.parametrize("value", ["nan", "inf", "-"])
@pytest.mark.parametrize("column", ["precision", "biggest_kernel_avg_us"])
def test_what_is_no_number_is_no_value(tmp_path: Path, column: str, value: str) -> None:
    result = check(read_published(write(tmp_path / "t.csv", {**ROW, column: value})), parse_paths([STUDY]))
    assert [(found.published, found.log) for found in result.differences] == ([(None, 0.5)] if column == "precision" else [])


def test_tables_that_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.csv").write_text("device,model\n")
    (tmp_path / "other.csv").write_text("device,model,epochs\nT4,yolov3,1\n")
    for name, said in (("none.csv", "No such file"), ("empty.csv", "holds no rows"), ("other.csv", "has no column batch_size")):
        assert main(["check-table", str(tmp_path / name), str(STUDY)]) == 2
        assert said in capsys.readouterr().err
