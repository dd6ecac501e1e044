"""A forecast as text for the terminal, and as JSON for scripts."""

from __future__ import annotations

import dataclasses
import json

from bench.forecasting.forecast import Forecast, Group
from bench.forecasting.probe import StepCost
from bench.reporting.render import aligned
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table

HEADS = (
    "runs",
    "done",
    "epochs",
    "steps/epoch",
    "s/step",
    "time per run",
    "total",
    "peak memory",
    "time from",
    "methods",
)
_LEFT = {"time from", "methods"}
_MINUTE, _HOUR = 60, 3600


def as_json(forecast: Forecast) -> str:
    """All of it, in seconds, bytes and MiB."""
    return json.dumps(dataclasses.asdict(forecast), indent=1)


def as_text(forecast: Forecast) -> str:
    """A table with a row per group of runs, then totals and notes."""
    rows = tuple(Row(Head(group.data), tuple(Cell(text) for text in _cells(group))) for group in forecast.groups)
    columns = tuple(Column(Head(head), "left" if head in _LEFT else "right") for head in HEADS)
    caption = f"On {forecast.device}, threads={forecast.threads}, jobs={forecast.jobs}"
    table = aligned(Table("plan", "", caption, "data", (), columns, rows))
    return "\n".join([table, summary(forecast), *_notes(forecast)])


def summary(forecast: Forecast) -> str:
    """Runs, time and disk of the whole request."""
    pending = [group for group in forecast.groups if group.pending]
    done = sum(group.done for group in forecast.groups)
    if not pending:
        return f"Nothing to do: all {done} runs are done."
    runs, steps = sum(group.pending for group in pending), sum(group.pending * group.steps for group in pending)
    about = "at least" if any(group.seconds is None for group in pending) else "about"
    files = ", ".join(f"{name} {size(count)}" for name, count in forecast.prepared_bytes.items())
    return (
        f"{runs} runs to do ({done} done), {steps:,} steps, {about} {duration(forecast.seconds)} in all.\n"
        f"Disk: decoded files {files}."
    )


def _cells(group: Group) -> list[str]:
    cost, total, each, peak = MISSING, MISSING, MISSING, MISSING
    source = group.cost if isinstance(group.cost, str) else group.cost.source
    if isinstance(group.cost, StepCost) and group.seconds is not None:
        cost, each = f"{group.cost.step:.3g}", duration(group.seconds)
        total = duration(group.seconds * group.pending)
        mib = group.cost.peak_mib
        peak = MISSING if mib is None else f"{size(mib * 2**20)} at B={group.cost.peak_batch}"
    counts = [f"{n:,}" for n in (group.pending, group.done, group.epochs, group.steps // group.epochs)]
    return [*counts, cost, each, total, peak, source, ", ".join(group.methods)]


def _notes(forecast: Forecast) -> list[str]:
    """How times and memory were found, and what they leave out."""
    measured = [group.cost for group in forecast.groups if group.pending and isinstance(group.cost, StepCost)]
    notes = list(forecast.notes)
    if any(not cost.source.startswith("from") for cost in measured):
        notes.append(
            "Steps were timed on random images, one run alone; evaluation counts as the forward share of a step, about "
            "a third; preparing data and start-up come on top. Methods in one row share a measurement; their solvers "
            "take milliseconds."
        )
    if any(cost.source.startswith("scaled") for cost in measured):
        notes.append(
            "Scaled: times in proportion to a smaller batch B, mostly too high; memory is that of this B, too low. "
            "Raise --budget."
        )
    if measured and forecast.jobs > 1:
        jobs = f"{forecast.jobs} runs at a time share the machine"
        notes.append(f"{jobs}, so each may be slower than alone, and each needs memory of its own.")
    return notes


def duration(seconds: float) -> str:
    """In a suitable unit."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    return f"{seconds / _HOUR:.1f} h"


def size(count: float) -> str:
    """Bytes in a suitable unit."""
    for unit, amount in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= amount:
            return f"{count / amount:.1f} {unit}"
    return "< 1 MiB"
