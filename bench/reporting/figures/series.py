"""Series that runs log during training, such as curves and task positions, combined over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas

from bench.records.store import POSITIONS, run_folder
from bench.records.tables import read_table
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
        frame = read_table(path, columns)
        if frame is not None:
            frames[seed] = frame
    return frames


def position_bands(results: Path, comparison: Comparison, variant: Variant) -> dict[str, Band]:
    """The learned task positions of a row over its steps, by task key; none without learned positions.

    Raises:
        RecordError, StorageError: as of `read_series`.
    """
    keys = [task.key for task in comparison.tasks]
    if not any(run.parameters and run.parameters.positions for run in variant.scored.values()):
        return {}  # constant positions are in the settings
    frames = read_series(results, comparison, variant, POSITIONS, ("step", *keys))
    bands = {key: band(frames, "step", key) for key in keys}
    return {key: found for key, found in bands.items() if found is not None}


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
