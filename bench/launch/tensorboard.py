"""The numbers of every epoch for TensorBoard, in a folder beside the record. Nothing of a run depends on them."""

from __future__ import annotations

import math
import shutil
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.engine.history import History, curve_columns
from bench.records.files import Guard, storage_error
from bench.records.store import TENSORBOARD
from bench.spec.resolve import RunSpec

_NO_SCALARS = ("epoch", "step", "seconds")


def require_tensorboard() -> None:
    """Raises ImportError, with what to do, if the package isn't installed."""
    if find_spec("tensorboard") is None:
        raise ImportError("expected the package tensorboard, found none; install it: pip install '.[tensorboard]'")


@contextmanager
def epoch_log(logger: str, spec: RunSpec, folder: Path, guard: Guard) -> Iterator[Callable[[History], None]]:
    """A function that writes the epochs of a history that it has not written yet.

    Its first call removes what earlier processes have written and writes all epochs, so that none is there twice.

    Raises:
        StorageError: a file can't be written.
    """
    if logger != TENSORBOARD:
        yield _nowhere
        return
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and seldom asked for

    place, columns = folder / TENSORBOARD, curve_columns(spec)
    writers: list[Any] = []
    written = 0

    def log(history: History) -> None:
        nonlocal written
        with guard(), _storage_errors(place):
            if not writers:
                if place.is_symlink():  # nothing is written elsewhere
                    place.unlink()
                shutil.rmtree(place, ignore_errors=True)
                writers.append(SummaryWriter(str(place)))
            for row in history.curve[written:]:
                scalars = {**dict(zip(columns, row, strict=True)), **_positions(history, spec, row[1])}
                for name, value in scalars.items():
                    if name not in _NO_SCALARS and not math.isnan(value):  # a protocol without validation has no score
                        writers[0].add_scalar(name, value, int(row[0]))
            writers[0].flush()
            written = len(history.curve)

    try:
        yield log
    finally:
        with _storage_errors(place):
            for writer in writers:
                writer.close()


def _nowhere(history: History) -> None:
    del history


def _positions(history: History, spec: RunSpec, step: float) -> dict[str, float]:
    """The positions after a step; none if the architecture has none."""
    place = bisect_right(history.positions, step, key=lambda row: row[0])
    if not place:
        return {}
    return {f"position/{task}": value for task, value in zip(spec.tasks, history.positions[place - 1][1:], strict=True)}


@contextmanager
def _storage_errors(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(place, error) from error
