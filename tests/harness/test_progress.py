from pathlib import Path

from yoloperf.core.spec import TrialSpec
from yoloperf.harness.progress import EventTail, left_s
from yoloperf.harness.sweepfile import Cell


def cell(epochs: int, model: str = "yolov3-tiny") -> Cell:
    return Cell("", TrialSpec(cfg=model, epochs=epochs))


def test_the_rest_is_estimated_per_epoch_from_cells_of_its_kind() -> None:
    walls = [(cell(1), 10.0), (cell(3), 50.0), (cell(1, "yolov3"), 100.0)]
    assert left_s([cell(2)], walls) == 2 * 60 / 4
    assert left_s([cell(2), cell(5, "yolov3")], walls) == 30 + 500
    assert left_s([cell(5, "unknown")], walls) == 5 * 160 / 5
    assert left_s([], walls) == 0
    assert left_s([cell(2)], []) is None


def test_a_growing_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text(':::YOLOPERF {"key": "old"}\n')
    tail = EventTail(log, log.stat().st_size)
    with log.open("a") as stream:
        stream.write('said\n:::YOLOPERF {"key": "a"}\n:::YOLOPERF {"key')
        stream.flush()
        assert [event["key"] for event in tail.read()] == ["a"]
        stream.write('": "b"}\n')
        stream.flush()
        assert [event["key"] for event in tail.read()] == ["b"]
        assert tail.read() == []
    assert EventTail(tmp_path / "absent", 0).read() == []
