"""Training through the service, with the real trainer on a few small smears."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, expect, sync_playwright

from tests.conftest import missing
from tests.service.conftest import picture
from tests.service.live import Live
from yoloperf.core import lock
from yoloperf.core.errors import UserError
from yoloperf.core.rundir import RunDir
from yoloperf.datasets import smear
from yoloperf.service import training as queue
from yoloperf.service.limits import Limits
from yoloperf.service.model import ServedModel
from yoloperf.service.runs import comparison
from yoloperf.service.training import Training
from yoloperf.service.training_api import SERVED, events_behind, make_router
from yoloperf.service.training_request import Request

ASKED = {"model": "yolov3-tiny", "data": "smear", "batch_size": 4, "epochs": 1, "lr_scale": 1, "img_size": 64}
CHROMIUM = Path("/usr/bin/chromium")
DRIVER = """
import threading
from pathlib import Path
from yoloperf.service.training import Training
Training(Path("logs"), "here", threads=1).start()
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of a service, with one data set in it and the weights of no other model at hand."""
    folder = tmp_path_factory.mktemp("training")
    smear.generate(folder / "datasets" / "smear", {"train": 12, "val": 4, "test": 1}, size=(160, 120))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("YOLOPERF_DATA", raising=False)
        patch.chdir(folder)
        patch.setattr(queue, "_PROFILER", ("--profiler", "none"))
        yield folder


@pytest.fixture(scope="module")
def trains(house: Path, make_model: Callable[..., ServedModel]) -> Iterator[Live]:
    with Live([make_model()], allow_training=True, training_threads=1, logs=Path("logs")) as service:
        yield service


@pytest.fixture
def idle(house: Path, tmp_path: Path) -> Iterator[Training]:
    """A queue that nobody works off."""
    training = Training(tmp_path, "here", threads=1)
    yield training
    training._held.close()


def ask(service: Live, **values: Any) -> str:
    answer = service.client.post("/api/training", json={**ASKED, **values})
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def follow(service: Live, id: str, behind: str = "0") -> list[dict[str, Any]]:
    """Every message of a run's stream, with the id it came with, until the stream ends."""
    found, last = [], None
    with service.client.stream("GET", f"/api/training/{id}/events", headers={"Last-Event-ID": behind}, timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                last = json.loads(line.removeprefix("data: "))
                found.append(last)
            elif line.startswith("id: ") and last:
                last["behind"] = line.removeprefix("id: ")
    return found


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := what():
            return answer
        time.sleep(0.05)
    pytest.fail("waited in vain")


def error(answer: Any) -> tuple[int, str, str]:
    said = answer.json()["error"]
    assert "\n" not in said["message"]
    return answer.status_code, said["code"], said["message"]


def test_refused_unless_allowed(live: Live) -> None:
    for method, path in (
        ("GET", "/api/training/options"),
        ("POST", "/api/training"),
        ("GET", "/api/runs"),
        ("POST", "/api/training/0001-a/serve"),
    ):
        status, code, message = error(live.client.request(method, path))
        assert (status, code) == (404, "no-training") and "--allow-training" in message
    assert live.client.get("/api/models").json()["training"] is False


def test_what_cannot_be_trained_is_refused_in_one_line(trains: Live, house: Path) -> None:
    options = trains.client.get("/api/training/options").json()
    assert [each["name"] for each in options["data"]] == ["smear"] and options["data"][0]["classes"] == ["WBC", "RBC", "Platelets"]
    assert {"name": "yolov3-tiny", "pretrained": False} in options["models"]
    before = trains.client.get("/api/training").json()
    for values, word in (
        ({"data": "smeer"}, "did you mean 'smear'"),
        ({"data": "bccd"}, "choose from smear"),  # known, and not on this machine
        ({"data": "../datasets/smear"}, "unknown data set"),
        ({"model": "/etc/passwd"}, "unknown model"),
        ({"img_size": 100}, "96 or 128"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 1_000_000}, "epochs"),
        ({"lr_scale": 0}, "lr_scale"),
        ({"name": "x" * 41}, "name"),
        ({"device": "0"}, "device"),
    ):
        status, _, message = error(trains.client.post("/api/training", json={**ASKED, **values}))
        assert status == 422 and word in message, (values, message)
    assert trains.client.get("/api/training").json() == before
    for id in ("0099-none", "..%2f..%2fetc", "0001-%00"):
        assert error(trains.client.get(f"/api/training/{id}"))[0] == 404
    foreign = trains.client.post("/api/training", json=ASKED, headers={"Sec-Fetch-Site": "cross-site"})
    assert error(foreign)[:2] == (403, "cross-site")


def test_request_for_a_training_is_read_within_bounds(trains: Live) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"name": "'
        for _ in range(1000):
            yield b"x" * 1000

    kind = {"Content-Type": "application/json"}
    assert error(trains.client.post("/api/training", content=endless(), headers=kind))[:2] == (413, "request-too-large")
    assert error(trains.client.post("/api/training", content=b"[1", headers=kind))[:2] == (400, "malformed")
    assert error(trains.client.post("/api/training", data=ASKED))[:2] == (415, "unknown-form")


def test_two_runs_in_turn_and_the_result_served(trains: Live) -> None:
    first, second = ask(trains, name="../first run"), ask(trains, epochs=2)
    assert re.fullmatch(r"\d{4}-first-run", first) and second.endswith("-yolov3-tiny-smear")
    assert trains.client.get(f"/api/training/{second}").json()["state"] == "queued"
    assert error(trains.client.post(f"/api/training/{second}/serve"))[:2] == (409, "run-goes-on")

    told = follow(trains, first)
    assert [each["state"] for each in told if each["key"] == "state"][-1] == "done"
    assert [each["key"] for each in told if each["key"] != "state"] == ["run_start", "first_step", "epoch", "run_end"]
    assert told[-1]["key"] == "state"
    epoch = next(each for each in told if each["key"] == "epoch")
    assert epoch["box_loss"] > 0 and epoch["map50"] is not None
    assert [each["key"] for each in follow(trains, first, epoch["behind"])] == ["run_end", "state"]

    told = follow(trains, second)
    assert [each["epoch"] for each in told if each["key"] == "epoch"] == [1, 2]
    runs = {run["id"]: run for run in trains.client.get("/api/training").json()["runs"]}
    assert runs[first]["started_at"] <= runs[second]["started_at"] and runs[second]["epoch"] == 2
    assert runs[second]["map50"] == told[-2].get("map50", runs[second]["map50"]) and runs[second]["weights"]

    assert trains.client.post(f"/api/training/{second}/serve").json() == {"model": second}
    assert trains.client.post(f"/api/training/{second}/serve").status_code == 200
    served = trains.client.get("/api/models").json()["models"]
    assert [(model["name"], model["default"]) for model in served] == [("shapes", True), (second, False)]
    assert served[1]["classes"] == ["WBC", "RBC", "Platelets"] and served[1]["img_size"] == 64
    answer = trains.detect(picture(3), model=second, conf=0.001).json()
    assert answer["model"] == second and {box["name"] for box in answer["results"][0]["boxes"]} <= {"WBC", "RBC", "Platelets"}

    table = trains.client.get("/api/runs").json()
    row = next(row for row in table["rows"] if row["run"] == first)
    cells = dict(zip([column["name"] for column in table["columns"]], row["cells"], strict=True))
    assert row["status"] == "ok" and cells["map50"]["value"] == epoch["map50"] and cells["dataset"]["text"] == "smear"


def test_cancel(trains: Live, house: Path) -> None:
    long, waiting = ask(trains, epochs=500), ask(trains)
    assert trains.client.post(f"/api/training/{waiting}/cancel").status_code == 202
    until(lambda: trains.client.get(f"/api/training/{long}").json()["history"])
    assert trains.client.post(f"/api/training/{long}/cancel").status_code == 202
    assert trains.client.get(f"/api/training/{long}").json()["state"] in ("cancelling", "cancelled")
    told = follow(trains, long)
    assert told[-1]["state"] == "cancelled" and told[-1]["weights"]
    assert next(each for each in told if each["key"] == "run_end")["status"] == "cancelled"
    assert follow(trains, waiting)[-1]["state"] == "cancelled"
    folder = house / "logs" / trains.client.get(f"/api/training/{long}").json()["run_id"]
    assert RunDir(folder).last_weights.is_file()
    assert not (house / "logs" / trains.client.get(f"/api/training/{waiting}").json()["run_id"]).exists()
    assert error(trains.client.post(f"/api/training/{long}/cancel"))[:2] == (409, "run-has-ended")
    assert error(trains.client.post(f"/api/training/{waiting}/serve"))[:2] == (409, "no-weights")


def test_a_restart_goes_on_with_what_was_interrupted(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first service is killed, the second one ends in order, the third one finishes the run."""
    (tmp_path / "datasets").symlink_to(house / "datasets")
    monkeypatch.chdir(tmp_path)
    first = Training(Path("logs"), "here", threads=1)
    id = first.submit(Request(**{**ASKED, "epochs": 9}))
    first._held.close()
    process = subprocess.Popen([sys.executable, "-c", DRIVER])
    run = RunDir(first._job(id).place.run.path)
    until(lambda: first.run(id)["epoch"] >= 2)
    trainers = _trainers(run)
    assert trainers
    process.kill()
    process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in trainers))
    assert first.run(id)["state"] == "queued"

    second = Training(Path("logs"), "here", threads=1)
    second.start()
    until(lambda: second.run(id)["epoch"] >= 4)
    second.close()
    assert second.run(id)["state"] == "queued" and not _trainers(run)

    third = Training(Path("logs"), "here", threads=1)
    third.start()
    try:
        done = until(lambda: third.run(id)["state"] in queue.ENDED and third.run(id))
    finally:
        third.close()
    assert done["state"] == "done" and [epoch["epoch"] for epoch in done["history"]] == list(range(1, 10))
    attempts = (run.read() or {})["attempts"]
    assert [(attempt["resumed"], attempt["status"]) for attempt in attempts] == [(False, "interrupted"), (True, "cancelled"), (True, "ok")]


def _trainers(run: RunDir) -> list[int]:
    """Processes that have the run's folder in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_text()
            if str(run.path) in line and os.readlink(entry / "cwd") == os.getcwd():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_one_service_trains_in_a_folder(idle: Training) -> None:
    with pytest.raises(UserError, match="is being run by process"):
        Training(idle.logs, "here")


def test_run_stays_where_it_is_when_the_machine_has_another_name(idle: Training) -> None:
    """As a container has at every start."""
    id = idle.submit(Request(**ASKED))
    job = idle._job(id)
    job.place.run.path.mkdir(parents=True)
    job.place.run.write({"spec": asdict(job.place.cell.spec), "status": "ok", "wall_s": 10, "attempts": [{}]})
    idle._held.close()
    later = Training(idle.logs, "elsewhere", threads=1)
    assert later.run(id)["state"] == "done" and later._next("auto") is None
    other = later.submit(Request(**ASKED))
    assert {run["id"]: run["run_id"].partition("/")[0] for run in later.runs()} == {id: "here", other: "elsewhere"}
    later._held.close()


def test_queue_is_bounded_and_runs_are_spread_over_devices(idle: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUEUE", 3)
    idle.devices = ["0", "1"]
    ids = [idle.submit(Request(**{**ASKED, "name": name})) for name in ("a", "b", "c")]
    assert ids == ["0001-a", "0002-b", "0003-c"]
    assert [run["device"] for run in reversed(idle.runs())] == ["0", "1", "0"]
    with pytest.raises(queue.Refused) as refused:
        idle.submit(Request(**ASKED))
    assert refused.value.status == 429 and refused.value.retry_after_s
    idle.cancel("0002-b")
    assert idle.submit(Request(**ASKED)).startswith("0004-")


def test_what_fails_says_why_and_the_next_one_runs(house: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").symlink_to(house / "datasets")
    monkeypatch.chdir(tmp_path)
    training = Training(Path("logs"), "here", threads=1)
    taken, gone, whole = (training.submit(Request(**{**ASKED, "name": name})) for name in ("taken", "gone", "whole"))
    asked = Path("logs/.training") / f"{gone}.yaml"
    asked.write_text(asked.read_text().replace("smear.yaml", "bccd.yaml"))  # as if the data set had been removed meanwhile
    with lock.held(Path("logs/here") / taken / ".sweep.lock", "a sweep by hand"):
        training.start()
        try:
            until(lambda: training.run(whole)["state"] == "running")
            assert training.run(taken)["state"] == training.run(gone)["state"] == "failed"
            assert "is being run by process" in training.run(taken)["reason"]
            assert "the data set bccd is not on this machine" in training.run(gone)["reason"]
            with pytest.raises(queue.Refused, match="left no weights"):
                training.weights(gone)
        finally:
            training.close()


def test_trained_models_in_memory_are_bounded(idle: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "weights", lambda id: Path("best.pt"))
    served: list[str] = []
    app = FastAPI()
    app.include_router(make_router(idle, lambda name, weights: served.append(name), lambda: False, Limits()))
    client = TestClient(app)
    for number in range(SERVED):
        assert client.post(f"/api/training/{number}/serve").status_code == client.post(f"/api/training/{number}/serve").status_code == 200
    with pytest.raises(queue.Refused, match="restart the service"):
        client.post("/api/training/more/serve")
    assert served == [str(number) for number in range(SERVED)]


def test_place_that_no_log_has_is_refused(idle: Training) -> None:
    app = FastAPI()
    app.include_router(make_router(idle, lambda name, weights: None, lambda: True, Limits()))
    client = TestClient(app)
    id = idle.submit(Request(**ASKED))
    assert client.get(f"/api/training/{id}/events", headers={"Last-Event-ID": str(2**40)}).status_code == 200
    for place in (str(2**40 + 1), str(2**63), "9" * 5000, "-1", "x"):
        assert client.get(f"/api/training/{id}/events", headers={"Last-Event-ID": place}).status_code == 422, place


def test_events_of_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert list(events_behind(log, 0)) == []
    first, second = (f':::YOLOPERF {{"key": "epoch", "epoch": {number}}}\n' for number in (1, 2))
    log.write_text("Äpfel\n" + first + second[:20])
    [(event, behind)] = events_behind(log, 0)
    assert event["epoch"] == 1
    log.write_text("Äpfel\n" + first + second)
    assert [(event["epoch"], at) for event, at in events_behind(log, behind)] == [(2, log.stat().st_size)]


def test_table_of_runs_names_them_shortly_and_shows_no_figures_of_failed_ones() -> None:
    table = comparison(Path(__file__).parents[2] / "logs" / "cpu-2core")
    assert len({row["run"] for row in table["rows"]}) == len(table["rows"]) > 3
    assert all("cpu-2core" not in row["run"] for row in table["rows"])
    assert [column["name"] for column in table["columns"]][:2] == ["model", "dataset"]
    by_name = {column["name"]: index for index, column in enumerate(table["columns"])}
    assert all(row["cells"][by_name["map50"]]["value"] is not None for row in table["rows"] if row["status"] == "ok")


def test_table_of_an_empty_folder(tmp_path: Path) -> None:
    assert comparison(tmp_path) == {"columns": [], "rows": []}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        missing("no browser for the page's tests: apt-get install -y chromium")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


def test_from_the_form_to_try_it(trains: Live, browser: Browser) -> None:
    tab = browser.new_page()
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda problem: wrong.append(str(problem)))
    tab.goto(trains.url)
    tab.get_by_role("link", name="Training").click()
    start = tab.get_by_role("button", name="Start training")
    expect(start).to_be_enabled()
    tab.get_by_label("Image size").fill("64")
    tab.get_by_label("Batch size").fill("4")
    tab.get_by_label("Epochs", exact=True).fill("3")
    tab.get_by_label("Name").fill("by hand")
    start.click()
    run = tab.locator("article").first
    expect(run.get_by_role("heading")).to_contain_text("by-hand")
    expect(run.locator(".status")).to_have_text("running", timeout=15_000)
    expect(run.locator("polyline")).to_have_count(6, timeout=30_000)  # three losses, three scores
    expect(run.locator(".status")).to_have_text("done", timeout=30_000)
    expect(run.locator("tbody tr")).to_have_count(3)
    assert run.get_by_role("img", name="Losses").locator("polyline").first.get_attribute("points").count(",") == 3
    run.get_by_role("button", name="Try it").click()
    tab.wait_for_url("**/?model=*")
    expect(tab.locator("#model")).to_have_value(re.compile("by-hand"))
    expect(tab.locator("#model-facts")).to_contain_text("3 classes")

    tab.get_by_role("link", name="Runs").click()
    rows = tab.locator("tbody tr")
    expect(rows.filter(has_text="by-hand")).to_have_count(1)
    tab.get_by_role("button", name="epochs").click()
    tab.get_by_role("button", name="epochs").click()
    assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    epochs = [int(text) for text in tab.locator("tbody tr td:nth-child(6)").all_inner_texts()]
    assert epochs == sorted(epochs, reverse=True) and 3 in epochs
    tab.get_by_label("Show runs with").fill("by-hand")
    expect(rows).to_have_count(1)
    assert wrong == []
    tab.close()
