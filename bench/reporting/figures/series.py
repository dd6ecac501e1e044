"""Series that runs log during training, such as curves and task positions, combined over seeds."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas

from bench.records.files import storage_error
from bench.records.reading import Damaged, is_there
from bench.records.store import RecordError, run_folder
from bench.reporting.comparison import Comparison, Variant

Numbers = npt.NDArray[np.float64]
# More points than this on a line are indistinguishable in print and only enlarge the file.
MOST_POINTS = 400


@dataclass(frozen=True)
class Band:
    """A line over its x: the mean over seeds, and the lowest and highest seed; all (points,)."""

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers


def read_series(
    results: Path, comparison: Comparison, variant: Variant, name: str, columns: Sequence[str]
) -> Mapping[int, pandas.DataFrame]:
    """The file `name` of each finished seed of a row that has one.

    Raises:
        RecordError: a file that isn't a table of numbers with these columns. StorageError: a file can't be read.
    """
    frames: dict[int, pandas.DataFrame] = {}
    for seed in variant.scored:
        path = run_folder(results, comparison.data, variant.key, seed) / name
        frame = _read(path, columns)
        if frame is not None:
            frames[seed] = frame
    return frames


def _read(path: Path, columns: Sequence[str]) -> pandas.DataFrame | None:
    """The table; None if there is no file."""
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


def band(frames: Mapping[int, pandas.DataFrame], x: str, y: str) -> Band | None:
    """Column `y` over `x`, at those x where every seed has a value; None if there is no such x."""
    lines = [frame.dropna(subset=[y]).drop_duplicates(x, keep="last").set_index(x)[y] for frame in frames.values()]
    if not lines:
        return None
    together = pandas.concat(lines, axis=1, join="inner").sort_index()
    if together.empty:
        return None
    places = np.unique(np.linspace(0, len(together) - 1, MOST_POINTS).round().astype(int))
    values = together.to_numpy(dtype=np.float64)[places]  # (points, seeds)
    at = together.index.to_numpy(dtype=np.float64)[places]
    return Band(at, values.mean(axis=1), values.min(axis=1), values.max(axis=1))
