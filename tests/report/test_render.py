import csv
import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from yoloperf.report import render
from yoloperf.report.render import Row, Table

NASTY = r"a_b & 50 % | <b>*x*</b> $1 {c} ~^ \ #"


def sample() -> Table:
    rows = [Row(["one", "1.5", NASTY]), Row(["two", "20.25", ""]), Row(["three", "", ""], "oom: no room", 1)]
    return Table(["name", "time", "a long heading"], [False, True, False], rows, "Title_1 & more", 1, frozenset({(0, 1)}))


def test_text_is_aligned() -> None:
    lines = render.text([sample()], 120).splitlines()
    assert lines[0] == "Title_1 & more"
    assert lines[2].startswith("-----")
    ends = [lines[3].index("1.5") + 3, lines[4].index("20.25") + 5]
    assert ends[0] == ends[1], "numbers end in one column"
    assert "*1.5" in lines[3], "the best cell is marked"
    assert lines[5] == "three  oom: no room"


def test_text_too_wide_goes_on_below_with_its_keys() -> None:
    table = Table(["k", *(f"c{n}" for n in range(12))], [False] + [True] * 12, [Row(["key", *(str(10**6 + n) for n in range(12))])], keys=1)
    text = render.text([table], 40)
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("key") == 3
    assert re.findall(r"10000\d\d", text) == [str(10**6 + n) for n in range(12)]


def test_a_long_cell_loses_its_middle_in_text_alone() -> None:
    path = "/data/" + "x" * 300 + "/run.txt"
    table = Table(["run", "time"], [False, True], [Row([path, "1 s"])], keys=1)
    line = render.text([table], 90).splitlines()[-1]
    assert line.startswith("/data/x") and "…" in line and line.endswith("x/run.txt   1 s") and len(line) <= 90
    assert path in render.markdown([table])


def test_a_long_reason_is_cut_at_the_width() -> None:
    text = render.text([Table(["k", "v"], [False, True], [Row(["a", ""], "x" * 300, 1)], keys=1)], 50)
    assert max(map(len, text.splitlines())) == 50


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1] += [""] * int(dict(attrs).get("colspan") or 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_reads_back() -> None:
    reader = _Reader()
    reader.feed(render.html([sample()]))
    assert not reader.open
    assert reader.rows[1] == ["one", "1.5", NASTY]
    assert [len(row) for row in reader.rows] == [3, 3, 3, 3]


def _cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


@given(st.lists(st.text(st.characters(exclude_categories=("C", "Z"))), min_size=3, max_size=3))
def test_markdown_keeps_its_columns_whatever_the_cells_hold(cells: list[str]) -> None:
    lines = render.markdown([Table(["a", "b", "c"], [True] * 3, [Row(cells)])]).strip().splitlines()
    assert [len(_cells(line)) for line in lines] == [3, 3, 3]
    assert [re.sub(r"\\([\\|*`<>_])", r"\1", cell.strip()) for cell in _cells(lines[2])] == cells


def test_markdown_names_stay_readable() -> None:
    assert "| user_s |" in render.markdown([Table(["user_s"], [True], [])])


def test_latex_is_escaped_and_every_row_is_as_wide_as_the_table() -> None:
    text = render.latex([sample()])
    bare = re.sub(r"\\[&%$#_{}]|\\text\w+\{\}", "", text)
    assert not set(bare) & set("%$#_~^<>"), "a special character is left"
    assert bare.count("{") == bare.count("}")
    assert r"\multicolumn{2}{l}{oom: no room}" in text
    body = [line for line in bare.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count("&") for line in body} == {2}
    assert r"\textbf{1.5}" in text


def test_no_rows_is_a_table_of_headings() -> None:
    empty = Table(["a", "b"], [True, False], [])
    assert render.text([empty], 80).splitlines() == ["a  b", "-  -"]
    assert list(csv.reader(render.markdown([empty]).splitlines()))
