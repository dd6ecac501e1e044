"""The table of tuning trials, trials.csv: one line per trial and seed. It has no test scores."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from bench.records.files import atomic_write_text, storage_error
from bench.records.reading import Damaged, is_there, read_text
from bench.records.record import Status
from bench.records.store import RecordError

TUNING = "tuning"  # the folder of the trials' records, below those of the study
TRIALS = "trials.csv"

_COLUMNS = (
    "data", "row", "method", "variant", "trial", "seed", "status", "selection", "score", "epoch", "epochs", "steps",
    "seconds", "threads",
)  # fmt: skip
_COUNTS = ("trial", "seed", "epoch", "epochs", "steps", "threads")


@dataclass(frozen=True)
class TrialRun:
    """One run of a trial.

    row: its label. variant: the folder of the run.
    trial: its number, from 0, which has the default settings.
    selection: what the score is, as in a record.
    score: on validation, at the selected epoch; NaN without one.
    epoch: the selected one of `epochs`; 0 without one.
    seconds: of training and evaluation. threads: of the run, so that seconds × threads is what it cost.
    settings: the dotted settings that the trial changes.
    """

    data: str
    row: str
    method: str
    variant: str
    trial: int
    seed: int
    status: Status
    selection: str
    score: float
    epoch: int
    epochs: int
    steps: int
    seconds: float
    threads: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def worth(self) -> float:
        """The score; -inf for a run that did not finish, or whose score is not a number."""
        return self.score if self.status == "done" and not math.isnan(self.score) else -math.inf


def by_row(runs: Iterable[TrialRun]) -> dict[str, dict[int, list[TrialRun]]]:
    """The runs of each trial, one per seed: by the label of the row, in the order of the runs, then by trial number."""
    rows: dict[str, dict[int, list[TrialRun]]] = {}
    for run in runs:
        rows.setdefault(run.row, {}).setdefault(run.trial, []).append(run)
    return {row: dict(sorted(trials.items())) for row, trials in rows.items()}


def trial_score(runs: Sequence[TrialRun]) -> float:
    """The mean score over the seeds of a trial; -inf, the worst, if one of them did not finish."""
    return math.fsum(run.worth for run in runs) / len(runs)


def write_trials(path: Path, runs: Sequence[TrialRun]) -> Path:
    """Writes the table, numbers at full precision; a column for every setting that some trial changes."""
    settings = sorted({key for run in runs for key in run.settings})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *settings])
    for run in runs:
        values = [getattr(run, column) for column in _COLUMNS]
        chosen = [json.dumps(run.settings[key]) if key in run.settings else "" for key in settings]
        writer.writerow([*values, *chosen])
    return atomic_write_text(path, text.getvalue())


def read_trials(path: Path) -> list[TrialRun]:
    """The table; empty if there is none.

    Raises:
        RecordError: it isn't such a table, or can't be read.
    """
    try:
        if not is_there(path):
            return []
        lines = csv.reader(io.StringIO(read_text(path)), strict=True)
        header = next(lines, [])
        if tuple(header[: len(_COLUMNS)]) != _COLUMNS:
            raise Damaged(f"expected a table with the columns {', '.join(_COLUMNS)}, found others")
        return [_run(header, line, number) for number, line in enumerate(lines, 2)]
    except (Damaged, csv.Error) as error:
        raise RecordError(f"{path}: {error}; `bench.tune` writes it again from the records.") from error
    except OSError as error:
        raise RecordError(str(storage_error(path, error))) from error


def _run(header: Sequence[str], line: Sequence[str], number: int) -> TrialRun:
    if len(line) != len(header):
        raise Damaged(f"line {number}: expected {len(header)} values, found {len(line)}")
    values: dict[str, Any] = dict(zip(header, line, strict=True))
    settings = {key: values.pop(key) for key in header[len(_COLUMNS) :]}
    try:
        values |= {key: int(values[key]) for key in _COUNTS}
        values |= {key: float(values[key]) for key in ("score", "seconds")}
        chosen = {key: json.loads(value) for key, value in settings.items() if value}
    except (ValueError, RecursionError) as error:
        raise Damaged(f"line {number}: expected numbers, found something else") from error
    if math.isinf(values["score"]):
        raise Damaged(f"line {number}: expected a score, found {values['score']}")
    if values["status"] not in get_args(Status):
        raise Damaged(f"line {number}: expected a status of {', '.join(get_args(Status))}, found another")
    return TrialRun(**values, settings=chosen)
