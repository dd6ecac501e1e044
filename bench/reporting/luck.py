"""How much the outcome of tuning varies, from the table of trials beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.records.trials import TRIALS, TUNING, TrialRun, read_trials, trial_score
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.describe import Array
from bench.reporting.inference.tuning import pooled_luck


def tuning_luck(results: Path, comparison: Comparison, variants: Sequence[Variant]) -> Array | None:
    """Standard deviation (variants,) of each row's score over repeats of its tuning; 0 for rows that were not tuned.

    It is that of all tuned rows of the data set together, and holds for their frozen twins, too. None if no row of the
    data set has trials.

    Raises:
        RecordError: the table of trials can't be read.
    """
    runs = [run for run in read_trials(results / TUNING / TRIALS) if run.data == comparison.data]
    spreads = [float(pooled_luck(scores[None])) for scores in _scores(runs) if np.isfinite(scores).any()]
    if not spreads:
        return None
    tuned = {variant.label for variant in variants if variant.trials}
    pooled = float(np.sqrt(np.mean(np.square(spreads))))
    return np.array([pooled if variant.trials or variant.twin_of in tuned else 0.0 for variant in variants])


def _scores(runs: Sequence[TrialRun]) -> list[Array]:
    """For each tuned row, the scores of its trials in their order."""
    rows: dict[str, dict[int, list[TrialRun]]] = {}
    for run in runs:
        rows.setdefault(run.row, {}).setdefault(run.trial, []).append(run)
    return [np.array([trial_score(trials[number]) for number in sorted(trials)]) for trials in rows.values()]
