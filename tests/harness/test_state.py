import json
from typing import Any

import pytest

from yoloperf.core.errors import UserError
from yoloperf.harness.profilers import gnu_time

BS4 = "yolov3-tiny_smear_bs4_ep2_lr1_s0"
BS8 = "yolov3-tiny_smear_bs8_ep2_lr1_s0"


def why(house: Any) -> dict[str, str]:
    return {cell["trial"]: cell["why"] for cell in house.verb("explain")[1]["cells"]}


def test_explain_names_the_first_difference_and_the_old_run_is_kept(house: Any) -> None:
    house.write(batch=4)
    house.sweep()
    old = house.run(BS4).read()
    house.write(batch=4, img=320)
    assert why(house)[BS4] == "will run: img_size was 416 and is 320 now"
    assert set(house.states().values()) == {"changed"}
    assert house.run(BS4).read() == old, "to look is not to touch"
    assert house.sweep()[0] == 0
    aside = house.folder / "superseded" / f"{BS4}-{old['spec_hash']}"
    assert json.loads((aside / "run.json").read_text()) == old
    assert house.run(BS4).read()["spec"]["img_size"] == 320
    house.write(batch=4)
    house.sweep()
    house.write(batch=4, img=320)
    house.sweep()
    assert (house.folder / "superseded" / f"{BS4}-{old['spec_hash']}-2").is_dir()


def test_a_new_axis_leaves_finished_cells_done(house: Any) -> None:
    house.write(axes={"batch": [4, 8]})
    house.sweep()
    house.write(axes={"batch": [4, 8], "img": [416, 320]})
    assert house.states() == {
        f"{BS4}_img_size416": "ok",
        f"{BS4}_img_size320": "missing",
        f"{BS8}_img_size416": "ok",
        f"{BS8}_img_size320": "missing",
    }
    assert house.sweep()[0] == 0
    assert len(house.runs()) == 4 and len(house.work(BS4)) == 2


def test_a_spec_recorded_before_a_field_existed_counts_with_its_default(house: Any) -> None:
    house.write(batch=4)
    house.sweep()
    content = house.run(BS4).read()
    del content["spec"]["cache"]
    house.run(BS4).write({**content, "spec_hash": "0" * 12})
    assert house.states() == {BS4: "ok"}
    house.run(BS4).write({**content, "spec": {**content["spec"], "gone": 1}})
    assert "no longer valid" in why(house)[BS4]
    del content["spec"]
    house.run(BS4).write(content)
    assert house.states() == {BS4: "changed"}


def test_explain_tells_failed_interrupted_missing_and_done(house: Any) -> None:
    house.write(axes={"batch": [4, 8, 16]})
    assert why(house)[BS4] == "will run: has not run yet"
    house.sweep()
    run = house.run(BS4)
    lines = run.console.read_text().splitlines(keepends=True)
    first_epoch = next(number for number, line in enumerate(lines) if '"key": "epoch"' in line)
    run.console.write_text("".join(lines[: first_epoch + 1]))
    run.write({**run.read(), "status": "running", "exit_code": None})
    failed = house.run(BS8)
    failed.console.write_text("RuntimeError: a reason\n")
    failed.write({**failed.read(), "status": "failed", "reason": "exit code 1: a reason"})
    told = why(house)
    assert told[BS4] == "will go on after epoch 1: interrupted in epoch 2"
    assert told[BS8] == "will run: exit code 1: a reason"
    assert told[BS8.replace("bs8", "bs16")] == "is done"
    content = run.read()
    again = {"started_at": content["started_at"], "resumed": True, "console_offset": run.console.stat().st_size}
    run.write({**content, "attempts": [*content["attempts"], again]})
    assert why(house)[BS4] == "will go on after epoch 1: interrupted in epoch 2", "killed before its trainer said a word"


@pytest.mark.skipif(gnu_time.find() is None, reason="no GNU time here, so nothing but the supervisor sees how a command ends")
def test_a_run_whose_supervisor_died_at_the_very_end_is_not_run_again(house: Any) -> None:
    house.write(axes={"batch": [4, 8]})
    house.sweep()
    for trial in (BS4, BS8):
        run = house.run(trial)
        content = run.read()
        open_attempt = {key: content["attempts"][0][key] for key in ("started_at", "resumed", "console_offset")}
        run.write({**content, "status": "running", "exit_code": None, "wall_s": None, "attempts": [open_attempt]})
    console = house.run(BS8).console
    console.write_text(console.read_text().replace("\tExit status: 0", ""))
    assert house.states() == {BS4: "ok", BS8: "interrupted"}
    assert house.sweep()[0] == 0
    settled, continued = house.run(BS4).read(), house.run(BS8).read()
    assert (settled["status"], settled["exit_code"], len(settled["attempts"])) == ("ok", 0, 1)
    assert settled["wall_s"] is None and continued["wall_s"] is None, "nobody saw how long those attempts took"
    assert [attempt["status"] for attempt in continued["attempts"]] == ["interrupted", "ok"]
    assert len(house.work(BS4)) == len(house.work(BS8)) == 2


def test_a_folder_without_run_json_is_kept_and_the_cell_runs(house: Any) -> None:
    house.write(batch=4)
    house.sweep()
    house.run(BS4).run_json.unlink()
    assert house.states() == {BS4: "missing"}
    assert house.sweep()[0] == 0
    assert (house.folder / "superseded" / f"{BS4}-unknown" / "console.log").exists()


def test_one_trial_can_be_asked_for(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(axes={"batch": [4, 8]})
    house.flags.insert(1, BS8)
    _, result = house.verb("explain")
    assert [cell["trial"] for cell in result["cells"]] == [BS8]
    assert capsys.readouterr().out == f"{BS8}: will run: has not run yet\n"
    with pytest.raises(UserError, match=f"did you mean '{BS8}'"):
        house.flags[1] = BS8[:-1]
        house.verb("explain")


def test_status_is_a_table(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write(axes={"batch": [4, 8]}, hyp="ok", include=[{"batch": 2, "hyp": "oom"}])
    house.sweep()
    capsys.readouterr()
    house.verb("status")
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == f"grid on here: 3 of 3 cells done (1 oom); {house.folder}"
    assert [row.split()[:4] for row in rows] == [
        [f"{BS4}_hypok", "ok", "2/2", "epochs"],
        [f"{BS8}_hypok", "ok", "2/2", "epochs"],
        [f"{BS4.replace('bs4', 'bs2')}_hypoom", "oom", "0/2", "epochs"],
    ]
    assert rows[2].endswith("batch size 2 does not fit")
