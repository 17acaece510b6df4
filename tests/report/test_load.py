from dataclasses import replace
from pathlib import Path

import pytest

from yoloperf.core.errors import UserError
from yoloperf.core.record import SCHEMA_VERSION, EpochRecord, RunRecord, to_csv
from yoloperf.report.load import load


def test_tables_come_with_their_epochs(runs_csv: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    records = load([runs_csv])
    assert records.runs == study
    assert records.epochs == epochs
    assert records.kernels == []


def test_the_results_of_another_trainer_are_a_log() -> None:
    (run,) = load([Path(__file__).parents[1] / "golden" / "results_8_3.csv"]).runs
    assert run.map50 is not None


def test_the_same_run_twice_counts_once(runs_csv: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    records = load([runs_csv, runs_csv])
    assert len(records.runs) == len(study)
    assert len(records.epochs) == len(epochs)


def test_one_name_for_two_runs_is_refused(tmp_path: Path, runs_csv: Path, study: list[RunRecord]) -> None:
    other = tmp_path / "other.csv"
    other.write_text(to_csv(RunRecord, [replace(study[0], user_s=1.0)]))
    with pytest.raises(UserError, match="twice with different facts"):
        load([runs_csv, other])


def test_a_folder_without_logs_is_read_by_its_table(runs_csv: Path, study: list[RunRecord]) -> None:
    (runs_csv.parent / "README.md").write_text("where this comes from\n")
    assert load([runs_csv.parent]).runs == study


def test_raw_logs_count_for_more_than_a_table_beside_them(tmp_path: Path, runs_csv: Path, study: list[RunRecord]) -> None:
    log = "\tCommand being timed: \"python train.py --batch 4\"\n\tUser time (seconds): 12.5\n\tExit status: 0\n"
    (tmp_path / "run.txt").write_text(log)
    assert [run.user_s for run in load([tmp_path]).runs] == [12.5]
    lower = tmp_path / "published"
    lower.mkdir()
    runs_csv.rename(lower / "runs.csv")
    assert len(load([tmp_path]).runs) == 1 + len(study)


def test_nan_and_infinity_are_absent(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run_id,user_s,wall_s,map50,batch_size,max_rss_bytes,gpu_mem_bytes\na,nan,inf,0.5,4,inf,nan\n")
    (run,) = load([path]).runs
    assert (run.user_s, run.wall_s, run.map50, run.batch_size) == (None, None, 0.5, 4)
    assert (run.max_rss_bytes, run.gpu_mem_bytes) == (None, None)


def test_an_epoch_that_is_there_twice_counts_once(runs_csv: Path, epochs: list[EpochRecord]) -> None:
    path = runs_csv.with_name("epochs.csv")
    path.write_text(to_csv(EpochRecord, [*epochs, *epochs]))
    assert load([runs_csv]).epochs == epochs


def test_a_table_with_the_mark_of_a_spreadsheet_is_read(runs_csv: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    for path in (runs_csv, runs_csv.with_name("epochs.csv")):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    records = load([runs_csv])
    assert (records.runs, records.epochs) == (study, epochs)


def test_columns_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run_id,colour\na,blue\n")
    assert load([path]).runs == [RunRecord(run_id="a")]
    path.write_text(f"run_id,schema_version\na,{SCHEMA_VERSION + 1}\n")
    with pytest.raises(UserError, match="update yoloperf"):
        load([path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no column run_id"),
        (b"a,b\n1,2\n", "no column run_id"),
        (b"run_id;wall_s\na;1,5\n", "semicolons: save it with commas"),
        (b"run_id\n", "no run in"),
        (b"run_id,batch_size\na,four\n", "four"),
        (b"run_id\n\xff\xfe\n", "cannot read"),
    ],
)
def test_what_is_no_table_of_runs_is_said_in_a_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load([path])
    assert "\n" not in str(caught.value)


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load([tmp_path / "nowhere.csv"])
