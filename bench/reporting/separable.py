"""What the seeds of a comparison can tell apart: rows that may be the best, and the detectable difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.inference.describe import LEVEL, sd
from bench.reporting.inference.power import detectable_difference
from bench.reporting.inference.verdicts import not_separable_from_best
from bench.reporting.overall import overall_unit, score_matrix


def maybe_best(rows: Mapping[str, Mapping[int, float]], seeds: Sequence[int], sign: float = 1.0) -> set[str]:
    """The rows that no other is significantly better than; none with too few seeds, or with one complete row.

    rows: values by seed. sign: -1 where lower is better.
    """
    scores = np.array([[sign * found.get(seed, math.nan) for seed in seeds] for found in rows.values()])
    whole = int(np.isfinite(scores).all(axis=1).sum()) if rows else 0
    if whole < 2 or len(seeds) < fewest_for_marks(whole):
        return set()
    return {key for key, best in zip(rows, not_separable_from_best(scores), strict=True) if best}


def fewest_for_marks(rows: int) -> int:
    """The fewest seeds with which one of some rows, at least two, could lose its mark: else all would have it."""
    return math.ceil(math.log2(max(1, rows - 1) / LEVEL))


def power_sentence(comparison: Comparison) -> str:
    """The difference from EW that the seeds can detect, for captions; empty if nothing is known."""
    if comparison.baseline is None:
        return ""
    base = score_matrix([comparison.baseline], comparison.seeds)[0]
    others = [variant for variant in comparison.variants if variant.key != comparison.baseline.key]
    found = [row - base for row in score_matrix(others, comparison.seeds)]
    paired = [row[np.isfinite(row)] for row in found if np.isfinite(row).sum() > 1]
    if not paired:
        return ""
    spread, n = float(np.median([sd(row) for row in paired])), min(len(row) for row in paired)
    # A difference of log gains of 0.01 is a ratio of about 1 %.
    unit = "points" if overall_unit(comparison) == PERCENT else "%"
    detected = 100 * detectable_difference(spread, n)
    return (
        f"With 80 % power, {n} seeds detect a difference from EW of {detected:.2g} {unit} in "
        f"the overall score at the 5 % level, not adjusted for several rows (standard deviation of paired differences: "
        f"{100 * spread:.2g}, median over rows)."
    )
