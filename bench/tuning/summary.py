"""How a tuning ended, in lines for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.records.trials import TrialRun
from bench.tuning.trials import Outcome


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each row that was tuned, then one for each run that counts as worst."""
    lines = [_line(one) for one in outcomes]
    return [*lines, *(_failure(run) for one in outcomes for run in one.unfinished)]


def _line(one: Outcome) -> str:
    name = f"{one.target.data}, {one.target.name}"
    wanted = one.target.row.trials
    if not one.complete:
        return f"{name}: {len(one.scores)} of {wanted} trials have ended."
    if max(one.scores) == -math.inf:
        return f"{name}: none of {wanted} trials finished; the tuned study has the default settings."
    best, selection = one.best, next(run.selection for runs in one.runs for run in runs)
    settings = ", ".join(f"{key}={value}" for key, value in best.settings.items()) or "the default settings"
    scores = f"{_score(one.scores[best.number], selection)}, default {_score(one.scores[0], selection)}"
    return f"{name}: best of {wanted} on validation is trial {best.number} ({scores}): {settings}."


def _score(score: float, selection: str) -> str:
    if score == -math.inf:
        return "did not finish"
    return f"accuracy {100 * score:.2f} %" if selection == "accuracy" else f"log gain {score:.3f}"


def _failure(run: TrialRun) -> str:
    status = run.status if run.status != "done" else "done, without a validation score"
    return f"{run.data}, {run.row}, trial {run.trial}, seed {run.seed}: {status}; it counts as the worst."
