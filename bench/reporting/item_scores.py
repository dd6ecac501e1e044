"""Overall test scores item by item, from the outcomes beside the records: for intervals and for test-sampling noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.records.items import Items, read_items
from bench.records.record import TaskRecord
from bench.records.store import run_folder
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.bootstrap import paired_bootstrap
from bench.reporting.inference.describe import Array, Estimate
from bench.reporting.overall import test_score

# (items, columns), truth values or numbers: one for each task if every task has images of its own; else a single one
# with a column for each task, or for each image of an item and task.
Blocks = list[npt.NDArray[np.generic]]
# With fewer, many resamples are of one or two seeds: the interval may be tens of times as wide as Student's.
FEWEST_SEEDS = 6


@dataclass(frozen=True)
class ItemReader:
    """Reads the outcomes per item of runs, each once. kept: what was read, by variant and seed."""

    results: Path
    comparison: Comparison
    kept: dict[tuple[str, int], Blocks] = field(default_factory=dict)

    def blocks(self, variant: Variant, seed: int) -> Blocks:
        """Scores of the items, whose mean over items and tasks is the run's overall score; none without outcomes.

        Raises:
            ItemsError: the file of a run that should have one can't be used.
        """
        if (variant.key, seed) not in self.kept:
            folder = run_folder(self.results, self.comparison.data, variant.key, seed)
            items = read_items(folder, variant.scored[seed])
            self.kept[variant.key, seed] = _blocks(self.comparison, variant, seed, items)
        return self.kept[variant.key, seed]


def item_interval(
    reader: ItemReader, one: Variant, other: Variant, seeds: Sequence[int], difference: float
) -> Estimate | None:
    """The interval of a mean difference from resampled seeds and test items.

    None with fewer than FEWEST_SEEDS, without the outcomes of a run, and for other items in one row than in the other.
    """
    if len(seeds) < FEWEST_SEEDS:
        return None
    pairs = []
    for seed in seeds:
        pair = [reader.blocks(variant, seed) for variant in (one, other)]
        if not all(pair) or [block.shape for block in pair[0]] != [block.shape for block in pair[1]]:
            return None
        pairs.append(pair)
    found = paired_bootstrap([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return Estimate(difference, found.low, found.high)


def _blocks(comparison: Comparison, variant: Variant, seed: int, items: Items) -> Blocks:
    run = variant.scored[seed]
    if any(not len(items.get(task.key, ())) for task in comparison.tasks):
        return []
    if comparison.selection == "accuracy":
        columns = [items[task.key] for task in comparison.tasks]
        if any(column.ndim > 1 for column in columns):
            return []
    else:
        columns = [test_score(run) + _log_shares(items[task.key], task) for task in comparison.tasks]
    views, images = run.splits.get("views_per_item"), len(columns[0])
    alike = all(len(column) == images for column in columns)
    if alike and isinstance(views, int) and views > 0 and images % views == 0:
        # All tasks were tested on the same items, of which each has several images in a row.
        return [np.concatenate([column.reshape(-1, views) for column in columns], axis=1)]
    if run.kind == "multi-input":
        return [column[:, None] for column in columns]
    return [np.stack(columns, axis=1)] if alike else []


def _log_shares(values: Array, task: TaskRecord) -> Array:
    """What each image (N,) adds to the mean over metrics of the logarithm of their means, to first order; mean 0.

    values: (N, metrics), NaN where an image has nothing to measure: it adds nothing.
    """
    signs = np.array([1.0 if metric.direction == "higher" else -1.0 for metric in task.metrics])
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    known = np.isfinite(table)
    counts = np.maximum(known.sum(axis=0), 1)
    means = np.where(known, table, 0.0).sum(axis=0) / counts
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(known & (means > 0), (table / means - 1) * len(table) / counts, 0.0)
    return np.asarray((signs * shares).mean(axis=1))
