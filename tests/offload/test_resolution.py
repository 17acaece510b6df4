import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vl_convert

from tests.offload.pictures import make_data, measured, study
from tests.service.live import Live
from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.request import RequestRecord
from yoloperf.datasets.config import class_names, load_data_config
from yoloperf.datasets.labels import Split
from yoloperf.offload.accuracy import measure_accuracy
from yoloperf.offload.kept import release, service_url
from yoloperf.offload.part import Cell, Done
from yoloperf.offload.pictures import FULL, Picture
from yoloperf.offload.resolution import PART
from yoloperf.offload.study import LinkSpec, Place, Study
from yoloperf.report.evidence import NOT_TESTABLE
from yoloperf.service.limits import Limits
from yoloperf.service.model import ServedModel
from yoloperf.yolo.evaluate import score
from yoloperf.yolo.runtimes import make_runtime
from yoloperf.yolo.weights import load_weights

QUICK: dict[str, Any] = {"sizes": [16, FULL], "quality": [50, 95], "requests": 3, "resamples": 10}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("few") / "few")


def test_the_grid_has_the_original_files_once(data: Path) -> None:
    cells = PART.cells(study(data, None, "resolution", {"sizes": [32, FULL, 64], "quality": [95, 50]}))
    assert [cell.name for cell in cells] == ["shapes_full", *(f"shapes_{size}_q{quality}" for size in (64, 32) for quality in (50, 95))]
    assert len(PART.cells(study(data, None, "resolution", {}))) == 1 + 8 * 3
    assert all(json.dumps(cell.settings, allow_nan=False) for cell in cells)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"qualities": [50]}, "did you mean 'quality'"),
        ({"sizes": [0]}, "sizes are pixels of the longer side"),
        ({"sizes": []}, "sizes are pixels"),
        ({"sizes": 64}, "sizes must be a list"),
        ({"sizes": ["whole"]}, "or full"),
        ({"quality": [101]}, "quality is that of JPEG, 1 to 100"),
        ({"quality": [True]}, "quality is that of JPEG"),
        ({"models": ["tiny"]}, "NAME=WEIGHTS"),
        ({"models": ["a=x.pt", "a=y.pt"]}, "one name twice"),
        ({"requests": 0}, "requests is a whole number of at least 1"),
        ({"resamples": 1}, "resamples is a whole number of at least 2"),
        ({"seconds": -1}, "seconds is a number greater than 0"),
    ],
)
def test_bad_settings_are_named(data: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PART.cells(study(data, None, "resolution", settings))


def test_a_link_may_not_be_called_as_the_way_without_one(data: Path) -> None:
    with pytest.raises(UserError, match="loopback is the name"):
        PART.cells(study(data, None, "resolution", {}, LinkSpec("loopback", 1e6)))


def test_measures_bytes_accuracy_and_round_trips(data: Path, live: Live, tmp_path: Path) -> None:
    of = study(data, live.url, "resolution", QUICK, LinkSpec("far", rtt_s=0.05))
    done = [measured(PART, cell, of, tmp_path / cell.name) for cell in PART.cells(of)]
    files = [(data.parent / "images" / f"{number}.jpg").stat().st_size for number in range(6)]
    full = done[0].summary
    assert full["file_bytes"] == sum(files) / 6 and full["class_boxes"] == {"disc": 6, "square": 6}
    assert done[1].summary["file_bytes"] < done[2].summary["file_bytes"] < full["file_bytes"]
    for one in done:
        cells = [record.cell for record in one.requests]
        assert [cells.count(f"{one.cell.name}@{way}") for way in ("accuracy", "direct", "far")] == [6, 3, 3]
        assert all(record.error is None and record.status == 200 for record in one.requests)
        way_s = [record.round_trip_s for record in one.requests if record.cell == f"{one.cell.name}@far"]
        assert min(seconds for seconds in way_s if seconds is not None) > 0.05
    said = PART.results(done, of)
    assert [row["longer side"] for row in said.tables[0].rows] == ["full", "16 px", "16 px"]
    assert all(row["round trip, far"] for row in said.tables[0].rows) and not said.tables[0].rows[0]["loss of mAP@0.5 (points, 95 %)"]
    assert vl_convert.vegalite_to_png(said.charts[0].spec).startswith(b"\x89PNG")
    assert "1 point of mAP@0.5" in said.findings[0].text
    assert PART.results([], of).tables == [] and PART.results(done[1:], of).tables[0].rows[0]["loss of mAP@0.5 (points, 95 %)"] == ""


def test_a_refusal_is_the_reason_of_the_cell(data: Path, make_model: Any, tmp_path: Path) -> None:
    with Live([make_model()], limits=Limits(pixels=1000)) as small:
        of = study(data, small.url, "resolution", QUICK)
        full, small_picture = PART.cells(of)[:2]
        with pytest.raises(UserError, match="6 of 6 pictures have no answer: HTTP 413: an image may have"):
            PART.measure(full, of, tmp_path)
        assert (tmp_path / "requests.csv").read_text().count(",413,") == 6
        assert PART.measure(small_picture, of, tmp_path)["pictures"] == 6


def test_a_link_that_cannot_be_made_leaves_the_rest(data: Path, live: Live, tmp_path: Path) -> None:
    of = study(data, live.url, "resolution", QUICK, LinkSpec("odd", up_bps=0.5))
    done = measured(PART, PART.cells(of)[0], of, tmp_path)
    assert done.summary["links"]["direct"]["reason"] is None and "positive number of bit/s" in done.summary["links"]["odd"]["reason"]
    assert any("odd: link odd" in finding.text for finding in PART.results([done], of).findings)


def test_who_does_not_serve_this_model_is_told(data: Path, live: Live, tmp_path: Path) -> None:
    for url, model, told in (
        ("http://127.0.0.1:9", "shapes=x", "does not tell its models"),
        (live.url, "shape=x", "did you mean 'shapes'"),
        (live.url, "cells=x", "cells has 3 classes, the data set has 2"),
    ):
        of = study(data, url, "resolution", QUICK, model=model)
        with pytest.raises(UserError, match=told):
            PART.measure(PART.cells(of)[0], of, tmp_path)


def test_cells_share_a_service_of_their_own(weights: Path) -> None:
    place = Place("remote", "torch", threads=1)
    url = service_url(place, [f"shapes={weights}"])
    assert service_url(place, [f"shapes={weights}"]) == url
    release()
    assert service_url(Place("remote", url="http://there:1"), []) == "http://there:1"


def test_a_resample_is_what_evaluation_says_of_these_pictures() -> None:
    draw = np.random.default_rng(3)
    labels = [np.hstack([draw.integers(0, 3, (4, 1)), draw.uniform(0.3, 0.6, (4, 4))]).astype(np.float32) for _ in range(5)]
    pictures = [Picture(f"{number}.jpg", b"", 100, 80, boxes) for number, boxes in enumerate(labels)]
    found = []
    for boxes in labels:
        low, high = boxes[:, 1:3] - boxes[:, 3:5] / 2, boxes[:, 1:3] + boxes[:, 3:5] / 2
        corners = np.hstack([low, high]) + draw.normal(0, 0.06, (4, 4))
        found.append(np.hstack([corners * (100, 80, 100, 80), draw.uniform(0.1, 1, (4, 1)), boxes[:, :1]]).astype(np.float32))
    accuracy = measure_accuracy(pictures, found, 20, 7)
    assert accuracy is not None and 0 < accuracy.map50_95 < accuracy.map50 < 1
    assert np.mean(list(accuracy.class_ap50.values())) == pytest.approx(accuracy.map50)
    again = np.random.default_rng(7)
    for map50, map50_95 in zip(accuracy.resampled50, accuracy.resampled50_95, strict=True):
        places = again.integers(0, 5, 5)
        split = Split([Path("x")] * 5, np.array([(100, 80)] * 5, np.int32), [labels[place] for place in places], [], "")
        scores = score(split, iter([found[place] for place in places]))
        assert map50 == pytest.approx(scores.map50) and map50_95 == pytest.approx(scores.map50_95)


def _done(size: int | str, quality: int | None, file_bytes: int, map50: float, spread: float = 0.001, **changed: Any) -> Done:
    name = "m_full" if size == FULL else f"m_{size}_q{quality}"
    draw = np.random.default_rng(0 if size == FULL else int(size))
    resampled = (map50 + draw.normal(0, spread, 100)).tolist()
    summary = {
        **{"model": "m", "size": size, "quality": quality, "pictures": 9, "pictures_digest": "p", "model_digest": "w", "unusable": []},
        **{"longest_side": 640, "file_bytes": file_bytes, "map50": map50, "map50_95": map50 / 2, "class_ap50": {}, "class_boxes": {}},
        **{"resampled50": resampled, "resampled50_95": resampled, "links": {"dsl": {"reason": None}}, **changed},
    }
    trips = [RequestRecord(cell=f"{name}@dsl", round_trip_s=file_bytes / 1e5) for _ in range(3)]
    return Done(Cell(name, {}), summary, trips)


def test_the_smallest_picture_that_costs_less_than_a_point() -> None:
    full = _done(FULL, None, 100_000, 0.5)
    cells = [full, _done(64, 75, 3000, 0.3), _done(224, 50, 6000, 0.492, 0.02), _done(224, 95, 9000, 0.497), _done(416, 95, 20_000, 0.5)]
    finding = PART.results(cells, None).findings[0]  # type: ignore[arg-type]
    assert (
        "that cost less than 1 point of mAP@0.5 (m) as measured, was 224 px at JPEG quality 50: 0.8 (" in finding.text
        and "5.86 KiB instead of 97.7 KiB" in finding.text
    )
    assert "60.0 ms instead of 1.00 s over dsl" in finding.text and "from 224 px at JPEG quality 95 on" in finding.text
    assert finding.answers and finding.evidence == ["m_224_q50", "m_full"]
    surely = PART.results([full, cells[3]], None).findings[0]  # type: ignore[arg-type]
    assert "that costs less than 1 point of mAP@0.5 (m) is 224 px at JPEG quality 95" in surely.text
    blind = PART.results([_done(FULL, None, 100_000, 0.0), _done(64, 75, 3000, 0.0)], None).findings[0]  # type: ignore[arg-type]
    assert blind.verdict == NOT_TESTABLE and "cannot be told" in blind.text  # nothing to lose is no saving
    worse = PART.results([full, _done(64, 75, 3000, 0.3)], None).findings[0]  # type: ignore[arg-type]
    assert "No smaller picture costs less" in worse.text and "20.0 (" in worse.text
    quality = PART.results(cells, None).findings[1]  # type: ignore[arg-type]
    assert "JPEG quality 50 instead of 95" in quality.text and "224 px 33 % of the bytes for 0.5 (" in quality.text


def test_other_pictures_are_not_compared() -> None:
    cells = [_done(FULL, None, 100_000, 0.5), _done(224, 50, 6000, 0.5, pictures_digest="others")]
    said = PART.results(cells, None)  # type: ignore[arg-type]
    assert not said.findings and said.tables[0].rows[1]["loss of mAP@0.5 (points, 95 %)"] == ""


def test_original_files_score_as_yoloperf_evaluate(
    real_data: Path, official_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_data_config("coco128.yaml")
    images = sorted(config.entries("val")[0].glob("*.jpg"))[:32]
    (tmp_path / "val.txt").write_text("".join(f"{image}\n" for image in images))
    data = tmp_path / "few.yaml"
    data.write_text(f"path: {tmp_path}\nval: val.txt\nnames: {list(class_names('coco128.yaml'))}\n")
    words = ["evaluate", "--weights", str(official_weights), "--data", str(data), "--runtime", "torch", "--precision", "fp32"]
    assert main([*words, "--threads", "1", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out.splitlines()[-1])
    checkpoint = load_weights(official_weights)
    runtime = make_runtime(checkpoint, "torch", "cpu", "fp32", threads=1)
    with Live([ServedModel("tiny", checkpoint.class_names(), checkpoint.digest(), runtime)]) as service:
        parts = {"resolution": {"requests": 1, "resamples": 2}}
        of = Study("few", "tiny=x", str(data), remote=Place("remote", url=service.url), parts=parts)
        full = next(cell for cell in PART.cells(of) if cell.name == "tiny_full")
        summary = PART.measure(full, of, tmp_path)
        small = PART.measure(next(cell for cell in PART.cells(of) if cell.name == "tiny_32_q50"), of, tmp_path)
    assert summary["map50"] == pytest.approx(scores["map50"], abs=0.002) and scores["map50"] > 0.3
    assert summary["map50_95"] == pytest.approx(scores["map50_95"], abs=0.002)
    assert small["map50"] < 0.5 * summary["map50"] and small["file_bytes"] < 0.02 * summary["file_bytes"]
