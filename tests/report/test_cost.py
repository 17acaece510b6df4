import json
from dataclasses import replace
from pathlib import Path

import pytest

from yoloperf.cli import main
from yoloperf.core.record import EpochRecord, RunRecord, to_csv
from yoloperf.report.cost import priced, prices_said, ways
from yoloperf.report.evidence import CONTRADICTED, NOT_TESTABLE, SUPPORTED, Finding
from yoloperf.report.findings import findings
from yoloperf.report.findings_cost import fastest_is_cheapest, fastest_needs_least_energy
from yoloperf.report.predict_coco import extrapolated

PRICE = "per_hour: {price}, currency: {currency}, as_of: 2026-11-01, source: our rate, verified: true"
CARD = "name: {name}\nmatch: {name}\nprice: {{" + PRICE + "}}\n"


@pytest.fixture(autouse=True)
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards of one's own: Slow at 1, Fast at 3 an hour; Free has no price."""
    folder = tmp_path / "cfg" / "platforms"
    folder.mkdir(parents=True)
    for name, price, currency in (("Slow", 1.0, "EUR"), ("Fast", 3.0, "EUR"), ("Foreign", 2.0, "CHF"), ("Free", "null", "null")):
        (folder / f"{name.lower()}.yaml").write_text(CARD.format(name=name, price=price, currency=currency))
    monkeypatch.chdir(tmp_path)


def run(gpu: str, wall_s: float, batch: int = 8, epochs: int = 10, **more: object) -> RunRecord:
    known = {"run_id": f"{gpu}/bs{batch}_ep{epochs}", "platform": gpu.lower(), "gpu_name": gpu, "model": "yolov3-tiny", "status": "ok"}
    known |= {"batch_size": batch, "epochs": epochs, "epochs_done": epochs, "wall_s": wall_s, "map50": 0.8, "train_images": 100}
    return RunRecord(**{**known, **more})  # type: ignore[arg-type]


def test_money_is_time_times_the_price_of_the_card() -> None:
    (item,) = priced([run("Fast", 1800.0)])
    assert item.cost == pytest.approx(1.5)
    assert item.cost_per_point == pytest.approx(1.5 / 80)
    (four,) = priced([run("Fast", 1800.0, processes=4)])
    assert four.cost == pytest.approx(6.0)
    assert prices_said([item]) == ["fast: EUR 3 an hour (card Fast: price as of 2026-11-01, verified: our rate)"]


def test_a_machine_is_paid_once_however_many_processes_it_has(tmp_path: Path) -> None:
    (tmp_path / "cfg" / "platforms" / "rented.yaml").write_text("kind: cpu\n" + CARD.format(name="Rented", price=2.0, currency="EUR"))
    one = run("Rented", 1800.0, gpu_name=None, cpu_name="Rented", processes=4)
    assert priced([one])[0].cost == pytest.approx(1.0)
    lengths = [replace(one, epochs=count, wall_s=600.0 * count) for count in (1, 2, 3)]
    (far,) = extrapolated(lengths)
    assert far.cost == pytest.approx(far.prediction.seconds / 3600 * 2)


def test_a_failed_run_is_paid_but_bought_no_quality() -> None:
    _, item = priced([run("Fast", 60.0), run("Fast", 3600.0, status="oom")])
    assert (item.cost, item.cost_per_point) == (3.0, None)


@pytest.mark.parametrize("gpu", ["Free", "NVIDIA GeForce RTX 4090"])
def test_without_a_price_there_is_no_cost(gpu: str) -> None:
    (item,) = priced([run(gpu, 1800.0)])
    assert (item.cost, item.cost_per_point) == (None, None)
    assert "no cost, since" in prices_said([item])[0]


def test_energy_is_measured_or_absent() -> None:
    (measured,) = priced([run("Fast", 10.0, energy_j=5000.0, energy_source="counter")])
    assert measured.joules_per_image == pytest.approx(5.0)
    assert measured.joules_per_point == pytest.approx(62.5)
    (guessed,) = priced([run("Fast", 10.0, energy_j=5000.0)])
    assert (guessed.energy_j, guessed.joules_per_image, guessed.joules_per_point) == (None, None, None)


def test_the_way_to_a_map_ends_in_the_epoch_that_reaches_it() -> None:
    """Start-up 5 s, epochs of 10 s and 2 s validation, mAP 0.2 more each: 0.55 is there after the third."""
    first = run("Fast", 100.0, epochs=4, startup_s=5.0, map50=0.8)
    epochs = [EpochRecord(run_id=first.run_id, epoch=k, train_s=10.0, val_s=2.0, map50=0.2 * k) for k in (1, 2, 3, 4)]
    (found,) = ways(priced([first]), epochs, 0.55)
    assert found.fastest
    assert (found.fastest.epoch, found.fastest.seconds) == (3, pytest.approx(41.0))
    assert found.fastest.cost == pytest.approx(41 / 3600 * 3)
    (none,) = ways(priced([first]), epochs, 0.9)
    assert (none.reached, none.tried, none.fastest) == (0, 1, None)
    (whole,) = ways(priced([first]), [], 0.55)
    assert whole.fastest
    assert (whole.fastest.epoch, whole.fastest.seconds) == (None, 100.0)


def test_fastest_cheapest_and_most_frugal_may_be_three_runs() -> None:
    runs = [
        run("Slow", 300.0, 4, energy_j=9.0, energy_source="counter"),
        run("Slow", 200.0, 8, energy_j=20.0, energy_source="counter"),
        run("Slow", 100.0, 16, map50=0.3, energy_j=1.0, energy_source="counter"),
        run("Slow", 50.0, 32, status="failed"),
    ]
    (found,) = ways(priced(runs), [], 0.5)
    assert (found.reached, found.tried) == (2, 3)
    assert found.fastest and found.cheapest and found.frugal
    assert [way.priced.run.batch_size for way in (found.fastest, found.cheapest, found.frugal)] == [8, 8, 4]
    mixed = [runs[0], replace(runs[1], energy_source="rapl")]
    assert ways(priced(mixed), [], 0.5)[0].frugal is None, "a GPU's energy and a processor's are not alike"


@pytest.mark.parametrize("column", ["dataset", "img_size", "engine"])
def test_an_easy_data_set_is_no_way_to_the_quality_of_another(column: str) -> None:
    words = (320, 640) if column == "img_size" else ("easy", "hard")
    runs = [replace(run("Slow", seconds), **{column: word}) for word, seconds in zip(words, (10.0, 900.0), strict=True)]
    found = ways(priced(runs), [], 0.5)
    assert [(item.platform, item.fastest and item.fastest.seconds) for item in found] == [("slow", 10.0), ("slow", 900.0)]
    assert all(str(word) in item.rest for item, word in zip(found, words, strict=True))
    assert len(ways(priced([replace(runs[0], **{column: None}), runs[1]]), [], 0.5)) == 1, "what an older record lacks parts nothing"


def grid(fast_s: float, foreign: bool = False, **more: object) -> list[RunRecord]:
    """Four cells on Slow in 100 s, and on a second platform in fast_s."""
    second = "Foreign" if foreign else "Fast"
    return [run(gpu, seconds, batch, **more) for batch in (4, 8, 16, 32) for gpu, seconds in (("Slow", 100.0), (second, fast_s))]


@pytest.mark.parametrize(("fast_s", "verdict"), [(20.0, SUPPORTED), (50.0, CONTRADICTED)])
def test_the_fastest_platform_is_the_cheapest_if_its_time_makes_up_for_its_price(fast_s: float, verdict: str) -> None:
    found = fastest_is_cheapest(grid(fast_s))
    assert found.verdict == verdict
    assert "card Fast: price as of 2026-11-01, verified" in found.note
    ratio = found.facets[0].median_ratio
    assert ratio == pytest.approx(1.0 if fast_s == 20.0 else 50 * 3 / 100)


def test_amounts_in_two_currencies_do_not_compare() -> None:
    found = fastest_is_cheapest(grid(20.0, foreign=True))
    assert found.verdict == NOT_TESTABLE
    assert found.note.startswith("needs runs on two platforms with prices in one currency")


def test_guessed_energy_never_enters_a_finding() -> None:
    guessed = [replace(item, energy_j=item.wall_s) for item in grid(20.0)]
    assert fastest_needs_least_energy(guessed).facets[0].cases == []
    counted = [replace(item, energy_source="counter") for item in guessed]
    assert fastest_needs_least_energy(counted).verdict == SUPPORTED
    processors = [replace(item, energy_source="rapl") for item in guessed]
    assert fastest_needs_least_energy(processors).verdict == NOT_TESTABLE


def test_they_are_among_all_findings() -> None:
    found: dict[str, Finding] = {item.name: item for item in findings(grid(20.0))}
    assert found["cheapest-platform"].verdict == SUPPORTED
    assert found["least-energy-platform"].verdict == NOT_TESTABLE


def test_the_verb_shows_what_its_figures_rest_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(to_csv(RunRecord, [*grid(50.0), run("Free", 9.0, energy_j=80.0, energy_source="polled")]))
    assert main(["cost", str(path), "--target-map", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "*EUR 0.028" in said
    assert "cost: slow: EUR 1 an hour (card Slow: price as of 2026-11-01, verified: our rate)" in said
    assert "free: no cost, since card Free has no price" in said
    assert "energy: measured in 1 of 9 runs (polled); none is guessed" in said
    assert main(["cost", str(path), "--target-map", "0.9", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [item["reached"] for item in result["ways"]] == [0, 0, 0]
    assert {item["card"]: item["cost"] for item in result["runs"]} == {
        "Slow": pytest.approx(100 / 3600),
        "Fast": pytest.approx(50 / 3600 * 3),
        "Free": None,
    }


@pytest.mark.parametrize("word", ["0", "1.5", "half", "nan"])
def test_a_target_that_is_no_map_is_refused(word: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["cost", "runs.csv", "--target-map", word])
    assert stopped.value.code == 2


def test_the_published_study_by_other_means(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cost of a T4 run of 2020: user time / CPU share, an hour at the card's price; the P40 has none."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    assert main(["cost", "logs/published-2020", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    by_run = {item["run_id"]: item for item in result["runs"]}
    first = by_run["cloud/published-2020/yolov3_bccd_bs4_ep1_lr1"]
    assert first["seconds"] == pytest.approx(59.68 / 0.20)
    assert first["cost"] == pytest.approx(59.68 / 0.20 / 3600 * 0.53)
    assert {item["cost"] for item in result["runs"] if item["card"] == "Tesla P40"} == {None}
    assert {item["energy_j"] for item in result["runs"]} == {None}
    assert main(["cost", "logs/published-2020", "--target-map", "0.5"]) == 0  # no mAP was published
    assert "the target is one of F1" in capsys.readouterr().out
