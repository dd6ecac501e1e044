"""A forecast as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.forecasting.forecast import Forecast, Group
from bench.forecasting.probe import StepCost
from bench.reporting.render import aligned
from bench.reporting.tables.table import MISSING, Cell, Column, Head, Row, Table

HEADS = ("runs", "done", "steps", "s/step", "time per run", "total", "peak memory", "time from", "methods")
_LEFT = {"time from", "methods"}
_MINUTE, _HOUR = 60, 3600


def as_text(forecast: Forecast) -> str:
    """A table with a row per group of runs, then totals and notes."""
    rows = tuple(Row(Head(group.data), tuple(Cell(text) for text in _cells(group))) for group in forecast.groups)
    columns = tuple(Column(Head(head), "left" if head in _LEFT else "right") for head in HEADS)
    machine = forecast.machine
    caption = f"On {machine.name}, threads={machine.threads}, jobs={machine.jobs}"
    table = aligned(Table("plan", "", caption, "data", (), columns, rows))
    return "\n".join([table, summary(forecast), *_notes(forecast)])


def summary(forecast: Forecast) -> str:
    """Runs, time and disk of the whole request."""
    return summary_of(forecast.groups, duration(forecast.seconds), forecast.prepared_bytes)


def summary_of(groups: Sequence[Group], total: str, prepared: Mapping[str, int]) -> str:
    """The same of groups that take a `total` time, in words, and have `prepared` bytes of decoded files."""
    pending = [group for group in groups if group.pending]
    done = sum(group.done for group in groups)
    if not pending:
        return f"Nothing to do: all {done} runs are done."
    runs, steps = sum(group.pending for group in pending), sum(group.pending * group.steps for group in pending)
    about = "at least" if any(group.seconds is None for group in pending) else "about"
    files = ", ".join(f"{name} {size(count)}" for name, count in prepared.items())
    return (
        f"{runs} runs to do ({done} done), {steps:,} steps, {about} {total} in all.\n"
        f"Disk: decoded files {files}; a checkpoint per running job comes on top."
    )


def _cells(group: Group) -> list[str]:
    counts = [f"{count:,}" for count in (group.pending, group.done, group.steps)]
    cost, methods = group.cost, ", ".join(group.methods)
    if isinstance(cost, str) or group.seconds is None:
        return [*counts, *[MISSING] * 4, str(cost), methods]
    times = [f"{cost.step:.3g}", duration(group.seconds), duration(group.seconds * group.pending)]
    peak = MISSING if cost.peak_mib is None else size(cost.peak_mib * 2**20)
    return [*counts, *times, peak, cost.source, methods]


def _notes(forecast: Forecast) -> list[str]:
    """How times and memory were found, what they leave out, and what doesn't fit."""
    notes = ["Data sets have their published sizes. Methods in a row share one cost; their solvers take milliseconds."]
    notes += missing_note(forecast.missing)
    notes += forecast.remarks
    costs = [group.cost for group in forecast.groups if group.pending and isinstance(group.cost, StepCost)]
    if any(not cost.source.startswith("from") for cost in costs):
        notes.append(
            "Steps were timed on noise, one run alone; validation (often about a tenth), start-up and preparing data "
            "come on top."
        )
    if any(cost.source.startswith("scaled") for cost in costs):
        notes.append("Scaled: time and memory in proportion to those at batch size B, often too high. Raise --budget.")
    if costs and forecast.machine.jobs > 1:
        notes.append(f"{forecast.machine.jobs} runs at a time share the machine, so each may be slower than alone.")
    jobs = min(forecast.machine.jobs, sum(group.pending for group in forecast.groups))
    needed = jobs * max((cost.peak_mib or 0.0 for cost in costs), default=0.0)
    if forecast.available_mib is not None and needed > forecast.available_mib:
        needs = f"{jobs} at a time need {size(needed * 2**20)}, {size(forecast.available_mib * 2**20)} are free"
        notes.append(f"Not enough memory: {needs}; lower --jobs or --set train.batch_size=N.")
    return notes


def missing_note(names: Sequence[str]) -> list[str]:
    """Where to get data sets that were not found; nothing if there are none."""
    return [f"Not found: {', '.join(names)}. python -m bench.data how NAME says where to get them."] if names else []


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
