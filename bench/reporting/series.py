"""Series that runs log during training, such as curves and task positions, combined over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.records.record import Record
from bench.records.selected_scores import wrong_scores
from bench.records.store import CURVE, RecordError, run_folder
from bench.records.tables import NumberTable, read_numbers
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.spacing import evenly_spaced_places

Numbers = npt.NDArray[np.float64]
# Files of one kind: by variant and seed, of the runs that have one.
Tables = Mapping[str, Mapping[int, NumberTable]]
OF_CURVES = ("epoch", "step", "seconds", "score")  # columns that every curve has
# More points than this on a line are indistinguishable in print and only enlarge the file.
MOST_POINTS = 400


@dataclass(frozen=True)
class Band:
    """A line over its x: the mean over seeds, and the lowest and highest seed; all (points,)."""

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers


def read_curves(results: Path, comparison: Comparison) -> Tables:
    """The learning curve of every finished run of a comparison, and of the rows that it is compared with.

    Raises:
        RecordError: as of `read_series`, or a curve that contradicts its record. StorageError: as there.
    """
    references = filter(None, (comparison.baseline, comparison.tuned_baseline))
    rows = {variant.key: variant for variant in (*references, *comparison.variants)}
    curves = {key: read_series(results, comparison, variant, CURVE, OF_CURVES) for key, variant in rows.items()}
    for key, tables in curves.items():
        for seed, table in tables.items():
            path = run_folder(results, comparison.data, key, seed) / CURVE
            if error := _wrong_epochs(table, rows[key].scored[seed]) or wrong_scores(table, rows[key].scored[seed]):
                raise RecordError(f"{path}: {error}; restore it, or delete the folder of the run and run it again.")
    return curves


def _wrong_epochs(curve: NumberTable, record: Record) -> str:
    known = curve["epoch"][~np.isnan(curve["epoch"])]
    if len(known) and known.max() == record.epochs:
        return ""
    return f"expected {record.epochs} epochs, as the record says, found {f'{known.max():g}' if len(known) else 'none'}"


def read_series(
    results: Path, comparison: Comparison, variant: Variant, name: str, columns: Sequence[str]
) -> Mapping[int, NumberTable]:
    """The file `name` of each finished seed of a row that has one.

    Raises:
        RecordError: a file that isn't a table of numbers with these columns. StorageError: a file can't be read.
    """
    tables: dict[int, NumberTable] = {}
    for seed in variant.scored:
        path = run_folder(results, comparison.data, variant.key, seed) / name
        table = read_numbers(path, columns)
        if table is not None:
            tables[seed] = table
    return tables


def bands(tables: Mapping[int, NumberTable], x: str, columns: Sequence[str]) -> dict[str, Band]:
    """Each column over `x`, at those x where every seed has a value; without columns that have no such x.

    Columns that a table lacks are left out.
    """
    wanted = [column for column in columns if all(column in table for table in tables.values())]
    if not tables or not wanted:
        return {}
    lines = [_ordered(table.of([x, *wanted])) for table in tables.values()]
    at = lines[0][:, 0]
    for line in lines[1:]:
        at = np.intersect1d(at, line[:, 0], assume_unique=True)
    values = np.stack([line[np.isin(line[:, 0], at), 1:] for line in lines])  # (seeds, points, columns)
    found = {column: _band(at, values[:, :, place]) for place, column in enumerate(wanted)}
    return {column: one for column, one in found.items() if one is not None}


def _ordered(table: Numbers) -> Numbers:
    """The lines of a table by their first number, of equal ones the last."""
    _, places = np.unique(table[::-1, 0], return_index=True)
    return table[::-1][places]


def _band(at: Numbers, values: Numbers) -> Band | None:
    """Of values (seeds, points) at these x, where no seed is NaN; at most MOST_POINTS, evenly spaced."""
    there = np.flatnonzero(~np.isnan(values).any(axis=0))
    if not len(there):
        return None
    kept = there[evenly_spaced_places(len(there), MOST_POINTS)]
    shown = values[:, kept]
    return Band(at[kept], shown.mean(axis=0), shown.min(axis=0), shown.max(axis=0))
