"""Findings on the published runs, each against a computation that shares no code with them; then the corners."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from yoloperf.cli import main
from yoloperf.core.record import RunRecord
from yoloperf.report.evidence import CONTRADICTED, MIXED, NOT_TESTABLE, SUPPORTED, Case, Facet, Finding
from yoloperf.report.findings import findings
from yoloperf.report.load import load

from .conftest import make
from .test_published import PUBLISHED


@pytest.fixture(scope="module")
def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(load([PUBLISHED]).runs)}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """The published table as pandas reads it, indexed by its grid."""
    frame = pd.read_csv(PUBLISHED / "runs.csv").set_index(["platform", "model", "batch_size", "epochs"])
    frame["least_wall"] = frame.user_s / frame.cpu_percent * 100
    frame["f1"] = (2 / (1 / frame.precision.replace(0, 1e-300) + 1 / frame.recall.replace(0, 1e-300))).where(frame.precision.notna())
    return frame


def _held(finding: Finding) -> list[tuple[int, int]]:
    return [(facet.held, len(facet.cases)) for facet in finding.facets]


def _counts(holds: pd.Series) -> tuple[int, int]:
    return int(holds.sum()), len(holds)


def test_tiny_trains_faster(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    finding = found["tiny-faster"]
    by_hand = []
    for column in ("user_s", "least_wall"):
        models = frame[column].unstack("model").dropna()
        by_hand.append(_counts(models["yolov3-tiny"] < models["yolov3"]))
        ratio = (models["yolov3-tiny"] / models["yolov3"]).median()
        assert finding.facets[len(by_hand) - 1].median_ratio == pytest.approx(ratio)
    assert _held(finding) == by_hand == [(31, 31), (31, 31)]
    assert finding.verdict == SUPPORTED


def test_objectness_at_batch_32_contradicts_the_report(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    sizes = frame["obj_loss"].unstack("batch_size")
    by_hand = _counts(sizes.idxmax(axis=1) == 32)
    assert _held(found["objectness-32"]) == [by_hand] == [(8, 16)]
    assert found["objectness-32"].verdict == CONTRADICTED
    assert "is a loss" in found["objectness-32"].sentence()


def test_bare_metal_is_steadier_but_for_memory(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    by_hand = []
    for column in ("cpu_percent", "biggest_kernel_avg_s", "max_rss_bytes"):
        groups = frame[column].groupby(["platform", "model", "batch_size"])
        spread = ((groups.max() - groups.min()) / groups.median()).unstack("platform")
        by_hand.append(_counts(spread["baremetal"] < spread["cloud"]))
    assert _held(found["metal-steadier"]) == by_hand == [(8, 8), (8, 8), (0, 8)]
    assert found["metal-steadier"].verdict == MIXED


def test_which_gpu_is_faster_depends_on_the_clock(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    by_hand = []
    for column in ("user_s", "least_wall"):
        platforms = frame[column].unstack("platform").dropna()
        by_hand.append(_counts(platforms["cloud"] < platforms["baremetal"]))
    assert _held(found["cloud-faster"]) == by_hand == [(10, 31), (23, 31)]
    assert found["cloud-faster"].verdict == MIXED
    assert "different kernels" in found["cloud-faster"].sentence()


def test_cloud_uses_more_cpu_mostly(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    platforms = frame["cpu_percent"].unstack("platform").dropna()
    more = platforms["cloud"] > platforms["baremetal"]
    assert _held(found["cloud-cpu"]) == [_counts(more)] == [(23, 31)]
    assert found["cloud-cpu"].verdict == MIXED
    assert found["cloud-cpu"].facets[0].median_ratio == pytest.approx((platforms["cloud"] / platforms["baremetal"]).median())
    assert len(found["cloud-cpu"].against()) == 8


def test_tiny_is_not_nearly_as_good(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    """After 20 epochs; where Tiny failed then, after 10."""
    models = frame["f1"].unstack("model").dropna().groupby(["platform", "batch_size"]).tail(1)
    gap = models["yolov3"] - models["yolov3-tiny"]
    assert _held(found["tiny-as-good"]) == [_counts(gap <= 0.05)] == [(2, 8)]
    assert found["tiny-as-good"].verdict == CONTRADICTED
    assert f"ahead by {gap.min():.3f} to {gap.max():.3f}" in found["tiny-as-good"].sentence()


def test_batch_size(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    fastest = [_counts(frame[column].unstack("batch_size").idxmin(axis=1) == 32) for column in ("user_s", "least_wall")]
    assert _held(found["batch-fastest"]) == fastest
    least = frame["max_rss_bytes"].unstack("batch_size").idxmin(axis=1) == 4
    assert _held(found["batch-memory"]) == [_counts(least)]
    grades = frame["f1"].unstack("batch_size").round(9)
    grades = grades[grades.nunique(axis=1) > 1]
    assert _held(found["batch-quality"]) == [_counts(grades.idxmax(axis=1) == 4)]


def test_epochs_pay(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    lengths = frame["f1"].unstack("epochs")
    last = lengths.apply(lambda row: row.dropna().iloc[-1] - row.dropna().iloc[-2], axis=1)
    assert _held(found["epochs-pay"]) == [_counts(last >= 0.01)] == [(16, 16)]


def test_time_to_quality(found: dict[str, Finding], frame: pd.DataFrame) -> None:
    first = {}
    for group, part in frame.groupby(["platform", "model"]):
        there = part[part.f1 >= 0.9 * part.f1.max()]
        first[group] = there.least_wall.idxmin()[2]
    assert _held(found["batch-time-to-quality"]) == [(sum(size == 4 for size in first.values()), len(first))] == [(1, 4)]


def test_a_batch_size_that_alone_reaches_the_quality_is_the_fastest_way() -> None:
    cells = ((4, 0.9, 50.0), (8, 0.5, 40.0), (16, 0.4, 30.0))
    runs = [replace(make(platform, "m", size, 9), map50=grade, wall_s=time) for platform in "abc" for size, grade, time in cells]
    by_name = {finding.name: finding for finding in findings(runs)}
    assert _held(by_name["batch-time-to-quality"]) == [(3, 3)]
    assert by_name["batch-time-to-quality"].facets[0].cases[0].runs == ("a/m_bs4_ep9", "a/m_bs8_ep9", "a/m_bs16_ep9")
    by_name = {finding.name: finding for finding in findings([run for run in runs if run.batch_size == 4])}
    assert _held(by_name["batch-time-to-quality"]) == [(0, 0)], "one batch size that was tried is no choice"


def test_what_the_records_do_not_hold_is_not_testable(found: dict[str, Finding]) -> None:
    assert found["loader"].verdict == NOT_TESTABLE
    assert "step_time_s" in found["loader"].sentence()


def test_one_row_tells_nothing() -> None:
    verdicts = {finding.verdict for finding in findings([make("cloud", "yolov3", 4, 1)])}
    assert verdicts == {NOT_TESTABLE}
    assert {finding.verdict for finding in findings([RunRecord()])} == {NOT_TESTABLE}


def test_other_platforms_are_not_taken_for_cloud_or_bare_metal(study: list[RunRecord]) -> None:
    runs = [replace(run, platform={"cloud": "a", "baremetal": "b"}[run.platform or ""]) for run in study]
    by_name = {finding.name: finding for finding in findings(runs)}
    assert by_name["cloud-faster"].verdict == NOT_TESTABLE
    assert "needs runs of a platform named cloud" in by_name["cloud-faster"].sentence()
    assert by_name["tiny-faster"].verdict != NOT_TESTABLE


def test_different_data_are_never_set_against_each_other() -> None:
    runs = [replace(make("a", model, 4, e), dataset=f"data of {model}") for model in ("yolov3", "yolov3-tiny") for e in (1, 2, 3, 4)]
    (finding,) = (item for item in findings(runs) if item.name == "tiny-faster")
    assert finding.verdict == NOT_TESTABLE


def test_every_metal_is_set_against_every_cloud() -> None:
    platforms = {"bare_metal_p40": 2.0, "cloud_t4": 3.0, "cloud_a100": 1.0}
    runs = [
        replace(make(platform, "yolov3", batch, 1), wall_s=factor * batch, user_s=None)
        for platform, factor in platforms.items()
        for batch in (4, 8, 16)
    ]
    finding = next(each for each in findings(runs) if each.name == "cloud-faster")
    assert _held(finding) == [(3, 6)]
    assert {case.where.rpartition(", ")[2] for case in finding.facets[0].cases if case.holds} == {"bare_metal_p40 and cloud_a100"}


def test_steadiness_is_judged_over_epochs_that_both_have() -> None:
    shares = {"baremetal": {1: 10.0, 5: 11.0, 10: 12.0}, "cloud": {1: 10.0, 5: 10.5, 10: 11.0, 20: 99.0}}
    runs = [
        replace(make(platform, "yolov3", batch, epochs), cpu_percent=share)
        for platform, by_epochs in shares.items()
        for epochs, share in by_epochs.items()
        for batch in (4, 8, 16)
    ]
    finding = next(each for each in findings(runs) if each.name == "metal-steadier")
    assert _held(finding)[0] == (0, 3), "with epoch 20 the cloud would be the less steady one"


def test_steadiness_does_not_rest_on_more_epochs_or_repeats_of_one_side() -> None:
    shares = {"baremetal": {1: [100.0], 5: [101.0], 10: [102.0], 20: [150.0]}, "cloud": {1: [90.0, 100.0, 115.0], 5: [110.0], 10: [112.0]}}
    runs = [
        replace(make(platform, "yolov3", batch, epochs), cpu_percent=share)
        for platform, by_epochs in shares.items()
        for epochs, repeats in by_epochs.items()
        for share in repeats
        for batch in (4, 8, 16)
    ]
    lost = [replace(make("cloud", "yolov3", batch, 20), status="oom") for batch in (4, 8, 16)]
    finding = next(each for each in findings([*runs, *lost]) if each.name == "metal-steadier")
    assert _held(finding)[0] == (3, 3)
    even = [replace(run, cpu_percent={1: 100.0, 5: 101.0, 10: 102.0}.get(run.epochs or 0)) for run in runs]
    extremes = [replace(run, cpu_percent=value) for run in even if run.platform == "cloud" and run.epochs == 1 for value in (90.0, 110.0)]
    finding = next(each for each in findings([*even, *extremes]) if each.name == "metal-steadier")
    assert _held(finding)[0] == (0, 3), "equal medians, whatever the repeats"


def test_tiny_is_as_good_where_it_is_better_and_whatever_else_was_run() -> None:
    grades = {"yolov3-tiny": 0.8, "yolov3": 0.6}
    runs = [replace(make("desk", model, batch, 5), map50=grade) for model, grade in grades.items() for batch in (4, 8, 16)]
    longer = replace(make("desk", "yolov3-tiny", 4, 30), map50=0.9)
    finding = next(each for each in findings([*runs, longer]) if each.name == "tiny-as-good")
    assert (finding.verdict, _held(finding)) == (SUPPORTED, [(3, 3)])
    assert "after 5 epochs" in finding.claim and "-0.200" in finding.note


@pytest.mark.parametrize("column", ["precision_mode", "dataset_hash", "weights", "hyp", "gpu_name", "cpu_name", "threads", "processes"])
def test_batch_sizes_are_not_compared_across_another_difference(column: str) -> None:
    runs = [
        replace(make("desk", model, batch, 1), **{column: "one" if batch == 4 else "two"})
        for batch in (4, 8)
        for model in ("yolov3", "yolov3-tiny", "other")
    ]
    assert next(each for each in findings(runs) if each.name == "batch-fastest").verdict == NOT_TESTABLE


def test_a_platform_with_two_devices_is_two_platforms() -> None:
    devices = {"colab": ("Tesla T4", "A100"), "baremetal": ("Tesla P40", "Tesla P40")}
    seconds = {"Tesla T4": 100.0, "A100": 20.0, "Tesla P40": 60.0}
    runs = [
        replace(make(platform, "m", batch, 1), gpu_name=gpu, wall_s=seconds[gpu], user_s=None)
        for platform, gpus in devices.items()
        for gpu in gpus
        for batch in (4, 8, 16)
    ]
    finding = next(each for each in findings(runs) if each.name == "cloud-faster")
    assert _held(finding) == [(3, 6)]
    assert all(case.where.endswith("baremetal and colab (A100)") == case.holds for case in finding.facets[0].cases)


def test_what_only_newer_records_know_does_not_part_them() -> None:
    runs = [replace(make("desk", "m", batch, 1), threads=2 if batch > 4 else None, processes=1 if batch > 4 else None) for batch in (4, 8)]
    assert [facet.measure for facet in next(each for each in findings(runs) if each.name == "batch-fastest").facets if facet.cases]


def test_where_more_epochs_stop_paying() -> None:
    quality = {1: 0.2, 5: 0.7, 10: 0.705, 20: 0.706}
    runs = [replace(make("desk", "yolov3", 4, epochs), map50=value) for epochs, value in quality.items()]
    finding = next(each for each in findings(runs) if each.name == "epochs-pay")
    assert finding.note.endswith("no longer training is better by 0.01 than 5 epochs")


def test_what_bounds_a_run() -> None:
    run = replace(make("desk", "yolov3", 4, 1), step_time_s=0.1, data_time_s=0.001)
    gpu = replace(run, gpu_name="Tesla T4")
    runs = [
        run,
        replace(run, data_time_s=0.05),
        replace(gpu, gpu_util_pct=95.0, data_time_s=0.02),
        replace(gpu, gpu_util_pct=95.0),
        replace(gpu, gpu_util_pct=20.0),
        gpu,
        replace(gpu, status="oom"),
    ]
    finding = next(each for each in findings(runs) if each.name == "bound")
    assert [case.where.rpartition(": ")[2] for case in finding.facets[0].cases] == [
        *("arithmetic", "loading", "loading", "arithmetic", "launching", "memory")
    ]
    assert finding.note == "arithmetic 2, loading 2, launching 1, memory 1"


def test_where_memory_ends() -> None:
    runs = [replace(make("a", "m", size, 1), run_id=str(size), status="ok" if size <= 32 else "oom") for size in (8, 16, 32, 64, 128)]
    (finding,) = (item for item in findings(runs) if item.name == "memory-fits")
    assert (finding.facets[0].held, finding.verdict) == (3, MIXED)
    assert "batch 32 fits, batch 64 does not" in finding.sentence()
    (finding,) = (item for item in findings([runs[0], replace(runs[0], run_id="again", status="oom")]) if item.name == "memory-fits")
    assert "no batch size always fits, batch 8 does not always" in finding.note
    (finding,) = (item for item in findings([replace(runs[0], status="failed", reason=None)]) if item.name == "memory-fits")
    assert "1 run failed for another or an unknown reason: not counted" in finding.note


def test_loading() -> None:
    runs = [replace(make("a", "m", size, 1), step_time_s=1.0, data_time_s=share) for size, share in ((4, 0.01), (8, 0.05), (16, 0.5))]
    (finding,) = (item for item in findings(runs) if item.name == "loader")
    assert finding.verdict == MIXED
    assert finding.against() == ["a/m_bs16_ep1: waits 50% of a step"]


@pytest.mark.parametrize(
    ("held", "total", "verdict"),
    [(3, 3, SUPPORTED), (2, 3, MIXED), (2, 4, CONTRADICTED), (0, 9, CONTRADICTED), (2, 2, NOT_TESTABLE), (0, 0, NOT_TESTABLE)],
)
def test_verdict_of_a_facet(held: int, total: int, verdict: str) -> None:
    assert Facet("m", [Case("", k < held, ()) for k in range(total)]).verdict == verdict


def test_facets_that_disagree_are_mixed() -> None:
    good, bad = (Facet("m", [Case("", holds, ())] * 3) for holds in (True, False))
    assert Finding("n", "c", [good, good]).verdict == SUPPORTED
    assert Finding("n", "c", [good, bad]).verdict == MIXED
    assert Finding("n", "c", [good, Facet("m", [])]).verdict == SUPPORTED


def test_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["findings", str(PUBLISHED)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("SUPPORTED: Tiny-YOLOv3 trains faster")
    assert main(["findings", str(PUBLISHED), "--json"]) == 0
    result = {item["name"]: item for item in json.loads(capsys.readouterr().out)["findings"]}
    (facet,) = result["cloud-cpu"]["facets"]
    assert (facet["held"], facet["total"], len(facet["cases"])) == (23, 31, 31)
    assert all(len(case["runs"]) == 2 for case in facet["cases"])
    assert math.isclose(facet["median_ratio"], 1.21, abs_tol=0.01)


def test_raw_paths_work_too(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["findings", str(runs_csv.parent)]) == 0
    assert "MIXED: Every run that was tried fits" in capsys.readouterr().out
