"""The progress of a run: what a checkpoint keeps of it, and what becomes its record and the files of its curves."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from bench.records.mean_weights import WEIGHTS
from bench.records.record import Scores
from bench.spec.further_weights import further_weights
from bench.spec.resolve import RunSpec
from datasets.contract import Task

T = TypeVar("T")


@dataclass
class Best:
    """The epoch (counted from 1) that is best on validation so far, with its network; or those of one task."""

    epoch: int
    score: float
    validation: Scores
    network: dict[str, Tensor]


@dataclass
class PartialEpoch:
    """An epoch that has not ended: what its steps so far have left for its end.

    steps: done of it.
    seconds: of these steps.
    losses, weights: (steps, m) float64, of each step.
    further: the same for every column of `further_weights`. All steps are kept, not sums: the rounding of a mean
        depends on the order of its terms.
    streams: the states of torch's default random streams after these steps, by kind of device; of every process that
        trains the run, by rank.
    """

    steps: int
    seconds: float
    losses: Tensor
    weights: Tensor
    further: dict[str, Tensor]
    streams: list[dict[str, Tensor]]


@dataclass
class History:
    """The progress of a run.

    epochs, steps: done so far.
    seconds: of training and validation, in whole epochs.
    step_seconds: of each timed step.
    curve, positions, cosines: rows of the files of these names.
    evaluations: of a flow's field in training steps, forward and backward.
    last_tests: test scores of the last epochs, for protocols without validation.
    best: the best epoch on validation; None without one, and for single-task networks.
    best_by_task: of single-task networks, the best epoch of each, by task key.
    unscored: epochs whose score on validation was not finite.
    resumed: what changed when the run was resumed, one sentence each, as in `Record`.
    partial: the epoch that has not ended; None between two epochs.
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
    best_by_task: dict[str, Best] = field(default_factory=dict)
    unscored: int = 0
    resumed: list[str] = field(default_factory=list)
    partial: PartialEpoch | None = None


def part_of_task(network: Mapping[str, T], task: int) -> dict[str, T]:
    """What belongs to one of several single-task networks, of a mapping from names of parameters and buffers."""
    own = (f"encoder.{task}.", f"heads.{task}.")
    return {name: values for name, values in network.items() if name.startswith(own)}


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
    tables = {"curve": curve_columns(spec), "cosines": cosine_columns(spec)}
    # One that has not ended may be the first, and is not among those that have.
    least, most = (0 if history.partial else 1), spec.settings.train.epochs - (1 if history.partial else 0)
    if not least <= history.epochs <= most:
        return f"expected {least} to {most} epochs, found another number"
    if len(history.curve) != history.epochs:
        return f"expected {history.epochs} rows of the curve, one per epoch, found {len(history.curve)}"
    for name, columns in {**tables, "positions": position_columns(spec)}.items():
        rows: Sequence[Sequence[float]] = getattr(history, name)
        if any(len(row) != len(columns) for row in rows):
            return f"expected {len(columns)} numbers in every row of {name}, found others"
    if not 0 <= history.unscored <= history.epochs:
        return f"expected at most {history.epochs} epochs without a score, found another number"
    return _inconsistent_partial(history, spec) or _inconsistent_best(history, spec)


def inconsistent_steps(history: History, epoch_steps: int) -> str:
    """The same for its steps, if an epoch has this many."""
    partial = history.partial.steps if history.partial else 0
    if partial > epoch_steps:
        return f"expected at most {epoch_steps} steps of an epoch, found another number"
    expected = history.epochs * epoch_steps + partial
    return "" if history.steps == expected else f"expected {expected} steps in all, found another number"


def _inconsistent_partial(history: History, spec: RunSpec) -> str:
    """The same for the epoch that has not ended."""
    partial = history.partial
    if partial is None:
        return ""
    if partial.steps < 1:
        return "expected at least one step of an epoch that has not ended, found another number"
    if set(partial.further) != set(further_weights(spec.settings)):
        return "expected the further weights of this run, found others"
    if not all(
        values.shape == (partial.steps, len(spec.tasks))
        and values.dtype == torch.float64
        and values.is_contiguous()  # one number may stand for very many
        and bool(values.isfinite().all())
        for values in (partial.losses, partial.weights, *partial.further.values())
    ):
        return "expected finite losses and weights of every step and task of an epoch, found others"
    if len(partial.streams) != spec.settings.compute.processes:
        return "expected the random streams of every process of the run, found others"
    return ""


def _inconsistent_best(history: History, spec: RunSpec) -> str:
    """The same for the best epochs and their scores."""
    shared, apart = history.best, history.best_by_task
    if (shared if not spec.settings.arch.shares_parameters else apart) or not apart.keys() <= {*spec.tasks}:
        return "expected best epochs of this architecture and its tasks, found others"
    if not all(1 <= best.epoch <= history.epochs for best in [*([shared] if shared else []), *apart.values()]):
        return f"expected a best epoch of 1 to {history.epochs}, found another"
    whole = [*history.last_tests, *([shared.validation] if shared else [])]
    if not all(_has_all(spec.info.tasks, scores) for scores in whole):
        return "expected a score of every task and metric, found others"
    of_task = {task.key: [task] for task in spec.info.tasks}
    if not all(_has_all(of_task[key], best.validation) for key, best in apart.items()):
        return "expected a score of every metric of a task, found others"
    return ""


def _has_all(tasks: Sequence[Task], scores: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether these are the scores of these tasks and all their metrics."""
    expected = {task.key: {metric.key for metric in task.measure.metrics} for task in tasks}
    return {task: set(found) for task, found in scores.items()} == expected
