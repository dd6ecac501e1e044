"""Writes the paper's tables and figure from records into a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.files import atomic_write_text, remove_temporary_files
from bench.records.names import inside
from bench.records.store import RecordError
from bench.reporting.figures.style import save
from bench.reporting.options import MEANS, Options
from bench.reporting.output_folder import ABANDONED, check_index
from bench.reporting.paper.checks_table import checks_csv, checks_table
from bench.reporting.paper.differences import differences_csv
from bench.reporting.paper.figure import NAME as FIGURE
from bench.reporting.paper.figure import figure2
from bench.reporting.paper.layout import LABELS, TABLE4, TABLES, PaperTable
from bench.reporting.paper.rows import FilledTable, filled_tables
from bench.reporting.paper.sources import Source, left_out, without_ablations
from bench.reporting.paper.status import status_table
from bench.reporting.paper.tables import differences_table, paper_table
from bench.reporting.planned import compared
from bench.reporting.render import latex, markdown, paper_document, paper_page, write_table
from bench.reporting.tables.table import Table

INDEX, DOCUMENT = "README.md", "paper.tex"
# In the first lines of the index, so that no other file is taken for one and overwritten.
MARK = "Generated from the records by `python -m bench.report --paper`"


@dataclass(frozen=True)
class PaperReport:
    """What was written.

    files: the index first. missing: sentences on what has no runs, by title of the table.
    """

    files: tuple[Path, ...]
    missing: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Section:
    """A table of the index and of the document."""

    filled: FilledTable
    table: Table
    differences: Table

    @property
    def number(self) -> str:
        """As in the paper; with the protocol if it is not the usual one."""
        return f"{self.filled.layout.number}{f' ({self.filled.protocol} protocol)' if self.filled.protocol else ''}"

    @property
    def title(self) -> str:
        return f"Table {self.number}"


def write_paper_report(
    methods: Source,
    ablations: Source,
    out: Path,
    *,
    earlier: Path | None = None,
    options: Options = MEANS,
    tasks: Sequence[str] = (),
) -> PaperReport:
    """Writes all tables, the figure, the document and the index.

    methods: of Tables 1 to 3 and of the figure. ablations: of Table 4.
    earlier: the folder of an earlier report, which this one is to replace; None for `out`.
    options: how numbers are printed. tasks: keys of those to draw; () for as many as are legible.

    Raises:
        RecordError: no record is of a data set of the paper, records contradict each other, or a curve can't be read.
        StorageError: a file can't be written, or the index would replace a file that isn't one of the paper's tables.
    """
    if not any(record.data in LABELS for source in (methods, ablations) for record in source.records):
        raise RecordError(_nothing(methods, ablations))
    earlier = earlier or out
    check_index(earlier / INDEX, MARK)
    table4 = _filled(ablations, TABLE4)
    others = without_ablations(methods, table4)
    filled = [*(one for table in TABLES if table is not TABLE4 for one in _filled(others, table)), *table4]
    sections = [Section(one, paper_table(one, options), differences_table(one)) for one in filled]
    figure, caption = figure2(methods.results, [one for one in filled if one.layout is not TABLE4], tasks)
    remove_temporary_files(earlier, ABANDONED)
    files = [path for section in sections for path in _write_section(section, out)]
    checks = checks_table()
    files += _write(out, checks, checks_csv())
    files += save(figure, inside(out, FIGURE)) if figure is not None else ()
    content = {
        "mark": MARK,
        "sections": sections,
        "figure": FIGURE if figure is not None else "",
        "figure_caption": caption,
        "checks": checks,
    }
    files.append(atomic_write_text(out / DOCUMENT, paper_document(**content)))
    status = status_table(filled, {TABLE4.name: ablations.asked}, methods.asked)
    page = paper_page(status=status, left_out=left_out(methods, ablations, filled), document=DOCUMENT, **content)
    missing = {section.title: section.filled.missing for section in sections if section.filled.missing}
    return PaperReport((atomic_write_text(out / INDEX, page), *files), missing)


def _filled(source: Source, layout: PaperTable) -> tuple[FilledTable, ...]:
    records = [record for record in source.records if record.data in layout.data]
    return filled_tables(layout, compared(source.results, records, source.tables_of))


def _write_section(section: Section, out: Path) -> list[Path]:
    return [*write_table(out, section.table), *_write(out, section.differences, differences_csv(section.filled))]


def _write(out: Path, table: Table, lines: str) -> list[Path]:
    """The table as LaTeX and Markdown, with a file of numbers of its own."""
    texts = {"tex": latex(table), "md": markdown(table), "csv": lines}
    return [atomic_write_text(inside(out, f"{table.name}.{end}"), text) for end, text in texts.items()]


def _nothing(methods: Source, ablations: Source) -> str:
    found = dict.fromkeys(record.data for source in (methods, ablations) for record in source.records)
    return (
        f"{methods.results}: expected records of {', '.join(LABELS)}, found {', '.join(found) or 'none'}; put one of "
        f"these data sets under data/ and run `python -m bench.run --study {methods.study}` first."
    )
