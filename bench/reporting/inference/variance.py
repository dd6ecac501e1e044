"""How much of the variance of a row's mean score comes from which items were tested, and how much from the rest.

The score of seed s is the mean over its items i of y_si. If all seeds test the same items,

    y_si = mean + seed_s + item_i + remainder_si,

with variances a, b and e of the three random parts. Other items and other seeds would change the mean over S seeds and
n items by

    a / S  +  b / n  +  e / (S n).

The last two terms are test-sampling noise, the first is everything else that a seed varies: initial weights, order of
batches, training images. The scores of seeds differ by a and e / n only, so their deviation leaves out b / n, however
many seeds there are. If each seed tests items of its own, it is (a + b / n + e / n) / S, and seeds show all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.reporting.inference.describe import Array

Blocks = Sequence[npt.NDArray[np.generic]]  # of one run: (items, columns) or (items,) for each set of test images
Items = Literal["shared", "own"]


@dataclass(frozen=True)
class VarianceParts:
    """Estimated variances of the mean score over the seeds of a row; their square roots are standard errors.

    between_seeds: what the spread of the scores over seeds shows: their sample variance divided by the number of seeds.
    test_sampling: what other test items would change.
    rest: what else differs between seeds. Estimates of small variances may be negative.
    """

    between_seeds: float
    test_sampling: float
    rest: float

    @property
    def total(self) -> float:
        """The variance of the mean score if seeds and test items are drawn again."""
        return self.test_sampling + self.rest


def variance_parts(runs: Sequence[Blocks], items: Items) -> VarianceParts:
    """Splits the variance of a row's mean score, the mean over all columns of their means over items.

    runs: one for each seed. A run has blocks (items, columns): one for each task if every task has images of its own,
        else a single one; (items,) is one column. Items of a block are one draw, those of different blocks are
        independent. For another smooth score, as a mean of logarithms, give each item's first-order contribution:
        items / mean(items).
    items: "shared" if all seeds test the same items in the same order, "own" if each seed draws its own
        (`data.split_per_seed`). Own items are taken as independent between seeds, though seeds draw from one pool.

    Raises:
        ValueError: fewer than two seeds, or two items in a block, other blocks or items in one seed than in another, or
            values that are not finite; leave out images without anything to measure.
    Source: the estimates of variance components of a two-way layout, one for each block: Searle, Casella and McCulloch,
    "Variance components" (1992), Chapter 4.
    """
    blocks = _contributions(runs, items)
    scores = np.array([sum(float(values.mean()) for values in run) for run in zip(*blocks, strict=True)])
    seeds = len(scores)
    between = float(scores.var(ddof=1)) / seeds
    if items == "own":
        sampling = sum(float(v.var(ddof=1)) / len(v) for block in blocks for v in block) / seeds**2
        return VarianceParts(between, sampling, between - sampling)
    shared = [np.stack(block) for block in blocks]  # (seeds, items)
    sampling = sum(float(y.mean(axis=0).var(ddof=1)) / y.shape[1] for y in shared)
    remainder = sum(_remainder(y) / y.size for y in shared)
    return VarianceParts(between, sampling, between - remainder)


def _remainder(values: Array) -> float:
    """The variance of values (seeds, items) that neither seeds nor items explain."""
    seeds, items = values.shape
    left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((left**2).sum()) / ((seeds - 1) * (items - 1))


def _contributions(runs: Sequence[Blocks], items: Items) -> list[list[Array]]:
    """For each block and seed, what each item (n,) contributes to the score, which is the sum of the blocks' means."""
    if len(runs) < 2:
        raise ValueError(f"runs: expected at least two seeds, found {len(runs)}")
    tables = [[np.asarray(block, dtype=np.float64).reshape(len(block), -1) for block in run] for run in runs]
    forms = [[table.shape[items == "own" :] for table in run] for run in tables]
    if any(form != forms[0] for form in forms):
        raise ValueError(f"runs: expected the same blocks of {items} items for all seeds, found {forms}")
    for table in (table for run in tables for table in run):
        if len(table) < 2 or not np.isfinite(table).all():
            raise ValueError("runs: expected at least two items in a block, all finite; leave the others out.")
    columns = sum(table.shape[1] for table in tables[0])
    return [[table.sum(axis=1) / columns for table in block] for block in zip(*tables, strict=True)]
