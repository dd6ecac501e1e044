"""Whether distances between task positions go with other measures of how tasks are related: rank correlations over
pairs of tasks, tested by permuting tasks.

m tasks have m(m − 1)/2 pairs, in the order of itertools.combinations, which is also that of scipy's condensed matrices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

Numbers = NDArray[np.float64]
Places = NDArray[np.intp]

# All permutations of up to this many tasks are tried: 5,040 for seven.
MOST_ENUMERATED = 7
RANDOM_PERMUTATIONS = 9_999
PERMUTATION_SEED = 0
# Permutations at a time: 40 tasks have 780 pairs, and a block of these many rows of them takes 8 MB.
BLOCK = 1_000
# Two sums of the same products in another order differ by less; correlations that differ otherwise, by far more.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Agreement:
    """Spearman's ρ over pairs of tasks, and its two-sided p-value; both NaN where a side doesn't vary.

    permutations: how many were compared with, all m! of them if `exact`. tasks: how many entered; left_out: the places
    of those that did not, since nothing is defined for any of their pairs.
    """

    rho: float
    p: float
    tasks: int
    permutations: int
    exact: bool
    left_out: tuple[int, ...] = ()

    @property
    def least_p(self) -> float:
        """The smallest p-value that can come out with this many tasks.

        The three pairs of three tasks come in every order, so that each ρ has a −ρ among the permutations.
        """
        return (2 if self.tasks == 3 else 1) / (self.permutations + (not self.exact))


@dataclass(frozen=True)
class Measure:
    """Something known of every pair of tasks: values by seed (pairs,), or a sentence that says why there are none.

    name: of its columns in files. title: in tables. label: in figures. alike: what to call tasks for which it is high.
    remark: what to bear in mind when reading it. drawn: whether figures show it.
    """

    name: str
    title: str
    label: str
    alike: str
    values: Mapping[int, Numbers]
    remark: str = ""
    missing: str = ""
    drawn: bool = True

    @property
    def mean(self) -> Numbers:
        """Over seeds (pairs,)."""
        return mean_over_seeds(self.values)

    @property
    def varies(self) -> bool:
        """Whether seeds differ in it; the labels of a data set are the same for all."""
        return len({values.tobytes() for values in self.values.values()}) > 1


@dataclass(frozen=True)
class Comparison:
    """A measure beside the position distances: per seed, and for the means over the seeds that have both."""

    measure: Measure
    by_seed: Mapping[int, Agreement]
    mean: Agreement | None


@dataclass(frozen=True)
class Relations:
    """All that is compared of one data set.

    tasks: labels by key. positions: by seed (m,). between_seeds: agreement of the distances of two seeds. notes: what
    became of runs that are missing.
    """

    data: str
    label: str
    tasks: Mapping[str, str]
    positions: Mapping[int, Numbers]
    distances: Measure
    comparisons: tuple[Comparison, ...]
    between_seeds: Mapping[tuple[int, int], Agreement]
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.tasks.values())

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What was compared with, without what is missing."""
        return tuple(comparison.measure for comparison in self.comparisons if comparison.measure.values)


def relate(
    data: str,
    label: str,
    tasks: Mapping[str, str],
    positions: Mapping[int, Numbers],
    measures: Sequence[Measure],
    notes: Sequence[str] = (),
) -> Relations:
    """Every comparison of one data set; see `Relations`."""
    values = {seed: position_distances(own) for seed, own in positions.items()}
    distances = Measure("distance", "Distance between positions", "Position distance", "tasks far apart", values)
    comparisons = tuple(_compare(distances, measure) for measure in measures)
    between = {
        (first, second): agreement(values[first], values[second])
        for first, second in itertools.combinations(sorted(values), 2)
    }
    return Relations(data, label, tasks, positions, distances, comparisons, between, tuple(notes))


def _compare(distances: Measure, measure: Measure) -> Comparison:
    shared = [seed for seed in sorted(distances.values) if seed in measure.values]
    by_seed = {seed: agreement(distances.values[seed], measure.values[seed]) for seed in shared}
    if len(shared) < 2:
        return Comparison(measure, by_seed, None)
    means = (mean_over_seeds({seed: side.values[seed] for seed in shared}) for side in (distances, measure))
    return Comparison(measure, by_seed, agreement(*means))


def position_distances(positions: Numbers) -> Numbers:
    """|p_i − p_j| of positions (m,) for every pair."""
    return np.asarray(pdist(positions[:, None]))


def pair_names(tasks: Sequence[str]) -> list[str]:
    """ "first|second" for every pair, as files name them."""
    return [f"{first}|{second}" for first, second in itertools.combinations(tasks, 2)]


def mean_over_seeds(values: Mapping[int, Numbers]) -> Numbers:
    """(pairs,)"""
    return np.asarray(np.mean(list(values.values()), axis=0))


def mean_cosines(looks: Numbers) -> Numbers:
    """Mean over looks (looks, pairs), each without those where a gradient was zero; NaN where all were."""
    defined = np.isfinite(looks)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, looks, 0).sum(axis=0) / defined.sum(axis=0))


def phi_coefficients(labels: Numbers) -> Numbers:
    """The correlation of each pair of binary labels (m, N) of the same N inputs; NaN beside a label that is constant.

    Source: Pearson's φ, which is his correlation of variables that are 0 and 1.
    """
    centred = labels - labels.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        correlations = centred @ centred.T / np.outer(norms, norms)
    return np.asarray(correlations[np.triu_indices(len(labels), k=1)])


def square(pairs: Numbers) -> Numbers:
    """Values of pairs (pairs,) as a symmetric matrix (m, m) with zeros on its diagonal."""
    return np.asarray(squareform(pairs, checks=False))


def agreement(first: Numbers, second: Numbers) -> Agreement:
    """Spearman's ρ of two measures over the same pairs (pairs,), with a p-value that permutes tasks.

    Pairs that share a task aren't independent, so the tasks of one side are permuted, not its pairs. Two-sided: the
    share of permutations with at least this |ρ|; of random ones, ρ itself counts as one more.
    Source: Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Res. 27 (1967);
        random permutations: Phipson, Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), https://doi.org/10.2202/1544-6115.1585
    """
    first, second, left_out = _defined(first, second)
    m = len(square(first))
    orders = permutations(m)
    exact = m <= MOST_ENUMERATED
    ranks, others = _standardised(rankdata(first)), _standardised(rankdata(second))
    if ranks is None or others is None:
        return Agreement(math.nan, math.nan, m, len(orders), exact, left_out)
    rho = float(ranks @ others)
    permuted = np.abs(_permuted_products(square(ranks), others, orders))
    count = int((permuted >= abs(rho) - ROUNDING).sum())
    p = count / len(orders) if exact else (1 + count) / (1 + len(orders))
    return Agreement(rho, p, m, len(orders), exact, left_out)


def _defined(first: Numbers, second: Numbers) -> tuple[Numbers, Numbers, tuple[int, ...]]:
    """Both measures for the tasks that have any pair with both, and the places of the others."""
    usable = square(np.where(np.isfinite(first) & np.isfinite(second), 1.0, 0.0)).any(axis=1)
    chosen = np.ix_(usable, usable)
    sides = (squareform(square(side)[chosen], checks=False) for side in (first, second))
    return *sides, tuple(np.flatnonzero(~usable).tolist())


def _standardised(ranks: Numbers) -> Numbers | None:
    """Ranks with mean 0 and length 1, so that ρ is a product; None where they are all the same or not defined."""
    centred = ranks - ranks.mean() if len(ranks) else ranks
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 and math.isfinite(length) else None


def _permuted_products(matrix: Numbers, others: Numbers, orders: Places) -> Numbers:
    """Σ over pairs i < j of matrix[order[i], order[j]] · others[ij] for every order: (orders,)."""
    rows, columns = np.triu_indices(len(matrix), k=1)
    blocks = (orders[start : start + BLOCK] for start in range(0, len(orders), BLOCK))
    return np.concatenate([matrix[block[:, rows], block[:, columns]] @ others for block in blocks])


@cache
def permutations(m: int) -> Places:
    """Orders of m tasks (orders, m): all m! of them, or random ones, the same at every call."""
    if m <= MOST_ENUMERATED:
        return np.array(list(itertools.permutations(range(m))), dtype=np.intp)
    generator = np.random.default_rng(PERMUTATION_SEED)
    return generator.permuted(np.tile(np.arange(m), (RANDOM_PERMUTATIONS, 1)), axis=1)


def tree(distances: Numbers) -> Numbers:
    """Average linkage (m − 1, 4) of distances (pairs,), turned so that neighbouring leaves are near each other."""
    return np.asarray(linkage(distances, method="average", optimal_ordering=True))


def tree_order(distances: Numbers) -> list[int]:
    """Places of the tasks as they stand in the tree's leaves."""
    return [int(place) for place in leaves_list(tree(distances))]
