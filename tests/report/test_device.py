import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.cli import main
from yoloperf.core.record import RunRecord
from yoloperf.core.samples import header, row
from yoloperf.report.charts_runs import device as device_chart
from yoloperf.report.device import POINTS, series, thinned
from yoloperf.report.plots_device import device

START = 1_700_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of two attempts, an hour apart: 10 s and 5 s at a sample a second, two GPUs and the host."""
    run = tmp_path / "logs" / "here" / "sweep" / "trial"
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"status": "ok", "platform": "here", "sweep": "sweep", "trial": "trial", "spec": {"batch_size": 4}})
    )
    (run / "console.log").write_text("")
    lines = [header()]
    for attempt, begin, seconds in ((1, START, 10), (2, START + 3600, 5)):
        for second in range(seconds + 1):
            at = {"time_s": begin + second, "attempt": attempt}
            lines += [row({**at, "gpu": str(gpu), "gpu_util_pct": 10 * gpu + second, "gpu_power_w": 100.0}) for gpu in (0, 1)]
            lines.append(row({**at, "tree_bytes": 2**30, "tree_cpu_s": 1.5 * second}))
    (run / "device.csv").write_text(
        "".join(text if text.endswith("\n") else text + "\n" for text in lines) + "1,2\n" + lines[1].rstrip()[:-4]
    )
    return run


@pytest.fixture
def run(folder: Path) -> RunRecord:
    return RunRecord(run_id="here/sweep/trial", source=str(folder), batch_size=4, epochs=1, status="ok", platform="here")


def test_samples_over_the_time_that_the_run_ran(run: RunRecord) -> None:
    found = {(item.quantity, item.gpu): item.points for item in series(run)}
    assert set(found) == {(name, gpu) for name in ("gpu_util_pct", "gpu_power_w") for gpu in "01"} | {("cores", ""), ("tree_bytes", "")}
    assert found["gpu_util_pct", "1"] == [(float(k), 10.0 + k) for k in range(11)] + [(10.0 + k, 10.0 + k) for k in range(6)]
    assert found["cores", ""] == [(float(k), 1.5) for k in range(1, 11)] + [(10.0 + k, 1.5) for k in range(1, 6)]


def test_a_run_without_samples_has_none(run: RunRecord, folder: Path) -> None:
    assert series(replace(run, source=None)) == []
    assert series(replace(run, source=str(folder / "run.json"))) == []  # a single log: no folder of its own
    (folder / "device.csv").unlink()
    assert series(run) == []
    assert list(device([run])) == []
    assert "device.csv" in str(device_chart([run], ()))


def test_pictures(run: RunRecord, folder: Path) -> None:
    (figure,) = device([run, replace(run, run_id="b", epochs=2)])
    assert [axes.get_title() for axes in figure.axes] == [
        "GPU utilisation (%)",
        "GPU power (W)",
        "CPU cores in use",
        "memory of the process tree",
    ]
    assert [len(axes.lines) for axes in figure.axes] == [4, 4, 2, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1 epoch", "2 epochs"]
    assert len(list(device([replace(run, run_id=str(k), seed=k) for k in range(7)]))) == 2


def test_on_the_page_and_among_the_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = str(tmp_path / "logs")
    assert main(["report", logs, "-o", str(tmp_path / "r.html"), "--json"]) == 0
    assert "Device over time" in json.loads(capsys.readouterr().out)["plots"]
    assert main(["plot", logs, "-o", str(tmp_path / "plots"), "--json"]) == 0
    assert (tmp_path / "plots" / "device.png").is_file()


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=1000), st.integers(1, 50))
def test_thinning_keeps_the_mean_where_parts_are_whole(points: list[tuple[float, float]], count: int) -> None:
    short = thinned(points, count)
    assert len(short) <= count
    if points and len(points) % len(short) == 0:
        assert sum(y for _, y in short) / len(short) == pytest.approx(sum(y for _, y in points) / len(points))
    assert thinned(points[:POINTS]) == points[:POINTS]
