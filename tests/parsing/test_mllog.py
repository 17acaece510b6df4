"""MLPerf logs of several runs, and what follows a run's end."""

from collections.abc import Callable

import pytest

from yoloperf.parsing.parse import ParseResult

Read = Callable[..., ParseResult]


def run(batch: int, start: int, accuracy: float, after: str = "") -> str:
    """A run of v0.6: what was submitted has no time."""
    return (
        ':::MLL 0.0 submission_benchmark: {"value": "ssd", "metadata": {}}\n'
        ':::MLL 0.0 submission_platform: {"value": "tpu-v3-32", "metadata": {}}\n'
        f':::MLL {start}.5 global_batch_size: {{"value": {batch}, "metadata": {{}}}}\n'
        f':::MLL {start + 1}.0 run_start: {{"value": null, "metadata": {{}}}}\n'
        f':::MLL {start + 8}.0 eval_accuracy: {{"value": {accuracy}, "metadata": {{"epoch_num": 5}}}}\n'
        f':::MLL {start + 9}.0 run_stop: {{"value": null, "metadata": {{"status": "success"}}}}\n' + after
    )


def test_runs_of_v06_in_one_file_are_whole_rows(read: Read) -> None:
    result = read(run(1024, 1_560_000_000, 0.25) + run(2048, 1_560_001_000, 0.5))
    found = [(r.model, r.platform, r.batch_size, r.epochs_done, r.map50_95, r.wall_s) for r in result.runs]
    assert found == [("ssd", "tpu-v3-32", 1024, 5, 0.25, 8.0), ("ssd", "tpu-v3-32", 2048, 5, 0.5, 8.0)]


def test_an_evaluation_after_the_end_is_not_of_the_run(read: Read) -> None:
    late = ':::MLL 1560000020.0 eval_accuracy: {"value": 0.75, "metadata": {"epoch_num": 6}}\n'
    (found,) = read(run(1024, 1_560_000_000, 0.25, late)).runs
    assert (found.epochs_done, found.map50_95) == (5, 0.25)
    assert "last eval_accuracy 0.25" in str(found.notes)


@pytest.mark.parametrize("value", ["NaN", "1e999"])
def test_an_accuracy_that_is_no_number_is_none(read: Read, value: str) -> None:
    (found,) = read(run(1024, 1_560_000_000, 0.25).replace('"value": 0.25', f'"value": {value}')).runs
    assert (found.map50_95, found.epochs_done) == (None, None)
    assert "accuracy" not in str(found.notes)
