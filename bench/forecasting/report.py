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
# The network, Adam's two moments, and the best network, in float32. While a checkpoint is written, the last one stays.
_CHECKPOINT_BYTES = 2 * 4 * 4


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
    parameters = max((g.cost.parameters for g in pending if isinstance(g.cost, StepCost)), default=0)
    files = ", ".join(f"{name} {size(count)}" for name, count in forecast.prepared_bytes.items())
    return (
        f"{runs} runs to do ({done} done), {steps:,} steps, {about} {duration(forecast.seconds)} in all.\n"
        f"Disk: decoded files {files}; checkpoints {size(_CHECKPOINT_BYTES * parameters * forecast.jobs)}."
    )


def _cells(group: Group) -> list[str]:
    cost, total, each, peak = MISSING, MISSING, MISSING, MISSING
    source = group.cost if isinstance(group.cost, str) else group.cost.source
    if isinstance(group.cost, StepCost) and group.seconds is not None:
        cost, each = f"{group.cost.step:.3g}", duration(group.seconds)
        total = duration(group.seconds * group.pending)
        peak = MISSING if group.cost.peak_mib is None else size(group.cost.peak_mib * 2**20)
    counts = [f"{n:,}" for n in (group.pending, group.done, group.epochs, group.steps // group.epochs)]
    return [*counts, cost, each, total, peak, source, ", ".join(group.methods)]


def _notes(forecast: Forecast) -> list[str]:
    """How times and memory were found, what they leave out, and what doesn't fit."""
    pending = [group for group in forecast.groups if group.pending]
    measured = [g.cost for g in pending if isinstance(g.cost, StepCost)]
    notes = list(forecast.notes)
    if any(not cost.source.startswith("from") for cost in measured):
        notes.append(
            "Steps and evaluation were timed on noise, one run alone; preparing data and start-up come on top. "
            "Methods in one row share a measurement; their solvers take milliseconds."
        )
    if any(cost.source.startswith("scaled") for cost in measured):
        notes.append("Scaled: extrapolated from smaller batches; from one alone, times are too high. Raise --budget.")
    if measured and forecast.jobs > 1:
        notes.append(f"{forecast.jobs} runs at a time share the machine, so each may be slower than alone.")
    jobs = min(forecast.jobs, sum(group.pending for group in pending))
    needed = jobs * max((cost.peak_mib or 0.0 for cost in measured), default=0.0)
    if forecast.available_mib is not None and needed > forecast.available_mib:
        needs = f"{jobs} at a time need {size(needed * 2**20)}, {size(forecast.available_mib * 2**20)} are free"
        notes.append(f"Not enough memory: {needs}; lower --jobs or --set train.batch_size=N.")
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
