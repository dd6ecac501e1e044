"""Do distances between task positions correlate with other measures of how tasks are related?

Every measure is a condensed distance matrix as in scipy: a vector (pairs,) over the m(m − 1)/2 pairs of m tasks, in the
order of itertools.combinations. Two measures are compared by Spearman's rank correlation and a permutation test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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

    @property
    def reliability(self) -> float:
        """Spearman's ρ of the values of two seeds, averaged over pairs of seeds; NaN for fewer than two seeds."""
        return _mean_agreement(self.values)


@dataclass(frozen=True)
class TaskMeasure:
    """A number for every task, such as its difficulty. Fields as in `Measure`; values: by seed (m,)."""

    title: str
    values: Mapping[int, Numbers]
    missing: str = ""

    @property
    def reliability(self) -> float:
        """As of `Measure`."""
        return _mean_agreement(self.values)


@dataclass(frozen=True)
class TaskAgreement:
    """How a number per task goes with the positions: Spearman's ρ over tasks, by seeds."""

    measure: TaskMeasure
    by_seeds: Agreements


@dataclass(frozen=True)
class Relations:
    """All comparisons on one data set.

    tasks: labels by key.
    positions: by seed (m,).
    measures: the position distances, then what they are compared with.
    agreements: by name of the measure; BETWEEN_SEEDS compares the distances of two seeds.
    difficulty: how difficult each task is, and how that goes with the positions.
    partial: as `agreements`, with what the differences in difficulty explain taken out. Empty if none is known.
    remarks: warnings for the reader.
    """

    data: str
    label: str
    tasks: Mapping[str, str]
    positions: Mapping[int, Numbers]
    measures: Sequence[Measure]
    agreements: Mapping[str, Agreements]
    difficulty: Sequence[TaskAgreement] = ()
    partial: Mapping[str, Agreements] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def known(self) -> list[Measure]:
        """The measures that are not missing."""
        return [measure for measure in self.measures if measure.values]


def relate(
    data: str,
    label: str,
    tasks: Mapping[str, str],
    positions: Mapping[int, Numbers],
    measures: Sequence[Measure],
    difficulty: Sequence[TaskMeasure] = (),
    remarks: Sequence[str] = (),
) -> Relations:
    """Compares the distances between positions with every measure, and between seeds.

    The first known measure of difficulty is the one that partial correlations take out.
    """
    values = {seed: position_distances(positions[seed]) for seed in sorted(positions)}
    distances = Measure(DISTANCE, "Position distance", values)
    agreements = {measure.name: _compare(distances, measure) for measure in measures}
    between: Agreements = {(a, b): mantel_test(values[a], values[b]) for a, b in itertools.combinations(values, 2)}
    known = next((measure for measure in difficulty if measure.values), None)
    return Relations(
        data,
        label,
        tasks,
        positions,
        (distances, *measures),
        {**agreements, BETWEEN_SEEDS: between},
        [_with_positions(positions, measure) for measure in difficulty],
        {} if known is None else {measure.name: _compare_partially(distances, measure, known) for measure in measures},
        remarks,
    )


def _with_positions(positions: Mapping[int, Numbers], measure: TaskMeasure) -> TaskAgreement:
    shared = [seed for seed in sorted(positions) if seed in measure.values]
    found: dict[tuple[int, ...], Agreement] = {(s,): task_test(positions[s], measure.values[s]) for s in shared}
    if len(shared) > 1:
        means = (np.mean([values[seed] for seed in shared], axis=0) for values in (positions, measure.values))
        found[tuple(shared)] = task_test(*means)
    return TaskAgreement(measure, found)


def _compare_partially(distances: Measure, measure: Measure, difficulty: TaskMeasure) -> Agreements:
    """As `_compare`, given the differences in difficulty."""
    given = Measure("", "", {seed: position_distances(values) for seed, values in difficulty.values.items()})
    shared = tuple(seed for seed in distances.values if seed in measure.values and seed in given.values)
    chosen = [*((seed,) for seed in shared), *([shared] if len(shared) > 1 else [])]
    return {
        seeds: partial_mantel_test(distances.mean(seeds), measure.mean(seeds), given.mean(seeds)) for seeds in chosen
    }


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
    return _tested(rho, square(ranks)[orders[:, rows], orders[:, columns]] @ others, m, exact)


def partial_mantel_test(first: Numbers, second: Numbers, given: Numbers) -> Agreement:
    """Spearman's partial ρ of two measures (pairs,), with what a third one explains taken out of both.

    The tasks of the first measure are permuted, and the partial ρ is computed again for each order.
    Source: Smouse, Long, Sokal, "Multiple regression and correlation extensions of the Mantel test", Syst. Zool. 35
        (1986), 627-632.
    """
    m = len(square(first))
    orders, exact = permutations(m), m <= MAX_ENUMERATED_TASKS
    ranks = [_standardised(rankdata(measure)) for measure in (first, second, given)]
    undefined = Agreement(math.nan, math.nan, m, len(orders), exact)
    if any(values is None for values in ranks):
        return undefined
    a, b, c = (np.asarray(values) for values in ranks)
    rows, columns = np.triu_indices(m, k=1)
    permuted = np.vstack([a, square(a)[orders[:, rows], orders[:, columns]]])  # (1 + orders, pairs), first as it is
    with_b, with_c, b_c = permuted @ b, permuted @ c, float(b @ c)
    rest = (1 - with_c**2) * (1 - b_c**2)
    if rest[0] < ROUNDING:  # difficulty explains one of them completely
        return undefined
    partial = np.where(rest < ROUNDING, 0.0, (with_b - with_c * b_c) / np.sqrt(np.maximum(rest, ROUNDING)))
    return _tested(float(partial[0]), partial[1:], m, exact)


def task_test(first: Numbers, second: Numbers) -> Agreement:
    """Spearman's ρ of two numbers per task (m,), with a two-sided p-value: all orders of the tasks, or a sample."""
    m = len(first)
    orders, exact = permutations(m), m <= MAX_ENUMERATED_TASKS
    ranks, others = _standardised(rankdata(first)), _standardised(rankdata(second))
    if ranks is None or others is None:
        return Agreement(math.nan, math.nan, m, len(orders), exact)
    return _tested(float(ranks @ others), ranks[orders] @ others, m, exact)


def _tested(rho: float, permuted: Numbers, m: int, exact: bool) -> Agreement:
    """ρ with its p-value, from its values (orders,) in permuted orders of the tasks."""
    count = int((np.abs(permuted) >= abs(rho) - ROUNDING).sum())
    p = count / len(permuted) if exact else (1 + count) / (1 + len(permuted))
    return Agreement(rho, p, m, len(permuted), exact)


def ceiling(first: float, second: float, seeds: int = 1) -> float:
    """The largest |ρ| that two measures with these reliabilities can be expected to show; NaN if either is not known.

    seeds: how many are averaged. The reliability of a mean is that of Spearman and Brown.
    Source: Spearman, "The proof and measurement of association between two things", Am. J. Psychol. 15 (1904), 72-101.
    """
    raised = [seeds * max(one, 0.0) / (1 + (seeds - 1) * max(one, 0.0)) for one in (first, second)]
    return math.nan if math.isnan(first) or math.isnan(second) else math.sqrt(raised[0] * raised[1])


def _mean_agreement(values: Mapping[int, Numbers]) -> float:
    pairs = [(rankdata(values[a]), rankdata(values[b])) for a, b in itertools.combinations(values, 2)]
    standard = [(_standardised(a), _standardised(b)) for a, b in pairs]
    found = [float(a @ b) for a, b in standard if a is not None and b is not None]
    return float(np.mean(found)) if found else math.nan


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
