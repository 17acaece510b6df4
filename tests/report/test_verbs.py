import json
from pathlib import Path

import pytest

from yoloperf.cli import main
from yoloperf.report import metrics_doc


def test_metrics_md_is_what_the_registry_says() -> None:
    assert metrics_doc.PATH.read_text() == metrics_doc.document(), "run `python -m yoloperf.report.metrics_doc`"


def test_table_as_text(runs_csv: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["table", str(runs_csv)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("yolov3 on baremetal\n")
    assert "oom: CUDA out of memory" in out
    assert max(map(len, out.splitlines())) <= 100


FORMS = [("markdown", "| ---: |"), ("html", "<table>"), ("latex", r"\toprule"), ("csv", "platform,model,")]


@pytest.mark.parametrize(("form", "words"), FORMS)
def test_table_in_other_formats(runs_csv: Path, capsys: pytest.CaptureFixture[str], form: str, words: str) -> None:
    assert main(["table", str(runs_csv), "--format", form]) == 0
    assert words in capsys.readouterr().out


def test_table_as_json(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(runs_csv), "--json", "--filter", "batch_size=8", "--sort", "user_s", "--columns", "epochs,user_s"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["runs"], result["failed"], result["columns"]) == (8, 1, ["epochs", "user_s"])
    assert result["rows"][0] == {"run_id": "baremetal/yolov3_bs8_ep1", "status": "ok", "reason": None, "epochs": 1, "user_s": 15.0}
    assert result["rows"][-1]["user_s"] is None


def test_all_columns(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(runs_csv), "--columns", "all", "--format", "csv"]) == 0
    header = capsys.readouterr().out.splitlines()[0].split(",")
    assert header[0] == "run_id" and "biggest_kernel_name" in header and "hostname" not in header


@pytest.mark.parametrize("words", [["--columns", "epoch"], ["--sort", "user"], ["--filter", "model=x"]])
def test_bad_flags_are_one_line(runs_csv: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["table", str(runs_csv), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_plot(runs_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(runs_csv), "-o", str(tmp_path / "out"), "--json", "--filter", "model=yolov3", "--filter", "epochs=5"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert sorted(Path(path).name for path in result["pictures"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert result["missing"]["grid-epochs"] == "no two runs differ in epochs"


def test_nothing_to_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs.csv").write_text("run_id\na\n")
    assert main(["plot", str(tmp_path / "runs.csv"), "-o", str(tmp_path / "out")]) == 1
    assert "no picture kernels" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
