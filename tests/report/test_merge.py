import json
from dataclasses import replace
from pathlib import Path

import pytest

from yoloperf.cli import main
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, from_csv, to_csv
from yoloperf.report.load import load
from yoloperf.report.merge import cell, parts, unlike


def tables(folder: Path, runs: list[RunRecord], epochs: list[EpochRecord] | None = None, kernels: list[KernelRecord] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "runs.csv").write_text(to_csv(RunRecord, runs))
    if epochs is not None:
        (folder / "epochs.csv").write_text(to_csv(EpochRecord, epochs))
    if kernels is not None:
        (folder / "kernels.csv").write_text(to_csv(KernelRecord, kernels))
    return folder / "runs.csv"


def trial(platform: str, name: str, **more: object) -> RunRecord:
    known = {"run_id": f"{platform}/study/{name}", "platform": platform, "sweep": "study", "trial": name, "spec_hash": "h" + name}
    return RunRecord(**{**known, "status": "ok", **more})  # type: ignore[arg-type]


def run_folder(logs: Path, platform: str, name: str) -> None:
    folder = logs / platform / "study" / name
    folder.mkdir(parents=True)
    content = {"platform": platform, "sweep": "study", "trial": name, "spec_hash": "h" + name, "spec": {}, "status": "ok", "attempts": [{}]}
    (folder / "run.json").write_text(json.dumps(content))
    epoch = {"key": "epoch", "time_s": 1.0, "epoch": 1, "map50": 0.5}
    (folder / "console.log").write_text(f":::YOLOPERF {json.dumps(epoch)}\n")


def test_two_platforms_become_one_table_that_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path / "logs", "cluster", "a")
    run_folder(tmp_path / "logs", "cluster", "b")
    rows = [trial("colab", "a", images_per_s=41.5), trial("colab", "c", status="oom")]
    kernels = [KernelRecord(run_id=rows[0].run_id, name="conv", calls=3)]
    other = tables(tmp_path / "colab", rows, [EpochRecord(run_id=rows[0].run_id, epoch=1)], kernels)
    out = tmp_path / "out" / "study.csv"
    assert main(["merge", str(tmp_path / "logs"), str(other), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "study  cluster  2 runs: 2 ok; 1 missing that another platform has: c" in said
    assert "study  colab    2 runs: 1 ok, 1 oom; 1 missing that another platform has: b" in said
    merged = from_csv(RunRecord, out.read_text())
    assert {run.run_id for run in merged} == {"cluster/study/a", "cluster/study/b", "colab/study/a", "colab/study/c"}
    assert {run.images_per_s for run in merged if run.run_id == "colab/study/a"} == {41.5}
    assert [record.run_id for record in from_csv(EpochRecord, out.with_name("study-epochs.csv").read_text())] == [
        *("cluster/study/a", "cluster/study/b", "colab/study/a")
    ]
    assert from_csv(KernelRecord, out.with_name("study-kernels.csv").read_text()) == kernels
    assert (load([out]).epochs, load([out]).kernels) == (load([tmp_path / "logs", other]).epochs, kernels)


def test_merging_leaves_the_epochs_and_kernels_of_another_table_alone(tmp_path: Path) -> None:
    rows = [trial("colab", "a")]
    epochs, kernels = [EpochRecord(run_id=rows[0].run_id, epoch=1)], [KernelRecord(run_id=rows[0].run_id, name="conv")]
    parsed = tables(tmp_path / "here", rows, epochs, kernels)
    other = tables(tmp_path / "other", [trial("cluster", "a")])
    before = {path: path.read_text() for path in parsed.parent.iterdir()}
    assert main(["merge", str(other), "-o", str(parsed.with_name("study.csv"))]) == 0
    assert {path: path.read_text() for path in before} == before
    assert load([parsed.with_name("study.csv")]).epochs == [], "those beside it are of runs.csv"


def test_merging_again_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path / "logs", "cluster", "a")
    out = tmp_path / "runs.csv"
    assert main(["merge", str(tmp_path / "logs"), "-o", str(out)]) == 0
    first = [path.read_text() for path in sorted(tmp_path.glob("*.csv"))]
    assert main(["merge", str(out), str(tmp_path / "logs"), str(out), "-o", str(out)]) == 0
    assert [path.read_text() for path in sorted(tmp_path.glob("*.csv"))] == first
    assert "2 rows were given twice" in capsys.readouterr().out


def test_a_table_without_its_epochs_gets_them_from_the_logs(tmp_path: Path) -> None:
    run_folder(tmp_path / "logs", "cluster", "a")
    old = tables(tmp_path / "old", [trial("cluster", "a", torch="2.4.0")])
    out = tmp_path / "runs.csv"
    assert main(["merge", str(old), str(tmp_path / "logs"), "-o", str(out)]) == 0
    (run,) = from_csv(RunRecord, out.read_text())
    assert (run.torch, run.map50, run.attempts) == ("2.4.0", 0.5, 1), "what either knows"
    assert len(from_csv(EpochRecord, out.with_name("epochs.csv").read_text())) == 1


def test_one_run_with_two_results_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = tables(tmp_path / "one", [trial("a", "x", wall_s=10.0)])
    two = tables(tmp_path / "two", [trial("a", "x", wall_s=11.0)])
    out = tmp_path / "out.csv"
    assert main(["merge", str(one), str(two), "-o", str(out)]) == 2
    assert "wall_s 10.0 and 11.0" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "run_id\n"])
def test_what_is_no_table_is_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(content)
    assert main(["merge", str(path), str(tmp_path / "none"), "-o", str(tmp_path / "o.csv")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "o.csv").exists()


def test_rows_without_trial_names_are_the_same_cell_by_their_work() -> None:
    rows = [
        RunRecord(run_id=str(n), platform=p, model="yolov3", batch_size=b, epochs=1)
        for n, (p, b) in enumerate([("x", 4), ("x", 8), ("y", 4)])
    ]
    assert cell(rows[0]) == cell(rows[2]) != cell(rows[1])
    (_, y) = parts(rows)
    assert y.missing == (cell(rows[1]),)
    assert cell(RunRecord(run_id="only")) == "only"


def test_a_cell_of_another_spec_is_not_the_same_work() -> None:
    same, other = trial("a", "x"), trial("b", "x")
    assert unlike([same, other]) == []
    (found,) = unlike([same, replace(other, spec_hash="edited")])
    assert (found.cell, found.platforms) == ("x", ("a", "b"))


def test_the_published_study_is_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    published = Path(__file__).parents[2] / "logs" / "published-2020" / "runs.csv"
    assert main(["merge", str(published), "-o", str(tmp_path / "o.csv"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["runs"] == 64
    assert [(part["cells"], part["missing"]) for part in result["parts"]] == [(32, []), (32, [])]


def test_rows_without_a_run_id_are_all_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two rows that are alike are two runs unless they say that they are one."""
    path = tables(tmp_path / "in", [RunRecord(batch_size=4, wall_s=10.0), RunRecord(batch_size=4, wall_s=10.0)])
    assert main(["merge", str(path), "-o", str(tmp_path / "out.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2
    assert len(from_csv(RunRecord, (tmp_path / "out.csv").read_text())) == 2
