"""Do distances between task positions correlate with other measures of how tasks are related?

Every measure is a condensed distance matrix as in scipy: a vector (pairs,) over the m(m − 1)/2 pairs of m tasks, in the
order of itertools.combinations. Two measures are compared by Spearman's rank correlation and a permutation test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

Numbers = NDArray[np.float64]

DISTANCE = "distance"
BETWEEN_SEEDS = "distance_other_seed"
# Up to this many tasks, all permutations are enumerated: 5,040 for seven.
MAX_ENUMERATED_TASKS = 7
RANDOM_PERMUTATIONS = 9_999
PERMUTATION_SEED = 0
# Correlations that are equal in exact arithmetic differ by less than this.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Agreement:
    """Result of a Mantel test.

    rho: Spearman's rank correlation; NaN if either measure is constant, or undefined for a pair.
    p: two-sided p-value; NaN with rho.
    tasks: number of tasks.
    permutations: number of permutations of the tasks.
    exact: whether these are all m! permutations.
    """

    rho: float
    p: float
    tasks: int
    permutations: int
    exact: bool

    @property
    def least_p(self) -> float:
        """The smallest p-value possible with this many tasks.

        Permuting three tasks brings their three pairs into every order: each ρ comes with a −ρ.
        """
        return (2 if self.tasks == 3 else 1) / (self.permutations + (not self.exact))


# By seeds; several for the means over these seeds.
Agreements = Mapping[tuple[int, ...], Agreement]


@dataclass(frozen=True)
class Measure:
    """A number for every pair of tasks.

    name: of its columns in CSV files.
    title: of its row in tables and its heat map.
    values: by seed (pairs,); empty if missing.
    missing: why there are no values.
    """

    name: str
    title: str
    values: Mapping[int, Numbers]
    missing: str = ""

    def mean(self, seeds: Sequence[int] = ()) -> Numbers:
        """Mean (pairs,) over these seeds; by default over all."""
        return np.asarray(np.mean([self.values[seed] for seed in seeds or self.values], axis=0))


@dataclass(frozen=True)
class Relations:
    """All comparisons on one data set.

    tasks: labels by key.
    positions: by seed (m,).
    measures: the position distances, then what they are compared with.
    agreements: by name of the measure; BETWEEN_SEEDS compares the distances of two seeds.
    """

    data: str
    label: str
    tasks: Mapping[str, str]
    positions: Mapping[int, Numbers]
    measures: Sequence[Measure]
    agreements: Mapping[str, Agreements]

    @property
    def known(self) -> list[Measure]:
        """The measures that are not missing."""
        return [measure for measure in self.measures if measure.values]


def relate(
    data: str, label: str, tasks: Mapping[str, str], positions: Mapping[int, Numbers], measures: Sequence[Measure]
) -> Relations:
    """Compares the distances between positions with every measure, and between seeds."""
    values = {seed: position_distances(positions[seed]) for seed in sorted(positions)}
    distances = Measure(DISTANCE, "Position distance", values)
    agreements = {measure.name: _compare(distances, measure) for measure in measures}
    between: Agreements = {(a, b): mantel_test(values[a], values[b]) for a, b in itertools.combinations(values, 2)}
    return Relations(data, label, tasks, positions, (distances, *measures), {**agreements, BETWEEN_SEEDS: between})


def _compare(distances: Measure, measure: Measure) -> Agreements:
    """For each seed that has both, then for the means over these seeds."""
    shared = tuple(seed for seed in distances.values if seed in measure.values)
    chosen = [*((seed,) for seed in shared), *([shared] if len(shared) > 1 else [])]
    return {seeds: mantel_test(distances.mean(seeds), measure.mean(seeds)) for seeds in chosen}


def position_distances(positions: Numbers) -> Numbers:
    """|p_i − p_j| (pairs,) of positions (m,)."""
    return np.asarray(pdist(positions[:, None]))


def square(pairs: Numbers) -> Numbers:
    """The symmetric matrix (m, m) of pairs (pairs,), with zeros on its diagonal."""
    return np.asarray(squareform(pairs, checks=False))


def mantel_test(first: Numbers, second: Numbers) -> Agreement:
    """Spearman's ρ of two measures (pairs,), with a two-sided p-value.

    Pairs that share a task are not independent, so the test permutes tasks, not pairs. p is the share of permutations
    with at least this |ρ|. If permutations are random, the identity counts as one more.
    Source: Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Res. 27 (1967);
        random permutations: Phipson, Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010), https://doi.org/10.2202/1544-6115.1585
    """
    m = len(square(first))
    orders, exact = permutations(m), m <= MAX_ENUMERATED_TASKS
    ranks, others = _standardised(rankdata(first)), _standardised(rankdata(second))
    if ranks is None or others is None:
        return Agreement(math.nan, math.nan, m, len(orders), exact)
    rho = float(ranks @ others)
    rows, columns = np.triu_indices(m, k=1)
    permuted = square(ranks)[orders[:, rows], orders[:, columns]] @ others  # (orders,)
    count = int((np.abs(permuted) >= abs(rho) - ROUNDING).sum())
    p = count / len(orders) if exact else (1 + count) / (1 + len(orders))
    return Agreement(rho, p, m, len(orders), exact)


def _standardised(ranks: Numbers) -> Numbers | None:
    """Ranks with mean 0 and norm 1, so that ρ is a dot product; None if they are all equal or undefined."""
    centred = ranks - ranks.mean()
    norm = float(np.linalg.norm(centred))
    return centred / norm if norm > 0 and math.isfinite(norm) else None


@cache
def permutations(m: int) -> NDArray[np.intp]:
    """Orders of m tasks (orders, m): all m! of them, or a fixed random sample."""
    if m <= MAX_ENUMERATED_TASKS:
        return np.array(list(itertools.permutations(range(m))), dtype=np.intp)
    generator = np.random.default_rng(PERMUTATION_SEED)
    return generator.permuted(np.tile(np.arange(m), (RANDOM_PERMUTATIONS, 1)), axis=1)
