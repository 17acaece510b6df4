from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import vl_convert

from tests.offload.pictures import make_data, measured, study
from tests.service.live import Live
from yoloperf.core.errors import UserError
from yoloperf.core.request import RequestRecord
from yoloperf.offload.batches import PART
from yoloperf.offload.part import Cell, Done
from yoloperf.offload.study import LinkSpec
from yoloperf.report.evidence import CONTRADICTED, MIXED, NOT_TESTABLE, SUPPORTED
from yoloperf.service.limits import Limits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("few") / "few")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"image": [1]}, "did you mean 'images'"),
        ({"images": [1, 65]}, "whole numbers from 1 to 64"),
        ({"images": []}, "images must be a list"),
        ({"size": 0}, "size is pixels of the longer side"),
        ({"size": "fully"}, "or full"),
        ({"quality": 0}, "quality is that of JPEG"),
        ({"repeats": 1.5}, "repeats is a whole number"),
        ({"seconds": float("nan")}, "seconds is a number greater than 0"),
    ],
)
def test_bad_settings_are_named(data: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        PART.cells(study(data, None, "batches", settings))


def test_stages_of_a_request_add_up_to_its_round_trip(data: Path, live: Live, tmp_path: Path) -> None:
    of = study(data, live.url, "batches", {"images": [4, 1], "repeats": 6, "size": 48}, LinkSpec("far", rtt_s=0.04))
    cells = PART.cells(of)
    assert [cell.name for cell in cells] == ["direct_1", "direct_4", "far_1", "far_4"]
    done = [measured(PART, cell, of, tmp_path / cell.name) for cell in cells]
    for one in done:
        assert [record.items for record in one.requests] == [one.summary["images"]] * 6 and one.summary["reason"] is None
        assert 0 < one.summary["clock_error_s"] < 0.01
        for record in one.requests:
            known = [record.upload_s, record.queue_s, record.decode_s, record.preprocess_s, record.inference_s, record.postprocess_s]
            known += [record.encode_s, record.download_s]
            assert record.round_trip_s is not None and record.error is None
            assert sum(value for value in known if value is not None) == pytest.approx(record.round_trip_s, rel=0.05)
    assert len({record.sample for record in done[0].requests}) == 4  # they go round the pictures
    sent = [fmean(record.sent_bytes or 0 for record in one.requests) for one in done]
    assert 3 < sent[1] / sent[0] < 4
    uploads = [fmean(record.upload_s or 0 for record in one.requests) for one in done]
    assert uploads[2] > uploads[0] + 0.015 and uploads[3] > uploads[1] + 0.015  # half of the link's round trip
    said = PART.results(done, of)
    rows = said.tables[0].rows
    assert [(row["link"], row["images a request"]) for row in rows] == [("direct", "1"), ("direct", "4"), ("far", "1"), ("far", "4")]
    assert all(float(row["accounted for"].removesuffix(" %")) > 95 for row in rows)
    assert vl_convert.vegalite_to_png(said.charts[0].spec).startswith(b"\x89PNG")
    assert [finding.answers for finding in said.findings] == [True, False, False]
    assert said.findings[2].verdict == SUPPORTED and "over far an image takes" in said.findings[2].text


def test_a_refusal_is_the_reason_of_the_cell(data: Path, make_model: Any, tmp_path: Path) -> None:
    with Live([make_model()], limits=Limits(images=2)) as small:
        of = study(data, small.url, "batches", {"images": [2, 32], "repeats": 2})
        few, many = PART.cells(of)
        assert PART.measure(few, of, tmp_path)["reason"] is None
        with pytest.raises(UserError, match="2 of 2 requests failed: HTTP 413: a part may have 20 MB and a request 2 images"):
            PART.measure(many, of, tmp_path)


def test_a_service_that_is_down_and_a_link_that_cannot_be(data: Path, live: Live, tmp_path: Path) -> None:
    gone = study(data, "http://127.0.0.1:9", "batches", {})
    with pytest.raises(UserError, match="is yoloperf's service running there"):
        PART.measure(PART.cells(gone)[0], gone, tmp_path)
    odd = study(data, live.url, "batches", {"images": [1]}, LinkSpec("odd", up_bps=0.5))
    with pytest.raises(UserError, match="link odd: up must be a positive number"):
        PART.measure(PART.cells(odd)[1], odd, tmp_path)


def _done(images: int, totals_s: list[float], reason: str | None = None) -> Done:
    summary = {
        **{"model": "m", "runtime": "torch fp32", "model_digest": "w", "link": "dsl", "images": images, "size": 416, "quality": 75},
        **{"file_bytes": 2000, "unusable": [], "reason": reason, "clock_error_s": None},
    }
    requests = [
        RequestRecord(round_trip_s=total, server_s=total / 2, inference_s=total / 2, sent_bytes=2000 * images) for total in totals_s
    ]
    return Done(Cell(f"dsl_{images}", {}), summary, [*requests, RequestRecord(error="HTTP 503: busy")])


def test_time_that_no_stage_accounts_for_is_in_none() -> None:
    """100 ms: the service tells 40 of the 60 that it had, and a stage of 30."""
    one = _done(1, [0.1])
    record = replace(one.requests[0], upload_s=0.02, server_s=0.04, download_s=0.02, inference_s=0.03)
    row = PART.results([replace(one, requests=[record])], study(Path("x.yaml"), None, "batches", {})).tables[0].rows[0]
    assert (row["other"], row["accounted for"]) == ("30.0 ms", "70.0 %")


@pytest.mark.parametrize(
    ("factor", "repeats", "verdict", "told"),
    [
        (1.0, 9, SUPPORTED, "50.0 ms in requests of 2 and 100 ms alone, 0.50 times as long (95 % interval"),
        (4.0, 9, CONTRADICTED, "Batching does not pay: over dsl an image takes 200 ms"),
        (2.0, 9, MIXED, "within the noise"),
        (1.0, 3, NOT_TESTABLE, "too few to tell"),
    ],
)
def test_whether_batching_pays(factor: float, repeats: int, verdict: str, told: str) -> None:
    alone = [0.1 + 0.001 * (place - repeats // 2) for place in range(repeats)]
    several = [factor * total for total in alone]
    # from 2 images on, the time of an image no longer falls
    done = [_done(4, [2 * total for total in several]), _done(1, alone), _done(2, several)]
    answer, finding = PART.results(done, None).findings  # type: ignore[arg-type]
    assert answer.answers and answer.verdict == verdict and answer.text.endswith(" over dsl.")
    assert finding.verdict == verdict and told in finding.text and finding.evidence == ["dsl_1", "dsl_2", "dsl_4"]
    assert ("; more than 2 gain less than 5 %" in finding.text) == (verdict == SUPPORTED)


def test_links_that_differ_have_one_answer() -> None:
    alone = [0.1 + 0.001 * place for place in range(9)]
    far = [replace(one, summary=one.summary | {"link": "far"}) for one in (_done(1, alone), _done(2, [4 * total for total in alone]))]
    answer, *rest = PART.results([_done(1, alone), _done(2, alone), *far], None).findings  # type: ignore[arg-type]
    assert answer.text == "Sending several images in a request pays over dsl; it does not pay over far." and answer.verdict == MIXED
    assert len(rest) == 2 and not any(finding.answers for finding in rest)


def test_what_is_missing_is_said() -> None:
    none = _done(2, [])
    assert PART.results([none], None).tables == []  # type: ignore[arg-type]
    alone = PART.results([none, _done(1, [0.1, 0.2], "the clocks moved")], None)  # type: ignore[arg-type]
    assert [finding.text for finding in alone.findings] == [
        "Sending several images in a request was not told over dsl.",
        "Whether batching pays over dsl needs one image a request and several.",
        "In dsl_1: the clocks moved",
    ]
    row = alone.tables[0].rows[0]
    assert row["requests"] == "2" and "upload" not in row and row["network"] == "75.0 ms"
