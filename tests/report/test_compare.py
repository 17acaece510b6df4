import json
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from yoloperf.cli import main
from yoloperf.core.errors import UserError
from yoloperf.core.record import RunRecord, to_csv
from yoloperf.report.compare import comparison_table, contested, match, median_ratio, metrics_of, ratio, wins
from yoloperf.report.fairness import judge
from yoloperf.report.load import load
from yoloperf.report.significance import repeats_table, significance, verdict

from .conftest import make
from .test_published import PUBLISHED


def _two_platforms(repeats: int, factor: float) -> list[RunRecord]:
    """Repeats with a little spread; the cloud takes `factor` times as long."""
    runs = []
    for platform, times in (("baremetal", 1.0), ("cloud", factor)):
        for k in range(repeats):
            run = make(platform, "yolov3", 4, 1)
            runs.append(replace(run, run_id=f"{run.run_id}_{k}", seed=k, user_s=times * (20.0 + 0.1 * k)))
    return runs


def test_cells_are_matched_on_everything_else(study: list[RunRecord]) -> None:
    comparison = match(study, "platform")
    assert comparison.keys == ["model", "batch_size", "epochs"]
    assert len(comparison.cells) == 8
    assert comparison.alone == 0
    by_size = match(study, "batch_size", baseline="8")
    assert (by_size.keys, by_size.baseline, by_size.levels) == (["platform", "model", "epochs"], 8, [4, 8])


def test_ratios_and_wins_on_the_published_runs() -> None:
    runs = load([PUBLISHED]).runs
    comparison = match(runs, "platform", "baremetal")
    by_cell = {(run.platform, run.model, run.batch_size, run.epochs): run.user_s for run in runs}
    by_hand = {
        (m, b, e): c / p for (platform, m, b, e), c in by_cell.items() if platform == "cloud" and c and (p := by_cell["baremetal", m, b, e])
    }
    assert len(by_hand) == contested(comparison, "user_s") == 31
    assert median_ratio(comparison, "cloud", "user_s") == pytest.approx(median(by_hand.values()))
    seen = {cell: r for cell, r in by_hand.items() if cell != ("yolov3", 32, 10)}  # 3:08 on both
    assert wins(comparison, "user_s") == {"baremetal": sum(r > 1 for r in seen.values()), "cloud": sum(r < 1 for r in seen.values())}
    for cell in comparison.cells:
        assert ratio(cell, "cloud", "baremetal", "user_s") == pytest.approx(by_hand.get(cell.key))


def test_different_kernels_are_not_compared() -> None:
    runs = load([PUBLISHED]).runs
    assert "biggest_kernel_avg_s" not in metrics_of(match(runs, "platform"))
    assert "biggest_kernel_avg_s" in metrics_of(match(runs, "batch_size"))


def test_the_best_is_marked_and_a_failure_named(study: list[RunRecord]) -> None:
    table = comparison_table(match(study, "batch_size"), "user_s")
    assert table.title == "user time (lower is better)"
    assert table.headings == ["platform", "model", "epochs", "batch size 4", "batch size 8", "8 / 4"]
    assert table.rows[0].cells == ["baremetal", "yolov3", "1", "20.0 s", "15.0 s", "0.75"]
    assert (0, 4) in table.best
    assert table.rows[3].cells == ["baremetal", "yolov3-tiny", "5", "60.0 s", "oom", ""]
    assert table.rows[-1].cells[0] == "median"


def test_a_share_of_nothing_is_absent(study: list[RunRecord]) -> None:
    comparison = match(study, "platform")
    assert ratio(comparison.cells[0], "cloud", "baremetal", "precision") is None
    assert not {row for row, _ in comparison_table(comparison, "recall").best}, "a tie has no winner"


def test_what_looks_equal_has_no_winner_and_a_median_says_of_how_many(study: list[RunRecord]) -> None:
    runs = [replace(run, recall=0.24801 if run.platform == "cloud" else 0.24799) for run in study]
    comparison = match(runs, "platform")
    table = comparison_table(comparison, "recall")
    assert table.rows[0].cells[-3] == table.rows[0].cells[-2] == "0.248"
    assert not table.best and set(wins(comparison, "recall").values()) == {0}
    nothing = [replace(run, recall=0.0) if run.batch_size == 4 and run.platform == comparison.baseline else run for run in runs]
    assert comparison_table(match(nothing, "platform"), "recall").rows[-1].cells[-1] == "1.00 (n=3)"


def test_settings_that_vary_within_a_platform_split_its_cells(study: list[RunRecord]) -> None:
    half = [replace(run, run_id=f"{run.run_id}_fp16", precision_mode="fp16", user_s=1.0) for run in study[:8]]
    whole = [replace(run, precision_mode="fp32") for run in study]
    comparison = match([*half, *whole], "platform")
    assert "user_s" in metrics_of(comparison)
    assert comparison.alone == 8
    assert all(cell.values("cloud", "user_s") != [1.0] for cell in comparison.cells)


@pytest.mark.parametrize(("by", "words"), [("engine", "not recorded"), ("img_size", "column to compare by")])
def test_nothing_to_compare(study: list[RunRecord], by: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        match(study, by)


def test_no_common_cell(study: list[RunRecord]) -> None:
    apart = [run for run in study if (run.platform == "cloud") == (run.batch_size == 4)]
    with pytest.raises(UserError, match="share a cell"):
        match(apart, "platform")


def test_no_repeats_no_significance(study: list[RunRecord]) -> None:
    comparison = match(study, "platform")
    tested = significance(comparison, ["user_s"])
    assert tested == []
    assert "no difference here is called significant" in verdict(comparison, ["user_s"], tested)
    assert "4 runs of a cell" in verdict(comparison, ["user_s"], tested)


@pytest.mark.parametrize("metrics", [["user_s"], ["user_s", "cpu_percent", "max_rss_bytes", "obj_loss"]])
def test_the_repeats_that_are_advised_suffice(metrics: list[str]) -> None:
    def runs(repeats: int) -> list[RunRecord]:
        return [
            replace(make(platform, "m", 4, 1), run_id=f"{platform}{k}", seed=k, **dict.fromkeys(metrics, level + k))
            for platform, level in (("baremetal", 100), ("cloud", 200))
            for k in range(repeats)
        ]

    said = verdict(match(runs(1), "platform"), metrics, [])
    advised = int(said.split(". ")[1].split()[0])
    for repeats, enough in ((advised, True), (advised - 1, False)):
        assert all(item.significant for item in significance(match(runs(repeats), "platform"), metrics)) is enough


def test_enough_repeats_settle_it() -> None:
    comparison = match(_two_platforms(5, 1.2), "platform")
    (found,) = significance(comparison, ["user_s"])
    assert found.significant and found.effect == 1.0
    assert found.ratio == pytest.approx(1.2)
    (same,) = significance(match(_two_platforms(5, 1.0), "platform"), ["user_s"])
    assert not same.significant


def test_both_sides_of_a_test_are_shown() -> None:
    comparison = match(_two_platforms(5, 1.2), "platform")
    (row,) = (table := repeats_table(comparison, significance(comparison, ["user_s"]))).rows
    assert row.cells[:5] == ["user time", "cloud", "5", "20.2 s ± 100 ms", "20.0 s to 20.4 s"]
    assert row.cells[5:] == ["5", "24.2 s ± 120 ms", "24.0 s to 24.5 s", "0.0079", "+1.00"]
    assert table.best == {(0, 8)}


def test_many_tests_raise_the_bar() -> None:
    runs = [replace(run, model=f"m{k}", run_id=f"{k}{run.run_id}") for k in range(6) for run in _two_platforms(4, 1.2)]
    found = significance(match(runs, "platform"), ["user_s"])
    assert len(found) == 6 and not any(item.significant for item in found)
    assert "with 5 runs of each cell" in verdict(match(runs, "platform"), ["user_s"], found)


def test_a_fair_pair() -> None:
    full = replace(make("a", "m", 4, 1), dataset_hash="d", precision_mode="fp32", torch="2.4", cpu_count=8)
    other = replace(full, platform="b", gpu_name="B")
    assert judge(full, other, ["platform"]).verdict == "yes"
    assert judge(full, other).verdict == "with care"
    assert judge(full, replace(other, torch="2.5"), ["platform"]).conditions == {"torch": ("2.4", "2.5")}
    assert judge(full, replace(other, torch=None), ["platform"]).unknown == ("torch",)
    assert judge(replace(full, cpu_name="A"), replace(full, cpu_name="B")).conditions == {"cpu_name": ("A", "B")}


def test_what_disturbed_a_run_is_a_warning() -> None:
    full = replace(make("a", "m", 4, 1), dataset_hash="d", precision_mode="fp32", torch="2.4", cpu_count=8, throttled_share=0.01)
    other = replace(full, run_id="o", platform="b", gpu_name="B", throttled_share=0.3)
    fairness = judge(full, other, ["platform"])
    assert (fairness.verdict, fairness.conditions) == ("with care", {})
    assert "disturbed: throttled 1.0 % and 30.0 %" in fairness.sentence()
    assert judge(full, replace(other, throttled_share=0.04), ["platform"]).verdict == "yes"
    shared = judge(replace(full, throttled_share=None), replace(other, throttled_share=None, gpu_other_processes=2), ["platform"])
    assert "others on GPU not recorded and 2" in shared.sentence()
    assert match([full, other], "platform").cautions == ["throttled: 5.0 % or more in one of the two or both (1 of 1 pairs)"]


def test_a_measure_that_all_runs_have_is_compared() -> None:
    """Beside published runs, which lack wall time and mAP, a run of one's own is compared by what both have."""
    mine = [replace(make("mine", "m", size, 1), wall_s=9.0, map50=0.5) for size in (4, 8)]
    published = [make("cloud", "m", size, 1) for size in (4, 8)]
    assert metrics_of(match([*mine, *published], "platform"))[0] == "user_s"
    assert metrics_of(match([*mine, *published], "platform"))[-2:] == ["precision", "recall"]
    assert "wall_s" in metrics_of(match(mine, "batch_size")) and "map50" in metrics_of(match(mine, "batch_size"))


def test_unlike_work_and_failures_are_refused() -> None:
    run = make("a", "m", 4, 1)
    other = judge(run, replace(run, dataset="coco", epochs=5))
    assert other.verdict == "no"
    assert "must not be compared" in other.sentence() and "epochs 1 and 5" in other.sentence()
    lost = judge(run, replace(run, status="oom"))
    assert lost.verdict == "no" and "is oom" in lost.sentence()


def test_unlike_work_is_said_first(study: list[RunRecord]) -> None:
    runs = [replace(run, dataset_hash=run.platform, torch=run.platform) for run in study]
    assert match(runs, "platform").cautions[0] == "NOT THE SAME WORK: data hash differs: baremetal and cloud (7 of 7 pairs)"


@pytest.mark.parametrize("column", ["hyp", "weights", "threads", "processes"])
def test_runs_of_several_recipes_are_no_repeats(column: str) -> None:
    values = ("a", "b", "c") if column in ("hyp", "weights") else (None, 2, 3)
    runs = [replace(make(platform, "yolov3", 4, 1), **{column: value}) for platform in ("baremetal", "cloud") for value in values]
    comparison = match(runs, "platform")
    assert len(comparison.cells) == 3 and all(len(part) == 1 for cell in comparison.cells for part in cell.runs.values())


def test_a_baseline_whose_repeats_differ_is_said() -> None:
    run = replace(make("baremetal", "yolov3", 4, 1), torch="2.4")
    later = replace(run, torch="2.5", throttled_share=0.3)
    cautions = match([run, later, later, replace(run, platform="cloud")], "platform", "baremetal").cautions
    assert any(text.startswith("torch differs: 2.4 and 2.5 (2 of 3 pairs)") for text in cautions)
    assert any("throttled" in text for text in cautions)


@pytest.mark.parametrize("column", ["gpu_name", "cpu_name"])
def test_two_devices_of_a_platform_are_no_repeats(column: str) -> None:
    runs = [replace(make("colab", "yolov3", batch, 1), **{column: name}) for batch in (4, 8) for name in ("T4", "A100")]
    assert match(runs, "batch_size").keys == [column]
    caution = f"{'GPU' if column == 'gpu_name' else 'CPU model'} differs: T4 and A100 (2 of 4 pairs)"
    others = [replace(make("metal", "yolov3", batch, 1), **{column: "P40"}) for batch in (4, 8)]
    assert caution in match([*runs, *others], "platform", "metal").cautions


def test_cells_without_a_baseline_need_no_repeats(study: list[RunRecord]) -> None:
    lost = [replace(run, status="oom") if run.platform == "baremetal" else run for run in study]
    kept = [replace(lost[0], platform=name, status="ok", epochs=9, user_s=1.0) for name in ("baremetal", "cloud")]
    comparison = match([*lost, *kept], "platform", "baremetal")
    assert "4 of each all 1 at once" in verdict(comparison, ["user_s"], significance(comparison, ["user_s"]))


def test_verb(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs_csv), "--metrics", "user_s"]) == 0
    out = capsys.readouterr().out
    assert "best user time: baremetal in 0, cloud in 0 of 7 cells" in out
    assert main(["compare", str(runs_csv), "--by", "batch_size", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [item["metric"] for item in result["metrics"]] == [
        "user_s",
        "cpu_percent",
        "max_rss_bytes",
        "biggest_kernel_avg_s",
        "precision",
        "recall",
    ]
    assert result["metrics"][0]["wins"] == {"4": 0, "8": 7}


def test_verb_with_repeats_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(to_csv(RunRecord, _two_platforms(5, 2.0)))
    assert main(["compare", str(path), "--json", "--metrics", "user_s"]) == 0
    (test,) = json.loads(capsys.readouterr().out)["significance"]["tests"]
    assert test["p"] == pytest.approx(2 / 252)
    assert test["other"]["count"] == 5


def test_two_runs(runs_csv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["cloud/yolov3_bs4_ep1", "baremetal/yolov3_bs4_ep1"]
    assert main(["compare", str(runs_csv), "--runs", *names]) == 0
    assert "may be compared with care; conditions differ: platform cloud and baremetal" in capsys.readouterr().out
    assert main(["compare", str(runs_csv), "--runs", "cloud/yolov3_bs4_ep2", names[1]]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["compare", str(runs_csv), "--metrics", "model"]) == 2
    assert "no measured number" in capsys.readouterr().err


@pytest.mark.parametrize(("sources", "compared"), [(("counter", "power"), True), (("counter", "rapl"), False), (("counter", None), False)])
def test_energy_is_compared_where_it_is_one_quantity_and_measured(sources: tuple[str | None, str | None], compared: bool) -> None:
    runs = [
        replace(make(platform, "m", 4, 1), energy_j=100.0, energy_source=source)
        for platform, source in zip(("a", "b"), sources, strict=True)
    ]
    assert ("energy_j" in metrics_of(match(runs, "platform"))) is compared
