"""The table of times to target."""

from __future__ import annotations

import math

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.labels import seed_list
from bench.reporting.tables.table import Cell, Column, Head, Row, Table
from bench.reporting.times import Times

NEVER = "never"
CAPTION = "Time to target, median over seeds"
NOTE = (
    "Target: the validation score at the epoch that {reference} of the same seed "
    "selects. Steps and seconds: of training, until the first epoch whose validation score is at least that; seconds "
    "include evaluation and depend on the machine. Runs that never get there, or diverge, count as infinite: the "
    "median is 'never' if they are half or more. × {reference}: steps over those of {reference}, paired by seed."
)


def times_table(comparison: Comparison, times: Times) -> Table:
    """How many runs of each row reach the target, and after how many steps and seconds."""
    rows = tuple(_row(comparison, times, variant) for variant in comparison.variants)
    heads = (
        Head("Reached", (), {"metric": "reached"}),
        Head("Steps ↓", (), {"metric": "steps_to_target", "direction": "lower"}),
        Head(f"× {times.reference.label} ↓", (), {"metric": "steps_to_target_relative", "direction": "lower"}),
        Head("Seconds ↓", (), {"metric": "seconds_to_target", "unit": "s", "direction": "lower"}),
    )
    note = NOTE.format(reference=times.reference.label)
    if comparison.tuned_baseline is None:
        note += " No row of tuned EW is known."
    if lost := sorted(set(comparison.seeds) - set(times.targets)):
        note += f" No target, and not counted for any row: {seed_list(lost)}."
    label = f"tab:{comparison.folder.replace('/', '-')}-times"
    columns = tuple(Column(head) for head in heads)
    return Table("times", label, f"{comparison.label}. {CAPTION}.", "Method", (), columns, rows, note)


def _row(comparison: Comparison, times: Times, variant: Variant) -> Row:
    found = times.rows[variant.key]
    head = Head(variant.label, variant.notes, {"variant": variant.key, "method": variant.label})
    lacking = sorted(set(times.targets) - set(found))
    notes = (f"no learning curve for {seed_list(lacking)}",) if lacking and variant.scored else ()
    if not found:
        return Row(head, tuple(Cell(notes=notes) for _ in range(4)))
    reached = sum(math.isfinite(one.steps) for one in found.values())
    median = times.median(variant)
    share = Cell(f"{reached} of {len(found)}", reached / len(found), None, tuple(sorted(found)), notes=notes)
    if median is None:
        return Row(head, (share, Cell(), Cell(), Cell()))
    ratio = times.relative(variant)
    seeds = tuple(sorted(found))
    return Row(
        head,
        (
            share,
            _number(median.steps, f"{median.steps:,.0f}", seeds),
            Cell() if ratio is None else _number(ratio, f"{ratio:.2f}", seeds),
            _number(median.seconds, f"{median.seconds:,.1f}", seeds),
        ),
    )


def _number(value: float, text: str, seeds: tuple[int, ...]) -> Cell:
    return Cell(text if math.isfinite(value) else NEVER, value, None, seeds)
