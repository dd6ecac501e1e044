"""The progress of a run: what a checkpoint keeps of it, and what becomes its record and the files of its curves."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bench.engine.train_state import TrainState
from bench.records.record import Scores
from bench.spec.further_weights import WEIGHTS, further_weights
from bench.spec.resolve import RunSpec
from datasets.contract import DatasetInfo


@dataclass
class Best:
    """The epoch (counted from 1) that is best on validation so far, with its network."""

    epoch: int
    score: float
    validation: Scores
    network: dict[str, Tensor]


@dataclass
class History:
    """The progress of a run.

    epochs, steps: done so far.
    seconds: of training and validation.
    step_seconds: of each timed step.
    curve, positions, cosines: rows of the files of these names.
    evaluations: of a flow's field in training steps, forward and backward.
    last_tests: test scores of the last epochs, for protocols without validation.
    best: the best epoch on validation.
    resumed: what changed when the run was resumed, one sentence each, as in `Record`.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    curve: list[list[float]] = field(default_factory=list)
    positions: list[list[float]] = field(default_factory=list)
    cosines: list[list[float]] = field(default_factory=list)
    evaluations: tuple[int, int] = (0, 0)
    last_tests: list[Scores] = field(default_factory=list)
    best: Best | None = None
    resumed: list[str] = field(default_factory=list)


def best_epoch(state: TrainState, epoch: int, score: float, validation: Scores) -> Best:
    """The current epoch as the best one, with a copy of the network."""
    return Best(epoch, score, validation, copy.deepcopy(state.network.state_dict()))


def curve_columns(spec: RunSpec) -> list[str]:
    """The columns of curve.csv."""
    measured = [f"validation/{t.key}/{metric.key}" for t in spec.info.tasks for metric in t.measure.metrics]
    columns = ["epoch", "step", "seconds", *(f"train/{key}" for key in spec.tasks), *measured]
    further = [f"{name}/{key}" for name in further_weights(spec.settings) for key in spec.tasks]
    return [*columns, *(f"{WEIGHTS}/{key}" for key in spec.tasks), "score", *further]


def position_columns(spec: RunSpec) -> list[str]:
    """The columns of positions.csv."""
    return ["step", *spec.tasks]


def cosine_columns(spec: RunSpec) -> list[str]:
    """The columns of cosines.csv."""
    return ["step", *(f"{first}|{second}" for first, second in itertools.combinations(spec.tasks, 2))]


def inconsistency(history: History, spec: RunSpec) -> str:
    """What shows that this can't be the history of an unfinished run, in words; empty if nothing does."""
    best, tables = history.best, {"curve": curve_columns(spec), "cosines": cosine_columns(spec)}
    if not 1 <= history.epochs <= spec.settings.train.epochs:
        return f"expected 1 to {spec.settings.train.epochs} epochs, found another number"
    if len(history.curve) != history.epochs:
        return f"expected {history.epochs} rows of the curve, one per epoch, found {len(history.curve)}"
    for name, columns in {**tables, "positions": position_columns(spec)}.items():
        rows: Sequence[Sequence[float]] = getattr(history, name)
        if any(len(row) != len(columns) for row in rows):
            return f"expected {len(columns)} numbers in every row of {name}, found others"
    if best is not None and not 1 <= best.epoch <= history.epochs:
        return f"expected a best epoch of 1 to {history.epochs}, found another"
    if not all(_has_all(spec.info, scores) for scores in [*history.last_tests, *([best.validation] if best else [])]):
        return "expected a score of every task and metric, found others"
    return ""


def _has_all(info: DatasetInfo, scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether these are the scores of all tasks and metrics."""
    expected = {task.key: {metric.key for metric in task.measure.metrics} for task in info.tasks}
    return {task: set(found) for task, found in scores.items()} == expected
