"""The page in a real browser, from a file and without a network, and what it says and escapes."""

import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import pytest
import vl_convert
from playwright.sync_api import Browser, Page

from yoloperf.cli import main
from yoloperf.core.record import EpochRecord, KernelRecord, RunRecord, to_csv
from yoloperf.report import shell
from yoloperf.report.charts_grid import grid, tradeoff
from yoloperf.report.charts_runs import _device_spec
from yoloperf.report.charts_runs import kernels as kernels_chart
from yoloperf.report.load import Records
from yoloperf.report.page import page
from yoloperf.report.page_charts import charts
from yoloperf.report.shell import VEGA_LITE
from yoloperf.report.vega import POINTS, SERIES, Chart

HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>\u202e\ud800\x00&\"'{{7*7}}"


@pytest.fixture
def kernels(study: list[RunRecord]) -> list[KernelRecord]:
    return [
        KernelRecord(run_id=run.run_id, profiler="nvprof", domain="gpu", name=name, calls=3, total_s=seconds, operator=name)
        for run in study[:4]
        for name, seconds in (("convolution", 3.0), ("batch norm", 1.0))
    ]


class Opened:
    """A page in a tab, with everything that went wrong on it and everything that it asked for."""

    def __init__(self, browser: Browser, path: Path, **options: object) -> None:
        self.context = browser.new_context(**options)  # type: ignore[arg-type]
        self.tab: Page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())
        plots = self.tab.locator(".chart").count()
        if plots:
            self.tab.locator(".plot[data-drawn]").nth(plots - 1).wait_for(state="attached", timeout=30_000)


def write(path: Path, records: Records, sources: tuple[Path, ...] = ()) -> Path:
    path.write_bytes(page(records, path, sources).html.encode("utf-8", "replace"))
    return path


def test_in_a_browser(
    browser: Browser, tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord], kernels: list[KernelRecord]
) -> None:
    path = write(tmp_path / "report.html", Records(study, epochs, kernels))
    opened = Opened(browser, path, viewport={"width": 1200, "height": 800}, color_scheme="light")
    tab = opened.tab
    assert opened.asked == [path.as_uri()]
    assert opened.wrong == []

    plots = tab.locator(".chart")
    assert plots.count() == 6
    for k in range(plots.count()):
        assert plots.nth(k).locator("svg path, svg rect").count() > 10
    before = plots.nth(0).locator("svg").inner_html()
    plots.nth(0).locator("select").select_option(label="max RSS")
    tab.wait_for_timeout(300)
    assert plots.nth(0).locator("svg").inner_html() != before
    assert "max RSS (GiB)" in plots.nth(0).inner_text()

    table = tab.locator("#runs-table")
    head = table.locator("th", has_text="user time").first
    column = head.evaluate("cell => cell.cellIndex")

    def seconds() -> list[str]:
        return table.locator(f"tbody tr td:nth-child({column + 1})").all_inner_texts()

    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    first = seconds()
    assert (first[0], first[-2], first[-1]) == ("15.0 s", "60.0 s", "")  # the run that failed has no time and comes last
    head.locator("button").press("Enter")
    second = seconds()
    assert (second[0], second[-2], second[-1]) == ("60.0 s", "15.0 s", "")

    tab.get_by_label("filter rows").first.fill("cloud bs8")
    assert tab.locator("#runs .tools output").inner_text() == "4 of 16 rows"
    assert opened.wrong == []


def test_light_dark_and_paper(browser: Browser, tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    path = write(tmp_path / "report.html", Records(study, epochs, []))

    def colours(tab: Page) -> tuple[str, str, str]:
        found = tab.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
            " getComputedStyle(document.querySelector('.plot svg .role-axis-label text')).fill]"
        )
        return tuple(found)

    light = Opened(browser, path, color_scheme="light").tab
    dark = Opened(browser, path, color_scheme="dark").tab
    assert colours(light)[0] == "rgb(255, 255, 255)"
    assert all(one != other for one, other in zip(colours(light), colours(dark), strict=True))
    assert colours(dark)[1] == colours(dark)[2]
    was = colours(dark)
    dark.locator("#theme").click()
    assert colours(dark) == colours(light)
    dark.locator("#theme").click()
    assert colours(dark) == was

    dark.emulate_media(media="print")
    assert colours(dark)[0] == "rgb(255, 255, 255)"
    assert not dark.locator("nav").is_visible() and not dark.locator("#runs .tools").is_visible()
    assert dark.locator(".plot svg").first.is_visible()
    assert len(dark.pdf()) > 20_000


def test_on_a_phone_nothing_hangs_over(browser: Browser, tmp_path: Path, study: list[RunRecord], epochs: list[EpochRecord]) -> None:
    opened = Opened(browser, write(tmp_path / "report.html", Records(study, epochs, [])), viewport={"width": 375, "height": 700})
    assert opened.tab.evaluate("document.documentElement.scrollWidth") == 375
    assert opened.wrong == []


def test_names_from_logs_stay_text(browser: Browser, tmp_path: Path, study: list[RunRecord]) -> None:
    texts = ("platform", "trial", "sweep", "model", "reason", "gpu_name", "biggest_kernel_name", "torch", "source", "dataset", "engine")
    runs = [replace(run, run_id=f"{HOSTILE}{k}", **dict.fromkeys(texts, HOSTILE)) for k, run in enumerate(study)]
    runs[0] = replace(runs[0], platform="other", status=HOSTILE)
    epochs = [EpochRecord(run_id=runs[1].run_id, epoch=k, map50=0.1) for k in (1, 2)]
    kernels = [KernelRecord(run_id=runs[1].run_id, domain="gpu", name=HOSTILE, operator="copy", total_s=1.0)]
    opened = Opened(browser, write(tmp_path / "report.html", Records(runs, epochs, kernels)))
    assert opened.wrong == []
    assert len(opened.asked) == 1
    assert opened.tab.title() != "broken"
    assert opened.tab.locator("img").count() == 0
    assert opened.tab.locator("script").count() == 3
    assert "{{7*7}}" in opened.tab.locator("#runs-table").inner_text()


LOG = '\tCommand being timed: "python train.py --batch {batch} --epochs 1"\n\tUser time (seconds): 12.5\n\tExit status: 0\n'


def test_a_cell_leads_to_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "logs").mkdir(parents=True)
    (tmp_path / "out" / "logs" / "a #1?.txt").write_text(LOG.format(batch=4))
    (tmp_path / "far.txt").write_text(LOG.format(batch=8))
    assert main(["report", "out/logs", "far.txt", "-o", "out/report.html"]) == 0
    text = (tmp_path / "out" / "report.html").read_text()
    hrefs = set(re.findall(r'href="([^"#]+)"', text))
    assert hrefs == {"logs/a%20%231%3F.txt"}
    assert "<td>far.txt</td>" in text  # not below the page: its path as text
    assert text.count('href="logs/a%20%231%3F.txt"') >= 2  # from the run and from its cell in the comparison


class Balanced(HTMLParser):
    """Fails where elements do not close in their order."""

    EMPTY = frozenset(("meta", "input", "br", "img", "link"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


POOR = [
    RunRecord(run_id="a"),
    RunRecord(run_id="a", status="oom", reason="CUDA out of memory"),
    RunRecord(run_id="a", batch_size=4, epochs=1, status="ok", user_s=0.0, map50=0.0),
]


@pytest.mark.parametrize("run", POOR)
def test_one_row_is_enough(browser: Browser, tmp_path: Path, run: RunRecord) -> None:
    path = write(tmp_path / "report.html", Records([run], [], []))
    parser = Balanced()
    parser.feed(path.read_text())
    assert parser.open == []
    assert Opened(browser, path).wrong == []


def test_every_plot_is_a_valid_specification(study: list[RunRecord], epochs: list[EpochRecord], kernels: list[KernelRecord]) -> None:
    repeats = [
        replace(run, run_id=f"{run.run_id}-{k}", user_s=(run.user_s or 0) + k, wall_s=9.0 + k, images_per_s=5.0)
        for run in study
        for k in range(3)
    ]
    for records in (Records(study, epochs, kernels), Records(repeats, [], [])):
        found, absent = charts(records)
        assert found and not set(absent) & {chart.name for chart in found}
        for chart in found:
            for name, spec in chart.variants:
                drawing = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE)
                assert drawing.count("<path") > 5, (chart.name, name)


def test_failed_runs_are_named_with_their_reason(study: list[RunRecord], tmp_path: Path) -> None:
    html = page(Records(study, [], []), tmp_path / "report.html").html
    assert html.count("oom: CUDA out of memory &lt;16 GiB&gt; &amp; 100 % | full_up") >= 2


def test_many_rows_are_cut_and_that_is_said(study: list[RunRecord], tmp_path: Path) -> None:
    runs = [replace(study[k % 16], run_id=f"r{k}", seed=k // 16) for k in range(2000)]
    html = page(Records(runs, [], []), tmp_path / "report.html").html
    assert "1500 of 2000 runs are listed, all 125 that failed among them" in html
    assert len(html) < 5e6


def test_the_same_records_give_the_same_bytes(runs_csv: Path, tmp_path: Path) -> None:
    assert main(["report", str(runs_csv), "-o", str(tmp_path / "a.html")]) == 0
    assert main(["report", str(runs_csv), "-o", str(tmp_path / "b.html")]) == 0
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_json_and_a_page_that_cannot_be_written(runs_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs_csv), "-o", str(tmp_path / "a.html"), "--title", "<b>mine", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["runs"], said["failed"], said["bytes"]) == (16, 1, os.path.getsize(tmp_path / "a.html"))
    assert "<h1>&lt;b&gt;mine</h1>" in (tmp_path / "a.html").read_text()
    (tmp_path / "file").write_text("")
    assert main(["report", str(runs_csv), "-o", str(tmp_path / "file" / "a.html")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_tables_alone_give_a_page(study: list[RunRecord], tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(to_csv(RunRecord, study))
    assert main(["report", str(path), "-o", str(tmp_path / "report.html")]) == 0


def test_thinned_points_keep_their_model() -> None:
    """Beyond what one plot holds only some runs are drawn, and each in the colour of its own model."""
    models = ("yolov3", "yolov3-tiny")
    runs = [
        RunRecord(run_id=f"{k}", platform=f"p{k % 26}", model=models[k % 26 < 13], status="ok", wall_s=10.0 + k, map50=k % 7 / 10)
        for k in range(POINTS * 2 - 1)
    ]
    made = tradeoff(runs)
    assert not isinstance(made, str)
    rows = made.variants[0][1]["data"]["values"]
    own = {run.run_id: run.model for run in runs}
    assert all(row["series"] == own[row["run"]] for row in rows)
    assert sum(not row["best"] for row in rows) <= POINTS and "one run in 2 is drawn" in made.note


def _values(chart: object, name: str) -> set[str]:
    assert isinstance(chart, Chart)
    return {row[name] for row in chart.variants[0][1]["data"]["values"]}


def test_no_two_of_a_plot_have_one_colour() -> None:
    script = (Path(shell.__file__).parent / "templates" / "page.js").read_text()
    (colours,) = re.findall(r"category: \[(.*?)\]", script)
    assert len(set(colours.split(", "))) == SERIES
    runs = [
        RunRecord(
            run_id=f"{k}", platform=f"p{k}", batch_size=4 * (k % 2 + 1), biggest_kernel_name=f"k{k}", biggest_kernel_avg_s=1.0, user_s=9.0
        )
        for k in range(11)
    ]
    assert len(_values(grid(runs, "batch_size"), "series")) == SERIES
    drawn = kernels_chart(runs)
    assert len(_values(drawn, "series")) == SERIES and "other kernels" in _values(drawn, "series")
    assert len(_values(drawn, "kernel")) == 11


def test_lines_of_the_device_differ_in_more_than_colour() -> None:
    encoding = _device_spec([], "time", "power", "W")["encoding"]
    assert encoding["strokeDash"]["field"] == encoding["color"]["field"]


def test_a_value_of_several_runs_sorts_by_its_number(tmp_path: Path) -> None:
    """The numbers of the links to its logs, which stand behind it, are no part of it."""
    runs = [
        RunRecord(run_id=name, source=f"{name}.txt", platform=name[0], batch_size=4, status="ok", recall=0.413, precision=0.5)
        for name in ("a0", "a1", "b0", "b1")
    ]
    for run in runs:
        (tmp_path / str(run.source)).write_text("")
    html = page(Records(runs, [], [], bases=(tmp_path,)), tmp_path / "report.html").html
    assert re.search(r'<td class="n" data-v="0.413">0.413<sup><a href="a0.txt"', html)


def test_a_run_without_a_name_and_epochs_is_called_so(tmp_path: Path) -> None:
    html = page(Records([RunRecord(platform="a", status="ok", user_s=1.0)], [], []), tmp_path / "report.html").html
    assert "not named" in html and "after the most epochs that both finished" in html
    assert ">None<" not in html and "None epochs" not in html


def test_costs_that_are_cut_say_of_how_many_once(tmp_path: Path) -> None:
    runs = [
        RunRecord(run_id=f"{k}", platform="a", gpu_name="Tesla T4", batch_size=k, epochs=1, status="ok", wall_s=9.0) for k in range(1, 302)
    ]
    html = page(Records(runs, [], []), tmp_path / "report.html").html
    assert "200 of 301 runs are listed" in html and "200 of 201" not in html


def test_a_plot_is_saved_as_a_picture(browser: Browser, tmp_path: Path, study: list[RunRecord]) -> None:
    opened = Opened(browser, write(tmp_path / "report.html", Records(study, [], [])), viewport={"width": 1200, "height": 800})
    with opened.tab.expect_download() as waiting:
        opened.tab.locator(".chart button").first.click()
    picture = cv2.imread(str(waiting.value.path()))
    assert picture is not None
    assert picture.shape[1] > 1200 and (picture[:3] == 255).all() and picture.min() < 100
    assert waiting.value.suggested_filename.endswith(".png") and opened.wrong == []
