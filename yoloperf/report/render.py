"""One table in several formats. Knows nothing of runs: headings, cells, and a note in place of a row's figures."""

import html as escaping
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GAP = "  "


@dataclass(frozen=True)
class Row:
    """Cells as text, one a column. A `note` stands in place of the cells from column `note_at` on."""

    cells: list[str]
    note: str = ""
    note_at: int = 0

    def kept(self) -> list[str]:
        return self.cells[: self.note_at] if self.note else self.cells


@dataclass(frozen=True)
class Table:
    """Headings and rows. `numeric` columns are aligned right; the first `keys` columns say which row it is."""

    headings: list[str]
    numeric: list[bool]
    rows: list[Row]
    title: str = ""
    keys: int = 0
    best: frozenset[tuple[int, int]] = frozenset()  # (row, column) of the cells to stress


def text(tables: Sequence[Table], width: int) -> str:
    """Aligned columns for a terminal; best cells carry a *.

    A table wider than `width` characters goes on below, its keys repeated. A cell of more than half of that loses its middle.
    """
    return "\n\n".join(_text(table, width) for table in tables) + "\n"


def _text(table: Table, width: int) -> str:
    kept = [[middle_out(cell, width // 2) for cell in row.kept()] for row in table.rows]
    rows = [[f"*{cell}" if (i, j) in table.best else cell for j, cell in enumerate(row)] for i, row in enumerate(kept)]
    bodies = [max((len(row[j]) for row in rows if j < len(row)), default=0) for j in range(len(table.headings))]
    headings = [_fold(heading, body) for heading, body in zip(table.headings, bodies, strict=True)]
    widths = [max(body, *map(len, heading)) for body, heading in zip(bodies, headings, strict=True)]

    def line(words: Sequence[str], block: Sequence[int]) -> str:
        return GAP.join(words[j].rjust(widths[j]) if table.numeric[j] else words[j].ljust(widths[j]) for j in block if j < len(words))

    parts = []
    for block in _blocks(widths, table.keys, width):
        height = max(len(headings[j]) for j in block)
        folded = [[""] * (height - len(heading)) + heading for heading in headings]
        lines = [line([heading[k] for heading in folded], block) for k in range(height)] if height else []
        lines.append(GAP.join("-" * widths[j] for j in block))
        for row, cells in zip(table.rows, rows, strict=True):
            words = line(cells, block)
            lines.append(_short(GAP.join(part for part in (words, row.note) if part), width) if row.note else words)
        parts.append("\n".join(words.rstrip() for words in lines))
    return (f"{table.title}\n" if table.title else "") + "\n\n".join(parts)


def _fold(heading: str, body: int) -> list[str]:
    """A heading on several lines, no wider than its longest word or the cells below it."""
    return textwrap.wrap(heading, max([body, *map(len, heading.split())]), break_on_hyphens=False) or [""]


def _blocks(widths: Sequence[int], keys: int, width: int) -> list[list[int]]:
    """Columns cut into blocks: the keys, then as many others as fit."""
    blocks = [list(range(keys))]
    for column in range(keys, len(widths)):
        if len(blocks[-1]) > keys and sum(widths[j] + len(GAP) for j in [*blocks[-1], column]) - len(GAP) > width:
            blocks.append(list(range(keys)))
        blocks[-1].append(column)
    return blocks


def middle_out(text: str, length: int) -> str:
    """A long text with its middle left out: paths and kernel names differ at both ends."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def _short(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's pipe tables; best cells bold."""
    return "\n\n".join(_markdown(table) for table in tables) + "\n"


def _markdown(table: Table) -> str:
    lines = [f"**{_escape_markdown(table.title)}**", ""] if table.title else []
    lines.append(_pipe(map(_escape_markdown, table.headings)))
    lines.append(_pipe("---:" if numeric else "---" for numeric in table.numeric))
    for i, row in enumerate(table.rows):
        cells = [_escape_markdown(cell) for cell in row.kept()]
        cells = [f"**{cell}**" if (i, j) in table.best else cell for j, cell in enumerate(cells)]
        if row.note:
            cells.append(_escape_markdown(row.note))
        lines.append(_pipe(cells + [""] * (len(table.headings) - len(cells))))
    return "\n".join(lines)


def _pipe(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape_markdown(cell: str) -> str:
    return re.sub(r"[\\|*`<>]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", cell).replace("\n", " ")


def html(tables: Sequence[Table]) -> str:
    """One <table> each, without a page around it; best cells in <strong>."""
    return "\n".join(_html(table) for table in tables) + "\n"


def _html(table: Table) -> str:
    sides = [' style="text-align:right"' if numeric else "" for numeric in table.numeric]
    lines = ["<table>"]
    if table.title:
        lines.append(f"<caption>{escaping.escape(table.title)}</caption>")
    headings = "".join(f"<th{side}>{escaping.escape(heading)}</th>" for heading, side in zip(table.headings, sides, strict=True))
    lines += [f"<thead><tr>{headings}</tr></thead>", "<tbody>"]
    for i, row in enumerate(table.rows):
        cells = [escaping.escape(cell) for cell in row.kept()]
        cells = [f"<strong>{cell}</strong>" if (i, j) in table.best else cell for j, cell in enumerate(cells)]
        words = "".join(f"<td{side}>{cell}</td>" for side, cell in zip(sides, cells, strict=False))
        if row.note:
            words += f'<td colspan="{len(table.headings) - row.note_at}">{escaping.escape(row.note)}</td>'
        lines.append(f"<tr>{words}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])


def latex(tables: Sequence[Table]) -> str:
    """One tabular each, with the rules of the booktabs package; best cells bold."""
    return "\n\n".join(_latex(table) for table in tables) + "\n"


def _latex(table: Table) -> str:
    lines = [r"\begin{tabular}{" + "".join("r" if numeric else "l" for numeric in table.numeric) + "}", r"\toprule"]
    if table.title:
        lines += [rf"\multicolumn{{{len(table.headings)}}}{{c}}{{\textbf{{{_escape_latex(table.title)}}}}} \\", r"\midrule"]
    lines += [" & ".join(map(_escape_latex, table.headings)) + r" \\", r"\midrule"]
    for i, row in enumerate(table.rows):
        cells = [_escape_latex(cell) for cell in row.kept()]
        cells = [rf"\textbf{{{cell}}}" if (i, j) in table.best else cell for j, cell in enumerate(cells)]
        if row.note:
            cells.append(rf"\multicolumn{{{len(table.headings) - row.note_at}}}{{l}}{{{_escape_latex(row.note)}}}")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


_LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "…": r"\ldots{}",
    "µ": r"\textmu{}",
    "±": r"\textpm{}",
    "\n": " ",
}


def _escape_latex(cell: str) -> str:
    return "".join(_LATEX.get(character, character) for character in cell)


FORMATS = {"markdown": markdown, "html": html, "latex": latex}
