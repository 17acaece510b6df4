import csv
import io
from dataclasses import fields, replace

import pytest

from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord
from yoloperf.report import render
from yoloperf.report.columns import FIGURES, RUN_COLUMNS, SECTIONS, STUDY
from yoloperf.report.tables import default_columns, order, raw_csv, select, tables

from .conftest import make


def _text(runs: list[RunRecord], names: list[str] | None = None) -> str:
    return render.text(tables(order(runs), names), 120)


def test_sections_and_figures_name_columns_of_the_registry() -> None:
    names = list(RUN_COLUMNS)
    starts = [names.index(first) for first in SECTIONS.values()]
    assert starts == sorted(starts) and starts[0] == 0
    assert set(STUDY) - {"batch_size", "epochs"} <= FIGURES
    assert not FIGURES & {"platform", "model", "status", "reason", "gpu_name", "hostname", "train_images"}


def test_study_layout_is_a_table_for_each_platform_and_model(study: list[RunRecord]) -> None:
    parts = tables(order(study))
    assert [part.title for part in parts] == ["yolov3 on baremetal", "yolov3-tiny on baremetal", "yolov3 on cloud", "yolov3-tiny on cloud"]
    assert parts[0].headings == [
        "batch size",
        "epochs",
        "user time",
        "CPU",
        "max RSS",
        "biggest GPU activity avg",
        "precision",
        "recall",
        "objectness",
        "classification",
    ]
    assert parts[0].rows[0].cells == ["4", "1", "20.0 s", "99 %", "1.00 GiB", "400 us", "0.000", "1.000", "0.1235", "0.00345"]


def test_platform_leads_where_it_alone_varies(study: list[RunRecord]) -> None:
    (part,) = tables(order(select(study, ["model=yolov3"])))
    assert part.headings[:3] == ["platform", "batch size", "epochs"]
    (part,) = tables(order(select(study, ["model=yolov3", "platform=cloud"])))
    assert part.headings[0] == "batch size"


def test_a_failed_run_shows_its_status_in_place_of_figures(study: list[RunRecord]) -> None:
    lines = _text(study).splitlines()
    failed = next(line for line in lines if "oom" in line)
    assert " ".join(failed.split()) == "8 5 oom: CUDA out of memory <16 GiB> & 100 % | full_up"


def test_a_status_column_replaces_nothing(study: list[RunRecord]) -> None:
    (part,) = tables(study, ["run_id", "status", "max_rss_bytes"])
    assert part.rows[-1].cells == ["baremetal/yolov3-tiny_bs8_ep5", "oom", "2.00 GiB", study[-1].reason]


def test_columns_with_a_name_after_a_figure_get_a_status_of_their_own(study: list[RunRecord]) -> None:
    (part,) = tables(study, ["user_s", "run_id"])
    assert part.headings == ["user time", "run", "status", "reason"]
    assert not any(row.note for row in part.rows)


def test_only_failures() -> None:
    lost = RunRecord(run_id="a", batch_size=4, epochs=1, status="timeout")
    (part,) = tables([lost, replace(lost, run_id="b", batch_size=8, reason="limit of 60 s")])
    assert part.headings == ["batch size", "epochs", "status", "reason"]
    assert part.rows[1].cells == ["8", "1", "timeout", "limit of 60 s"]
    for form in render.FORMATS.values():
        assert "limit of 60 s" in form([part])


def test_one_row_and_nothing_known() -> None:
    assert "20.0 s" in _text([make("cloud", "yolov3", 4, 1)])
    assert _text([RunRecord(run_id="x.log")]).splitlines()[2] == "x.log"
    assert _text([RunRecord()])


def test_absent_columns_are_left_out_unless_asked_for(study: list[RunRecord]) -> None:
    runs = [replace(run, precision=None) for run in study]
    assert "precision" not in default_columns(runs)
    assert "precision" in _text(runs, ["batch_size", "precision"])


def test_zero_is_shown_and_absent_is_empty() -> None:
    (part,) = tables([make("a", "m", 4, 1), replace(make("a", "m", 8, 1), precision=None)])
    column = part.headings.index("precision")
    assert [row.cells[column] for row in part.rows] == ["0.000", ""]


def test_a_cpu_operator_is_called_so_and_a_mixture_says_which(study: list[RunRecord]) -> None:
    cpu = [replace(run, biggest_kernel_domain="cpu") for run in study if run.status == "ok"]
    assert "biggest CPU operator avg" in tables(cpu)[0].headings
    assert "biggest_kernel_domain" in default_columns([*cpu, *study])


def test_repeats_are_told_apart() -> None:
    runs = [replace(make("a", "m", 4, 1), run_id=f"run{k}", seed=k) for k in range(3)]
    assert default_columns(runs)[:3] == ["batch_size", "epochs", "seed"]
    assert "run_id" in default_columns([replace(run, seed=0) for run in runs])


def test_thousand_rows(study: list[RunRecord]) -> None:
    runs = [replace(run, run_id=f"{k}/{run.run_id}", seed=k) for k in range(63) for run in study]
    text = _text(runs)
    assert len(runs) == 1008
    assert sum("1.000" in line or "oom" in line for line in text.splitlines()) == 1008
    assert max(map(len, text.splitlines())) <= 120
    assert "nan" not in text.lower() and "None" not in text


def test_csv_is_the_registry_raw(study: list[RunRecord]) -> None:
    names = [item.name for item in fields(RunRecord)]
    rows = list(csv.DictReader(io.StringIO(raw_csv(study, names))))
    for run, row in zip(study, rows, strict=True):
        assert row == {name: "" if getattr(run, name) is None else str(getattr(run, name)) for name in names}


def test_csv_of_a_failed_run_says_so(study: list[RunRecord]) -> None:
    rows = list(csv.DictReader(io.StringIO(raw_csv(study, ["batch_size", "user_s"]))))
    assert rows[-1] == {"batch_size": "8", "user_s": "", "status": "oom", "reason": study[-1].reason}


def test_select(study: list[RunRecord]) -> None:
    assert {run.batch_size for run in select(study, ["batch_size=4"])} == {4}
    assert len(select(study, ["batch_size=4,8", "model=yolov3"])) == 8
    assert [run.status for run in select(study, ["user_s="])] == ["oom"]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("batch_siz=4", "did you mean 'batch_size'"),
        ("batch_size=four", "batch_size is a number"),
        ("batch_size", "is not column=value"),
        ("platform=moon", "platform is baremetal, cloud"),
    ],
)
def test_a_wrong_filter_says_what_there_is(study: list[RunRecord], condition: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        select(study, [condition])


def test_sorted_with_absent_last(study: list[RunRecord]) -> None:
    times = [run.user_s for run in order(study, "user_s", descending=True)]
    assert times[-1] is None
    known = [time for time in times if time is not None]
    assert known == sorted(known, reverse=True) and len(known) == len(study) - 1


def test_a_setting_that_only_some_recorded_is_no_column_and_one_that_sets_tables_apart_is_their_heading(study: list[RunRecord]) -> None:
    engines = {"cloud": "yolov3", "baremetal": "yoloperf"}
    runs = [replace(run, engine=engines[run.platform or ""], accumulate=1 if run.batch_size == 4 else None) for run in study]
    parts = tables(order(runs))
    assert [part.title for part in parts[:2]] == ["yolov3 on baremetal, yoloperf", "yolov3-tiny on baremetal, yoloperf"]
    assert all(part.headings[:2] == ["batch size", "epochs"] for part in parts)
