"""Tables of runs: for people, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from bench.inventory.states import FoundRun, score_text
from bench.records.canonical import canonical
from bench.records.plain_text import one_line
from bench.reporting.escaping import csv_row

_COMMIT = 8  # characters of a commit that are shown
_LONGEST_NOTE = 60


def as_table(runs: Sequence[FoundRun]) -> str:
    """A line per run, below a header."""
    head = ("data", "row", "seed", "status", "score", "when", "commit", "")
    return aligned([head, *(_cells(run) for run in runs)])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Texts in columns, each as wide as its longest."""
    lines = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (zip(line, widths, strict=True) for line in lines)
    return "\n".join("  ".join(cell.ljust(width) for cell, width in line).rstrip() for line in padded)


def _cells(run: FoundRun) -> tuple[str, ...]:
    note = run.note if run.state != "damaged" else ""  # said below the table
    short = note if len(note) <= _LONGEST_NOTE else f"{note[: _LONGEST_NOTE - 1]}…"
    when = "" if run.written is None else datetime.fromtimestamp(run.written).strftime("%Y-%m-%d %H:%M")
    return run.data, _row(run), run.seed, run.state, score_text(run.record), when, _commit(run)[:_COMMIT], short


def _row(run: FoundRun) -> str:
    """The folder of the row; before it the label of a method whose key doesn't say it, as of frozen twins."""
    label = run.record.labels.method if run.record else ""
    return f"{run.variant} ({label})" if label.endswith(", frozen") else run.variant


def _commit(run: FoundRun) -> str:
    commit = run.record.environment.get("commit", "") if run.record else ""
    return commit if isinstance(commit, str) else ""


def as_mapping(run: FoundRun) -> dict[str, Any]:
    """What scripts get of a run. score: that which selected the epoch, as recorded. written: in UTC."""
    record = run.record
    far = run.reached
    claimed = run.holder.progress if run.holder else None
    return {
        "data": run.data,
        "variant": run.variant,
        "seed": record.seed if record else run.seed,
        "state": run.state,
        "status": record.status if record else None,
        "note": run.note,
        "method": record.method if record else None,
        "label": record.labels.method if record else None,
        "score": canonical(record.selected.score) if record and record.selected else None,
        "selection": record.selection if record else None,
        "epoch": record.selected.epoch if record and record.selected else None,
        "epochs_done": claimed.epochs if claimed else far.epochs if far else record.epochs if record else None,
        "epochs_planned": claimed.planned if claimed else far.planned if far else None,
        "seconds_left": canonical(claimed.seconds_left) if claimed else None,
        "written": None if run.written is None else datetime.fromtimestamp(run.written, timezone.utc).isoformat(),
        "commit": _commit(run) or None,
        "folder": str(run.folder),
    }


def as_json(runs: Sequence[FoundRun]) -> str:
    return json.dumps([as_mapping(run) for run in runs], indent=1)


def as_csv(runs: Sequence[FoundRun]) -> str:
    """With a header even if there are no runs."""
    text = io.StringIO()
    rows: list[Mapping[str, Any]] = [as_mapping(run) for run in runs]
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(csv_row(row) for row in rows)
    return text.getvalue().rstrip("\n")


_COLUMNS = (
    "data", "variant", "seed", "state", "status", "note", "method", "label", "score", "selection", "epoch",
    "epochs_done", "epochs_planned", "seconds_left", "written", "commit", "folder",
)  # fmt: skip
