"""Whatever the records hold or lack, every question gets an answer or a UserError, and no answer holds a NaN."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from yoloperf.cli import main
from yoloperf.core.record import STATUSES, EpochRecord, KernelRecord, RunRecord, to_csv
from yoloperf.report.load import Records
from yoloperf.report.page import page

_TEXTS = {
    "status": STATUSES,
    "platform": ("cloud", "bare_metal", "a|b"),
    "model": ("yolov3", "yolov3-tiny", "x_{y}"),
    "biggest_kernel_domain": ("gpu", "cpu"),
}


def quick(examples: int) -> Callable[[Any], Any]:
    """No shrinking: it would draw pictures for minutes, and what fails is told by its own traceback."""
    phases = (Phase.explicit, Phase.generate)
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)


def _value(item: Any) -> st.SearchStrategy[Any]:
    kind = str(item.type).split(" ")[0]
    if item.name == "schema_version":
        return st.just(1)
    if item.name in _TEXTS:
        return st.sampled_from((None, *_TEXTS[item.name]))
    if kind == "int":
        return st.sampled_from((None, 0, 1, 4, 8, 2**33))
    if kind == "float":
        return st.sampled_from((None, 0.0, 0.5, 1.0, 1e-9, 86400.0))
    return st.sampled_from((None, "p", "q r"))


def _records(kind: type, size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.builds(kind, **{item.name: _value(item) for item in fields(kind) if item.name != "run_id"}), max_size=size)


@quick(30)
@given(_records(RunRecord, 8), st.sampled_from(("table", "compare", "findings", "predict")), st.sampled_from(("platform", "batch_size")))
def test_every_verb_answers(runs: list[RunRecord], verb: str, by: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.csv")
        path.write_text(to_csv(RunRecord, runs))
        extra = ["--by", by] if verb == "compare" else []
        assert main([verb, str(path), "--json", *extra]) in (0, 1, 2)


@quick(4)
@given(_records(RunRecord, 6), _records(EpochRecord, 10), _records(KernelRecord, 10))
def test_every_picture_can_be_drawn(runs: list[RunRecord], epochs: list[EpochRecord], kernels: list[KernelRecord]) -> None:
    runs = [replace(run, run_id=str(k)) for k, run in enumerate(runs)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.csv")
        path.write_text(to_csv(RunRecord, runs))
        path.with_name("epochs.csv").write_text(to_csv(EpochRecord, [replace(e, run_id=str(k % 3)) for k, e in enumerate(epochs)]))
        path.with_name("kernels.csv").write_text(to_csv(KernelRecord, [replace(e, run_id=str(k % 3)) for k, e in enumerate(kernels)]))
        assert main(["plot", str(path), "-o", str(Path(folder, "out")), "--json"]) in (0, 1, 2)


@quick(4)
@given(_records(RunRecord, 6), _records(EpochRecord, 10), _records(KernelRecord, 10))
def test_every_page_can_be_written(runs: list[RunRecord], epochs: list[EpochRecord], kernels: list[KernelRecord]) -> None:
    runs = [replace(run, run_id=str(k)) for k, run in enumerate(runs)]
    epochs = [replace(record, run_id=str(k % 3)) for k, record in enumerate(epochs)]
    kernels = [replace(record, run_id=str(k % 3)) for k, record in enumerate(kernels)]
    html = page(Records(runs, epochs, kernels), Path("report.html")).html
    assert "NaN" not in html.partition('id="charts">')[2].partition("</script>")[0]


@quick(6)
@given(_records(RunRecord, 6))
def test_every_bundle_holds(runs: list[RunRecord]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.csv")
        path.write_text(to_csv(RunRecord, [replace(run, run_id=str(k)) for k, run in enumerate(runs)]))
        code = main(["bundle", str(path), "-o", str(Path(folder, "b.zip")), "--json"])
        assert code == (0 if runs else 2)
        assert not runs or main(["verify", str(Path(folder, "b.zip")), "--json"]) == 0


QUESTIONS = ("table", "compare", "findings", "predict", "plot", "report", "bundle")


def ask(verb: str, path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code, and what was said where it refused."""
    out = [] if verb in ("table", "compare", "findings", "predict") else ["-o", str(path.parent / f"out-{verb}")]
    code = main([verb, str(path), "--json", *out])
    said = capsys.readouterr()
    if code != 2:
        json.loads(said.out, parse_constant=pytest.fail)  # NaN and Infinity are no JSON
    return code, said.err.strip().splitlines()[-1] if code == 2 else ""


CELLS = {
    "one row": "run_id,platform,model,batch_size,epochs,status,user_s,recall\na,cloud,yolov3,4,1,ok,10,0.5\n",
    "one platform": "run_id,platform,model,batch_size,epochs,status,user_s\n"
    + "".join(f"{k},cloud,yolov3,{4 * 2 ** (k % 3)},{k},ok,{10 + k}\n" for k in range(1, 7)),
    "no figures": "run_id,platform\na,cloud\nb,baremetal\n",
    "no identity": "run_id,user_s\na,10\nb,20\n",
    "NaN": "run_id,platform,model,batch_size,epochs,status,user_s,recall\na,cloud,yolov3,4,1,ok,nan,nan\nb,metal,yolov3,4,1,ok,inf,-inf\n",
    "two schemas": "run_id,schema_version,platform,model,batch_size,epochs,status,user_s\n"
    "a,1,cloud,yolov3,4,1,ok,9\nb,,metal,yolov3,4,1,ok,8\n",
    "all failed": "run_id,platform,model,batch_size,epochs,status\na,cloud,yolov3,4,1,oom\nb,metal,yolov3,4,1,failed\n",
}
REFUSALS = {
    ("compare", "one row"): "nothing to compare by platform",
    ("compare", "one platform"): "it is only cloud",
    ("compare", "no identity"): "not recorded",
    ("predict", "one row"): "nothing to predict from",
}


@pytest.mark.parametrize("verb", QUESTIONS)
@pytest.mark.parametrize("name", CELLS)
def test_poor_tables(tmp_path: Path, name: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(CELLS[name])
    code, said = ask(verb, path, capsys)
    if (verb, name) in REFUSALS:
        assert code == 2 and REFUSALS[verb, name] in said
    elif verb in ("table", "findings", "report", "bundle"):
        assert code == 0
    else:
        assert code in (0, 1, 2)


def test_a_run_that_is_there_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("run_id,platform,user_s\na,cloud,10\na,cloud,10\nb,cloud,11\n")
    assert main(["table", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2
    path.write_text("run_id,platform,user_s\na,cloud,10\na,cloud,11\n")
    for verb in QUESTIONS:
        assert ask(verb, path, capsys)[0] == 2


def test_100_000_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers about many repeats are those about few of them."""
    path = tmp_path / "runs.csv"
    head = "run_id,platform,model,batch_size,epochs,status,user_s,recall,precision,seed\n"
    rows = [
        f"{platform}-{model}-{size}-{length}-{seed},"
        f"{platform},{model},{size},{length},ok,{length * (10 + 40 / size) * factor},0.5,0.5,{seed}\n"
        for platform, model, factor in (
            ("cloud", "yolov3", 2),
            ("cloud", "yolov3-tiny", 1),
            ("baremetal", "yolov3", 3),
            ("baremetal", "yolov3-tiny", 1.5),
        )
        for size in (4, 8, 16, 32, 64)
        for length in (1, 5, 10, 20, 50)
        for seed in range(1000)
    ]
    path.write_text(head + "".join(rows))
    assert len(rows) == 100_000
    assert main(["findings", str(path), "--json"]) == 0
    verdicts = {item["name"]: item["verdict"] for item in json.loads(capsys.readouterr().out)["findings"]}
    assert (verdicts["tiny-faster"], verdicts["cloud-faster"], verdicts["batch-fastest"]) == ("supported",) * 3
