"""Scores of a network, or of the constant answer, on a whole split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.engine.batches import evaluation_batches
from bench.records.record import Scores
from datasets.contract import BatchStatistics, DatasetInfo, Split, Task
from methods.contract import Network

EVALUATION_BATCH = 128
_LEAST_SHARE = 1e-4


@torch.no_grad()
def evaluate(network: Network, info: DatasetInfo, split: Split, device: torch.device) -> Scores:
    """Every metric of every task on the split."""
    network.eval()
    observations: dict[int, list[BatchStatistics]] = {}
    for source in split:
        readers = list(source.targets)
        for group in evaluation_batches(source, info, EVALUATION_BATCH, device):
            for task, features in zip(readers, network.features(group.inputs, readers), strict=True):
                output = network.heads[task](features.z)
                seen = info.tasks[task].measure.update(output, group.targets[task])
                observations.setdefault(task, []).append(seen)
    network.train()
    return _summarise(info.tasks, observations)


def constant_scores(info: DatasetInfo, train: Split, split: Split) -> Scores:
    """Scores on `split` of the best answer, learned on `train`, that ignores the image."""
    observations: dict[int, list[BatchStatistics]] = {}
    for learned_on, source in zip(train, split, strict=True):
        for index, target in source.targets.items():
            task = info.tasks[index]
            answer = task.constant(learned_on.targets[index])
            for part in target.split(EVALUATION_BATCH):
                observations.setdefault(index, []).append(task.measure.update(_everywhere(answer, part), part))
    return _summarise(info.tasks, observations)


def _everywhere(answer: Tensor, target: Tensor) -> Tensor:
    """The answer (outputs,) for every entry of target (B,) or every pixel of (B, [C,] H, W)."""
    places = target.shape[-2:] if target.dim() > 1 else ()
    shape = (1, len(answer), *(1 for _ in places))
    return answer.reshape(shape).expand(len(target), len(answer), *places)


def _summarise(tasks: Sequence[Task], observations: dict[int, list[BatchStatistics]]) -> Scores:
    return {task.key: task.measure.compute(observations[index]) for index, task in enumerate(tasks)}


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Each score averaged, over epochs."""
    return {
        task: {key: _mean([one[task][key] for one in scores]) for key in values} for task, values in scores[0].items()
    }


def selection_score(info: DatasetInfo, scores: Scores, constant: Scores) -> float:
    """What picks the epoch on validation, higher is better.

    "accuracy": mean over tasks of the first metric. "gain": mean over tasks of the mean over metrics of the logarithm
    of the gain over the constant answer. Logarithms make the constant answer a mere offset: the same epoch is picked
    whatever it scores, and no task's unit counts more than another's.
    """
    if info.selection == "accuracy":
        return _mean([scores[task.key][task.measure.metrics[0].key] for task in info.tasks])
    gains = []
    for task in info.tasks:
        signs = {metric.key: 1 if metric.direction == "higher" else -1 for metric in task.measure.metrics}
        own, base = scores[task.key], constant[task.key]
        gains.append(_mean([sign * (_log(own[key]) - _log(base[key])) for key, sign in signs.items()]))
    return _mean(gains)


def _log(value: float) -> float:
    """The logarithm, bounded below: a share of pixels may be 0 at first."""
    return math.log(max(value, _LEAST_SHARE))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
