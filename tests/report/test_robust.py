"""Whatever the records hold or lack, every question gets an answer or a UserError, and no answer holds a NaN."""

import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from yoloperf.cli import main
from yoloperf.core.record import STATUSES, EpochRecord, KernelRecord, RunRecord, to_csv

_TEXTS = {
    "status": STATUSES,
    "platform": ("cloud", "bare_metal", "a|b"),
    "model": ("yolov3", "yolov3-tiny", "x_{y}"),
    "biggest_kernel_domain": ("gpu", "cpu"),
}


def quick(examples: int) -> Callable[[Any], Any]:
    """No shrinking: it would draw pictures for minutes, and what fails is told by its own traceback."""
    phases = (Phase.explicit, Phase.generate)
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)


def _value(item: Any) -> st.SearchStrategy[Any]:
    kind = str(item.type).split(" ")[0]
    if item.name == "schema_version":
        return st.just(1)
    if item.name in _TEXTS:
        return st.sampled_from((None, *_TEXTS[item.name]))
    if kind == "int":
        return st.sampled_from((None, 0, 1, 4, 8, 2**33))
    if kind == "float":
        return st.sampled_from((None, 0.0, 0.5, 1.0, 1e-9, 86400.0))
    return st.sampled_from((None, "p", "q r"))


def _records(kind: type, size: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.builds(kind, **{item.name: _value(item) for item in fields(kind) if item.name != "run_id"}), max_size=size)


@quick(30)
@given(_records(RunRecord, 8), st.sampled_from(("table", "compare", "findings", "predict")), st.sampled_from(("platform", "batch_size")))
def test_every_verb_answers(runs: list[RunRecord], verb: str, by: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.csv")
        path.write_text(to_csv(RunRecord, runs))
        extra = ["--by", by] if verb == "compare" else []
        assert main([verb, str(path), "--json", *extra]) in (0, 1, 2)


@quick(4)
@given(_records(RunRecord, 6), _records(EpochRecord, 10), _records(KernelRecord, 10))
def test_every_picture_can_be_drawn(runs: list[RunRecord], epochs: list[EpochRecord], kernels: list[KernelRecord]) -> None:
    runs = [replace(run, run_id=str(k)) for k, run in enumerate(runs)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.csv")
        path.write_text(to_csv(RunRecord, runs))
        path.with_name("epochs.csv").write_text(to_csv(EpochRecord, [replace(e, run_id=str(k % 3)) for k, e in enumerate(epochs)]))
        path.with_name("kernels.csv").write_text(to_csv(KernelRecord, [replace(e, run_id=str(k % 3)) for k, e in enumerate(kernels)]))
        assert main(["plot", str(path), "-o", str(Path(folder, "out")), "--json"]) in (0, 1, 2)
