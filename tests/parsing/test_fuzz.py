"""No bytes make a parser crash, hang or invent a number."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.parsing.conftest import GOLDEN
from yoloperf.parsing.draft import Draft, Run
from yoloperf.parsing.formats import file_formats, line_formats
from yoloperf.parsing.formats.base import LineFormat
from yoloperf.parsing.lines import LogReader
from yoloperf.parsing.parse import parse_paths

LOGS = sorted(path for path in GOLDEN.iterdir() if path.stat().st_size < 12_000 and path.suffix != ".json")
FRAGMENTS = [line for path in LOGS for line in path.read_bytes().split(b"\n") if line.strip()]
# What the reader itself decides, and what only the end of a log says
NOT_READ = {"run_id", "source", "format", "rejected_lines", "unknown_lines", "notes", "status", "reason", "schema_version"}
# Counts and sums over what is there so far; the biggest of the kernels so far; the epoch at hand
SO_FAR = {
    "epochs_done",
    "iterations",
    "total_loss",
    "step_time_s",
    "data_time_s",
    "images_per_s",
    "gpu_util_pct",
    "gpu_power_w",
    "gpu_mem_peak_bytes",
    "profile_reason",
    "command",
}
LAST = {"box_loss", "obj_loss", "cls_loss", "dfl_loss", "precision", "recall", "map50", "map50_95"}


def read(content: bytes) -> list[Run]:
    drafts = LogReader(lambda: Draft("x")).read([content] if content else [])
    return [draft.finish(str(number)) for number, draft in enumerate(drafts) if not draft.empty]


def numbers(run: Run) -> Iterator[Any]:
    yield from vars(run.record).values()
    for epoch in run.epochs:
        yield from vars(epoch).values()
    for row in run.kernels:
        yield from row


def assert_sound(runs: list[Run]) -> None:
    for run in runs:
        assert all(math.isfinite(value) for value in numbers(run) if isinstance(value, float))
        assert run.record.status in (None, "ok", "oom", "timeout", "preempted", "cancelled", "failed", "incomplete")


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_a_log_cut_at_any_byte_says_nothing_that_the_whole_one_does_not(path: Path) -> None:
    content = path.read_bytes()
    whole = read(content)
    epochs = {(epoch.run_id, epoch.epoch): vars(epoch) for run in whole for epoch in run.epochs}
    kernels = {row[:8] for run in whole for row in run.kernels}
    trace = any("trace" in (run.record.format or "") for run in whole)
    for cut in range(len(content)):
        runs = read(content[:cut])
        assert_sound(runs)
        assert len(runs) <= len(whole)
        for run, complete in zip(runs, whole, strict=False):
            found, expected = vars(run.record), vars(complete.record)
            for name in found.keys() - NOT_READ - SO_FAR - LAST:
                if not name.startswith("biggest_kernel"):
                    assert found[name] in (None, expected[name]), (cut, name)
            for name in LAST & found.keys():
                seen = {epoch[name] for (run_id, _), epoch in epochs.items() if run_id == complete.record.run_id}
                assert found[name] in {None, expected[name], *seen}, (cut, name)
            for epoch in run.epochs:
                of_whole = epochs[epoch.run_id, epoch.epoch]
                for name, value in vars(epoch).items():
                    assert value in (None, of_whole[name]) or name in ("train_s", "val_s", "gpu_mem_peak_bytes"), (cut, name)
            if not trace:
                assert {row[:7] for row in run.kernels} <= {row[:7] for row in kernels}, cut
            if found["status"] == "ok":
                assert expected["status"] == "ok", cut


@pytest.mark.parametrize("foreign", [b"WARNING: another program printed this", b""], ids=["a line", "a blank line"])
@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_what_others_print_between_the_lines_of_a_log_changes_no_number(path: Path, foreign: bytes) -> None:
    def numbers(lines: list[bytes]) -> list[Any]:
        runs = read(b"\n".join(lines))
        return [({**vars(run.record), "unknown_lines": None}, [vars(epoch) for epoch in run.epochs], run.kernels) for run in runs]

    lines = path.read_bytes().split(b"\n")
    whole = numbers(lines)
    for place in range(1, len(lines)):
        assert numbers([*lines[:place], foreign, *lines[place:]]) == whole, place


@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=60), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r", b""]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_mixture_of_lines_is_read_soundly(lines: list[bytes], end: bytes) -> None:
    assert_sound(read(end.join(lines)))


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_lines_are_read_soundly(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(LOGS)).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        damage = data.draw(st.binary(max_size=4) | st.sampled_from([b"nan", b"1e999", b"-", b"%"]))
        content[place : place + data.draw(st.integers(0, 3))] = damage
    assert_sound(read(bytes(content)))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_rejected(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    result = parse_paths([path])
    assert result.runs or result.rejected
    assert any(kind.sniff(content) in (True, False) for kind in file_formats())


@pytest.mark.parametrize("kind", line_formats(), ids=lambda kind: kind.name)
def test_a_table_takes_any_line_for_a_row_or_refuses_it(kind: type[LineFormat]) -> None:
    for method, *heads in kind.heads:
        for line in FRAGMENTS:
            if any(re.match(head, line.lstrip()) for head in heads):
                draft = Draft("x")
                reader = kind(draft)
                block = getattr(reader, method)(line)
                if callable(block):
                    for other in FRAGMENTS[::5]:
                        block(other)
                reader.finish()
                assert draft.finish("x").record.run_id == "x"
