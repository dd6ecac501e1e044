"""How the rows of a comparison differ from EW and from tuned EW, with intervals and verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.labels import seed_list
from bench.reporting.overall import test_score
from bench.reporting.paired import LEVEL, bootstrap_interval, detectable, holm, sign_flip_p

FEWEST = 5  # seeds for intervals and tests: with fewer, they say next to nothing
RANK_RESAMPLES = 2_000
BETTER_THAN_TUNED, BETTER, NOT_SEPARABLE, WORSE = "better than tuned EW", "better than EW", "not separable", "worse"
METHOD = (
    "Brackets: 95 % intervals, from resampling seeds. Differences are paired by seed. P(> EW): share of seeds on which "
    "a row is better than EW, ties ½. p: two-sided sign-flip test against EW, adjusted for the number of rows (Holm). "
    "Verdict: at the 5 % level, adjusted likewise. Bold: the best score and all that are not separable from it."
)

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the interval is NaN where there are too few seeds for one."""

    value: float
    low: float
    high: float

    @property
    def all(self) -> tuple[float, float, float]:
        """The number, and the ends of its interval."""
        return self.value, self.low, self.high


@dataclass(frozen=True)
class Contrast:
    """A row against the rows of EW, over the seeds that both have.

    score: the overall test score.
    over_ew, over_tuned: differences of overall test scores; None without that row, or for the row itself.
    improvement: the probability that this row is better than EW; None as before.
    p: of the test against EW, adjusted for the number of rows; None as before.
    verdict: in words; empty where nothing can be said.
    best: whether the row is the best, or not separable from it.
    lacking: why numbers are missing.
    """

    seeds: tuple[int, ...]
    score: Estimate | None
    over_ew: Estimate | None = None
    over_tuned: Estimate | None = None
    improvement: Estimate | None = None
    p: float | None = None
    verdict: str = ""
    best: bool = False
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Twin:
    """A row against its frozen twin, over the seeds that both have. p: adjusted for the number of pairs."""

    variant: Variant
    twin: Variant
    seeds: tuple[int, ...]
    difference: Estimate
    p: float


@dataclass(frozen=True)
class Contrasts:
    """The contrasts of a comparison.

    rows: by variant.
    twins: of each pair that has runs. unpaired: why others are left out. twinless: labels of rows without a twin.
    method: how intervals, p values and verdicts were made, for a caption.
    remarks: sentences on what the intervals leave out.
    power: a sentence with the difference that these seeds can detect; empty if nothing can be said.
    """

    rows: Mapping[str, Contrast]
    twins: tuple[Twin, ...]
    unpaired: tuple[str, ...]
    twinless: tuple[str, ...]
    method: str
    remarks: tuple[str, ...]
    power: str


@dataclass(frozen=True)
class _Pair:
    """A row against another, over the seeds that both have."""

    seeds: tuple[int, ...]
    difference: Estimate
    improvement: Estimate
    p: float


def contrasts_of(comparison: Comparison) -> Contrasts:
    """The contrasts of a comparison."""
    scores = overall_scores(comparison)
    ew, tuned = comparison.baseline, comparison.tuned_baseline
    over_ew, over_tuned = (_against(comparison, scores, reference) for reference in (ew, tuned))
    p_ew, p_tuned = (holm({key: pair.p for key, pair in found.items()}) for found in (over_ew, over_tuned))
    best = not_separable_from_best({v.key: scores[v.key] for v in comparison.complete}, comparison.seeds)
    rows = {
        v.key: Contrast(
            seeds=tuple(sorted(scores[v.key])),
            score=_estimate(list(scores[v.key].values())),
            over_ew=over_ew[v.key].difference if v.key in over_ew else None,
            over_tuned=over_tuned[v.key].difference if v.key in over_tuned else None,
            improvement=over_ew[v.key].improvement if v.key in over_ew else None,
            p=p_ew.get(v.key),
            verdict=_verdict(over_ew.get(v.key), p_ew.get(v.key), over_tuned.get(v.key), p_tuned.get(v.key)),
            best=v.key in best,
            lacking=_lacking(comparison, v, scores, over_ew),
        )
        for v in comparison.variants
    }
    twins, unpaired = _twins(comparison, scores)
    twinless = tuple(v.label for v in comparison.variants if not v.twin_of and v.label not in _sources(comparison))
    return Contrasts(rows, twins, unpaired, twinless, METHOD, _remarks(comparison), power_sentence(comparison))


def overall_scores(comparison: Comparison) -> dict[str, dict[int, float]]:
    """The overall test score of every finished run, by variant and seed; only finite ones."""
    baseline = [comparison.baseline] if comparison.baseline else []
    scores = {
        v.key: {seed: test_score(run) for seed, run in v.scored.items()} for v in (*comparison.variants, *baseline)
    }
    return {key: {seed: s for seed, s in found.items() if math.isfinite(s)} for key, found in scores.items()}


def not_separable_from_best(rows: Mapping[str, BySeed], seeds: Sequence[int], sign: float = 1.0) -> set[str]:
    """The row with the best mean, and those whose paired test against it, adjusted for their number, finds nothing.

    None with fewer than FEWEST seeds, or a single row that has all. sign: -1 where lower is better.
    """
    values = {
        key: sign * np.array([found[seed] for seed in seeds]) for key, found in rows.items() if len(found) == len(seeds)
    }
    if len(values) < 2 or len(seeds) < FEWEST:
        return set()
    top = max(values, key=lambda key: values[key].mean())
    p = holm({key: sign_flip_p(own - values[top]) for key, own in values.items() if key != top})
    return {top} | {key for key, found in p.items() if found > LEVEL}


def mean_ranks(comparisons: Sequence[Comparison], labels: Sequence[str]) -> dict[str, Estimate]:
    """The mean over problems of the rank of each row by its mean score, 1 for the best; intervals resample seeds."""
    problems = []
    for comparison in comparisons:
        scores = overall_scores(comparison)
        keys = {v.label: v.key for v in comparison.variants}
        rows = [[scores[keys[label]].get(seed, math.nan) for seed in comparison.seeds] for label in labels]
        problems.append(np.array(rows))  # (rows, seeds)
    if not labels:
        return {}
    draws = np.random.default_rng(0)
    resampled = []
    for _ in range(RANK_RESAMPLES):
        chosen = [scores[:, draws.integers(0, scores.shape[1], scores.shape[1])] for scores in problems]
        resampled.append(np.mean([rankdata(-scores.mean(axis=1)) for scores in chosen], axis=0))
    ranks = np.mean([rankdata(-scores.mean(axis=1)) for scores in problems], axis=0)
    low, high = np.quantile(resampled, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return {label: Estimate(*map(float, found)) for label, *found in zip(labels, ranks, low, high, strict=True)}


def _estimate(values: Sequence[float]) -> Estimate | None:
    """The mean with its interval, which is NaN for too few values."""
    if not values:
        return None
    numbers = np.array(values)
    low, high = bootstrap_interval(numbers) if len(numbers) >= FEWEST else (math.nan, math.nan)
    return Estimate(float(numbers.mean()), low, high)


def _pair(own: BySeed, other: BySeed) -> _Pair | None:
    seeds = tuple(sorted(own.keys() & other.keys()))
    differences = np.array([own[seed] - other[seed] for seed in seeds])
    difference = _estimate(list(differences))
    improvement = _estimate(list((np.sign(differences) + 1) / 2))
    if difference is None or improvement is None:
        return None
    return _Pair(seeds, difference, improvement, sign_flip_p(differences))


def _against(comparison: Comparison, scores: Mapping[str, BySeed], reference: Variant | None) -> dict[str, _Pair]:
    """All other rows against one, by variant."""
    if reference is None:
        return {}
    others = [v.key for v in comparison.variants if v.key != reference.key]
    pairs = {key: _pair(scores[key], scores[reference.key]) for key in others}
    return {key: pair for key, pair in pairs.items() if pair is not None}


def _verdict(over_ew: _Pair | None, p_ew: float | None, over_tuned: _Pair | None, p_tuned: float | None) -> str:
    """In words; empty if there is no EW, or too few seeds for a test at all."""
    pairs = [(pair, p) for pair, p in ((over_tuned, p_tuned), (over_ew, p_ew)) if pair is not None and p is not None]
    if not pairs or any(len(pair.seeds) < FEWEST for pair, _ in pairs):
        return ""
    better, worse = ([p <= LEVEL and sign * pair.difference.value > 0 for pair, p in pairs] for sign in (1, -1))
    if over_tuned is not None and better[0]:
        return BETTER_THAN_TUNED
    if over_ew is not None and better[-1]:
        return BETTER
    return WORSE if worse[0] else NOT_SEPARABLE


def _lacking(
    comparison: Comparison, variant: Variant, scores: Mapping[str, BySeed], pairs: Mapping[str, _Pair]
) -> tuple[str, ...]:
    """Why a row has no numbers, or numbers of fewer seeds than others."""
    notes = []
    odd = sorted(set(variant.scored) - set(scores[variant.key]))
    if odd:
        notes.append(f"no overall score for {seed_list(odd)}")
    pair = pairs.get(variant.key)
    unpaired = sorted(set(scores[variant.key]) - set(pair.seeds if pair else ()))
    if comparison.baseline is not None and variant.key != comparison.baseline.key and unpaired:
        notes.append(f"no EW run to compare with for {seed_list(unpaired)}")
    return tuple(notes)


def _sources(comparison: Comparison) -> set[str]:
    return {variant.twin_of for variant in comparison.variants if variant.twin_of}


def _twins(comparison: Comparison, scores: Mapping[str, BySeed]) -> tuple[tuple[Twin, ...], tuple[str, ...]]:
    """Every row that has a frozen twin against it; and why other twins can't be compared."""
    by_label = {variant.label: variant for variant in comparison.variants}
    found, unpaired = dict[str, tuple[Variant, Variant, _Pair]](), []
    for twin in (v for v in comparison.variants if v.twin_of):
        source = by_label.get(twin.twin_of)
        pair = _pair(scores[source.key], scores[twin.key]) if source else None
        if source is None or pair is None:
            unpaired.append(f"{twin.label} (no finished seed in common with {twin.twin_of})")
        else:
            found[twin.key] = (source, twin, pair)
    p = holm({key: pair.p for key, (_, _, pair) in found.items()})
    twins = (Twin(source, twin, pair.seeds, pair.difference, p[key]) for key, (source, twin, pair) in found.items())
    return tuple(twins), tuple(unpaired)


def _remarks(comparison: Comparison) -> tuple[str, ...]:
    remarks = []
    if comparison.baseline is None:
        remarks.append("There is no row of EW to compare with.")
    if comparison.tuned_baseline is None:
        remarks.append("No row of tuned EW is known.")
    if len(comparison.seeds) < FEWEST:
        remarks.append(f"Fewer than {FEWEST} seeds ({len(comparison.seeds)}): no intervals and no verdicts.")
    return tuple(remarks)


def power_sentence(comparison: Comparison) -> str:
    """The difference from EW that the seeds of a comparison can detect, for captions; empty if nothing is known."""
    scores = overall_scores(comparison)
    if comparison.baseline is None:
        return ""
    base = scores[comparison.baseline.key]
    deviations, counts = [], []
    for variant in comparison.variants:
        differences = [scores[variant.key][seed] - base[seed] for seed in scores[variant.key] if seed in base]
        if variant.key != comparison.baseline.key and len(differences) > 1:
            deviations.append(float(np.std(differences, ddof=1)))
            counts.append(len(differences))
    if not deviations:
        return ""
    deviation, n = float(np.median(deviations)), min(counts)
    # A difference of log gains of 0.01 is a ratio of about 1 %.
    unit = "points" if overall_unit(comparison) == PERCENT else "%"
    return (
        f"With {n} seeds, a difference from EW of {100 * detectable(deviation, n):.2g} {unit} in the overall score "
        f"is found with 80 % power (standard deviation of paired differences {100 * deviation:.2g}, median over rows)."
    )


def overall_unit(comparison: Comparison) -> str:
    """That of the overall test score: a share, or none for a log gain."""
    return comparison.tasks[0].metrics[0].unit if comparison.selection == "accuracy" else ""
