"""Writes all reports of some records into a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.records.files import StorageError, atomic_write_text, is_file, remove_temporary_files, storage_error
from bench.records.names import inside
from bench.records.reading import Damaged, is_there, read_text
from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.reporting.across import across_problems, times_ratios
from bench.reporting.comparison import Comparison, comparisons
from bench.reporting.figures.style import save
from bench.reporting.figures.times import profile_figure
from bench.reporting.index import MARK, SPEED, Overview, Section, index_page
from bench.reporting.page import content
from bench.reporting.page.content import Part, page_of
from bench.reporting.page.drawing import drawing
from bench.reporting.page.render import PAGE, write_page
from bench.reporting.planned import PlannedTable, arranged
from bench.reporting.render import markdown, write_table
from bench.reporting.sections import Analysis, analysed, section_figures, section_tables, section_titles
from bench.reporting.speed.report import write_speed_report
from bench.reporting.stale_twins import with_stale_twins_marked
from bench.reporting.tables.problems import problems_table
from bench.reporting.tables.runs import runs_csv
from bench.reporting.tables.table import Table
from bench.reporting.tables.tuning import tuning_tables

INDEX = "README.md"
RUNS = "runs.csv"
PROFILE = "Performance profile: share of the problems on which a row's steps to target are within τ times the fewest"
LONGEST_START = 1_000  # bytes, in which an index of reports has its mark
# Seconds after which a temporary file was left by a killed process: another report may be writing the others.
ABANDONED = 600.0


def write_reports(
    results: Path,
    records: Sequence[Record],
    out: Path,
    *,
    spread: bool = False,
    data: Collection[str] = (),
    tasks: Sequence[str] = (),
    tables_of: Callable[[str], Sequence[PlannedTable]] | None = None,
    speeds: Sequence[SpeedRecord] = (),
) -> tuple[Path, ...]:
    """Tables, figures, runs.csv, the page and the index; returns the files written, the index and the page first.

    spread: print the standard deviation beside means.
    data: the data sets whose tables and figures are written; () for all. The index, the page and runs.csv are about
        all records. In the index, the other data sets keep the tables and figures that an earlier report wrote to
        `out`; the page is made from all records again.
    tasks: keys of those to draw in figures of positions; () for as many as are legible.
    tables_of(data set) -> the tables that a study asks for; None puts all rows of a data set in one table.
    speeds: measurements of steps, each with a report of its own that the index links to.

    Raises:
        RecordError: records that contradict each other, or a curve that can't be read.
        StorageError: a file can't be written, or the index would replace a file that isn't an index of reports.
    """
    for name in (INDEX, PAGE):
        _check_index(out / name)
    compared = _compared(results, records, tables_of)
    for places in ((), *(one.places for one in compared), *((SPEED, speed.machine) for speed in speeds)):
        remove_temporary_files(inside(out, *places), ABANDONED)
    files, sections, parts = list[Path](), list[Section](), list[Part]()
    for comparison in compared:
        part, figures = _part(results, comparison, spread, tasks, f"f{len(parts)}")
        kept = bool(data) and comparison.data not in data
        section, written = (_earlier_section(part, out), []) if kept else _write_section(part, figures, out)
        parts.append(part)
        sections += [section] if section.tables else []
        files += written
    overviews, shown, written = _write_overviews([part.analysis for part in parts], out)
    files += written
    tunings, written = _write_tunings(results, records, data, out)
    files += written
    if records:
        files.append(atomic_write_text(out / RUNS, runs_csv(records)))
    for speed in speeds:
        files += write_speed_report(speed, inside(out, SPEED, speed.machine))
    page = write_page(out, page_of(results, records, parts, shown, tunings, speeds))
    tuned = {name: markdown(table) for name, table in tunings.items()}
    index = atomic_write_text(out / INDEX, index_page(records, compared, sections, speeds, overviews, tuned))
    return (index, page, *files)


def _part(
    results: Path, comparison: Comparison, spread: bool, tasks: Sequence[str], prefix: str
) -> tuple[Part, Mapping[str, Figure]]:
    """The tables and drawings of a comparison for the page, and its figures. prefix: of ids in the drawings."""
    analysis = analysed(results, comparison)
    figures, titles = section_figures(results, analysis, tasks), section_titles(comparison)
    places = {name: f"{prefix}-{place}-" for place, name in enumerate(figures)}
    drawings = {name: drawing(figure, titles[name], places[name]) for name, figure in figures.items()}
    return Part(analysis, section_tables(analysis, spread), drawings), figures


def _write_overviews(
    analyses: Sequence[Analysis], out: Path
) -> tuple[list[Overview], list[content.Overview], list[Path]]:
    """Writes the table and figure over problems of each part of a study; returns them for index and page, and files."""
    overviews, shown, files = [], [], list[Path]()
    for place, across in enumerate(across_problems(analyses)):
        table = problems_table(across)
        files += write_table(out, table)
        name = f"profile-{across.part}" if across.part else "profile"
        figure = profile_figure(times_ratios(across), across.colours)
        if figure is not None:
            files += save(figure, inside(out, name))
        overviews.append(Overview(table.name, markdown(table), name if figure is not None else "", PROFILE))
        drawn = drawing(figure, PROFILE, f"o{place}-") if figure is not None else None
        shown.append(content.Overview(across.part, table, drawn))
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


def _check_index(path: Path) -> None:
    """Raises StorageError unless there is nothing at the path of the index, or an index of reports."""
    try:
        if not is_there(path):
            return
        with path.open("rb") as lines:
            start = lines.read(LONGEST_START)
    except Damaged as error:
        raise StorageError(f"{path}: {error}; name another folder with --out.") from error
    except OSError as error:
        raise storage_error(path, error) from error
    if MARK.encode() not in start:
        raise StorageError(
            f"{path}: expected an index of reports, found another text, which stays as it is; name another folder with "
            "--out, or move that file away."
        )


def _compared(
    results: Path, records: Sequence[Record], tables_of: Callable[[str], Sequence[PlannedTable]] | None
) -> tuple[Comparison, ...]:
    found = tuple(with_stale_twins_marked(results, one) for one in comparisons(records))
    if tables_of is None:
        return found
    of_data = {name: [record for record in records if record.data == name] for name in {one.data for one in found}}
    return tuple(part for one in found for part in arranged(one, tables_of(one.data), of_data[one.data]))


def _write_section(part: Part, figures: Mapping[str, Figure], out: Path) -> tuple[Section, list[Path]]:
    """Writes the tables and figures of a comparison; returns its part of the index, and the files."""
    comparison = part.analysis.comparison
    folder = inside(out, *comparison.places)
    files = [path for table in part.tables for path in write_table(folder, table, comparison.data)]
    for name, figure in figures.items():
        files += save(figure, inside(folder, name))
    titles = {name: title for name, title in section_titles(comparison).items() if name in figures}
    return Section(comparison, {table.name: markdown(table) for table in part.tables}, titles), files


def _earlier_section(part: Part, out: Path) -> Section:
    """The part of the index that an earlier report wrote, read from its files; no tables if there are none."""
    comparison = part.analysis.comparison
    folder = inside(out, *comparison.places)
    paths = {table.name: inside(folder, f"{table.name}.md") for table in part.tables}
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
