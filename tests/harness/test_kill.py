"""Real SIGKILLs: whatever dies, the same cells get done, none twice, none lost."""

import json
import os
import random
import signal
import time
from typing import Any

from yoloperf.core import lock

BS4 = "yolov3-tiny_smear_bs4_ep2_lr1_s0"


def test_the_training_dies_with_the_sweep(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="hang")
    process = house.start()
    ((_, trainer),) = helpers.wait_for(lambda: house.work(BS4))
    os.kill(process.pid, signal.SIGKILL)
    helpers.wait_for(lambda: not helpers.alive(trainer))
    assert house.states() == {BS4: "interrupted"}
    crumb = house.run(BS4).path / ".run.json.abcdefgh"  # a kill within write_atomic leaves one
    crumb.write_text("{")
    house.write(batch=4, hyp="ok")
    assert house.sweep()[0] == 0
    assert not crumb.exists()


def test_an_orphan_keeps_its_cell(house: Any, helpers: Any, monkeypatch: Any) -> None:
    house.write(batch=4, hyp="stubborn")
    process = house.start()
    pids = [pid for _, pid in helpers.wait_for(lambda: len(house.work(BS4)) == 2 and house.work(BS4))]
    os.kill(process.pid, signal.SIGKILL)
    trainer, child = pids
    helpers.wait_for(lambda: not helpers.alive(trainer))
    assert lock.is_held(house.run(BS4).lock), "the trainer's child lives on and may still write"
    monkeypatch.setattr("yoloperf.harness.supervise._ORPHAN_S", 0.2)
    code, result = house.sweep()
    assert code == 1 and result["cells"][0]["state"] == "running"
    os.kill(child, signal.SIGKILL)
    helpers.wait_for(lambda: not lock.is_held(house.run(BS4).lock))
    assert house.states() == {BS4: "interrupted"}


def test_a_killed_trainer_is_a_failed_cell(house: Any, helpers: Any) -> None:
    house.write(batch=4, hyp="hang")
    process = house.start()
    ((_, trainer),) = helpers.wait_for(lambda: house.work(BS4))
    os.kill(trainer, signal.SIGKILL)
    process.communicate(timeout=10)
    assert process.returncode == 1
    content = house.run(BS4).read()
    assert (content["status"], content["exit_code"]) == ("failed", 137)
    assert content["reason"].startswith("killed by signal 9: training yolov3-tiny")


def test_any_number_of_kills_ends_in_the_same_set_of_finished_cells(house: Any, helpers: Any) -> None:
    house.write(axes={"batch": [4, 8, 16]}, epochs=3, hyp="slow")  # 1.8 s of training: two kills come before its end on any machine
    chance = random.Random(2020)
    kills = 0
    while True:
        process = house.start()
        time.sleep(chance.uniform(0.2, 0.9))
        if process.poll() is None and kills < 12:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
            process.communicate()
        else:
            process.communicate(timeout=30)
            break
    assert process.returncode == 0
    assert kills >= 2
    runs = house.runs()
    assert {content["spec"]["batch_size"]: content["status"] for content in runs.values()} == {4: "ok", 8: "ok", 16: "ok"}
    assert not (house.folder / "superseded").exists(), "a cell failed, or two processes worked on it at once"
    interruptions = 0
    for trial, content in runs.items():
        statuses = [attempt["status"] for attempt in content["attempts"]]
        assert statuses == ["interrupted"] * (len(statuses) - 1) + ["ok"]
        assert all(attempt["resumed"] for attempt in content["attempts"][1:])
        interruptions += len(statuses) - 1
        assert json.loads(house.run(trial).last_weights.read_text()) == [15, helpers.chain(content["spec_hash"], 15)]
        epochs = [epoch for epoch, _ in house.work(trial)]
        assert sorted(set(epochs)) == [1, 2, 3] and epochs == sorted(epochs), "an epoch that was finished was trained again"
        assert len(epochs) - 3 <= len(statuses) - 1, "a kill lost more than the epoch that was running"
    assert interruptions <= kills
