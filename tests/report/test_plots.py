import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord
from yoloperf.report import plots
from yoloperf.report.load import Records
from yoloperf.report.pictures import save_all
from yoloperf.report.plots_operators import operators
from yoloperf.report.plots_repeats import repeats
from yoloperf.report.plots_tradeoff import front, tradeoff
from yoloperf.report.style import drawing


def _texts_overlap(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    outside = set()
    for axes in figure.findobj(Axes):
        for axis, limits, k in ((axes.xaxis, axes.get_xlim(), 0), (axes.yaxis, axes.get_ylim(), 1)):
            outside |= {label for label in axis.get_ticklabels() if not limits[0] <= label.get_position()[k] <= limits[1]}
    texts = [text for text in figure.findobj(mpl.text.Text) if text.get_visible() and text.get_text().strip() and text not in outside]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if not text.axes or text.axes.get_visible()]
    return [(a, b) for k, (a, one) in enumerate(boxes) for b, two in boxes[:k] if one.overlaps(two)]


def test_every_picture_is_written_and_not_blank(tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    settings = dict(mpl.rcParams)
    paths, missing = save_all(Records(study, epochs, []), tmp_path)
    assert dict(mpl.rcParams) == settings
    assert set(missing) == {"operators", "device", "repeats"}
    assert [path.name for path in paths] == [
        "grid-batch_size.png",
        "grid-epochs.png",
        "curves-yolov3-on-baremetal.png",
        "curves-yolov3-tiny-on-baremetal.png",
        "curves-yolov3-on-cloud.png",
        "curves-yolov3-tiny-on-cloud.png",
        "tradeoff.png",
        "kernels.png",
    ]
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None and picture.shape[1] == 1500
        assert 0.5 < np.mean(picture > 250) < 0.99


def test_svg_is_the_same_every_time(tmp_path: Path, study: list[RunRecord]) -> None:
    records = Records(study[:4], [], [])
    first, second = (save_all(records, tmp_path / name, "svg")[0] for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[0].read_text().lstrip().startswith("<?xml")


def test_pyplot_stays_out() -> None:
    code = "import sys, yoloperf.report.pictures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_cannot_be_drawn_has_a_reason(tmp_path: Path) -> None:
    paths, missing = save_all(Records([RunRecord(run_id="a", batch_size=4, epochs=1, status="ok", user_s=1.0)], [], []), tmp_path)
    assert not paths
    assert set(missing) == {"grid-batch_size", "grid-epochs", "curves", "tradeoff", "kernels", "operators", "device", "repeats"}


def test_no_texts_overlap(study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    (page,) = plots.pages(study)
    with drawing():
        figures = [plots.grid(page, x, plots.grid_metrics(study)) for x in ("batch_size", "epochs")]
        figures += [*plots.kernels(study), *plots.curves(page[0], epochs)]
        assert [_texts_overlap(figure) for figure in figures] == [[]] * 4


def test_grid_draws_each_cell_and_breaks_its_line_at_a_failed_one(study: list[RunRecord]) -> None:
    (page,) = plots.pages(study)
    assert plots.grid_metrics(study) == ["user_s", "max_rss_bytes", "precision", "recall"]
    heading, runs = page[1]
    assert heading == "yolov3-tiny on baremetal"
    axes = plots.grid([(heading, runs)], "batch_size", ["user_s"]).subfigs[0].axes[0]
    short, long = (np.array(axes.lines[k].get_ydata(), float) for k in (0, 1))
    assert short.tolist() == [20.0, 15.0]
    assert long[0] == 60.0 and np.isnan(long[1])


def test_repeats_are_drawn_as_their_median(study: list[RunRecord]) -> None:
    runs = [replace(run, run_id=f"{k}{run.run_id}", user_s=(run.user_s or 0) + k**2) for run in study[:4] for k in range(3)]
    ((heading, part),) = plots.groups(runs)
    figure = plots.grid([(heading, part)], "epochs", ["user_s"])
    assert np.array(figure.subfigs[0].axes[0].lines[0].get_ydata()).tolist() == [21.0, 61.0]


def test_lines_differ_without_colour(study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    (figure,) = plots.curves(plots.groups(study[:4])[0], epochs)
    lines = figure.legends[0].get_lines()
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "batch 4, 1 epoch",
        "batch 4, 5 epochs",
        "batch 8, 1 epoch",
        "batch 8, 5 epochs",
    ]


def test_front_is_what_no_other_point_beats() -> None:
    points = [(1.0, 0.1), (2.0, 0.5), (2.0, 0.4), (3.0, 0.5), (4.0, 0.9), (5.0, 0.2)]
    assert [points[k] for k in front(points)] == [(1.0, 0.1), (2.0, 0.5), (4.0, 0.9)]


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=30))
def test_front_against_its_definition(points: list[tuple[float, float]]) -> None:
    def beaten(x: float, y: float) -> bool:
        return any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)

    assert {points[k] for k in front(points)} == {point for point in points if not beaten(*point)}


def test_tradeoff_names_the_front(study: list[RunRecord]) -> None:
    runs = [replace(run, map50=0.1 * k) for k, run in enumerate(study[:4], 1)]
    (figure,) = tradeoff(runs)
    names = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    # times of the four runs: 20, 60, 15 and 35 s
    assert names[:2] == ["yolov3 on cloud", "best for the time"]
    assert names[2:] == ["1  yolov3 on cloud, batch 8, 1 epoch", "2  yolov3 on cloud, batch 8, 5 epochs"]
    assert list(tradeoff(study[:1])) == []


def test_operators_add_up_to_the_whole(study: list[RunRecord]) -> None:
    kernels = [
        KernelRecord(run_id=study[0].run_id, domain="gpu", operator="convolution", total_s=3.0),
        KernelRecord(run_id=study[0].run_id, domain="gpu", operator=None, total_s=1.0),
        KernelRecord(run_id=study[0].run_id, domain="api", operator="copy", total_s=9.0),
    ]
    (figure,) = operators(study, kernels, "gpu")
    assert [bar.get_width() for bar in figure.findobj(Rectangle) if bar.get_height() == 0.75] == [0.75, 0.25]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["convolution", "other"]
    assert list(operators(study, kernels, "cpu")) == []


def test_repeats_need_three(study: list[RunRecord]) -> None:
    runs = [replace(study[0], run_id=str(k), user_s=20.0 + k) for k in range(3)] + [replace(study[1], run_id=f"x{k}") for k in range(2)]
    (figure,) = repeats(runs)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["batch 4, 1 epoch (n=3)"]
    assert list(repeats(study)) == []


@pytest.mark.parametrize("count", [1, 40])
def test_many_runs_go_on_in_the_next_figure(study: list[RunRecord], count: int) -> None:
    runs = [replace(study[0], run_id=str(k), seed=k) for k in range(count)]
    epochs = [EpochRecord(run_id=run.run_id, epoch=1, box_loss=0.1) for run in runs]
    figures = list(plots.curves(plots.groups(runs)[0], epochs))
    assert sum(len(figure.legends[0].get_texts()) for figure in figures) == count
    assert max(len(figure.legends[0].get_texts()) for figure in figures) <= plots.LINES
