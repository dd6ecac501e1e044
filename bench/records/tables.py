"""Reads the tables that a run writes beside its record."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.records.files import storage_error
from bench.records.reading import Damaged, is_there, read_text
from bench.records.store import RecordError

if TYPE_CHECKING:
    from pandas import DataFrame

# Lines of finite numbers and empty cells, as nearly all of our tables have; here Python and pandas read the same.
_PLAIN = re.compile(r"[0-9.e+\-,\n]*\n")


@dataclass(frozen=True)
class NumberTable:
    """A table of numbers by column: what a report needs of a DataFrame, at a tenth of the time for thousands of runs.

    columns: their names. values: (rows, columns), NaN where a cell is empty.
    """

    columns: tuple[str, ...]
    values: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    def __contains__(self, column: str) -> bool:
        return column in self.columns

    def __getitem__(self, column: str) -> npt.NDArray[np.float64]:
        """(rows,)"""
        return self.values[:, self.columns.index(column)]

    def of(self, columns: Sequence[str]) -> npt.NDArray[np.float64]:
        """These columns, (rows, columns)."""
        return self.values[:, [self.columns.index(column) for column in columns]]


def read_numbers(path: Path, columns: Sequence[str]) -> NumberTable | None:
    """The columns of numbers of a table that a run wrote, these among them; None if there is no file.

    Raises:
        RecordError, StorageError: as of `read_table`.
    """
    table = _read_plain(path)
    if table is not None and all(column in table for column in columns):
        return table
    frame = read_table(path, columns)  # slower; it reads whatever pandas reads, and says what is wrong
    if frame is None:
        return None
    numbers = frame.select_dtypes("number")
    return NumberTable(tuple(numbers.columns), numbers.to_numpy(dtype=np.float64))


def _read_plain(path: Path) -> NumberTable | None:
    """A table whose cells are finite numbers or empty; None if it is any other, or can't be read."""
    try:
        head, _, body = read_text(path).partition("\n")
    except (Damaged, OSError):
        return None
    columns = tuple(head.split(","))
    if len({*columns, ""}) <= len(columns) or '"' in head or not _PLAIN.fullmatch(body):
        return None
    lines = body[:-1].split("\n")
    if any(not line or line.count(",") != len(columns) - 1 for line in lines):
        return None
    try:
        cells = [float(cell or "nan") for cell in ",".join(lines).split(",")]
    except ValueError:
        return None
    return NumberTable(columns, np.array(cells).reshape(len(lines), len(columns)))


def read_table(path: Path, columns: Sequence[str]) -> DataFrame | None:
    """A table that a run wrote, with numbers in these columns; None if there is no file.

    Raises:
        RecordError: it isn't such a table. StorageError: it can't be read.
    """
    import pandas  # slow to import, and every process that trains would do it before its first step

    advice = "delete the folder of the run and run it again"
    try:
        if not is_there(path):
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows with more cells than the head
            frame = pandas.read_csv(path, index_col=False)
    except Damaged as error:
        raise RecordError(f"{path}: {error}; {advice}.") from error
    except OSError as error:
        raise storage_error(path, error) from error
    except (ValueError, pandas.errors.ParserWarning) as error:  # what is empty, not UTF-8, or no table
        raise RecordError(
            f"{path}: expected a table in CSV, found {' '.join(str(error).split())}; {advice}."
        ) from error
    lacking = [column for column in columns if column not in frame.columns]
    if lacking:
        raise RecordError(f"{path}: expected a column {lacking[0]!r}, found {list(frame.columns)!s:.200}; {advice}.")
    for column in columns:
        kind = frame[column].dtype
        if not pandas.api.types.is_numeric_dtype(kind) or pandas.api.types.is_bool_dtype(kind):
            raise RecordError(f"{path}: expected numbers in column {column!r}, found other text; {advice}.")
    return frame
