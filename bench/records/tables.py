"""Reads the tables that a run writes beside its record."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.records.files import storage_error
from bench.records.reading import Damaged, is_there
from bench.records.store import RecordError

if TYPE_CHECKING:
    from pandas import DataFrame


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
        if not pandas.api.types.is_numeric_dtype(frame[column]):
            raise RecordError(f"{path}: expected numbers in column {column!r}, found other text; {advice}.")
    return frame
