"""Puts all reports of some records into a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.records.record import Record
from bench.records.speed import SpeedRecord
from bench.records.store import CURVE, POSITIONS, atomic_write_text
from bench.reporting.figures.scores import curves_figure, positions_figure, save, scores_figure
from bench.reporting.figures.series import Band, band, read_series
from bench.reporting.page import SPEED, Section, readme, runs_csv
from bench.reporting.render import write_table
from bench.reporting.speed.report import write_speed_report
from bench.reporting.study import PlannedTable, Study, Variant, arranged, studies
from bench.reporting.tables.cost import cost_table
from bench.reporting.tables.scores import score_tables

INDEX = "README.md"
RUNS = "runs.csv"


def write_reports(
    results: Path,
    records: Sequence[Record],
    out: Path,
    spread: bool,
    tasks: Sequence[str] = (),
    tables_of: Callable[[str], Sequence[PlannedTable]] | None = None,
    speeds: Sequence[SpeedRecord] = (),
) -> tuple[Path, ...]:
    """Tables, figures, runs.csv and the index; returns the files, the index first.

    tasks: keys of those to draw in figures of positions; () for as many as are legible.
    tables_of(data set) -> the tables of a study that has its own; without it, all rows of a data set in one.
    speeds: measurements of steps, each with a report of its own that the index leads to.

    Raises:
        RecordError: records that contradict each other, or a curve that can't be read.
    """
    sections = []
    files: list[Path] = []
    chosen = studies(records)
    if tables_of is not None:
        chosen = tuple(part for study in chosen for part in arranged(study, tables_of(study.data)))
    for study in chosen:
        tables = (*score_tables(study, spread), cost_table(study))
        for table in tables:
            files += write_table(out / study.folder, table, study.data)
        figures = _figures(results, study, tasks)
        for name, (_, figure) in figures.items():
            files += save(figure, out / study.folder / name)
        sections.append(Section(study, tables, {title: name for name, (title, _) in figures.items()}))
    if records:
        files.append(atomic_write_text(out / RUNS, runs_csv(records)))
    for speed in speeds:
        files += write_speed_report(speed, out / SPEED / speed.machine)
    return (atomic_write_text(out / INDEX, readme(records, sections, spread, speeds)), *files)


def _figures(results: Path, study: Study, tasks: Sequence[str]) -> dict[str, tuple[str, Figure]]:
    """Title and figure by file name."""
    wanted = {
        "scores": ("Scores of all finished seeds; a bar marks the mean", scores_figure(study)),
        "curves": ("Learning curves: mean over finished seeds, lowest to highest shaded", _curves(results, study)),
    }
    for variant in study.variants:
        name = "positions-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", variant.key).strip("-")
        title = f"Task positions of {variant.label}: mean over finished seeds, lowest to highest shaded"
        wanted[name] = (title, positions_figure(study, _positions(results, study, variant), tasks))
    return {name: (title, figure) for name, (title, figure) in wanted.items() if figure is not None}


def _curves(results: Path, study: Study) -> Figure | None:
    bands = {}
    for variant in study.variants:
        frames = read_series(results, study, variant, CURVE, ("epoch", "score"))
        bands[variant.key] = band(frames, "epoch", "score")
    return curves_figure(study, _present(bands))


def _positions(results: Path, study: Study, variant: Variant) -> Mapping[str, Band]:
    keys = [task.key for task in study.tasks]
    if not any(run.parameters and run.parameters.positions for run in variant.scored.values()):
        return {}  # constant ones are in the settings
    frames = read_series(results, study, variant, POSITIONS, ("step", *keys))
    return _present({key: band(frames, "step", key) for key in keys})


def _present(bands: Mapping[str, Band | None]) -> dict[str, Band]:
    return {key: found for key, found in bands.items() if found is not None}
