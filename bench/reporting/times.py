"""Time to target: when each run's validation score reaches what EW of the same seed ends with."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from bench.records.tables import NumberTable
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.targets import NEVER, Reached, time_to_target
from bench.reporting.series import Tables

COLUMNS = ("step", "seconds", "score")


@dataclass(frozen=True)
class Times:
    """Times to target of the rows of a comparison.

    targets: by seed, the validation score at the selected epoch of the reference row.
    rows: by variant and seed; only seeds that have a target, and runs that diverged or have a curve.
    """

    reference: Variant
    targets: Mapping[int, float]
    rows: Mapping[str, Mapping[int, Reached]]

    def median(self, variant: Variant) -> Reached | None:
        """The median over the seeds that have a target; None if any of these runs is lacking.

        Infinite if half of the runs or more never reach the target.
        """
        found = self.rows[variant.key]
        if set(found) != set(self.targets):
            return None
        every = found.values()
        return Reached(_median([one.steps for one in every]), _median([one.seconds for one in every]))

    def relative(self, variant: Variant) -> float | None:
        """The median over seeds of the steps over those of the reference row; None as of `median`."""
        own, reference = self.rows[variant.key], self.rows[self.reference.key]
        if not set(own) == set(reference) == set(self.targets):
            return None
        ratios = (own[seed].steps / reference[seed].steps for seed in self.targets)
        return _median([math.inf if math.isnan(ratio) else ratio for ratio in ratios])  # both never


def times_to_target(comparison: Comparison, curves: Tables) -> Times | None:
    """Steps and seconds until each run reaches what tuned EW, or else EW, of the same seed ends with.

    None if there is no such row, or nothing was selected on validation.

    Source: a tuned baseline sets the target, the median over repeats counts, and what never gets there counts as the
    worst, as in AlgoPerf: Dahl et al., "Benchmarking neural network training algorithms" (2023).
    https://arxiv.org/abs/2306.07179
    Deviations: the target is that of the same seed, since a seed may have validation images of its own.
    """
    reference = comparison.tuned_baseline or comparison.baseline
    if reference is None:
        return None
    ends = {seed: run.selected.score for seed, run in reference.scored.items() if run.selected and run.validation}
    targets = {seed: score for seed, score in ends.items() if math.isfinite(score)}
    if not targets:
        return None
    rows = {}
    for variant in {v.key: v for v in (*comparison.variants, reference)}.values():
        diverged = {seed: NEVER for seed, run in variant.runs.items() if run.status == "diverged" and seed in targets}
        rows[variant.key] = diverged | {
            seed: _reached(curve, targets[seed]) for seed, curve in curves[variant.key].items() if seed in targets
        }
    return Times(reference, targets, rows)


def _reached(curve: NumberTable, target: float) -> Reached:
    steps, seconds, scores = (curve[name] for name in COLUMNS)
    return time_to_target(steps, seconds, scores, target)


def _median(values: Collection[float]) -> float:
    """Of an even number, the mean of the middle two; infinite if either is."""
    ordered = sorted(values)
    middle = [ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]]
    return float(np.mean(middle))
