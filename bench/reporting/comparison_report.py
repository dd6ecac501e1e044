"""Writes the report of one comparison."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.figure import Figure

from bench.records.files import StorageError, is_file, storage_error
from bench.records.names import inside
from bench.records.reading import Damaged, read_text
from bench.records.store import without_collector
from bench.reporting.comparison import Comparison
from bench.reporting.figures.style import save
from bench.reporting.index import Section
from bench.reporting.options import Options
from bench.reporting.page.content import Part
from bench.reporting.page.drawing import drawing
from bench.reporting.page.runs import run_curves
from bench.reporting.render import markdown, write_table
from bench.reporting.sections import analysed, section_figures, section_tables, section_titles
from bench.reporting.series import read_curves


@dataclass(frozen=True)
class Written:
    """What a comparison has on the page and in the index, and its files."""

    part: Part
    section: Section
    files: Sequence[Path]


@dataclass(frozen=True)
class ComparisonWriter:
    """Writes comparisons alike; may be sent to other processes.

    results, out, earlier: folders of the records, of the reports, and of those of before.
    data: the data sets whose tables and figures are written; () for all.
    tasks: keys of those to draw in figures of positions.
    points: the most of a run's curve on the page.
    """

    results: Path
    out: Path
    earlier: Path
    options: Options
    data: Collection[str]
    tasks: Sequence[str]
    points: int

    def __call__(self, numbered: tuple[int, Comparison]) -> Written:
        """Analyses and writes one; its number makes ids in drawings unique.

        Raises:
            RecordError: a curve can't be read. StorageError: a file can't be written.
        """
        number, comparison = numbered
        with without_collector():  # figures are full of cycles; the next one collects them
            part, figures = self._part(comparison, f"f{number}")
            if self.data and comparison.data not in self.data:
                return Written(part, _earlier_section(part, self.options, self.earlier), ())
            return Written(part, *_write_section(part, figures, self.out))

    def _part(self, comparison: Comparison, prefix: str) -> tuple[Part, Mapping[str, Figure]]:
        """The tables and drawings of a comparison for the page, and its figures. prefix: of ids in the drawings."""
        tables = read_curves(self.results, comparison)
        analysis = analysed(self.results, comparison, tables, self.options)
        figures = section_figures(self.results, analysis, tables, self.tasks)
        titles = section_titles(analysis.comparison)
        places = {name: f"{prefix}-{place}-" for place, name in enumerate(figures)}
        drawings = {name: drawing(figure, titles[name], places[name]) for name, figure in figures.items()}
        curves = run_curves(self.results, analysis.comparison, tables, self.points)
        return Part(analysis, section_tables(analysis, self.options), drawings, curves), figures


def _write_section(part: Part, figures: Mapping[str, Figure], out: Path) -> tuple[Section, list[Path]]:
    """Writes the tables and figures of a comparison; returns its part of the index, and the files."""
    comparison = part.analysis.comparison
    folder = inside(out, *comparison.places)
    files = [path for table in part.tables for path in write_table(folder, table, comparison.data)]
    for name, figure in figures.items():
        files += save(figure, inside(folder, name))
    titles = {name: title for name, title in section_titles(comparison).items() if name in figures}
    return Section(comparison, {table.name: markdown(table) for table in part.tables}, titles), files


def _earlier_section(part: Part, options: Options, earlier: Path) -> Section:
    """The part of the index that an earlier report wrote, read from its files; no tables if there are none.

    It may show other rows than are shown now.
    """
    comparison = replace(part.analysis.comparison, hidden=())
    folder = inside(earlier, *comparison.places)
    tables = section_tables(replace(part.analysis, comparison=comparison), options)
    paths = {table.name: inside(folder, f"{table.name}.md") for table in tables}
    texts = {name: _earlier_text(path) for name, path in paths.items() if is_file(path)}
    titles = {
        name: title for name, title in section_titles(comparison).items() if is_file(inside(folder, f"{name}.png"))
    }
    return Section(comparison, texts, titles)


def _earlier_text(path: Path) -> str:
    """A table that an earlier report wrote."""
    try:
        return read_text(path)
    except Damaged as error:
        raise StorageError(f"{path}: {error}; delete it, or write the reports of all data sets.") from error
    except OSError as error:
        raise storage_error(path, error) from error
