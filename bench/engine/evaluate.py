"""Scores of a network, or of the dummy baseline, on a whole split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.engine.batches import evaluation_batches
from bench.engine.device import read_at_once
from bench.records.items import Items
from bench.records.record import Scores
from datasets.contract import BatchStatistics, DatasetInfo, Measure, Split, Task
from methods.contract import Network

Statistics = dict[int, list[BatchStatistics]]  # by task
Observe = Callable[[Measure, Tensor, Tensor], BatchStatistics]

EVALUATION_BATCH = 128


def evaluate(network: Network, info: DatasetInfo, split: Split, device: torch.device) -> Scores:
    """Every metric of every task on the split. The statistics of its batches are read from the device at once."""
    statistics = _observed(network, info, split, device, lambda measure, *answers: measure.update(*answers))
    return _compute(info.tasks, statistics)


def evaluate_items(network: Network, info: DatasetInfo, split: Split, device: torch.device) -> tuple[Scores, Items]:
    """The same, and by task key the outcome of each item in the order of the split, from the same outputs and read."""
    statistics = _observed(
        network, info, split, device, lambda measure, *answers: (*measure.update(*answers), measure.per_item(*answers))
    )
    scores = _compute(info.tasks, {task: [parts[:-1] for parts in found] for task, found in statistics.items()})
    items = {task: torch.cat([parts[-1] for parts in found]).numpy() for task, found in statistics.items()}
    return scores, {info.tasks[task].key: items[task] for task in sorted(items)}


@torch.no_grad()
def _observed(network: Network, info: DatasetInfo, split: Split, device: torch.device, observe: Observe) -> Statistics:
    """What is observed of each batch of outputs and targets, on the CPU."""
    network.eval()
    statistics: Statistics = {}
    for source in [source for source in split if source.targets]:
        readers = list(source.targets)
        for group in evaluation_batches(source, info, EVALUATION_BATCH, device):
            for task, features in zip(readers, network.features(group.inputs, readers), strict=True):
                output = network.heads[task](features.z)
                of_batch = observe(info.tasks[task].measure, output, group.targets[task])
                statistics.setdefault(task, []).append(of_batch)
    network.train()
    return _on_cpu(statistics)


def _on_cpu(statistics: Statistics) -> Statistics:
    """The same on the CPU."""
    every = [part for of_task in statistics.values() for of_batch in of_task for part in of_batch]
    read = iter(read_at_once(every))
    return {task: [tuple(next(read) for _ in of_batch) for of_batch in of_task] for task, of_task in statistics.items()}


def dummy_scores(info: DatasetInfo, train: Split, split: Split) -> Scores:
    """Scores on `split` of the dummy baseline: the best constant prediction for each task, fitted on `train`."""
    statistics: Statistics = {}
    for fitted_on, source in zip(train, split, strict=True):
        for index in source.targets:
            task = info.tasks[index]
            prediction = task.constant(fitted_on.target_batches(index, EVALUATION_BATCH))
            for part in source.target_batches(index, EVALUATION_BATCH):
                of_batch = task.measure.update(_broadcast(prediction, part), part)
                statistics.setdefault(index, []).append(of_batch)
    return _compute(info.tasks, statistics)


def _broadcast(prediction: Tensor, target: Tensor) -> Tensor:
    """The prediction (outputs,) for every entry of target (B,), or every pixel of (B, [C,] H, W)."""
    pixels = target.shape[-2:] if target.dim() > 1 else ()
    shape = (1, len(prediction), *(1 for _ in pixels))
    return prediction.reshape(shape).expand(len(target), len(prediction), *pixels)


def _compute(tasks: Sequence[Task], statistics: Statistics) -> Scores:
    return {task.key: task.measure.compute(statistics[index]) for index, task in enumerate(tasks)}


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Each score, averaged over epochs."""
    return {
        task: {key: _mean([one[task][key] for one in scores]) for key in values} for task, values in scores[0].items()
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
