import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from yoloperf.cli import main
from yoloperf.core.record import RunRecord, to_csv

from .test_published import PUBLISHED


def coco(capsys: pytest.CaptureFixture[str], *paths: Path) -> dict[str, list[dict[str, object]]]:
    assert main(["predict", *map(str, paths), "--coco", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_published_runs_by_other_means(capsys: pytest.CaptureFixture[str]) -> None:
    """Tiny on the T4: relative least squares in plain numpy of user time / CPU share, stretched to COCO, at 0.53 an hour."""
    found = {item["where"]: item for item in coco(capsys, PUBLISHED)["by_runs"]}
    assert set(found) == {f"{m} on {p}" for m in ("yolov3", "yolov3-tiny") for p in ("cloud (Tesla T4)", "baremetal (Tesla P40)")}
    frame = pd.read_csv(PUBLISHED / "runs.csv").query("platform == 'cloud' and model == 'yolov3-tiny' and status == 'ok'")
    seconds = (frame.user_s / frame.cpu_percent * 100).to_numpy()
    steps = frame.epochs * np.ceil(frame.train_images / frame.batch_size)
    terms = np.column_stack([np.ones(len(frame)), frame.epochs * frame.train_images, steps])
    solved, *_ = np.linalg.lstsq(terms / seconds[:, None], np.ones(len(frame)), rcond=None)
    assert (solved >= 0).all(), "so that the bound at 0 of the fit does not matter"
    cell = np.array([1.0, 300 * 118_287, 300 * np.ceil(118_287 / 32)])
    assert found["yolov3-tiny on cloud (Tesla T4)"]["seconds"] == pytest.approx(float(cell @ solved), rel=1e-6)
    tiny = found["yolov3-tiny on cloud (Tesla T4)"]
    assert tiny["cost"] == pytest.approx(float(str(tiny["seconds"])) / 3600 * 0.53)
    assert tiny["beyond"] == "epochs, images"
    assert found["yolov3 on baremetal (Tesla P40)"]["cost"] is None


def test_cards_alone_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    """YOLOv3 at 416 px on an H200: 300 x (3 x 118287 + 5000) x 65.86 GFLOP at 6 to 26 % of 989.4 TFLOP/s."""
    found = {(item["card"], item["model"]): item for item in coco(capsys, PUBLISHED)["by_cards"]}
    flop = 300 * (3 * 118_287 + 5_000) * 65.86e9
    assert found["H200 SXM", "yolov3"]["seconds"] == [pytest.approx(flop / 989.4e12 / share) for share in (0.26, 0.06)]
    assert ("Tesla P40", "yolov3") not in found, "no tensor cores: the published efficiency is not its own"
    for item in found.values():
        price = item["price"]
        assert isinstance(price, dict)
        assert set(price) == {"as_of", "source", "verified", "note"}


def test_what_cannot_be_estimated_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(
        to_csv(RunRecord, [RunRecord(run_id="a", model="own", batch_size=4, epochs=1, train_images=9, wall_s=2.0, status="ok")])
    )
    assert main(["predict", str(path), "--coco"]) == 2
    assert "nothing to estimate COCO from" in capsys.readouterr().err


def test_a_time_that_does_not_grow_with_the_work_gives_no_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Start-up alone, stretched to COCO, would be minutes of a training."""
    path = tmp_path / "runs.csv"
    cells = [(size, length) for size in (4, 8) for length in (1, 2, 4)]
    runs = [
        RunRecord(run_id=f"{b} {e}", model="own", batch_size=b, epochs=e, train_images=9, wall_s=60.0 - e, status="ok") for b, e in cells
    ]
    path.write_text(to_csv(RunRecord, runs))
    assert main(["predict", str(path), "--coco"]) == 2
    assert "nothing to estimate COCO from" in capsys.readouterr().err


def test_people_read_hours_money_and_where_prices_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(PUBLISHED), "--coco"]) == 0
    said = capsys.readouterr().out
    assert "COCO, 300 epochs, by these runs" in said
    assert " h  " in said
    assert "price: Tesla P40: no cost, since card Tesla P40 has no price" in said
    assert "unverified" in said
