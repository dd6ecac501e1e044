"""The report of a measurement of steps: on the screen, and in a folder as Markdown, LaTeX, CSV and figures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table as ScreenTable

from bench.records.speed import SpeedRecord
from bench.records.store import atomic_write
from bench.reporting.figures.style import save
from bench.reporting.render import latex, markdown, md
from bench.reporting.speed.figure import steps_figure
from bench.reporting.speed.numbers import speed_csv
from bench.reporting.speed.scaling import scaling_figure
from bench.reporting.speed.table import HOW, speed_tables
from bench.reporting.speed.text import circumstances
from bench.reporting.tables.table import Table

PAGE, NUMBERS = "speed.md", "speed.csv"
STEPS, SCALING = "steps", "scaling"
TITLES = {
    STEPS: "A training step: median over rounds, first to third quartile as a line",
    SCALING: "By the number of tasks and of shared parameters: median over rounds, quartiles shaded",
}
# Wide enough for any table: lines that don't fit are the terminal's to fold.
SCREEN = 400


def text_table(record: SpeedRecord) -> str:
    """All tables for the screen, then what their columns mean, and the circumstances."""
    tables = [_plain(_brief(table)) for table in speed_tables(record)]
    return "\n\n".join([*tables, f"{HOW}.", circumstances(record)]) + "\n"


def _brief(table: Table) -> Table:
    """Without what a page says once for all tables; a table in a paper stands alone."""
    return replace(table, caption=table.caption.removesuffix(f" {HOW}."))


def _plain(table: Table) -> str:
    shown = ScreenTable(box=None, pad_edge=False)
    groups = [group.text for group in table.groups for _ in range(group.span)]
    shown.add_column(table.stub, justify="left", no_wrap=True, vertical="bottom")
    for group, column in zip(groups, table.columns, strict=True):
        shown.add_column(f"{group}\n{column.head.text}", justify="right", no_wrap=True)
    marks = table.footnotes
    for row in table.rows:
        cells = (cell.text + "".join(f" [{marks[note]}]" for note in cell.notes) for cell in row.cells)
        shown.add_row(row.head.text, *cells)
    text = io.StringIO()
    Console(file=text, width=SCREEN, markup=False, highlight=False, color_system=None).print(shown)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    notes = [f"[{mark}] {note}" for note, mark in marks.items()]
    return "\n".join([table.caption, "", *lines, *notes])


def write_speed_report(record: SpeedRecord, out: Path) -> list[Path]:
    """speed.md, speed.csv, a LaTeX file for each table, and the figures; the page is the first of them."""
    tables = speed_tables(record)
    figures = {STEPS: steps_figure(record), SCALING: scaling_figure(record)}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    files = [_write(out / PAGE, _page(record, tables, list(drawn))), _write(out / NUMBERS, speed_csv(record))]
    files += [_write(out / f"{table.name}.tex", latex(table)) for table in tables]
    for name, figure in drawn.items():
        files += save(figure, out / name)
    return files


def _page(record: SpeedRecord, tables: tuple[Table, ...], figures: list[str]) -> str:
    parts = [f"# Training steps on {md(record.machine)}", md(circumstances(record)), md(f"{HOW}.")]
    for table in tables:
        parts += [markdown(_brief(table)).strip(), f"[LaTeX]({table.name}.tex)"]
    for name in figures:
        parts += [f"![{TITLES[name]}]({name}.png)", f"{TITLES[name]}: [PDF]({name}.pdf) · [PNG]({name}.png)"]
    return "\n\n".join([*parts, f"Every number: [CSV]({NUMBERS})."]) + "\n"


def _write(path: Path, text: str) -> Path:
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))
    return path
