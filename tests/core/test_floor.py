import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core.errors import UserError, choose, exit_code
from yoloperf.core.events import PREFIX, emit, read
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, columns, from_csv, to_csv
from yoloperf.core.rundir import RunDir, write_atomic
from yoloperf.core.units import show_bytes, show_seconds
from yoloperf.parsing import quantity


@given(st.floats(1e-9, 1e6), st.integers(1, 10**15))
def test_what_is_shown_is_near_the_value(duration: float, size: int) -> None:
    shown = show_seconds(duration)
    read_back = quantity.clock if ":" in shown else quantity.seconds
    assert read_back(shown.encode()) == pytest.approx(duration, rel=0.01, abs=0.5 if ":" in shown else 0)
    assert quantity.size(show_bytes(size).encode()) == pytest.approx(size, rel=0.01)


def test_choose_suggests() -> None:
    with pytest.raises(UserError, match="unknown fruit 'aple': did you mean 'apple'. choose from apple, pear"):
        choose("aple", ["pear", "apple"], "fruit")


def test_a_command_ends_quietly_when_nobody_reads_it() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = "from yoloperf.core.errors import exit_code; raise SystemExit(exit_code('x', lambda: print('lost') or 5))"
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupted_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> int:
        raise KeyboardInterrupt

    assert exit_code("x", act) == 130
    assert capsys.readouterr().err == "x: interrupted\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key not in ("key", "time_s", "stream")), json_values, max_size=4))
def test_events_come_back_whatever_stands_before_them(fields: dict[str, object]) -> None:
    out = io.StringIO()
    emit("note", out, **fields)
    line = out.getvalue()
    assert line.count("\n") == 1
    events, rejected = read(["noise", "[task 0] " + line.rstrip("\n")])
    assert not rejected and events[0]["key"] == "note"
    assert {name: events[0][name] for name in fields} == fields


def test_nan_is_null_and_a_broken_event_is_handed_back() -> None:
    out = io.StringIO()
    emit("epoch", out, loss=math.nan, deep={"x": [math.inf, 1.5]})
    line = out.getvalue()
    assert json.loads(line.removeprefix(PREFIX))["loss"] is None
    events, rejected = read([line, line[:-8], PREFIX + "[1]", PREFIX + '{"no": "key"}'])
    assert len(events) == 1 and len(rejected) == 3


@pytest.mark.parametrize("record_type", [RunRecord, EpochRecord, KernelRecord])
def test_registry_is_complete_and_csv_round_trips(record_type: type) -> None:
    values: dict[str, object] = {}
    for number, (name, item) in enumerate(columns(record_type).items()):
        assert item.metadata["title"] and item.metadata["source"] and item.metadata["doc"].endswith("."), name
        assert item.default is None, f"{name}: absent must be None"
        kind = str(item.type)
        values[name] = 3 * number if kind.startswith("int") else number + 0.25 if kind.startswith("float") else f'a,"{number}"\nb'
        assert item.metadata["show"](values[name])
    full, empty = record_type(**values), record_type()
    assert from_csv(record_type, to_csv(record_type, [full, empty])) == [full, empty]


def test_csv_of_another_version_is_read() -> None:
    assert from_csv(EpochRecord, "epoch,unheard_of\n3,x\n") == [EpochRecord(epoch=3)]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(UserError, match=r"cannot write .*a\.json: No space left on device"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and [item.name for item in tmp_path.iterdir()] == ["a.json"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder or make room"):
        write_atomic(tmp_path / "file" / "a.json", "x")


def test_unreadable_run_json_is_none(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.read() is None
    run.run_json.write_text('{"status": "o')
    assert run.read() is None
