"""Process times of a run folder whose log has no GNU time block: run.json's own accounting, or nothing."""

from pathlib import Path
from typing import Any

import pytest

from yoloperf.core.record import RunRecord
from yoloperf.core.rundir import RunDir
from yoloperf.parsing.parse import parse_paths

SEEN = {"accounting": "wait4", "exit_code": 0, "wall_s": 10.0, "user_s": 12.0, "system_s": 2.0, "max_rss_bytes": 1024}
LOST = {"accounting": None, "exit_code": None, "wall_s": None, "user_s": None, "system_s": None, "max_rss_bytes": None}


def _parse(folder: Path, wall_s: float | None, attempts: list[dict[str, Any]]) -> RunRecord:
    RunDir(folder).write({"status": "ok", "exit_code": 0, "wall_s": wall_s, "attempts": attempts})
    RunDir(folder).console.write_text(':::YOLOPERF {"key": "run_end", "status": "ok", "wall_s": 3.0, "epochs_done": 1}\n')
    (record,) = parse_paths([folder]).runs
    return record


def test_attempts_add_up(tmp_path: Path) -> None:
    record = _parse(tmp_path, 20.0, [SEEN, SEEN | {"max_rss_bytes": 3072}])
    assert (record.wall_s, record.user_s, record.system_s, record.max_rss_bytes) == (20.0, 24.0, 4.0, 3072)
    assert record.cpu_percent == pytest.approx(140)


def test_a_lost_attempt_leaves_the_cells_empty(tmp_path: Path) -> None:
    record = _parse(tmp_path, None, [LOST, SEEN])
    assert (record.wall_s, record.user_s, record.max_rss_bytes, record.cpu_percent) == (None, None, None, None)
    assert record.attempts == 2
