"""Tables as LaTeX, Markdown, CSV and text for terminals. No text is truncated or dropped."""

from __future__ import annotations

import csv
import io
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from bench.records.files import atomic_write_text
from bench.records.names import inside
from bench.reporting.escaping import csv_row, md, paragraph, tex, texcell, texlabel
from bench.reporting.tables.splitting import split
from bench.reporting.tables.table import MISSING, Table

TEMPLATES = Path(__file__).resolve().parent / "templates"
CSV_COLUMNS = (
    "data", "variant", "method", "task", "metric", "unit", "direction", "n", "mean", "sd", "low", "high", "text",
    "seeds", "notes",
)  # fmt: skip

# In points: text width of `article`, width of a character and gap between two columns in \small.
TEXT_WIDTH, CHARACTER_WIDTH, COLUMN_GAP = 345.0, 4.7, 8.0
# A wider table is turned by 90°: on an upright page it would shrink to less than two thirds.
TURNED_FROM = 1.5 * TEXT_WIDTH
# A still wider one is several tables: turned, it would shrink to less than four fifths of a page of this height.
SPLIT_FROM = 1.25 * 550.0
# More rows than this fit on a page only in a smaller font.
MOST_ROWS = 30


def latex(table: Table) -> str:
    """A floating table with booktabs rules that compiles on its own; a comment names the packages it needs.

    A wide one lies on its side; one too wide for that is several.
    """
    return "\n".join(map(_floating, split(table, SPLIT_FROM, estimated_width)))


def _floating(table: Table) -> str:
    width = estimated_width(table)
    return _environment().get_template("table.tex.j2").render(
        table=table, marks=table.footnotes, resize=width > TEXT_WIDTH, turned=width > TURNED_FROM,
        long=len(table.rows) > MOST_ROWS,
    )  # fmt: skip


def markdown(table: Table) -> str:
    """A pipe table with its caption above and notes below; column groups become part of the column heads."""
    return (
        _environment().get_template("table.md.j2").render(table=table, marks=table.footnotes, heads=_full_heads(table))
    )


def comma_separated(table: Table, data: str = "") -> str:
    """One line per cell: what it shows, then n, mean, sd (n - 1) and interval at full precision in the recorded unit.

    text: of a cell without a number, as printed.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            line: dict[str, object] = {"data": data, **row.head.identity, **column.head.identity}
            line |= {"n": len(cell.seeds), "mean": cell.mean, "sd": cell.sd}
            line["low"], line["high"] = cell.interval or (None, None)
            line["text"] = cell.text if cell.mean is None and cell.text != MISSING else None
            line["seeds"] = " ".join(str(seed) for seed in cell.seeds)
            line["notes"] = "; ".join((*row.head.notes, *column.head.notes, *cell.notes))
            writer.writerow(csv_row(line))
    return text.getvalue()


def aligned(table: Table) -> str:
    """The table for a terminal: its caption, columns aligned by spaces, notes below."""
    grid = RichTable(box=None, pad_edge=False)
    grid.add_column(escape(table.stub), no_wrap=True)
    marks = table.footnotes
    for head, column in zip(_full_heads(table, "\n"), table.columns, strict=True):
        grid.add_column(escape(head), justify=column.align, no_wrap=True, vertical="bottom")
    for row in table.rows:
        cells = (cell.text + "".join(f" [{marks[note]}]" for note in cell.notes) for cell in row.cells)
        grid.add_row(escape(row.head.text), *(escape(cell) for cell in cells))
    text = io.StringIO()
    console = Console(file=text, width=10_000, highlight=False)
    console.print(table.caption, markup=False, soft_wrap=True)
    console.print(grid)
    if table.note:
        console.print(table.note, markup=False, soft_wrap=True)
    for note, mark in marks.items():
        console.print(f"[{mark}] {note}", markup=False, soft_wrap=True)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def write_table(folder: Path, table: Table, data: str = "") -> list[Path]:
    """Writes <name>.tex, <name>.md and <name>.csv; returns their paths."""
    texts = {"tex": latex(table), "md": markdown(table), "csv": comma_separated(table, data)}
    return [atomic_write_text(inside(folder, f"{table.name}.{end}"), text) for end, text in texts.items()]


def _full_heads(table: Table, between: str = " ") -> list[str]:
    """The head of every column, with those of its groups before it."""
    levels = [[group.text for group in level for _ in range(group.span)] for level in table.levels]
    heads = zip(*levels, [column.head.text for column in table.columns], strict=True)
    return [between.join(filter(None, texts)) for texts in heads]


def index(**content: object) -> str:
    """The index page of all reports."""
    return _environment().get_template("README.md.j2").render(**content)


def paper_page(**content: object) -> str:
    """The index page of the paper's tables."""
    return _environment().get_template("paper.md.j2").render(**content)


def paper_document(**content: object) -> str:
    """A LaTeX document with the paper's tables and figure."""
    return _environment().get_template("paper.tex.j2").render(**content)


def gpu_page(**content: object) -> str:
    """The page on a check of an accelerator."""
    return _environment().get_template("gpu.md.j2").render(**content)


@cache
def _environment() -> Environment:
    """One for all tables, since compiling a template takes longer than rendering it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    escapes = {"tex": tex, "texcell": texcell, "texlabel": texlabel, "md": md, "paragraph": paragraph}
    environment.filters |= {**escapes, "markdown": markdown, "latex": latex}
    return environment


def estimated_width(table: Table) -> float:
    """An upper estimate of the width in LaTeX, in points."""
    columns = [[c.head.text, *(row.cells[place].text for row in table.rows)] for place, c in enumerate(table.columns)]
    columns.append([table.stub, *(row.head.text for row in table.rows)])
    return sum(max(len(text) for text in column) * CHARACTER_WIDTH + COLUMN_GAP for column in columns)
