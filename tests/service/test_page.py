"""The page that detects, in a real browser against the real service."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from playwright.sync_api import Browser, Download, Page, Route, expect

from tests.service.conftest import picture
from tests.service.live import Live
from yoloperf.core.errors import UserError
from yoloperf.service.limits import Limits
from yoloperf.service.model import ServedModel
from yoloperf.yolo.boxes import suppress
from yoloperf.yolo.runtimes import make_runtime
from yoloperf.yolo.weights import find_weights, load_weights

STAGES = ["network", "receive", "queue", "decode", "preprocess", "inference", "postprocess", "encode"]
CELLS = ("RBC", "WBC", "Platelets")


@pytest.fixture(scope="module")
def service(make_model: Callable[..., ServedModel]) -> Iterator[Live]:
    """The published Tiny-YOLOv3 where it is at hand, else an untrained one, and a model of blood cells."""
    try:
        checkpoint = load_weights(find_weights("yolov3-tiny.weights"))
        coco = ServedModel("coco", checkpoint.class_names(), "official", make_runtime(checkpoint, "torch", "cpu", "fp32", threads=1))
    except UserError:
        coco = make_model("coco", ("person", "car", "dog"))
    with Live([coco, make_model("cells", CELLS)]) as made:
        yield made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three photographs in which the published weights find people, where there are any, else noise."""
    folder = tmp_path_factory.mktemp("pictures")
    found = sorted(Path(os.environ.get("YOLOPERF_DATA", "/nowhere")).glob("coco128/images/*/*.jpg"))
    named = [path for path in found if path.stem.endswith(("000049", "000061", "000077"))]
    content = [path.read_bytes() for path in named] or [picture(seed, 320, 240) for seed in range(3)]
    paths = [folder / f"{number}.jpg" for number in range(3)]
    for path, data in zip(paths, content, strict=True):
        path.write_bytes(data)
    return paths


class Opened:
    """The page in a tab, with what went wrong on it and what it asked for."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context = browser.new_context(accept_downloads=True, **options)
        self.tab: Page = self.context.new_page()
        self.tab.set_default_timeout(10_000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.wrong.append(message.text))
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("filechooser", lambda chooser: None)  # from now on: the browser is told too late by expect_file_chooser alone
        self.url = url
        self.tab.goto(url)

    def add(self, *paths: Path) -> None:
        before = self.tab.locator("#queue li").count()
        self.tab.set_input_files("#files", paths)
        expect(self.tab.locator("#queue li")).to_have_count(before + len(paths))

    def answered(self, count: int) -> None:
        expect(self.tab.locator("#queue li.done")).to_have_count(count)
        expect(self.tab.locator("#counts tfoot td").first).to_have_text(re.compile(r"\d"))

    def slide(self, conf: float | None = None, iou: float | None = None) -> None:
        for name, value in (("conf", conf), ("iou", iou)):
            if value is not None:
                self.tab.locator(f"#{name}").fill(f"{value}")

    def objects(self) -> int:
        text = self.tab.locator("#picture-facts").inner_text()
        return int(text.split("·")[1].split()[0])

    def keep(self, button: str) -> bytes:
        with self.tab.expect_download() as download:
            self.tab.get_by_role("button", name=button, exact=True).click()
        return content(download.value)

    def drawing(self) -> str:
        return str(self.tab.evaluate("document.getElementById('canvas').toDataURL()"))


def content(download: Download) -> bytes:
    return Path(download.path()).read_bytes()


@pytest.fixture
def open_page(browser: Browser, service: Live) -> Iterator[Callable[..., Opened]]:
    opened: list[Opened] = []

    def make(url: str = service.url, **options: Any) -> Opened:
        opened.append(Opened(browser, url, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.context.close()


def _seconds(text: str) -> float:
    """ "12 ms ..." or "1.02 s ..." """
    value, unit = text.split()[:2]
    return float(value) * {"ms": 1e-3, "s": 1}[unit]


def test_boxes_counts_and_times_of_a_picture(open_page: Callable[..., Opened], pictures: list[Path], service: Live) -> None:
    page = open_page()
    expect(page.tab.locator("#empty")).to_be_visible()
    page.add(pictures[0])
    page.answered(1)
    counts = service.detect(pictures[0].read_bytes()).json()["results"][0]["counts"]
    assert counts
    rows = page.tab.locator("#counts tbody tr")
    assert {row.locator("th").inner_text(): int(row.locator("td").first.inner_text()) for row in rows.all()} == counts
    assert page.objects() == sum(counts.values())
    expect(page.tab.locator("#said")).to_contain_text("0.jpg: ")
    expect(page.tab.locator("#time-parts div")).to_have_count(8)
    stages = page.tab.locator("#time-parts div").all_inner_texts()
    assert [text.split()[0] for text in stages] == STAGES
    times = [_seconds(text.split(maxsplit=1)[1]) for text in stages]
    total = _seconds(page.tab.locator("#time-total").inner_text())
    assert times[5] > 0 and sum(times) == pytest.approx(total, abs=0.003, rel=0.02)  # a second and more is shown to 10 ms

    with_boxes = page.drawing()
    page.tab.locator("#labels").select_option("none")
    assert page.drawing() != with_boxes
    for box in page.tab.locator("#counts tbody input").all():
        box.uncheck()
    bare = page.drawing()
    page.slide(conf=0.95, iou=0)
    assert page.objects() < sum(counts.values())
    assert page.drawing() == bare

    assert page.wrong == []
    assert all(url.startswith(page.url) for url in page.asked)


def test_sliders_act_without_a_request_as_the_server_would(open_page: Callable[..., Opened], pictures: list[Path], service: Live) -> None:
    page = open_page()
    page.add(*pictures)
    for model in ("coco", "cells"):
        page.tab.locator("#model").select_option(model)
        page.answered(3)
        page.tab.get_by_label("All pictures").check()
        asked = len(page.asked)
        numbers = set()
        for conf, iou in ((0.05, 0.45), (0.25, 0.45), (0.25, 0.1), (0.07, 0.8), (0.12, 1), (0.5, 0)):
            page.slide(conf, iou)
            told = json.loads(page.keep("JSON"))
            assert (told["conf"], told["iou"], told["model"]) == (conf, iou, model)
            for path, own in zip(pictures, told["results"], strict=True):
                theirs = service.detect(path.read_bytes(), conf=conf, iou=iou, model=model, max_boxes=4096).json()["results"][0]
                assert (own["width"], own["height"]) == (theirs["width"], theirs["height"])
                assert own["counts"] == theirs["counts"]
                assert [box["name"] for box in own["boxes"]] == [box["name"] for box in theirs["boxes"]]
                for key in ("box", "box_normalised", "score"):
                    ours, other = ([box[key] for box in result["boxes"]] for result in (own, theirs))
                    np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-3)
            numbers.add(page.objects())
        assert len(numbers) > 3
        assert [url for url in page.asked[asked:] if not url.startswith("blob:")] == []
    assert page.wrong == []


def test_suppression_of_crowds(open_page: Callable[..., Opened]) -> None:
    """The page's rule against the server's, on boxes that overlap far more than a detector's."""
    page = open_page()
    generator = torch.Generator().manual_seed(0)
    for size, conf, iou in ((3000, 0.05, 0.45), (300, 0.3, 0.7), (1000, 0.1, 0.0), (50, 0.5, 1.0)):
        decoded = torch.rand((1, size, 5 + 4), generator=generator)
        decoded[..., :4] *= torch.tensor([300, 300, 80, 80])
        everything, kept = (suppress(decoded, low, most, 4096, multi_label=False)[0] for low, most in ((0.05, 1), (conf, iou)))
        boxes = [{"class": int(label), "name": "", "score": score, "box": corners} for *corners, score, label in everything.tolist()]
        script = "async ([boxes, conf, iou]) => (await import('/static/suppress.js')).suppress(boxes, conf, iou)"
        own = page.tab.evaluate(script, [boxes, conf, iou])
        assert [box["score"] for box in own] == kept[:, 4].tolist()


def cells(count: int, truncated: bool) -> Callable[[Route], None]:
    """Answers with so many cells side by side."""
    boxes = [{"class": 0, "name": "RBC", "score": 0.9, "box": [x, 0, x + 1, 1]} for x in range(count)]
    result = {"image": "", "width": 5000, "height": 100, "boxes": boxes, "truncated": truncated, "timing": {}}
    timing = {"total_s": 0.0, "batch_size": 1}
    answer = {"model": "cells", "model_digest": "", "runtime": "", "timing": timing, "results": [result]}
    return lambda route: route.fulfill(json=answer)


def test_every_cell_is_counted(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    page.tab.route("**/api/detect", cells(700, truncated=False))
    page.add(pictures[0])
    page.answered(1)
    assert page.objects() == 700 == len(json.loads(page.keep("JSON"))["results"][0]["boxes"])
    page.tab.route("**/api/detect", cells(4096, truncated=True))
    page.add(pictures[1])
    page.answered(2)
    expect(page.tab.locator("#picture-facts")).to_have_text("5000 × 100 · 4096 objects · there are more than the service gives")
    assert json.loads(page.keep("JSON"))["results"][0]["truncated"]
    page.slide(conf=0.95)  # above the score of all that are missing
    expect(page.tab.locator("#picture-facts")).to_have_text("5000 × 100 · 0 objects")


def test_what_becomes_of_a_picture_touches_no_other(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    """Else a thousand pictures take a million steps."""
    page = open_page()
    page.add(pictures[0])
    page.answered(1)
    watch = "const seen = window.seen = []; new MutationObserver((all) => seen.push(...all)).observe(document.querySelector('#queue li'), "
    page.tab.evaluate(f"() => {{ {watch} {{ subtree: true, childList: true, characterData: true }}); }}")
    page.add(*pictures[1:])
    page.answered(3)
    expect(page.tab.locator("#work-text")).to_have_text("3 of 3 pictures done")
    assert page.tab.evaluate("window.seen.length") == 0
    page.slide(conf=0.95)
    assert page.tab.evaluate("window.seen.length") > 0
    page.tab.get_by_role("button", name="Remove 1.jpg").click()
    expect(page.tab.locator("#work-text")).to_have_text("2 of 2 pictures done")


def test_pictures_of_one_name_are_numbered(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    for _ in range(3):
        page.add(pictures[0])
    page.answered(3)
    page.tab.get_by_label("All pictures").check()
    assert [result["image"] for result in json.loads(page.keep("JSON"))["results"]] == ["0.jpg", "0 (2).jpg", "0 (3).jpg"]


def test_blood_cells_by_a_box(open_page: Callable[..., Opened], pictures: list[Path], service: Live) -> None:
    page = open_page()
    page.add(*pictures)
    page.answered(3)
    blood = page.tab.get_by_label("Blood cells")
    expect(blood).not_to_be_checked()
    blood.check()
    expect(page.tab.locator("#model")).to_have_value("cells")
    expect(page.tab.locator("#model-facts")).to_contain_text("3 classes")
    page.answered(3)
    assert set(page.tab.locator("#counts tbody th").all_inner_texts()) <= set(CELLS)
    page.slide(conf=0.05)
    totals = [int(text) for text in page.tab.locator("#counts tfoot td").all_inner_texts()[:2]]
    rows = [[int(text) for text in row.locator("td").all_inner_texts()[:2]] for row in page.tab.locator("#counts tbody tr").all()]
    assert totals == [sum(column) for column in zip(*rows, strict=True)] and totals[1] > totals[0] > 0
    table = list(csv.reader(io.StringIO(page.keep("Counts, CSV").decode())))
    assert (table[0][0], table[0][-1], table[1][0]) == ("image", "total", "0.jpg")
    assert int(table[1][-1]) == totals[0] == sum(map(int, table[1][1:-1]))
    blood.uncheck()
    expect(page.tab.locator("#model")).to_have_value("coco")
    page.answered(3)
    assert page.wrong == []

    tried = open_page(f"{service.url}/?model=cells").tab
    expect(tried.locator("#model")).to_have_value("cells")
    expect(tried.get_by_label("Blood cells")).to_be_checked()


def test_downloads(open_page: Callable[..., Opened], pictures: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / '=1+1,"quoted".jpg'
    odd.write_bytes(pictures[0].read_bytes())
    page = open_page()
    page.add(odd)
    page.answered(1)
    told = json.loads(page.keep("JSON"))["results"][0]
    rows = list(csv.DictReader(io.StringIO(page.keep("Boxes, CSV").decode())))
    assert len(rows) == len(told["boxes"]) == page.objects() > 0
    assert {row["image"] for row in rows} == {f"'{odd.name}"}  # no spreadsheet takes it for a formula
    for row, box in zip(rows, told["boxes"], strict=True):
        assert (row["class"], float(row["score"])) == (box["name"], box["score"])
        assert [float(row[key]) for key in ("x1", "y1", "x2", "y2")] == box["box"]
    drawn = cv2.imdecode(np.frombuffer(page.keep("Picture"), np.uint8), cv2.IMREAD_COLOR)
    plain = cv2.imread(str(odd))
    assert drawn.shape == plain.shape
    differs = np.abs(drawn.astype(int) - plain).max(2) > 40
    assert 0.001 < differs.mean() < 0.5
    x1, y1, x2, y2 = (round(value) for value in told["boxes"][0]["box"])
    edges = np.zeros_like(differs)
    cv2.rectangle(edges.view(np.uint8), (x1, y1), (x2, y2), 1, 3)
    assert differs[edges].mean() > 0.5
    assert page.wrong == []


def test_turned_photographs_and_formats_that_browsers_do_not_show(open_page: Callable[..., Opened], tmp_path: Path) -> None:
    image = Image.open(io.BytesIO(picture(5, 320, 160)))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, tiff = tmp_path / "turned.jpg", tmp_path / "scan.tiff"
    image.save(turned, exif=exif, quality=95)
    image.save(tiff)
    page = open_page()
    page.tab.get_by_label("Blood cells").check()
    page.add(turned)
    page.answered(1)
    expect(page.tab.locator("#picture-facts")).to_contain_text("160 × 320")
    page.slide(conf=0.95)
    drawn = cv2.imdecode(np.frombuffer(page.keep("Picture"), np.uint8), cv2.IMREAD_COLOR)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(turned)))[..., ::-1]
    assert np.abs(drawn.astype(int) - upright).mean() < 10
    page.add(tiff)
    page.answered(2)
    expect(page.tab.locator("#picture-facts")).to_contain_text("320 × 160")
    expect(page.tab.locator("#picture-facts")).to_contain_text("cannot show")
    assert len(page.keep("Picture")) > 1000
    assert page.wrong == []


def test_what_is_no_picture_is_said_and_stops_nothing(open_page: Callable[..., Opened], pictures: list[Path], tmp_path: Path) -> None:
    text, cut, nothing = tmp_path / "notes.txt", tmp_path / "cut.jpg", tmp_path / "nothing.png"
    text.write_text("no picture")
    cut.write_bytes(pictures[0].read_bytes()[:150])
    nothing.write_bytes(b"")
    page = open_page()
    page.add(text, pictures[0], cut, nothing)
    expect(page.tab.locator("#queue li.failed")).to_have_count(3)
    expect(page.tab.locator("#queue li.done")).to_have_count(1)
    expect(page.tab.get_by_role("alert")).to_contain_text("This is no readable image: send JPEG, PNG")
    expect(page.tab.locator("#again")).to_be_hidden()
    expect(page.tab.locator("#view")).to_be_hidden()
    expect(page.tab.locator("#work-text")).to_have_text("1 of 4 pictures done, 3 failed")
    assert all("422" in text for text in page.wrong)
    page.tab.get_by_role("button", name="Remove notes.txt").click()
    expect(page.tab.locator("#picture-title")).to_have_text("0.jpg")
    expect(page.tab.locator("#canvas")).to_be_visible()
    page.tab.get_by_role("button", name="Remove all").click()
    expect(page.tab.locator("#empty")).to_be_visible()
    expect(page.tab.locator("#choose")).to_be_focused()


def test_a_file_that_was_saved_anew_is_said_and_keeps_no_other(
    open_page: Callable[..., Opened], pictures: list[Path], tmp_path: Path
) -> None:
    anew = tmp_path / "anew.jpg"
    anew.write_bytes(pictures[0].read_bytes())
    page = open_page()
    page.add(anew, *pictures)
    page.answered(4)
    os.utime(anew, (1e9, 1e9))
    page.tab.get_by_label("Blood cells").check()
    expect(page.tab.locator("#queue li.failed")).to_have_count(1)
    page.answered(3)
    expect(page.tab.get_by_role("alert")).to_contain_text("changed or cannot be read: choose it again")
    expect(page.tab.locator("#again")).to_be_hidden()


def test_too_large(browser: Browser, make_model: Callable[..., ServedModel], pictures: list[Path]) -> None:
    with Live([make_model()], limits=Limits(image_bytes=2000)) as service:
        page = Opened(browser, service.url)
        page.add(pictures[0])
        expect(page.tab.get_by_role("alert")).to_contain_text("the server takes 0.002 MB")
        assert not [url for url in page.asked if url.endswith("/api/detect")]  # not sent in vain
        page.context.close()


def busy(status: int, times: int) -> Callable[[Route], None]:
    left = [times]

    def handle(route: Route) -> None:
        if left[0] == 0:
            route.continue_()
            return
        left[0] -= 1
        error = {"error": {"code": "busy", "message": "too many images are waiting: try again in 0 s"}}
        route.fulfill(status=status, json=error, headers={"Retry-After": "0"})

    return handle


def test_a_busy_server_is_asked_again(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    for status in (429, 503):
        page.tab.route("**/api/detect", busy(status, 4))
        page.add(pictures[0])
        page.answered(1)
        page.tab.unroute_all()
        page.tab.locator("#clear").click()
    page.tab.route("**/api/detect", busy(503, 100))
    page.add(pictures[0])
    expect(page.tab.get_by_role("alert")).to_contain_text("Too many images are waiting")
    page.tab.unroute_all()
    page.tab.get_by_role("button", name="Try again", exact=True).click()
    page.answered(1)
    expect(page.tab.locator("#trouble")).to_be_hidden()


def test_without_a_network_pictures_wait(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    expect(page.tab.locator("#model-facts")).to_contain_text("px")
    page.context.set_offline(True)
    page.add(*pictures)
    expect(page.tab.get_by_role("alert")).to_contain_text("No connection to the server")
    expect(page.tab.locator("#connection")).to_contain_text("3 pictures waiting")
    page.context.set_offline(False)
    page.answered(3)
    expect(page.tab.locator("#connection")).to_be_hidden()


def test_a_token_is_asked_for(browser: Browser, make_model: Callable[..., ServedModel], pictures: list[Path]) -> None:
    with Live([make_model()], token="0123456789abcdef") as service:
        page = Opened(browser, service.url)
        dialog = page.tab.get_by_role("dialog", name="Access token")
        for wrong in ("wrong", "token→pasted"):
            dialog.get_by_label("Token").fill(wrong)
            dialog.get_by_role("button", name="Continue").click()
            expect(dialog.get_by_label("Token")).to_have_value("")
            expect(dialog).to_contain_text("refused")
        dialog.get_by_label("Token").fill("0123456789abcdef")
        page.tab.keyboard.press("Enter")
        expect(page.tab.locator("#model-facts")).to_contain_text("2 classes")
        page.add(pictures[0])
        page.answered(1)
        page.context.close()


@pytest.mark.parametrize("path", ["", "/training"])
def test_a_token_is_not_asked_for_again_when_that_was_cancelled(
    browser: Browser, make_model: Callable[..., ServedModel], tmp_path: Path, path: str
) -> None:
    with Live([make_model()], token="0123456789abcdef", allow_training=True, logs=tmp_path) as service:
        page = Opened(browser, service.url + path)
        dialog = page.tab.get_by_role("dialog", name="Access token")
        dialog.get_by_role("button", name="Cancel").click()
        again = page.tab.locator("#connection").get_by_role("button", name="Try again")
        expect(page.tab.locator("#connection")).to_contain_text("wants its token")
        again.click()
        dialog.get_by_label("Token").fill("0123456789abcdef")
        page.tab.keyboard.press("Enter")
        expect(page.tab.locator("#model option")).not_to_have_count(0)
        expect(again).to_be_hidden()
        page.context.close()


def test_by_keyboard_alone(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    tab, press = page.tab, page.tab.keyboard.press

    def focus() -> str:
        return str(tab.evaluate("document.activeElement.id || document.activeElement.className || document.activeElement.tagName"))

    def walk(to: str) -> list[str]:
        passed = []
        while to not in passed:
            press("Tab")
            passed.append(focus())
            outline = tab.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"focus on {passed[-1]} is not seen"
            assert len(passed) < 40, passed
        return passed

    expect(tab.locator("#model-facts")).to_contain_text("px")
    assert walk("choose") == ["skip unseen", "brand", "model", "blood", "choose"]
    with tab.expect_file_chooser() as chooser:
        press("Enter")
    chooser.value.set_files(pictures[:2])
    page.answered(2)
    assert walk("pick")[0] == "camera"
    press("ArrowDown")
    expect(tab.locator("#picture-title")).to_have_text("1.jpg")
    assert tab.locator("#queue [aria-current]").count() == 1
    walk("view")
    whole = page.drawing()
    press("+")
    zoomed = page.drawing()
    press("ArrowLeft")
    assert len({whole, zoomed, page.drawing()}) == 3
    press("0")
    assert page.drawing() == whole
    walk("conf")
    before = page.objects()
    for _ in range(15):
        press("ArrowLeft")
    expect(tab.locator("#conf-value")).to_have_text("0.10")
    assert page.objects() > before
    expect(tab.locator("#said")).to_contain_text("1.jpg: ")
    walk("SUMMARY")
    press("Enter")
    plain = page.drawing()
    expect(tab.locator("#rows tr")).to_have_count(page.objects())
    walk("quiet")
    assert page.drawing() != plain  # the box of the row stands out
    names = tab.evaluate(
        "[...document.querySelectorAll('button, input, select, a, [tabindex]')].filter(one => one.checkVisibility())"
        ".filter(one => !(one.ariaLabel || one.innerText?.trim() || one.labels?.length)).map(one => one.outerHTML)"
    )
    assert names == []
    assert page.wrong == []


def test_drop_and_paste(open_page: Callable[..., Opened], pictures: list[Path]) -> None:
    page = open_page()
    give = (
        "([kind, bytes]) => { const data = new DataTransfer(); data.items.add(new File([new Uint8Array(bytes)], `${kind}.jpg`));"
        " const options = {bubbles: true, cancelable: true};"
        " if (kind === 'drop') { document.body.dispatchEvent(new DragEvent('dragover', {...options, dataTransfer: data}));"
        "   if (document.getElementById('dropping').hidden) throw Error('no sign'); }"
        " document.body.dispatchEvent(kind === 'drop' ? new DragEvent('drop', {...options, dataTransfer: data})"
        "   : new ClipboardEvent('paste', {...options, clipboardData: data})); }"
    )
    for number, kind in enumerate(("drop", "paste"), 1):
        page.tab.evaluate(give, [kind, list(pictures[0].read_bytes())])
        page.answered(number)
        expect(page.tab.locator("#picture-title")).to_have_text(f"{kind}.jpg")
    expect(page.tab.locator("#dropping")).to_be_hidden()
    assert page.wrong == []


def test_camera(open_page: Callable[..., Opened]) -> None:
    page = open_page()
    page.tab.get_by_role("button", name="Camera").click()
    expect(page.tab.get_by_role("button", name="Take picture")).to_be_focused()
    page.tab.keyboard.press("Enter")
    expect(page.tab.locator("#picture-title")).to_have_text(re.compile(r"camera-\d{8}-\d{6}\.jpg"))
    expect(page.tab.locator("#queue li.done")).to_have_count(1)
    assert page.tab.evaluate("document.getElementById('video').srcObject") is None
    assert page.wrong == []


CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (one) => { const own = parts(getComputedStyle(one).backgroundColor);
    return own.length === 3 || own[3] > 0.99 ? getComputedStyle(one).backgroundColor : ground(one.parentElement); };
  return [...document.querySelectorAll('body *')].filter((one) => one.checkVisibility() && !one.closest('.unseen, #canvas')
      && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
    .map((one) => { const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
      return [(a + 0.05) / (b + 0.05), one.outerHTML.slice(0, 80)]; });
}"""


def test_light_dark_and_paper(open_page: Callable[..., Opened], pictures: list[Path], tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    grounds = []
    for scheme in ("light", "dark"):
        page = open_page(color_scheme=scheme)
        page.add(pictures[0], notes)
        page.answered(1)
        expect(page.tab.locator("#queue li.failed")).to_have_count(1)
        contrasts = page.tab.evaluate(CONTRASTS)
        assert len(contrasts) > 40
        assert [text for ratio, text in contrasts if ratio < 4.5] == []  # WCAG 2.2, level AA
        grounds.append(page.tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]
    page.tab.emulate_media(media="print")
    expect(page.tab.locator("#queue")).to_be_hidden()
    expect(page.tab.locator("#counts")).to_be_visible()
    expect(page.tab.locator("#print-model")).to_contain_text("coco")
    assert page.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert len(page.tab.pdf()) > 20_000


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_hangs_over(open_page: Callable[..., Opened], pictures: list[Path], tmp_path: Path, width: int) -> None:
    long = tmp_path / f"{'a_very_long_name_' * 8}.jpg"
    long.write_bytes(pictures[0].read_bytes())
    page = open_page(viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True)
    page.add(long, pictures[1])
    page.answered(2)
    expect(page.tab.locator("#canvas")).to_be_in_viewport()
    page.slide(conf=0.05)
    page.tab.locator("#list summary").click()
    assert page.tab.evaluate("document.documentElement.scrollWidth") == width
    assert page.wrong == []


def test_pages_of_training_are_linked_where_there_are_any(open_page: Callable[..., Opened]) -> None:
    page = open_page()
    expect(page.tab.locator("#model-facts")).to_contain_text("px")
    assert page.tab.locator("#pages a").count() == 0

    def allowed(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), "training": True})

    page.tab.route("**/api/models", allowed)
    page.tab.reload()
    expect(page.tab.locator("#pages a")).to_have_text(["Detect", "Training", "Runs"])
    expect(page.tab.locator("#pages a[aria-current]")).to_have_text("Detect")
    page.tab.locator("#pages a", has_text="Runs").click()
    expect(page.tab).to_have_title(re.compile("^Runs"))
