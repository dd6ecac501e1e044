"""Writes all reports of some records into a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from bench.records.files import atomic_write_text, remove_temporary_files
from bench.records.names import inside
from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.across import across_problems, times_ratios
from bench.reporting.comparison import Comparison
from bench.reporting.comparison_report import ComparisonWriter
from bench.reporting.figures.problems import problems_figure
from bench.reporting.figures.style import save
from bench.reporting.figures.times import profile_figure
from bench.reporting.in_processes import in_processes
from bench.reporting.index import MARK, SPEED, Overview, Section, index_page
from bench.reporting.labels import with_hidden_rows
from bench.reporting.options import USUAL, Options, resolved, shown
from bench.reporting.output_folder import ABANDONED, check_index, refuse_links
from bench.reporting.page import content
from bench.reporting.page.content import page_of
from bench.reporting.page.drawing import drawing
from bench.reporting.page.render import PAGE, write_page
from bench.reporting.page.runs import points_of, runs_of
from bench.reporting.planned import PlannedTable, compared
from bench.reporting.render import markdown, write_table
from bench.reporting.sections import Analysis
from bench.reporting.speed.report import write_speed_report
from bench.reporting.tables.problems import problems_table
from bench.reporting.tables.runs import run_files
from bench.reporting.tables.table import Table
from bench.reporting.tables.tuning import tuning_tables

INDEX = "README.md"
PROBLEMS = "Mean rank, and difference from EW on each problem, with 95 % intervals; filled if this leaves out 0"
PROFILE = "Performance profile: share of the problems on which a row's steps to target are within τ times the fewest"

MANY_ROWS = 20  # fewer are drawn before another process has begun


def write_reports(
    results: Path,
    records: Sequence[Record],
    out: Path,
    *,
    earlier: Path | None = None,
    options: Options = USUAL,
    data: Collection[str] = (),
    tasks: Sequence[str] = (),
    tables_of: Callable[[str], Sequence[PlannedTable]] | None = None,
    speeds: Sequence[SpeedRecord] = (),
    processes: int = 1,
) -> tuple[Path, ...]:
    """Tables, figures, files of runs, the page and the index; returns the files written, the index and the page first.

    earlier: the folder of an earlier report, which this one is to replace; None for `out`.
    options: what is shown, and how.
    data: the data sets whose tables and figures are written; () for all. The index, the page and the files of runs are
        about all records. In the index, the other data sets keep the tables and figures of the earlier report; the page
        is made from all records again.
    tasks: keys of those to draw in figures of positions; () for as many as are legible.
    tables_of(data set) -> the tables that a study asks for; None puts all rows of a data set in one table.
    speeds: measurements of steps, each with a report of its own that the index links to.
    processes: that analyse and draw, at most.

    Raises:
        RecordError: records that contradict each other, or a curve that can't be read.
        UnknownName, NothingToShow: as of `resolved`, before anything is written.
        StorageError: a file can't be written, or the index would replace a file that isn't an index of reports.
    """
    earlier = earlier or out
    found = compared(results, records, tables_of)
    options = resolved(options, [one for one in found if not data or one.data in data])
    _check(earlier, found, speeds)
    points = points_of(runs_of([shown(one, options) for one in found]))
    writer = ComparisonWriter(results, out, earlier, options, data, tasks, points)
    one_by_one = sum(len(one.variants) for one in found) < MANY_ROWS
    written = list(in_processes(writer, list(enumerate(found)), 1 if one_by_one else processes))
    parts, sections = [one.part for one in written], [one.section for one in written]
    files = [path for one in written for path in one.files]
    overviews, shown_over, of_overviews = _write_overviews([part.analysis for part in parts], out)
    tunings, of_tunings = _write_tunings(results, records, data, out)
    files += [*of_overviews, *of_tunings]
    if records:
        files += [atomic_write_text(out / name, text) for name, text in run_files(records).items()]
    for speed in speeds:
        files += write_speed_report(speed, inside(out, SPEED, speed.machine))
    page = write_page(out, page_of(records, parts, shown_over, tunings, speeds))
    return (_write_index(out, records, sections, speeds, overviews, tunings), page, *files)


def _check(out: Path, found: Sequence[Comparison], speeds: Sequence[SpeedRecord]) -> None:
    """Raises StorageError if `out` has what a report must not replace; removes temporary files of killed reports."""
    for name in (INDEX, PAGE):
        check_index(out / name, MARK)
    refuse_links(out, [one.places for one in found])
    for places in ((), *(one.places for one in found), *((SPEED, speed.machine) for speed in speeds)):
        remove_temporary_files(inside(out, *places), ABANDONED)


def _write_overviews(
    analyses: Sequence[Analysis], out: Path
) -> tuple[list[Overview], list[content.Overview], list[Path]]:
    """Writes the table and figures over problems of each part; returns what index and page show, and files."""
    overviews, shown, files = [], [], list[Path]()
    for place, across in enumerate(across_problems(analyses)):
        table = problems_table(across)
        files += write_table(out, table)
        ending = f"-{across.part}" if across.part else ""
        ratios = {label: of for label, of in times_ratios(across).items() if label in across.shown}
        figures = {
            f"problems{ending}": (with_hidden_rows(PROBLEMS, across.hidden), problems_figure(across)),
            f"profile{ending}": (with_hidden_rows(PROFILE, across.hidden), profile_figure(ratios, across.colours)),
        }
        drawn = {name: (title, figure) for name, (title, figure) in figures.items() if figure is not None}
        for name, (_, figure) in drawn.items():
            files += save(figure, inside(out, name))
        overviews.append(Overview(table.name, markdown(table), {name: title for name, (title, _) in drawn.items()}))
        drawings = [drawing(one, title, f"o{place}{name}-") for name, (title, one) in drawn.items()]
        shown.append(content.Overview(across.part, table, tuple(drawings)))
    return overviews, shown, files


def _write_tunings(
    results: Path, records: Sequence[Record], chosen: Collection[str], out: Path
) -> tuple[dict[str, Table], list[Path]]:
    """Writes what tuning found on the chosen data sets, () for all; returns the tables of all, and the files.

    The tables are by file without ending.
    """
    tables = tuning_tables(results, {record.data: record.labels.data for record in records})
    written = {data: table for data, table in tables.items() if not chosen or data in chosen}
    files = [path for data, table in written.items() for path in write_table(inside(out, data), table, data)]
    return {f"{data}/{table.name}": table for data, table in tables.items()}, files


def _write_index(
    out: Path,
    records: Sequence[Record],
    sections: Sequence[Section],
    speeds: Sequence[SpeedRecord],
    overviews: Sequence[Overview],
    tunings: Mapping[str, Table],
) -> Path:
    """Writes the index, which links to the sections that have tables and counts the runs of all."""
    compared = [section.comparison for section in sections]
    linked = [section for section in sections if section.tables]
    tuned = {name: markdown(table) for name, table in tunings.items()}
    return atomic_write_text(out / INDEX, index_page(records, compared, linked, speeds, overviews, tuned))
