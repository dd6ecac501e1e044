"""Intervals of a difference over seeds and test items, from the outcomes per item beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.records.items import Items, read_items
from bench.records.store import run_folder
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.bootstrap import Blocks, paired_bootstrap
from bench.reporting.inference.describe import Estimate


@dataclass(frozen=True)
class ItemReader:
    """Reads the outcomes per item of runs, each once. kept: what was read, by variant and seed."""

    results: Path
    comparison: Comparison
    kept: dict[tuple[str, int], Items] = field(default_factory=dict)

    def items(self, variant: Variant, seed: int) -> Items:
        """By task; empty for a run without.

        Raises:
            ItemsError: the file of a run that should have one can't be used.
        """
        if (variant.key, seed) not in self.kept:
            folder = run_folder(self.results, self.comparison.data, variant.key, seed)
            self.kept[variant.key, seed] = read_items(folder, variant.scored[seed])
        return self.kept[variant.key, seed]


def item_interval(
    reader: ItemReader, one: Variant, other: Variant, seeds: Sequence[int], difference: float
) -> Estimate | None:
    """The interval of a mean difference in accuracy from resampled seeds and test items.

    None with fewer than two seeds, without the outcomes of a run, for other items in one row than in the other, and for
    tasks that are scored per pixel: their score isn't a mean over images.
    """
    if reader.comparison.selection != "accuracy" or len(seeds) < 2:
        return None
    pairs = []
    for seed in seeds:
        pair = [_blocks(reader.comparison, variant, seed, reader.items(variant, seed)) for variant in (one, other)]
        if not all(pair) or [block.shape for block in pair[0]] != [block.shape for block in pair[1]]:
            return None
        pairs.append(pair)
    found = paired_bootstrap([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    return Estimate(difference, found.low, found.high)


def _blocks(comparison: Comparison, variant: Variant, seed: int, items: Items) -> Blocks:
    """A block (N, 1) for each task if every task has images of its own, else one (N, tasks); none without outcomes."""
    outcomes = [items.get(task.key) for task in comparison.tasks]
    columns = [
        one.astype(np.float64)[:, None] for one in outcomes if one is not None and one.dtype == bool and len(one)
    ]
    if len(columns) < len(outcomes):
        return []
    if variant.scored[seed].kind == "multi-input":
        return columns
    return [np.concatenate(columns, axis=1)] if len({len(column) for column in columns}) == 1 else []
