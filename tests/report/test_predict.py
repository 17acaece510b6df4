import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord, to_csv
from yoloperf.report.evidence import times
from yoloperf.report.load import load
from yoloperf.report.predict import Cell, elsewhere, fit, fits, gaps, groups, held_out, median_error

from .conftest import make
from .test_published import PUBLISHED

Counts = tuple[int, ...]


def _runs(start: float, image: float, step: float, sizes: Counts = (4, 8, 16), lengths: Counts = (1, 5)) -> list[RunRecord]:
    """Runs that obey the model exactly."""
    return [
        replace(make("a", "m", b, e), train_images=255, user_s=start + image * 255 * e + step * math.ceil(255 / b) * e)
        for b in sizes
        for e in lengths
    ]


def test_bar_epochs_20_of_the_published_runs_within_ten_percent() -> None:
    runs = load([PUBLISHED]).runs
    tried = held_out(runs, "epochs")
    assert len(tried) == 15 and {item.cell.epochs for item in tried} == {20}
    assert all(item.fit.epochs == (1, 5, 10) for item in tried), "the held-out runs must not be in the fit"
    by_cell = {(f"{r.model} on {r.platform} ({r.gpu_name})", r.batch_size): r.user_s for r in runs if r.epochs == 20}
    errors = [abs(item.seconds - seconds) / seconds for item in tried if (seconds := by_cell[item.fit.heading, item.cell.batch_size])]
    assert len(errors) == 15
    assert median(errors) == pytest.approx(median_error(tried))
    assert median(errors) < 0.10


def test_the_failed_cell_gets_a_prediction() -> None:
    (item,) = gaps(load([PUBLISHED]).runs)
    assert (item.fit.heading, item.cell) == ("yolov3-tiny on baremetal (Tesla P40)", Cell(16, 20, 255))
    # between its neighbours at batch sizes 8 and 32
    assert 207.22 < item.seconds < 292.14
    assert item.measured is None and item.error is None


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 100), st.floats(0.001, 1), st.floats(0, 1))
def test_runs_that_obey_the_model_are_predicted_exactly(start: float, image: float, step: float) -> None:
    runs = _runs(start, image, step)
    model = fit(groups(runs)[0], times(runs)[0])
    assert model is not None
    wanted = start + image * 1000 * 20 + step * 32 * 20
    assert model.predict(Cell(32, 20, 1000)) == pytest.approx(wanted, rel=1e-4)


def test_what_the_runs_cannot_tell_is_absent() -> None:
    (one_length,) = fits(_runs(10, 0.1, 0.1, lengths=(5,)))
    assert one_length.start_s is None and one_length.step_s is not None
    (one_size,) = fits(_runs(10, 0.1, 0.1, sizes=(8,), lengths=(1, 5, 10)))
    assert one_size.step_s is None and one_size.start_s == pytest.approx(10, rel=1e-4)
    assert fits(_runs(10, 0.1, 0.1, sizes=(8,))) == []


def test_outside_is_said() -> None:
    runs = _runs(10, 0.1, 0.1)
    (model,) = fits(runs)
    assert model.beyond(Cell(8, 3, 255)) == ""
    assert model.beyond(Cell(64, 300, 118287)) == "batch size, epochs, images"
    (item,) = elsewhere(runs, 8, 3, None)
    assert item.cell.images == 255


def test_failed_runs_are_not_fitted() -> None:
    runs = _runs(10, 0.1, 0.1)
    runs[0] = replace(runs[0], status="timeout", user_s=1.0)
    (model,) = fits(runs)
    assert model.count == len(runs) - 1
    assert [item.cell for item in gaps(runs)] == [Cell(4, 1, 255)]


def test_platforms_do_not_mix() -> None:
    slow = [replace(run, platform="b", run_id=f"b{run.run_id}", user_s=10 * (run.user_s or 0)) for run in _runs(10, 0.1, 0.1)]
    fast, other = fits([*_runs(10, 0.1, 0.1), *slow])
    assert other.image_s == pytest.approx(10 * fast.image_s)


def test_trainers_and_numbers_of_processes_do_not_mix_and_are_named() -> None:
    one = _runs(10, 0.1, 0.1)
    two = [replace(run, run_id=f"two {run.run_id}", processes=2, user_s=(run.user_s or 0) / 2) for run in one]
    other = [replace(run, run_id=f"other {run.run_id}", engine="ultralytics") for run in one]
    found = fits([*one, *two, *other])
    assert [model.heading for model in found] == ["m on a", "m on a, processes 2", "m on a, ultralytics"]
    assert found[1].image_s == pytest.approx(found[0].image_s / 2, rel=1e-4)
    assert [model.heading for model in fits(one)] == ["m on a"]


@pytest.mark.parametrize(("column", "words"), [("gpu_name", "AB"), ("cpu_name", "AB"), ("threads", (1, 8)), ("workers", (1, 8))])
def test_devices_and_threads_of_a_platform_do_not_mix(column: str, words: Sequence[object]) -> None:
    fast = [replace(run, **{column: words[0]}) for run in _runs(10, 0.1, 0.1)]
    slow = [replace(run, **{column: words[1]}, run_id=f"b{run.run_id}", user_s=10 * (run.user_s or 0)) for run in _runs(10, 0.1, 0.1)]
    one, other = fits([*fast, *slow])
    assert other.image_s == pytest.approx(10 * one.image_s)
    assert str(words[0]) in one.heading and str(words[1]) in other.heading


def test_a_run_that_failed_before_it_named_its_gpu_parts_no_others() -> None:
    runs = [replace(run, gpu_name="A", cpu_name="C") for run in _runs(10, 0.1, 0.1)]
    lost = replace(runs[0], gpu_name=None, status="failed")
    assert [model.count for model in fits([*runs, lost])] == [6]
    on_the_processor = [replace(run, gpu_name=None, user_s=9 * (run.user_s or 0)) for run in runs]
    assert [model.heading for model in fits([*runs, *on_the_processor])] == ["m on a (A)", "m on a"]


def test_what_older_records_lack_and_what_a_batch_limits_splits_no_fit() -> None:
    older = _runs(10, 0.1, 0.1)
    newer = [replace(run, run_id=f"n{run.run_id}", processes=1, threads=2, workers=run.batch_size) for run in older]
    assert [model.count for model in fits([*older, *newer])] == [12]


def test_a_longest_length_that_no_run_finished_is_not_held_out() -> None:
    runs = [replace(run, status="timeout") if run.epochs == 20 else run for run in _runs(10, 0.1, 0.1, lengths=(1, 5, 10, 20))]
    assert {item.cell.epochs for item in held_out(runs)} == {10}


def test_nothing_to_predict_from() -> None:
    for lacking in (make("a", "m", 4, 1), replace(make("a", "m", 4, 1), batch_size=0, train_images=10)):
        with pytest.raises(UserError, match="train_images"):
            fits([lacking])


def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(PUBLISHED), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["held_out"]["median_error"] < 0.10
    assert [item["batch_size"] for item in result["predictions"]] == [16]
    assert main(["predict", str(PUBLISHED), "--batch-size", "64", "--epochs", "300", "--images", "118287"]) == 0
    assert "batch size, epochs, images" in capsys.readouterr().out
    assert main(["predict", str(PUBLISHED), "--epochs", "300"]) == 2
    path = tmp_path / "runs.csv"
    path.write_text(to_csv(RunRecord, _runs(10, 0.1, 0.1, lengths=(1,))))
    assert main(["predict", str(path)]) == 0
    out = capsys.readouterr().out
    assert "every cell of the grid has a finished run" in out and "no error is known" in out
