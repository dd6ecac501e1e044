"""Selection: which epoch's network is reported, by its scores on validation.

Tasks that share parameters have one epoch. Of single-task networks, each has its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from bench.engine.history import Best, History, curve_columns, part_of_task
from bench.records.record import Scores, Selected
from bench.spec.resolve import RunSpec
from datasets.contract import DatasetInfo
from methods.contract import Network

RULES = {
    "accuracy": "highest mean accuracy over tasks on validation",
    "gain": "highest mean log gain over the dummy baseline on validation",
}
RULES_BY_TASK = {
    "accuracy": "for each task, highest accuracy on validation",
    "gain": "for each task, highest mean log gain over the dummy baseline on validation",
}
_SMALLEST = 1e-4


@dataclass(frozen=True)
class Selection:
    """The epoch, or epochs, that a run reports.

    network: the parameters and buffers at these epochs.
    validation: the scores at these epochs.
    selected: the epoch and its score; of single-task networks, the last of their epochs and the mean of their scores.
    by_task: those of each task; empty unless each task has its own epoch.
    """

    network: dict[str, Tensor]
    validation: Scores
    selected: Selected
    by_task: dict[str, Selected]


def task_scores(info: DatasetInfo, scores: Scores, dummy: Scores) -> list[float]:
    """The score of each task (m,); higher is better.

    "accuracy": its first metric.
    "gain": the mean over its metrics of the log gain over the dummy baseline. In logarithms the baseline is an offset
        that does not change which epoch is selected, and no task's unit dominates.
    """
    if info.selection == "accuracy":
        return [scores[task.key][task.measure.metrics[0].key] for task in info.tasks]
    gains = []
    for task in info.tasks:
        signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.measure.metrics}
        own, base = scores[task.key], dummy[task.key]
        gains.append(_mean([sign * (_log(own[key]) - _log(base[key])) for key, sign in signs.items()]))
    return gains


def selection_score(info: DatasetInfo, scores: Scores, dummy: Scores) -> float:
    """The score that selects the epoch on validation: the mean over tasks of `task_scores`."""
    return _mean(task_scores(info, scores, dummy))


def keep_best(history: History, network: Network, spec: RunSpec, validation: Scores, dummy: Scores) -> float:
    """The score of the epoch that has just ended; updates the history.

    The network is kept if the score is the highest so far; of single-task networks, each whose own score is. A score
    that is not finite never is. Such epochs are counted.

    validation, dummy: scores on validation, of the network and of the dummy baseline.
    """
    info = spec.info
    by_task = task_scores(info, validation, dummy)
    score = _mean(by_task)
    history.unscored += not math.isfinite(score)
    if spec.settings.arch.shares_parameters:
        if _is_better(score, history.best):
            history.best = Best(history.epochs, score, validation, copy.deepcopy(network.state_dict()))
        return score
    for index, (task, of_task) in enumerate(zip(info.tasks, by_task, strict=True)):
        if _is_better(of_task, history.best_by_task.get(task.key)):
            own = copy.deepcopy(part_of_task(network.state_dict(), index))
            history.best_by_task[task.key] = Best(history.epochs, of_task, {task.key: validation[task.key]}, own)
    return score


def _is_better(score: float, best: Best | None) -> bool:
    return math.isfinite(score) and (best is None or score > best.score)


def selection(history: History, spec: RunSpec) -> Selection | None:
    """What a run reports; None if it has no score to select by."""
    info, best = spec.info, history.best
    if spec.settings.arch.shares_parameters:
        if best is None:
            return None
        selected = Selected(epoch=best.epoch, rule=RULES[info.selection], score=best.score)
        return Selection(best.network, best.validation, selected, {})
    of_tasks = [history.best_by_task[task.key] for task in info.tasks if task.key in history.best_by_task]
    if len(of_tasks) < len(info.tasks):
        return None
    rule = RULES_BY_TASK[info.selection]
    return Selection(
        network={name: values for best in of_tasks for name, values in best.network.items()},
        validation={task: scores for best in of_tasks for task, scores in best.validation.items()},
        selected=Selected(
            epoch=max(best.epoch for best in of_tasks), rule=rule, score=_mean([best.score for best in of_tasks])
        ),
        by_task={
            task.key: Selected(epoch=best.epoch, rule=rule, score=best.score)
            for task, best in zip(info.tasks, of_tasks, strict=True)
        },
    )


def why_unselected(history: History, spec: RunSpec) -> str:
    """Why a run has nothing to report: which scores of its last epoch are not finite, or which tasks never had one."""
    info = spec.info
    if not spec.settings.arch.shares_parameters:
        lacking = [task.key for task in info.tasks if task.key not in history.best_by_task]
        return f"no epoch has a finite score on validation for {', '.join(lacking)}"
    last = dict(zip(curve_columns(spec), history.curve[-1], strict=True))
    deciding = slice(1) if info.selection == "accuracy" else slice(None)
    metrics = [(task.key, metric.key) for task in info.tasks for metric in task.measure.metrics[deciding]]
    values = {f"{task}/{metric}": last[f"validation/{task}/{metric}"] for task, metric in metrics}
    odd = ", ".join(f"{name} is {value}" for name, value in values.items() if not math.isfinite(value))
    return f"no epoch has a finite score on validation; in the last one, {odd or 'the score is not finite'}"


def _log(value: float) -> float:
    """The logarithm, bounded below: a fraction of pixels may be 0 early in training."""
    return math.log(max(value, _SMALLEST))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
