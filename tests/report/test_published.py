"""The published study, against sums that were taken from its tables by other means."""

from pathlib import Path

import pytest

from yoloperf.core.record import RunRecord
from yoloperf.report.load import load
from yoloperf.report.tables import order, tables

PUBLISHED = Path(__file__).parents[2] / "logs" / "published-2020"


@pytest.fixture(scope="module")
def published() -> list[RunRecord]:
    return load([PUBLISHED]).runs


def test_the_whole_grid_is_there_with_its_one_failure(published: list[RunRecord]) -> None:
    cells = {(run.platform, run.model, run.batch_size, run.epochs) for run in published}
    assert len(published) == len(cells) == 64
    (failed,) = (run for run in published if run.status != "ok")
    assert (failed.platform, failed.model, failed.batch_size, failed.epochs) == ("baremetal", "yolov3-tiny", 16, 20)
    assert failed.user_s is None and failed.precision is None


@pytest.mark.parametrize(
    ("column", "total"),
    [
        ("user_s", 12452.07),
        ("cpu_percent", 6663),
        ("max_rss_bytes", 428985212 * 1024),
        ("biggest_kernel_avg_s", 66137.71e-6),
        ("precision", 12.323220),
        ("recall", 22.583371),
        ("obj_loss", 15.7466),
        ("cls_loss", 1.321271),
    ],
)
def test_every_column_adds_up_to_the_published_one(published: list[RunRecord], column: str, total: float) -> None:
    assert sum(getattr(run, column) or 0 for run in published) == pytest.approx(total, rel=1e-6)


def test_it_prints_in_its_own_four_table_layout(published: list[RunRecord]) -> None:
    assert [(part.title, len(part.rows)) for part in tables(order(published))] == [
        ("yolov3 on baremetal (Tesla P40)", 16),
        ("yolov3-tiny on baremetal (Tesla P40)", 16),
        ("yolov3 on cloud (Tesla T4)", 16),
        ("yolov3-tiny on cloud (Tesla T4)", 16),
    ]
