import argparse
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloperf.core.errors import UserError
from yoloperf.core.spec import CACHES, PRECISIONS, TrialSpec, add_flags, field_names, from_args, from_mapping

SPEC = TrialSpec(cfg="yolov3-tiny")

specs = st.builds(
    TrialSpec,
    data=st.sampled_from(["bccd.yaml", "x/y.yaml"]),
    weights=st.sampled_from(["yolov3.pt", "a b.weights"]),
    cfg=st.sampled_from(["", "yolov3"]),
    img_size=st.integers(1, 40).map(lambda n: 32 * n),
    batch_size=st.integers(1, 512),
    epochs=st.integers(1, 300),
    accumulate=st.integers(1, 8),
    lr_scale=st.floats(0.01, 10),
    seed=st.integers(0, 9),
    precision=st.sampled_from(PRECISIONS),
    device=st.sampled_from(["auto", "cpu", "0"]),
    threads=st.none() | st.integers(1, 64),
    cache=st.sampled_from(CACHES),
)


def _parse(argv: list[str]) -> TrialSpec:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return from_args(parser.parse_args(argv))


@given(specs)
def test_flags_and_mapping_give_the_spec_back(spec: TrialSpec) -> None:
    assert _parse(spec.argv()) == spec
    assert from_mapping(asdict(spec)) == spec


def test_every_field_is_part_of_the_identity() -> None:
    other = {
        "data": "b.yaml",
        "weights": "w.pt",
        "cfg": "c",
        "img_size": 64,
        "lr_scale": 2.0,
        "hyp": "h",
        "precision": "fp32",
        "device": "cpu",
        "engine": "ultralytics",
    }
    for item in fields(TrialSpec):
        value = other.get(item.name, "none" if item.name == "cache" else 7)
        assert replace(SPEC, **{item.name: value}).hash != SPEC.hash, item.name


def test_hash_stays_what_it_was() -> None:
    """A changed hash would make every finished cell run again."""
    assert SPEC.hash == "85e73fe5a7d9"


def test_study_flags_and_yaml_names_are_aliases() -> None:
    names = field_names()
    assert names["img"] == names["imgsz"] == names["img_size"] == "img_size"
    assert _parse(["--img", "320", "--batch", "4", "--weights", "yolov3.pt"]) == from_mapping(
        {"imgsz": 320, "batch": 4, "weights": "yolov3.pt"}
    )
    assert _parse(["--weights", "a.pt", "--cache"]).cache == "disk"


def test_model_is_named_by_cfg_then_weights() -> None:
    assert TrialSpec(weights="dir/yolov3.pt").model == "yolov3"
    assert TrialSpec(weights="yolov3.pt", cfg="cfg/yolov3-tiny.cfg").model == "yolov3-tiny"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batchsize": 4}, "did you mean 'batch_size'"),
        ({"batch_size": 4, "batch": 8}, "gives batch_size twice"),
        ({"batch_size": "four"}, r"batch_size in spec must be a number \(int\), not 'four'"),
        ({"batch_size": 4.5}, "must be a number"),
        ({"batch_size": True}, "must be a number"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"img_size": 400}, "choose 384 or 416"),
        ({"img_size": 20}, "multiple of 32: choose 32$"),
        ({"lr_scale": 0}, "greater than 0"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"threads": 0}, "threads must be"),
    ],
)
def test_bad_values_are_one_clear_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        from_mapping({"cfg": "yolov3"} | values)
    assert "\n" not in str(caught.value)


def test_scratch_needs_a_cfg() -> None:
    with pytest.raises(UserError, match="add --cfg yolov3-tiny"):
        TrialSpec()
