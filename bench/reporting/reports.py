"""Writes all reports of some records into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.records.files import StorageError, atomic_write_text, is_file, remove_temporary_files, storage_error
from bench.records.names import inside
from bench.records.reading import Damaged, is_there, read_text
from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.records.store import CURVE, POSITIONS
from bench.reporting.comparison import Comparison, Variant, comparisons
from bench.reporting.figures.fronts import front_figure
from bench.reporting.figures.lines import curves_figure, positions_figure
from bench.reporting.figures.scores import scores_figure
from bench.reporting.figures.series import Band, band, read_series
from bench.reporting.figures.style import save
from bench.reporting.front import front_of
from bench.reporting.index import MARK, SPEED, Section, index_page
from bench.reporting.planned import PlannedTable, arranged
from bench.reporting.render import markdown, write_table
from bench.reporting.speed.report import write_speed_report
from bench.reporting.tables.cost import cost_table
from bench.reporting.tables.fronts import front_table
from bench.reporting.tables.runs import runs_csv
from bench.reporting.tables.scores import score_tables
from bench.reporting.tables.table import Table

INDEX = "README.md"
RUNS = "runs.csv"
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
    """Tables, figures, runs.csv and the index; returns the files written, the index first.

    spread: print the standard deviation beside means.
    data: the data sets whose tables and figures are written; () for all. The index and runs.csv are about all
        records; in the index, the other data sets keep the tables and figures that an earlier report wrote to `out`.
    tasks: keys of those to draw in figures of positions; () for as many as are legible.
    tables_of(data set) -> the tables that a study asks for; None puts all rows of a data set in one table.
    speeds: measurements of steps, each with a report of its own that the index links to.

    Raises:
        RecordError: records that contradict each other, or a curve that can't be read.
        StorageError: a file can't be written, or the index would replace a file that isn't an index of reports.
    """
    _check_index(out / INDEX)
    sections = []
    files: list[Path] = []
    compared = _compared(records, tables_of)
    for places in ((), *(one.places for one in compared), *((SPEED, speed.machine) for speed in speeds)):
        remove_temporary_files(inside(out, *places), ABANDONED)
    for comparison in compared:
        tables = _tables(comparison, spread)
        if data and comparison.data not in data:
            section = _earlier_section(comparison, tables, out)
        else:
            section, written = _write_section(results, comparison, tables, tasks, out)
            files += written
        if section.tables:
            sections.append(section)
    if records:
        files.append(atomic_write_text(out / RUNS, runs_csv(records)))
    for speed in speeds:
        files += write_speed_report(speed, inside(out, SPEED, speed.machine))
    return (atomic_write_text(out / INDEX, index_page(records, compared, sections, speeds)), *files)


def _tables(comparison: Comparison, spread: bool) -> tuple[Table, ...]:
    front = front_of(comparison)
    fronts = (front_table(comparison, front),) if front and front.methods else ()
    return (*score_tables(comparison, spread), *fronts, cost_table(comparison))


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
    records: Sequence[Record], tables_of: Callable[[str], Sequence[PlannedTable]] | None
) -> tuple[Comparison, ...]:
    found = comparisons(records)
    if tables_of is None:
        return found
    return tuple(part for comparison in found for part in arranged(comparison, tables_of(comparison.data)))


def _write_section(
    results: Path, comparison: Comparison, tables: Sequence[Table], tasks: Sequence[str], out: Path
) -> tuple[Section, list[Path]]:
    """Writes the tables and figures of a comparison; returns its part of the index, and the files."""
    folder = inside(out, *comparison.places)
    files = [path for table in tables for path in write_table(folder, table, comparison.data)]
    figures = _figures(results, comparison, tasks)
    for name, figure in figures.items():
        files += save(figure, inside(folder, name))
    titles = {name: title for name, title in _titles(comparison).items() if name in figures}
    return Section(comparison, {table.name: markdown(table) for table in tables}, titles), files


def _earlier_section(comparison: Comparison, tables: Sequence[Table], out: Path) -> Section:
    """The part of the index that an earlier report wrote, read from its files; no tables if there are none."""
    folder = inside(out, *comparison.places)
    paths = {table.name: inside(folder, f"{table.name}.md") for table in tables}
    texts = {name: _earlier_text(path) for name, path in paths.items() if is_file(path)}
    titles = {name: title for name, title in _titles(comparison).items() if is_file(inside(folder, f"{name}.png"))}
    return Section(comparison, texts, titles)


def _earlier_text(path: Path) -> str:
    """A table that an earlier report wrote."""
    try:
        return read_text(path)
    except Damaged as error:
        raise StorageError(f"{path}: {error}; delete it, or write the reports of all data sets.") from error
    except OSError as error:
        raise storage_error(path, error) from error


def _titles(comparison: Comparison) -> dict[str, str]:
    """Title of each figure by file name."""
    titles = {
        "scores": "Scores of all finished seeds; a bar marks the mean",
        "curves": "Learning curves: mean over finished seeds, shaded from the lowest to the highest",
        "front": "The front of scalarisations: means over seeds on test for each pair of tasks, higher is better",
    }
    for variant in comparison.variants:
        of = f"Task positions of {variant.label}"
        titles[_positions_name(variant)] = f"{of}: mean over finished seeds, shaded from the lowest to the highest"
    return titles


def _positions_name(variant: Variant) -> str:
    return "positions-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", variant.key).strip("-")


def _figures(results: Path, comparison: Comparison, tasks: Sequence[str]) -> dict[str, Figure]:
    """Figures by file name, without those that have nothing to show."""
    front = front_of(comparison)
    figures = {
        "scores": scores_figure(comparison),
        "curves": _curves(results, comparison),
        "front": front_figure(comparison, front) if front else None,
    }
    for variant in comparison.variants:
        bands = _positions(results, comparison, variant)
        figures[_positions_name(variant)] = positions_figure(comparison, bands, tasks)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _curves(results: Path, comparison: Comparison) -> Figure | None:
    bands = {}
    for variant in comparison.variants:
        frames = read_series(results, comparison, variant, CURVE, ("epoch", "score"))
        bands[variant.key] = band(frames, "epoch", "score")
    return curves_figure(comparison, _present(bands))


def _positions(results: Path, comparison: Comparison, variant: Variant) -> Mapping[str, Band]:
    keys = [task.key for task in comparison.tasks]
    if not any(run.parameters and run.parameters.positions for run in variant.scored.values()):
        return {}  # constant positions are in the settings
    frames = read_series(results, comparison, variant, POSITIONS, ("step", *keys))
    return _present({key: band(frames, "step", key) for key in keys})


def _present(bands: Mapping[str, Band | None]) -> dict[str, Band]:
    return {key: found for key, found in bands.items() if found is not None}
