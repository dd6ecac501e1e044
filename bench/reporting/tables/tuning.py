"""The table of what tuning found and cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.records.trials import TRIALS, TUNING, TrialRun, by_row, read_trials, trial_score
from bench.reporting.replay import INTERVAL, best_of
from bench.reporting.tables.table import MISSING, Cell, Column, Group, Head, Row, Table

NAME = "tuning"
_HOUR = 3600.0
CAPTION = "Tuning: validation scores in {unit}, on seeds that are not reported"
NOTE = (
    "Default: trial 0, the default settings. "
    "Best: of all trials, selected on validation, so its score is optimistic. Best of k: median over repeats "
    f"of a tuning with k trials, resampled from the table of trials, and the interval of {100 * INTERVAL:.0f} % of the "
    "repeats. Core-hours: of all trials. Not finished: runs that diverged, failed or have no score; their trials count "
    "as the worst."
)

Trials = Mapping[int, Sequence[TrialRun]]


def tuning_tables(results: Path, labels: Mapping[str, str]) -> dict[str, Table]:
    """The table of each data set on which something was tuned, by key.

    labels: of the data sets to report, by key.

    Raises:
        RecordError: the table of trials can't be read.
    """
    runs = read_trials(results / TUNING / TRIALS)
    found = {data: tuning_table(data, label, runs) for data, label in labels.items()}
    return {data: table for data, table in found.items() if table}


def tuning_table(data: str, label: str, runs: Sequence[TrialRun]) -> Table | None:
    """The table of a data set, one row per tuned row; None if nothing was tuned on it.

    label: of the data set.
    """
    rows = by_row(run for run in runs if run.data == data)
    if not rows:
        return None
    accuracy = all(run.selection == "accuracy" for trials in rows.values() for some in trials.values() for run in some)
    unit = "%" if accuracy else ""
    sizes = _sizes(max(len(trials) for trials in rows.values()))
    heads = [_head("Trials", "trials"), _head("Default", "default", unit), _head("Best", "best", unit)]
    heads += [_head(f"k = {k}", f"best_of_{k}", unit) for k in sizes]
    heads += [_head("Core-hours", "core_hours", "h"), _head("Not finished", "not_finished")]
    lines = tuple(Row(Head(name, (), {"method": name}), _cells(trials, sizes, unit)) for name, trials in rows.items())
    groups = (Group("", 3), Group("Best of k", len(sizes)), Group("", 2))
    caption = f"{label}. {CAPTION.format(unit='percent' if accuracy else 'log gain over the dummy baseline')}."
    columns = tuple(Column(head) for head in heads)
    return Table(NAME, f"tab:{data}-{NAME}", caption, "Method", groups, columns, lines, NOTE)


def _head(text: str, metric: str, unit: str = "") -> Head:
    return Head(text, (), {"metric": metric, "unit": unit})


def _sizes(most: int) -> list[int]:
    """1, 2, 4, … and the number of trials."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _cells(trials: Trials, sizes: Sequence[int], unit: str) -> tuple[Cell, ...]:
    scores = [trial_score(some) for some in trials.values()]
    runs = [run for some in trials.values() for run in some]
    default = _score_cell(trial_score(trials[0]), unit) if 0 in trials else Cell()
    replayed = [_replayed_cell(scores, k, unit) if k <= len(scores) else Cell() for k in sizes]
    hours = math.fsum(run.seconds * run.threads for run in runs) / _HOUR
    lost = sum(run.worth == -math.inf for run in runs)
    return (
        Cell(str(len(scores)), float(len(scores))),
        default,
        _score_cell(max(scores), unit),
        *replayed,
        Cell(f"{hours:.2f}", hours),
        Cell(str(lost), float(lost)),
    )


def _score_cell(score: float, unit: str) -> Cell:
    return Cell(notes=("not finished, so the worst",)) if score == -math.inf else Cell(_text(score, unit), score)


def _replayed_cell(scores: Sequence[float], k: int, unit: str) -> Cell:
    found = best_of(scores, k)
    text = f"{_text(found.median, unit)} [{_text(found.low, unit)}, {_text(found.high, unit)}]"
    return Cell(text, found.median if found.median > -math.inf else None)


def _text(score: float, unit: str) -> str:
    if score == -math.inf:
        return MISSING
    return f"{100 * score:.2f}" if unit == "%" else f"{score:.3f}"
