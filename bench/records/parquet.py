"""The tables of `bench.records.frames` as Parquet files, for other programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records.files import atomic_write
from bench.records.frames import load_curves, load_items, load_positions, load_runs

if TYPE_CHECKING:
    from pandas import DataFrame

TABLES: dict[str, Callable[..., Any]] = {
    "runs": load_runs, "curves": load_curves, "positions": load_positions, "items": load_items
}  # fmt: skip


class ParquetUnavailable(Exception):
    """The package that writes Parquet is not installed; the message says how to get it."""


def write_parquet(results: Path, out: Path, data: Sequence[str] = (), methods: Sequence[str] = ()) -> dict[Path, int]:
    """Writes runs.parquet, curves.parquet, positions.parquet and items.parquet into a folder; their numbers of rows.

    data, methods: as of `load_runs`; () for all.

    Raises:
        ParquetUnavailable: pyarrow is not installed. StorageError: a file can't be written.
        RecordError: there are no runs, or none of a name.
    """
    if find_spec("pyarrow") is None:
        raise ParquetUnavailable(
            "--parquet: expected the package pyarrow, found none; install it: pip install '.[parquet]'"
        )
    written = {}
    for name, load in TABLES.items():
        frame = _plain(load(results, data or None, methods or None))
        path = out / f"{name}.parquet"
        atomic_write(path, lambda temporary, frame=frame: frame.to_parquet(temporary, index=False))  # type: ignore[misc]
        written[path] = len(frame)
    return written


def _plain(frame: DataFrame) -> DataFrame:
    """Columns of mixed values as text: Parquet has one type for each column."""
    mixed = [
        name for name in frame.columns if frame[name].dtype == object and frame[name].dropna().map(type).nunique() > 1
    ]
    texts = {name: frame[name].map(str, na_action="ignore") for name in mixed}
    return frame.assign(**texts)
