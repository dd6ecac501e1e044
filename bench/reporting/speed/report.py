"""The report of a measurement of steps: text for a terminal, and a folder with Markdown, LaTeX, CSV and figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.records.files import atomic_write_text
from bench.records.names import inside
from bench.records.speed import SpeedRecord
from bench.reporting.escaping import md, paragraph
from bench.reporting.figures.style import save
from bench.reporting.render import aligned, latex, markdown
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


def text_table(record: SpeedRecord) -> str:
    """All tables for a terminal, then what their columns mean, and the circumstances."""
    tables = [aligned(_brief(table)) for table in speed_tables(record)]
    return "\n".join([*tables, f"{HOW}.", "", circumstances(record)]) + "\n"


def _brief(table: Table) -> Table:
    """Without what a page says once for all tables; a table in a paper needs it in its own caption."""
    return replace(table, caption=table.caption.removesuffix(f" {HOW}."))


def write_speed_report(record: SpeedRecord, out: Path) -> list[Path]:
    """speed.md, speed.csv, a LaTeX file for each table, and the figures; returns their paths, the page first."""
    tables = speed_tables(record)
    figures = {STEPS: steps_figure(record), SCALING: scaling_figure(record)}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    parts = [f"# Training steps on {md(record.machine)}", paragraph(circumstances(record)), md(f"{HOW}.")]
    for table in tables:
        parts += [markdown(_brief(table)).strip(), f"[LaTeX]({table.name}.tex)"]
    for name in drawn:
        parts += [f"![{TITLES[name]}]({name}.png)", f"{TITLES[name]}: [PDF]({name}.pdf) · [PNG]({name}.png)"]
    texts = {PAGE: "\n\n".join([*parts, f"Every number: [CSV]({NUMBERS})."]) + "\n", NUMBERS: speed_csv(record)}
    texts |= {f"{table.name}.tex": latex(table) for table in tables}
    files = [atomic_write_text(inside(out, name), text) for name, text in texts.items()]
    for name, figure in drawn.items():
        files += save(figure, inside(out, name))
    return files
