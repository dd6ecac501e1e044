"""Mean weights of runs over all their steps, from the curves that they wrote."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from bench.records.store import RecordError
from bench.records.tables import read_table

# Columns of the curve: each of these, a slash, and the key of a task.
WEIGHTS = "weight"
HEAD_WEIGHTS = "head_weight"
UNCLIPPED_WEIGHTS = "unclipped_weight"

_ADVICE = "delete the folder of the run and run it again"


@dataclass(frozen=True)
class _Weights:
    """The steps of each epoch of a run, and each column of mean weights over them, as exact fractions."""

    steps: tuple[int, ...]
    columns: Mapping[str, tuple[Fraction, ...]]


def mean_weights(curves: Sequence[Path], names: Sequence[str]) -> dict[str, float]:
    """The mean of each of these columns over all steps of all runs, by name.

    Correctly rounded: the mean of equal numbers is that number.

    Raises:
        RecordError: a curve is not there or can't be read, or a weight in it is not finite.
    """
    tables = [_weights_of(path, names) for path in curves]
    return {name: _mean(tables, name) for name in names}


def _weights_of(path: Path, names: Sequence[str]) -> _Weights:
    table = read_table(path, ["step", *names])
    if table is None or table.empty:
        raise RecordError(f"{path}: expected the curve of a finished run, found none; {_ADVICE}.")
    for name in names:
        if wrong := [value for value in table[name].tolist() if not math.isfinite(value)]:
            raise RecordError(f"{path}: expected finite numbers in column {name!r}, found {wrong[0]}; {_ADVICE}.")
    ends = [0, *(int(end) for end in table["step"].tolist())]
    steps = tuple(end - start for start, end in pairwise(ends))
    return _Weights(steps, {name: tuple(Fraction(value) for value in table[name].tolist()) for name in names})


def _mean(tables: Sequence[_Weights], name: str) -> float:
    total = sum(n * w for one in tables for n, w in zip(one.steps, one.columns[name], strict=True))
    return float(total / sum(sum(one.steps) for one in tables))
