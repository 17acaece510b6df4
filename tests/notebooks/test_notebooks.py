"""The notebooks: clean as committed, and run by a real kernel from the form to the zip, twice, and after everything was killed."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

from yoloperf.core.rundir import RunDir
from yoloperf.report.load import load

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DRIVER, RESULTS = ROOT / "notebooks" / "training_driver.ipynb", ROOT / "notebooks" / "results.ipynb"
FORM = {"img_size": 64, "batch_sizes": [8], "epochs": [1], "platform": "here"}
TRIAL = "yolov3-tiny_smear_bs8_ep{}_lr1_s0"


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def code(book: Any) -> dict[str, str]:
    """Code cells by id, as Python: shell lines and magics become calls."""
    transform = TransformerManager().transform_cell
    return {cell.id: transform(cell.source) for cell in book.cells if cell.cell_type == "code"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_committed_without_traces_of_a_run(path: Path) -> None:
    book = read(path)
    nbformat.validate(book)
    assert book.metadata.keys() <= {"kernelspec", "language_info", "accelerator"}
    for cell in book.cells:
        assert cell.metadata.keys() <= {"tags"}
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_reads_from_the_top(path: Path) -> None:
    """A title with three lines of what it does, and a heading above every cell of code but the second of a step."""
    book = read(path)
    title, blank, *text = book.cells[0].source.splitlines()
    assert title.startswith("# ") and not blank and len(text) == 3
    for before, cell in zip(book.cells, book.cells[1:], strict=False):
        assert cell.cell_type == "markdown" or before.cell_type == "markdown"
    assert sum(cell.source.startswith("## ") for cell in book.cells) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_defines_nothing_and_asks_in_a_form(path: Path) -> None:
    book = read(path)
    for name, text in code(book).items():
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)], name
    (form,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    fields = [line for line in form.source.splitlines() if not line.startswith("#@")]
    assert fields and all("  #@param " in line for line in fields)


def command(folder: Path, notebook: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Arguments for subprocess: papermill, its kernel in `folder`, with no data but what the notebook makes there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("YOLOPERF_DATA", "COLAB_RELEASE_TAG")}
    environment |= {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_CONFIG_DIR": str(folder / "jupyter")}
    environment["OMP_WAIT_POLICY"] = "passive"  # threads that spin on a busy machine take ten times as long
    flags = ["--cwd", str(folder), "--no-progress-bar", "-y", yaml.safe_dump(parameters)]
    argv = [sys.executable, "-m", "papermill", str(notebook), str(folder / notebook.name), *flags]
    return {"args": argv, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def execute(folder: Path, notebook: Path, **parameters: Any) -> Any:
    done = subprocess.run(**command(folder, notebook, parameters), timeout=240)
    assert done.returncode == 0, done.stdout
    return read(folder / notebook.name)


def printed(book: Any, name: str) -> str:
    (cell,) = (cell for cell in book.cells if cell.get("id") == name)
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def shown(book: Any, kind: str) -> list[str]:
    return [output.data[kind] for cell in book.cells for output in cell.get("outputs", []) if kind in output.get("data", {})]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def first(folder: Path) -> Any:
    return execute(folder, DRIVER, **FORM)


def test_from_the_form_to_the_zip(first: Any, folder: Path) -> None:
    results = folder / "out" / "yoloperf"
    (run,) = load([results / "runs.csv"]).runs
    assert (run.status, run.platform, run.batch_size, run.epochs, run.img_size) == ("ok", "here", 8, 1, 64)
    assert "\r" in printed(first, "run") and f"epoch 1/1 of {TRIAL.format(1)}" in printed(first, "run"), "no live line"
    assert sum("batch size" in table for table in shown(first, "text/html")) == 1
    pictures = {path.stem for path in (results / "plots").glob("*.png")}
    assert {"curves", "kernels", "operators-cpu"} <= pictures and len(shown(first, "image/png")) == len(pictures)
    names = set(zipfile.ZipFile(results / "notebook.zip").namelist())
    logs = f"logs/here/notebook/{TRIAL.format(1)}"
    assert {"notebook.yaml", "runs.csv", "plots/curves.png", f"{logs}/run.json", f"{logs}/console.log"} <= names
    assert not [name for name in names if name.endswith((".pt", ".zip", ".lock"))]


def test_run_all_again_trains_nothing(first: Any, folder: Path) -> None:
    run = RunDir(folder / "out/yoloperf/logs/here/notebook" / TRIAL.format(1))
    before = {path: path.stat().st_mtime_ns for path in (run.run_json, run.console, run.last_weights)}
    again = execute(folder, DRIVER, **FORM)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "1 of 1 cells done" in printed(again, "run")
    assert len(shown(again, "image/png")) == len(shown(first, "image/png"))


def test_stopped_then_killed_and_run_all_goes_on(first: Any, folder: Path) -> None:
    """The button Stop in the second epoch; then the machine goes away in the third: papermill, kernel, sweep and training at once."""
    form = {**FORM, "epochs": [4], "results_folder": "cut", "profiler": "none"}
    run = RunDir(folder / "out/cut/logs/here/notebook" / TRIAL.format(4))
    with subprocess.Popen(**command(folder, DRIVER, form)) as process:
        (kernel,) = (child for child in wait_for_epoch(1, run, process) if "ipykernel_launcher" in child.cmdline())
        kernel.send_signal(signal.SIGINT)
        assert "stopped: Run all goes on from here" in process.communicate(timeout=60)[0]
    assert json.loads(run.run_json.read_text())["status"] in ("cancelled", "preempted")
    with subprocess.Popen(**command(folder, DRIVER, form)) as process:
        family = [*wait_for_epoch(2, run, process), psutil.Process(process.pid)]
        for member in family:
            member.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)
    assert json.loads(run.run_json.read_text())["status"] == "running"
    book = execute(folder, DRIVER, **form)
    content = run.read()
    assert content is not None and content["status"] == "ok"
    assert [attempt["resumed"] for attempt in content["attempts"]] == [False, True, True]
    assert [epoch.epoch for epoch in load([folder / "out/cut/runs.csv"]).epochs] == [1, 2, 3, 4]
    assert "1 of 1 cells done" in printed(book, "run")


def wait_for_epoch(number: int, run: RunDir, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until so many epochs are logged; returns all processes below papermill."""
    while process.poll() is None and not (run.console.is_file() and run.console.read_text().count('"key": "epoch"') >= number):
        time.sleep(0.05)
    return psutil.Process(process.pid).children(recursive=True)


def test_a_wrong_field_stops_with_a_sentence(first: Any, folder: Path) -> None:
    done = subprocess.run(**command(folder, DRIVER, {**FORM, "img_size": 100}), timeout=120)
    assert done.returncode == 1
    assert "img_size 100 is not a multiple of 32" in printed(read(folder / DRIVER.name), "sweep-file")


def test_results_of_the_published_study(folder: Path) -> None:
    book = execute(folder, RESULTS, runs=str(ROOT / "logs/published-2020/runs.csv"), plots_folder="published")
    assert printed(book, "load").startswith("64 runs")
    study, comparison = shown(book, "text/html")
    assert study.count("<caption>") == 4 and "cloud / baremetal" in comparison
    assert "may be compared with care" in printed(book, "fairness")
    assert "CONTRADICTED: Both models reach the higher objectness" in printed(book, "findings")
    assert len(shown(book, "image/png")) == len(list((folder / "published").glob("*.png"))) >= 4


def test_results_of_a_single_run(first: Any, folder: Path) -> None:
    book = execute(folder, RESULTS, runs="out/yoloperf/runs.csv", plots_folder="single")
    assert printed(book, "load").startswith("1 runs, 1 epochs")
    assert "nothing to compare" in printed(book, "compare") and printed(book, "fairness") == ""
    assert (folder / "single" / "curves.png").is_file()
