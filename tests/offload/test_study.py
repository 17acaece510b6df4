"""A study from its file to its page: what is refused, what is resumed, what the page shows."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Browser

from tests.offload import fake
from tests.report.test_page import HOSTILE, Opened
from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.offload import study as studies
from yoloperf.offload.part import Cell, Results
from yoloperf.offload.study import LinkSpec, Place, Study, read_study
from yoloperf.yolo.runtimes import RUNTIMES

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {"name": "mine", "model": "tiny=w.pt", "data": "smear.yaml", "parts": {"load": {}}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder in which the part "load" is a fake."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(studies.PARTS, "load", "tests.offload.fake")
    return tmp_path


def write(path: Path, **changed: Any) -> Path:
    path.write_text(yaml.safe_dump({key: value for key, value in (GOOD | changed).items() if value is not None}))
    return path


def measured() -> list[str]:
    return Path("log.txt").read_text().split() if Path("log.txt").exists() else []


def cell(out: Path, name: str) -> dict[str, Any]:
    content = json.loads((out / "load" / name / "cell.json").read_text())
    assert isinstance(content, dict)
    return content


def test_every_key_of_a_study(tmp_path: Path) -> None:
    links = [{"name": "4g", "up_mbps": 10, "down_mbps": 20.5, "rtt_ms": 50}, {"name": "near"}]
    local = {"runtime": "torch", "precision": "fp32", "threads": 1, "power_w": 15}
    remote = {"name": "cloud", "url": "http://host:8080/", "price_per_hour": 0, "currency": "EUR"}
    study = read_study(
        write(tmp_path / "s.yaml", model="runs/best.pt", links=links, local=local, remote=remote, split="test", images=3, seed=1)
    )
    assert study.links == (LinkSpec("4g", 10e6, 20.5e6, 0.05), LinkSpec("near"))
    assert study.local == Place("local", "torch", "fp32", 1, power_w=15.0)
    assert study.remote == Place("cloud", url="http://host:8080", price_per_hour=0.0, currency="EUR")
    assert (study.model, study.split, study.images, study.seed, study.parts) == ("best=runs/best.pt", "test", 3, 1, {"load": {}})
    assert studies.RUNTIMES == RUNTIMES


BAD = [
    ({"modle": 1}, "unknown key in .*'modle': did you mean 'model'"),
    ({"model": None}, "lacks model: give NAME=WEIGHTS"),
    ({"model": "a b=w.pt"}, "model in .* NAME=WEIGHTS"),
    ({"data": 3}, "data in .* must be a text"),
    ({"split": "vale"}, "'vale': did you mean 'val'"),
    ({"images": 0}, "images in .* at least 1, not 0"),
    ({"images": True}, "images in .* whole number"),
    ({"name": "../x"}, "name in .* letters"),
    ({"parts": {}}, "lacks parts: give settings of one or more"),
    ({"parts": {"scalling": {}}}, "unknown part in .*did you mean 'scaling'"),
    ({"parts": {"load": 3}}, "load in .* must be a mapping"),
    ({"parts": {"load": {"cels": 3}}}, "unknown setting of load 'cels': did you mean 'cells'"),
    ({"local": {"runtime": "onxruntime"}}, "did you mean 'onnxruntime'"),
    ({"local": {"precision": "fp8"}}, "unknown precision in local"),
    ({"local": {"threads": 0.5}}, "threads in local .* whole number"),
    ({"remote": {"url": "host:80"}}, "url in remote .* such as http://"),
    ({"remote": {"power_w": -1}}, "power_w in remote .* greater than 0"),
    ({"remote": {"price_per_hour": 1}}, "price_per_hour in remote of .* lacks its currency: give currency: USD"),
    ({"remote": {"price_per_hour": 1, "currency": "$"}}, "currency in remote .* three letters, such as USD, not '\\$'"),
    ({"local": {"currency": "EUR"}, "remote": {"currency": "USD"}}, "prices in EUR and in USD: state both in one currency"),
    ({"links": {"name": "a"}}, "links in .* must be a list"),
    ({"links": [{"up_mbps": 1}]}, "link 1 of .* lacks its name"),
    ({"links": [{"name": "a", "up_mbps": 0}]}, "up_mbps in link a .* greater than 0"),
    ({"links": [{"name": "a", "up_mbps": float("nan")}]}, "up_mbps in link a"),
    ({"links": [{"name": "a", "rtt_ms": -1}]}, "rtt_ms in link a .* at least 0"),
    ({"links": [{"name": "a", "rtt": 1}]}, "did you mean 'rtt_ms'"),
    ({"links": [{"name": "a"}, {"name": "a"}]}, "has 'a' twice"),
]


@pytest.mark.parametrize(("changed", "says"), BAD)
def test_bad_files_are_one_line(folder: Path, changed: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder / "s.yaml", **changed)
    assert main(["offload", str(path), "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(says, said)
    assert not Path("out").exists()


def test_files_that_are_none(folder: Path) -> None:
    (folder / "offload-mine.yaml").write_text("{")
    with pytest.raises(UserError, match="did you mean 'offload-mine.yaml'"):
        read_study(Path("offload-min.yaml"))
    with pytest.raises(UserError, match="is not YAML"):
        read_study(Path("offload-mine.yaml"))


def test_a_file_behind_only_is_told_to_go_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "s.yaml")
    assert main(["offload", "-o", "out", "--only", "load", "s.yaml"]) == 2
    assert capsys.readouterr().err == "yoloperf: no study FILE was given: --only takes 's.yaml' for a part, so put FILE first\n"
    assert main(["offload", "-o", "out"]) == 2
    assert "no study FILE was given, such as sweeps/offload.yaml" in capsys.readouterr().err


def test_only_what_is_missing_failed_or_asked_for_is_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(folder / "s.yaml", parts={"load": {"broken": "broken"}}), folder / "out"
    run = ["offload", str(path), "-o", str(out)]
    Path("broken").touch()
    assert main([*run, "--dry-run"]) == 0 and not out.exists()
    assert main([*run, "--json"]) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["ok"], result["failed"]) == (["load/0", "load/1", "load/3"], ["load/2"])
    assert measured() == ["0", "1", "3"]
    lost = cell(out, "2")
    assert (lost["status"], lost["reason"], lost["summary"]) == ("failed", "the service is down: start it", None)
    assert (out / "load/2/requests.csv").exists()  # what came before the failure is kept
    assert "load/2: the service is down" in (out / "findings.md").read_text()
    assert "the service is down: start it" in (out / "report.html").read_text()

    Path("broken").unlink()
    capsys.readouterr()
    assert main(run) == 0
    assert "[1/1] load/2" in capsys.readouterr().out
    assert measured() == ["0", "1", "3", "2"] and cell(out, "2")["status"] == "ok"
    assert main([*run, "--redo", "load/[01]"]) == 0
    assert measured()[4:] == ["0", "1"]
    assert main([*run, "--redo", "loads/*"]) == 2
    assert main([*run, "--only", "scaling"]) == 2
    assert main([*run, "--report-only", "--redo", "load"]) == 2

    write(path, links=[{"name": "new"}], local={"power_w": 5}, parts={"load": {}})
    assert main(run) == 0 and len(measured()) == 6  # not what these cells were measured with
    write(path, parts={"load": {"cells": 5}})
    assert main(run) == 0 and measured()[6:] == ["4"]
    write(path, parts={"load": {}}, seed=7)
    assert main([*run, "--report-only"]) == 1  # of another seed: nothing is measured
    assert main(run) == 0 and measured()[7:] == ["0", "1", "2", "3"]


def test_other_weights_are_measured_anew(folder: Path) -> None:
    path, run = write(folder / "s.yaml"), ["offload", "s.yaml", "-o", "out"]
    weights = folder / "w.pt"
    weights.write_bytes(b"a")
    assert main(run) == 0 and main(run) == 0 and len(measured()) == 4
    weights.write_bytes(b"b")
    assert main([*run, "--report-only"]) == 1  # nothing was measured with these
    assert main(run) == 0 and len(measured()) == 8
    weights.unlink()
    assert main([*run[:1], str(path), *run[2:], "--report-only"]) == 0  # on a machine without them


def test_a_study_that_is_resumed_on_another_machine_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["offload", str(write(folder / "s.yaml")), "-o", "out"]
    assert main(run) == 0
    assert "machines" not in Path("out/findings.md").read_text()
    content = cell(Path("out"), "1")
    content["environment"] |= {"hostname": "elsewhere", "cpu_name": "Slow 1000"}
    Path("out/load/1/cell.json").write_text(json.dumps(content))
    Path("out/load/3/cell.json").unlink()
    capsys.readouterr()
    assert main(run) == 0
    here = cell(Path("out"), "3")["environment"]
    line = f"measured on 2 machines, 3 on {here['hostname']} ({here['cpu_name']}) and 1 on elsewhere (Slow 1000): "
    assert line in capsys.readouterr().out and line in Path("out/report.html").read_text()
    said = json.loads(Path("out/results.json").read_text())["answers"][0]["findings"]
    assert [finding["evidence"] for finding in said] == [["0", "1", "2", "3"], ["1"]]  # what the part found, and this
    assert main([*run, "--redo", "load"]) == 0
    assert "machines" not in Path("out/findings.md").read_text()


def test_a_fault_of_ours_takes_one_cell_along(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "s.yaml")
    measure = fake.PART.measure
    ends: dict[str, Any] = {"1": {"rate": float("nan")}, "2": None}

    def faulty(cell: Cell, study: Study, out: Path) -> dict[str, Any]:
        return ends.get(cell.name) or (measure(cell, study, out) if cell.name != "2" else ends["no"])

    monkeypatch.setattr(fake.PART, "measure", faulty)
    assert main(["offload", "s.yaml", "-o", "out"]) == 1
    assert [cell(Path("out"), str(k))["status"] for k in range(4)] == ["ok", "failed", "failed", "ok"]
    assert "a fault of yoloperf: KeyError: 'no'" in cell(Path("out"), "2")["reason"]
    assert "Traceback" in Path("out/load/2/crash.txt").read_text()
    Path("out/load/0/requests.csv").write_text("number\nx\n")
    assert main(["offload", "s.yaml", "-o", "out", "--report-only"]) == 2


def test_a_part_that_cannot_use_what_was_measured_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(done: Any, study: Study) -> Results:
        raise UserError("no picture was answered: measure again")

    write(folder / "s.yaml")
    monkeypatch.setattr(fake.PART, "results", refuse)
    assert main(["offload", "s.yaml", "-o", "out"]) == 0
    assert "not testable: Nothing can be said here: no picture was answered: measure again." in Path("out/findings.md").read_text()
    assert "no picture was answered: measure again" in Path("out/report.html").read_text()


def test_the_same_files_give_the_same_results(folder: Path) -> None:
    path, out = write(folder / "s.yaml"), folder / "out"
    assert main(["offload", str(path), "-o", str(out)]) == 0

    def derived() -> dict[str, bytes]:
        names = ["results.json", "findings.md", "report.html", "tables/load-rates.csv", "plots/load-rate.png"]
        return {name: (out / name).read_bytes() for name in names}

    first = derived()
    assert first["tables/load-rates.csv"] == b"cell,up to,n\n0,1.0 kbit/s,3\n1,11.0 kbit/s,3\n2,21.0 kbit/s,3\n3,31.0 kbit/s,3\n"
    assert "- **How much can one service take?** ✔ supported: It takes up to 30 requests/s & more." in first["findings.md"].decode()
    for name in first:
        (out / name).unlink()
    (out / "plots" / "old.png").touch()
    moved = out.rename(folder / "elsewhere")
    assert main(["offload", str(moved / "study.yaml"), "-o", str(moved), "--report-only"]) == 0
    out = moved
    assert derived() == first and not (out / "plots" / "old.png").exists()


def start(path: Path, out: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.offload.fake", str(path), "-o", str(out)]
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_killed_at_any_time_it_goes_on(folder: Path) -> None:
    """Nothing finished is measured twice, and nothing half measured is taken for whole."""
    path, out = write(folder / "s.yaml", parts={"load": {"cells": 6, "seconds": 0.1}}), folder / "out"
    chance = random.Random(0)
    for _ in range(3):
        with start(path, out) as process:
            assert process.stdout
            process.stdout.readline()  # it has begun
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
    process = start(path, out)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    counts = [measured().count(str(k)) for k in range(6)]
    # a kill may come between the measurement and its record: at most one cell a kill is measured again
    assert min(counts) == 1 and sum(counts) <= 6 + 3
    assert all(cell(out, str(k))["status"] == "ok" for k in range(6))
    assert len(json.loads((out / "results.json").read_text())["parts"]["load"]["cells"]) == 6


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_keeps_what_is_finished(folder: Path, kind: signal.Signals) -> None:
    path, out = write(folder / "s.yaml", parts={"load": {"cells": 3, "seconds": 60.0}}), folder / "out"
    with start(path, out) as process:
        assert process.stdout
        next(line for line in process.stdout if "[2/3]" in line)
        assert main(["offload", str(path), "-o", str(out)]) == 2  # two at once are refused
        process.send_signal(kind)
        said = process.stdout.read()
    assert process.returncode == 130 and "goes on from here" in said
    assert cell(out, "0")["status"] == "ok" and not (out / "load/1/cell.json").exists()


def test_in_a_browser(folder: Path, browser: Browser) -> None:
    links = [{"name": "wifi", "up_mbps": 20, "down_mbps": 20, "rtt_ms": 5}]
    path, out = write(folder / "s.yaml", links=links, data="</pre><script>document.title='broken'</script>.yaml"), folder / "out"
    path.write_text(f"# {HOSTILE[:60]}\n" + path.read_text())
    assert main(["offload", str(path), "-o", str(out)]) == 0
    opened = Opened(browser, out / "report.html", viewport={"width": 1200, "height": 800}, color_scheme="light")
    tab = opened.tab
    assert opened.asked == [(out / "report.html").as_uri()] and opened.wrong == []
    assert tab.title() == "Is it worth offloading? mine"
    assert "It takes up to 30 requests/s & more" in tab.locator("#findings").inner_text()
    assert "Load <b>of nothing</b>" in tab.locator("#load h2").inner_text()
    assert tab.locator("#load .chart svg path").count() > 3
    assert "up 20 Mbit/s" in tab.locator("#machine").inner_text()
    head = tab.locator("#load th", has_text="up to").first
    head.locator("button").click()
    head.locator("button").click()
    assert tab.locator("#load .table tbody tr").first.inner_text().split("\t")[1] == "31.0 kbit/s"
    tab.locator("#load summary").last.click()
    assert tab.locator("#cells-load a").first.get_attribute("href") == "load/0/requests.csv"
    with tab.expect_download() as waiting:  # what a browser does with CSV
        tab.locator("#cells-load a").first.click()
    assert waiting.value.path().read_bytes() == (out / "load/0/requests.csv").read_bytes()
    phone = Opened(browser, out / "report.html", viewport={"width": 375, "height": 700}, color_scheme="dark")
    assert phone.tab.evaluate("document.documentElement.scrollWidth") == 375
    assert phone.wrong == []
