"""How much the outcome of tuning varies, from the table of trials beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.records.store import RecordError
from bench.records.trials import TRIALS, TUNING, TrialRun, by_row, read_trials, trial_score
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.describe import Array
from bench.reporting.inference.tuning import pooled_luck


def tuning_luck(results: Path, comparison: Comparison, variants: Sequence[Variant]) -> Array | None:
    """Standard deviation (variants,) of each row's score over repeats of its tuning; 0 for rows that were not tuned.

    It is that of all tuned rows of the data set together, and holds for their frozen twins, too. None if no row of the
    data set has trials.

    Raises:
        RecordError: the table of trials can't be read, or lacks trials of a row; or runs have a seed of a trial.
    """
    path = results / TUNING / TRIALS
    runs = [run for run in read_trials(path) if run.data == comparison.data]
    if runs:
        _require_all_trials(path, runs, variants)
        _require_other_seeds(path, runs, variants)
    scores = [np.array([trial_score(trial) for trial in trials.values()]) for trials in by_row(runs).values()]
    spreads = [float(pooled_luck(of_row[None])) for of_row in scores if np.isfinite(of_row).any()]
    if not spreads:
        return None
    tuned = {variant.label for variant in variants if variant.trials}
    pooled = float(np.sqrt(np.mean(np.square(spreads))))
    return np.array([pooled if variant.trials or variant.twin_of in tuned else 0.0 for variant in variants])


def _require_all_trials(path: Path, runs: Sequence[TrialRun], variants: Sequence[Variant]) -> None:
    for variant in variants:
        found = len({run.trial for run in runs if run.row == variant.label})
        if variant.tuned and found != variant.tuned:
            raise RecordError(
                f"{path}: expected {variant.tuned} trials of {variant.label} on {runs[0].data}, as the study says, "
                f"found {found}; `bench.tune` writes the table again from the records of its trials."
            )


def _require_other_seeds(path: Path, runs: Sequence[TrialRun], variants: Sequence[Variant]) -> None:
    if both := sorted({run.seed for run in runs} & {seed for variant in variants for seed in variant.runs}):
        raise RecordError(
            f"{path}: expected runs on {runs[0].data} of seeds that no trial had, found seed {both[0]}; move the runs "
            "of this seed away."
        )
