"""The page of the control in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.analyses.control.measures import Interval, paired, t_interval
from bench.reporting.escaping import md

CAPTION = (
    "Built from NORMAL's own equations: a sanity check, not evidence. Not part of any rank. Mean test accuracy (%) "
    "over the six tasks, at the epoch selected on validation, with 95 % t-intervals over seeds; differences are "
    "paired by seed. The last column is how far positions moved over the last fifth of the steps, a mean over tasks "
    "and seeds."
)


@dataclass(frozen=True)
class ControlRow:
    """A row of a table.

    accuracies: in %, by seed.
    moved: the late movement of the positions, by seed; empty without learned positions.
    """

    label: str
    accuracies: Mapping[int, float]
    moved: Mapping[int, float]


@dataclass(frozen=True)
class ControlTable:
    """A table of the study. reference: the label of the row that others are compared with."""

    title: str
    rows: Sequence[ControlRow]
    reference: str


@dataclass(frozen=True)
class Order:
    """What a run of NORMAL learned: positions (m,) in the order of the true times, and their agreement with these."""

    seed: int
    positions: Sequence[float]
    rho: float


def control_page(tables: Sequence[ControlTable], times: Sequence[float], orders: Sequence[Order]) -> str:
    """The tables, then positions by seed; docs/normal.md explains them."""
    parts = ["# The positive control for NORMAL", CAPTION, "Made from the records by `python -m bench.control`."]
    for table in tables:
        parts += [f"## {md(table.title)}", _table(table)]
    parts += ["## Learned positions and true times", _orders(times, orders)]
    return "\n\n".join(parts) + "\n"


def _table(table: ControlTable) -> str:
    reference = next(row for row in table.rows if row.label == table.reference)
    lines = [
        f"| | accuracy (%) ↑ | minus {md(table.reference)} | seeds | late movement |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for row in table.rows:
        score = t_interval(list(row.accuracies.values())) if row.accuracies else None
        gap = paired(row.accuracies, reference.accuracies) if row is not reference else None
        moved = f"{np.mean(list(row.moved.values())):.3f}" if row.moved else "--"
        lines.append(f"| {md(row.label)} | {shown(score)} | {shown(gap, '+')} | {len(row.accuracies)} | {moved} |")
    return "\n".join(lines)


def shown(interval: Interval | None, sign: str = "") -> str:
    """Like 79.6 [78.9, 80.3]; -- for none."""
    if interval is None:
        return "--"
    mean, low, high = (f"{value:{sign}.1f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]" if interval.n > 1 else mean


def _orders(times: Sequence[float], orders: Sequence[Order]) -> str:
    heads = [f"t = {time:g}" for time in sorted(times)]
    lines = [f"| seed | {' | '.join(heads)} | Spearman's ρ |", f"| --: |{' --: |' * (len(heads) + 1)}"]
    for order in orders:
        cells = [f"{position:.2f}" for position in order.positions]
        lines.append(f"| {order.seed} | {' | '.join(cells)} | {order.rho:.2f} |")
    return "\n".join(lines)
