import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core.errors import UserError
from yoloperf.core.spec import PRECISIONS
from yoloperf.harness.sweepfile import SweepSpec, from_content, load_sweep

ROOT = Path(__file__).resolve().parents[2]
TINY = {"cfg": "yolov3-tiny"}


def sweep(**content: object) -> SweepSpec:
    return from_content({"fixed": TINY, **content}, "grid.yaml", "grid")


def trials(**content: object) -> list[str]:
    return [cell.trial for cell in sweep(**content).cells()]


def test_the_grid_is_ordered_with_the_last_axis_fastest() -> None:
    assert trials(axes={"batch": [8, 4], "epochs": [1, 2]}) == [
        "yolov3-tiny_smear_bs8_ep1_lr1_s0",
        "yolov3-tiny_smear_bs8_ep2_lr1_s0",
        "yolov3-tiny_smear_bs4_ep1_lr1_s0",
        "yolov3-tiny_smear_bs4_ep2_lr1_s0",
    ]


def test_the_model_is_told_by_the_weights() -> None:
    names = [cell.trial for cell in sweep(fixed={}, axes={"weights": ["yolov3.weights", "yolov3-tiny.weights"]}).cells()]
    assert names == ["yolov3_smear_bs16_ep10_lr1_s0", "yolov3-tiny_smear_bs16_ep10_lr1_s0"]


def test_the_model_of_a_runs_checkpoints_is_told_by_its_folder() -> None:
    weights = ["runs/a/weights/best.pt", "runs/b/weights/last.pt", "weights/best.pt"]
    names = [cell.trial for cell in sweep(fixed={}, axes={"weights": weights}).cells()]
    assert names == ["a_smear_bs16_ep10_lr1_s0", "b_smear_bs16_ep10_lr1_s0", "best_smear_bs16_ep10_lr1_s0"]


def test_a_name_tells_what_else_varies() -> None:
    assert trials(axes={"weights": ["", "a/yolov3-tiny.weights"], "img": [320, 416]}) == [
        "yolov3-tiny_smear_bs16_ep10_lr1_s0_weightsnone_img_size320",
        "yolov3-tiny_smear_bs16_ep10_lr1_s0_weightsnone_img_size416",
        "yolov3-tiny_smear_bs16_ep10_lr1_s0_weightsa-yolov3-tiny.weights_img_size320",
        "yolov3-tiny_smear_bs16_ep10_lr1_s0_weightsa-yolov3-tiny.weights_img_size416",
    ]


def test_names_stay_unique_where_only_unsafe_characters_differ() -> None:
    first, second = trials(axes={"hyp": ["a/b", "a b"]})
    assert first != second and re.fullmatch(r"[\w.+-]+", first)


def test_repeats_vary_the_seed() -> None:
    seeds = [(cell.spec.batch_size, cell.spec.seed) for cell in sweep(axes={"batch": [4, 8], "seed": [10]}, repeats=3).cells()]
    assert seeds == [(4, 10), (4, 11), (4, 12), (8, 10), (8, 11), (8, 12)]


def test_exclude_and_include() -> None:
    cells = sweep(axes={"batch": [4, 8], "epochs": [1, 2]}, exclude=[{"batch": 8, "epochs": 2}], include=[{"batch": 64}]).cells()
    assert [(cell.spec.batch_size, cell.spec.epochs) for cell in cells] == [(4, 1), (4, 2), (8, 1), (64, 10)]


def test_what_a_file_without_axes_asks_for() -> None:
    assert [cell.spec.batch_size for cell in sweep(include=[{"batch": 4}, {"batch": 8}]).cells()] == [4, 8]
    assert len(trials()) == 1 and len(trials(repeats=3)) == 3
    with pytest.raises(UserError, match="sweep empty names no training: give it fixed, axes or include"):
        from_content(None, "empty.yaml", "empty").cells()


def test_a_merged_mapping_may_be_overruled(tmp_path: Path) -> None:
    file = tmp_path / "merge.yaml"
    file.write_text("fixed: &base {cfg: yolov3-tiny, batch: 2}\ninclude:\n- {<<: *base, batch: 4}\n- {<<: *base, epochs: 1}\n", "utf-8-sig")
    assert [(cell.spec.batch_size, cell.spec.epochs) for cell in load_sweep(file).cells()] == [(4, 10), (2, 1)]


def test_exclude_saves_a_cell_that_could_not_be_trained() -> None:
    cells = sweep(fixed={}, axes={"weights": ["", "yolov3.weights"], "cfg": ["", "yolov3"]}, exclude=[{"weights": "", "cfg": ""}]).cells()
    assert len(cells) == 3


def test_a_power_of_ten_is_a_number(tmp_path: Path) -> None:
    file = tmp_path / "lr.yaml"
    file.write_text("fixed: {cfg: yolov3-tiny}\naxes: {lr: [1e-1, 1, 2.5]}\n")
    assert [cell.spec.lr_scale for cell in load_sweep(file).cells()] == [0.1, 1.0, 2.5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"axis": {"batch": [4]}}, "did you mean 'axes'"),
        ({"axes": {"batchsize": [4]}}, "did you mean 'batch_size'"),
        ({"axes": {"batch": 4}}, r"axis batch_size in grid.yaml must be a list such as \[4\]"),
        ({"axes": {"batch": []}}, r"must be a list such as \[4, 8\]"),
        ({"axes": {"batch": [0]}}, "batch_size must be a whole number of at least 1, not 0"),
        ({"axes": {"batch": ["four"]}}, "batch_size in sweep grid must be a number"),
        ({"axes": {"cfg": ["yolov3"]}}, "gives cfg under fixed and under axes"),
        ({"axes": {"batch": [4], "batch_size": [8]}}, "gives batch_size twice"),
        ({"axes": {"batch": [4, 4]}}, "the same cell twice: .*--batch-size 4"),
        ({"axes": {"seed": [0, 1]}, "repeats": 2}, "the same cell twice"),
        ({"axes": {"batch": [4, 8]}, "include": [{"batch": 8}]}, "the same cell twice"),
        ({"axes": {"batch": [4]}, "exclude": [{"batch": 5}]}, "exclude {'batch_size': 5} matches no cell"),
        ({"axes": {"batch": [4]}, "exclude": [{"batch": 4}]}, "has no cells"),
        ({"exclude": [{}]}, "holds an empty entry"),
        ({"include": {"batch": 4}}, "must be a list of mappings"),
        ({"repeats": 0}, "repeats in grid.yaml must be a whole number"),
        ({"timeout_s": "1h"}, "timeout_s in grid.yaml must be a number of seconds"),
        ({"timeout_s": float("inf")}, "not inf: leave it out for no limit"),
        ({"axes": {"lr": [float("inf")]}}, "lr_scale must be a number greater than 0, not inf"),
        ({"name": "../up"}, "becomes a folder"),
        ({"fixed": ["batch"]}, "fixed of grid.yaml must be a mapping"),
        ({"fixed": {"batch": 4}}, "weights '' trains from scratch and needs a cfg"),
    ],
)
def test_bad_input_is_one_clear_line(content: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        sweep(**content).cells()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("fixed: {batch: 4, batch: 8}", "'batch' is given twice"), ("- 1", "must be a mapping")]
)
def test_a_file_that_is_no_sweep(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_sweep(file)
    assert "\n" not in str(caught.value)


def test_an_unknown_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "smoke.yaml").write_text("")
    with pytest.raises(UserError, match="did you mean '.*smoke.yaml'"):
        load_sweep(tmp_path / "smoek.yaml")


@pytest.mark.parametrize(("name", "count"), [("smoke", 4), ("bccd-cpu", 4), ("study", 32)])
def test_the_sweeps_that_come_along(name: str, count: int) -> None:
    cells = load_sweep(ROOT / "sweeps" / f"{name}.yaml").cells()
    assert len(cells) == count


def test_the_readme_shows_a_sweep_that_works(tmp_path: Path) -> None:
    text = (ROOT / "sweeps" / "README.md").read_text()
    file = tmp_path / "readme.yaml"
    file.write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert len(load_sweep(file).cells()) == 2 * (3 * 2 - 1 + 1)


def lists(values: st.SearchStrategy[object]) -> st.SearchStrategy[list[object]]:
    return st.lists(values, min_size=1, max_size=3, unique=True)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "batch": lists(st.integers(1, 512)),
            "lr": lists(st.floats(0.01, 10)),
            "hyp": lists(st.text("ab/ _é", min_size=1, max_size=4)),
            "data": lists(st.sampled_from(["smear.yaml", "x/smear.yaml", "bccd.yaml"])),
            "precision": lists(st.sampled_from(PRECISIONS)),
            "threads": lists(st.none() | st.integers(1, 64)),
        },
    ),
    st.integers(1, 3),
)
def test_names_are_safe_and_unique_and_every_combination_is_there(axes: dict[str, list[object]], repeats: int) -> None:
    cells = sweep(axes=axes, repeats=repeats).cells()
    expected = repeats
    for values in axes.values():
        expected *= len(values)
    assert len(cells) == len({cell.spec for cell in cells}) == len({cell.trial for cell in cells}) == expected
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", cell.trial) for cell in cells)
