import json
import shutil
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from yoloperf.core.platforms import card_for
from yoloperf.core.roofline import EFFICIENCY
from yoloperf.core.spec import TrialSpec
from yoloperf.harness import estimate as module
from yoloperf.harness.estimate import Range, estimate
from yoloperf.harness.past import finished_runs
from yoloperf.harness.sweepfile import Cell

REAL = Path(__file__).parents[2] / "logs"
T4 = {"gpu_name": "Tesla T4", "cpu_name": "Xeon"}


@pytest.fixture(autouse=True)
def no_data_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("YOLOPERF_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    module._place.cache_clear()


def cell(**fields: Any) -> Cell:
    spec = TrialSpec(**{"data": "bccd.yaml", "cfg": "yolov3-tiny", **fields})
    return Cell(f"{spec.model}_bs{spec.batch_size}_ep{spec.epochs}", spec)


def ran(logs: Path, platform: str, environment: dict[str, Any], train_s: float = 10.0, **fields: Any) -> None:
    """A finished run: start-up 5 s, validation 2 s an epoch, 3 s of anything else, 205 images."""
    done = cell(**fields)
    folder = logs / platform / "sweep" / f"{done.trial}_{len(list(logs.glob('*/*/*')))}"
    folder.mkdir(parents=True)
    wall_s = 8.0 + done.spec.epochs * (train_s + 2.0)
    content = {"spec": vars(done.spec), "status": "ok", "wall_s": wall_s, "attempts": [{"console_offset": 0}], "environment": environment}
    (folder / "run.json").write_text(json.dumps({**content, "started_at": "2026-11-21T06:41:05+00:00"}))
    events = [
        {"key": "run_start", "train_images": 205, "parameters": 8_674_496, "gpu_name": environment.get("gpu_name")},
        {"key": "first_step", "startup_s": 5.0},
        *({"key": "epoch", "epoch": k + 1, "train_s": train_s, "val_s": 2.0} for k in range(done.spec.epochs)),
    ]
    (folder / "console.log").write_text("".join(f":::YOLOPERF {json.dumps({'time_s': 1.0, **event})}\n" for event in events))


def test_time_follows_the_run_most_alike(tmp_path: Path) -> None:
    ran(tmp_path, "t4", T4, batch_size=4, epochs=2)
    ran(tmp_path, "t4", T4, batch_size=32, epochs=2, train_s=4.0)
    ran(tmp_path, "p40", T4, batch_size=8, epochs=10, train_s=99.0)
    ran(tmp_path, "t4", T4, batch_size=4, epochs=2, cfg="yolov3", train_s=99.0)
    for batch, train_s in ((4, 10.0), (32, 4.0)):
        found = estimate([(cell(batch_size=batch, epochs=20), 0)], tmp_path, "t4")
        assert found.time_s
        expected = 8.0 + 20 * (train_s + 2.0)
        assert found.time_s.low <= expected * 0.9 + 1e-9
        assert found.time_s.high >= expected * 1.1 - 1e-9
        assert found.cells[0].basis.startswith(f"like yolov3-tiny_bs{batch}_")


def test_epochs_that_are_done_and_image_sizes_count(tmp_path: Path) -> None:
    ran(tmp_path, "t4", T4, epochs=2)
    whole = estimate([(cell(epochs=10), 0)], tmp_path, "t4").time_s
    rest = estimate([(cell(epochs=10), 8)], tmp_path, "t4").time_s
    larger = estimate([(cell(epochs=10, img_size=832), 0)], tmp_path, "t4").time_s
    assert whole
    assert rest
    assert larger
    assert whole.low == pytest.approx(128.0 * 0.9)
    assert rest.low == pytest.approx(32.0 * 0.9)
    assert larger.low == pytest.approx(488.0 * 0.9)


def test_another_data_set_needs_its_number_of_images(tmp_path: Path) -> None:
    ran(tmp_path, "t4", T4, epochs=2)
    unknown = estimate([(cell(data="own.yaml", epochs=10), 0)], tmp_path, "t4")
    assert unknown.time_s is None
    assert "the number of images in own.yaml is not known" in unknown.cells[0].basis
    (tmp_path / "own.yaml").write_text("train: list.txt\nval: list.txt\nnames: [a]\n")
    (tmp_path / "list.txt").write_text("x.jpg\n" * 410)
    module._place.cache_clear()
    known = estimate([(cell(data=str(tmp_path / "own.yaml"), epochs=10), 0)], tmp_path, "t4")
    assert known.time_s
    assert known.time_s.low == pytest.approx((8.0 + 10 * 2 * 12.0) * 0.9)


def test_without_a_run_the_card_says_what_is_possible(tmp_path: Path) -> None:
    """A cell on a T4 in fp16 by hand: 3 x 65.86 GFLOP an image of 205, 10 epochs, 6 to 26 % of 65 TFLOP/s."""
    ran(tmp_path, "t4", T4, epochs=2)
    found = estimate([(cell(cfg="yolov3", epochs=10), 0)], tmp_path, "t4")
    seconds = 10 * 205 * 3 * 65.86e9 / 65e12
    assert found.time_s == Range(pytest.approx(seconds / 0.26), pytest.approx(seconds / 0.06))
    assert "6 to 26 % of the 65 TFLOP/s of card Tesla T4 in fp16" in found.cells[0].basis
    assert EFFICIENCY == (0.06, 0.26)
    card = card_for("Tesla T4")
    assert card
    assert card.price_per_hour
    assert found.cost == Range(*(pytest.approx(end / 3600 * card.price_per_hour) for end in (found.time_s.low, found.time_s.high)))
    said = "\n".join(found.lines())
    assert "card Tesla T4: price as of" in said
    assert "verified" in said


def test_two_devices_are_twice_as_fast_and_cost_the_same(tmp_path: Path) -> None:
    ran(tmp_path, "t4", T4, epochs=2)
    one, two = (estimate([(cell(cfg="yolov3", epochs=10, device=device), 0)], tmp_path, "t4") for device in ("0", "0,1"))
    assert one.time_s
    assert two.time_s
    assert one.cost
    assert two.cost
    assert two.time_s.low == pytest.approx(one.time_s.low / 2)
    assert two.cost.low == pytest.approx(one.cost.low)


def test_a_platform_named_after_a_card_needs_no_run(tmp_path: Path) -> None:
    ran(tmp_path, "elsewhere", {"cpu_name": "EPYC"}, epochs=1)  # tells how many images there are
    found = estimate([(cell(epochs=10, precision="fp32"), 0)], tmp_path, "a100-sxm4-40gb")
    assert "156 TFLOP/s" in found.cells[0].basis
    assert found.card
    assert found.card.name == "A100 SXM4 40 GB"


def test_what_is_not_known_is_said_and_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "collect", lambda: {"gpu_name": "NVIDIA GeForce RTX 4090", "cpu_name": "Xeon"})
    found = estimate([(cell(), 0), (cell(cfg="my-own-net"), 0)], tmp_path, "desk")
    assert (found.time_s, found.cost, found.disk_bytes, found.peak_bytes, found.cache_bytes) == (None, None, None, None, None)
    said = "\n".join(found.lines())
    assert said.count("time unknown") == 2
    assert "cost: unknown, since no card names this device" in said
    assert "disk: unknown" in said
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["time_s"] is None
    assert list(estimate([], tmp_path, "desk").lines()) == []


def test_the_efficiency_of_tensor_cores_is_claimed_for_no_others(tmp_path: Path) -> None:
    ran(tmp_path, "elsewhere", T4, epochs=1)
    for platform in ("p40", "p100-pcie"):
        found = estimate([(cell(epochs=10), 0)], tmp_path, platform)
        assert found.time_s is None
        assert "nothing published" in found.cells[0].basis


def test_disk_is_checkpoints_logs_and_decoded_images(tmp_path: Path) -> None:
    ran(tmp_path, "t4", T4, epochs=2)
    run = finished_runs(tmp_path)[0]
    found = estimate([(cell(epochs=1), 0), (cell(epochs=2), 0)], tmp_path, "t4")
    assert found.disk_bytes == 2 * int(8 * 8_674_496 + run.log_bytes)
    assert found.peak_bytes == 36 * 8_674_496
    assert found.cache_bytes == 3 * 416**2 * 205


@pytest.mark.parametrize("damage", ["status", "attempts", "spec", "epochs", "json"])
def test_only_whole_runs_count(tmp_path: Path, damage: str) -> None:
    ran(tmp_path, "t4", T4, epochs=2)
    path = next(tmp_path.glob("*/*/*/run.json"))
    content = json.loads(path.read_text())
    content |= {"status": {"status": "oom"}, "attempts": {"attempts": [{}, {}]}, "spec": {"spec": {"img_size": 7}}}.get(damage, {})
    path.write_text("{" if damage == "json" else json.dumps(content))
    if damage == "epochs":
        path.with_name("console.log").unlink()
    assert finished_runs(tmp_path) == []


def test_real_runs_are_foretold_by_the_others(tmp_path: Path) -> None:
    """Each of the real CPU runs from the rest: the range holds it, or misses it by a tenth."""
    shutil.copytree(REAL / "cpu-2core", tmp_path / "cpu-2core")
    paths = sorted(tmp_path.glob("*/*/*/run.json"))
    assert len(paths) >= 4
    misses = []
    for path in paths:
        aside = tmp_path / "aside"
        path.parent.rename(aside)
        content = json.loads((aside / "run.json").read_text())
        found = estimate([(Cell("it", TrialSpec(**content["spec"])), 0)], tmp_path, "cpu-2core")
        assert found.time_s, path
        low, high, wall_s = found.time_s.low, found.time_s.high, content["wall_s"]
        misses.append(max(low / wall_s - 1, 1 - high / wall_s, 0.0))
        aside.rename(path.parent)
    assert median(misses) == 0
    assert max(misses) < 0.25, misses


def test_a_dry_run_shows_it_and_writes_nothing(house: Any, capsys: pytest.CaptureFixture[str]) -> None:
    house.write({"batch_size": [4, 8]})
    code, result = house.sweep("--dry-run")
    said = capsys.readouterr().out
    assert code == 0
    assert [item["trial"] for item in result["estimate"]["cells"]] == list(result["commands"])
    assert "machine time: " in said
    assert not house.logs.exists()
