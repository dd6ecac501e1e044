"""Results on the toy problem as a table: which weightings reach the Pareto front, where on it, in how many steps."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.reporting.tables.table import Cell, Column, Group, Head, Row, Table

CSV_COLUMNS = (
    "method", "l1_scale", "l2_scale", "start_theta1", "start_theta2", "end_theta1", "end_theta2", "l1", "l2",
    "distance", "reached", "steps", "balance", "diverged_at", "solver_fallbacks",
)  # fmt: skip
HEADS = ("reached", "balance", "steps")


@dataclass(frozen=True)
class Outcome:
    """How one trajectory ended.

    losses: unscaled.
    distance: of these losses from the front.
    steps: the first step on the front; None for a trajectory that doesn't end there.
    balance: where on the front it ends, 0 to 1; None as for steps.
    diverged_at: the step at which a weight or gradient grew beyond bounds.
    """

    method: str
    label: str
    scaling: tuple[float, float]
    start: tuple[float, float]
    end: tuple[float, float]
    losses: tuple[float, float]
    distance: float
    steps: int | None
    balance: float | None
    diverged_at: int | None
    solver_fallbacks: int


def scaling_title(scaling: tuple[float, float]) -> str:
    """ "L1 + L2" or "0.1·L1 + L2"."""
    parts = (f"L{i}" if factor == 1 else f"{factor:g}·L{i}" for i, factor in enumerate(scaling, start=1))
    return " + ".join(parts)


def toy_table(outcomes: Sequence[Outcome], protocol: str) -> Table:
    """A row per method; per scaling how many starts reached the front, the range of balances, the median of steps."""
    scalings = list(dict.fromkeys(o.scaling for o in outcomes))
    rows = []
    for method in dict.fromkeys(o.method for o in outcomes):
        own = [o for o in outcomes if o.method == method]
        cells = [cell for scaling in scalings for cell in _cells([o for o in own if o.scaling == scaling])]
        rows.append(Row(Head(own[0].label, identity={"method": method}), tuple(cells)))
    caption = (
        "The two-task toy problem. reached: starts from which the Pareto front is reached. balance: where on the front "
        "they end, from 0 (least L2) to 1 (least L1), lowest to highest. steps: to the front, median. " + protocol
    )
    return Table(
        name="toy",
        label="tab:toy",
        caption=caption,
        stub="weighting",
        groups=tuple(Group(scaling_title(scaling), len(HEADS)) for scaling in scalings),
        columns=tuple(Column(Head(head)) for _ in scalings for head in HEADS),
        rows=tuple(rows),
    )


def _cells(outcomes: Sequence[Outcome]) -> tuple[Cell, Cell, Cell]:
    balances = [o.balance for o in outcomes if o.balance is not None]
    steps = [o.steps for o in outcomes if o.steps is not None]
    diverged = sum(o.diverged_at is not None for o in outcomes)
    notes = (f"{diverged} of {len(outcomes)} diverged: weights grew without bound",)
    reached = Cell(f"{len(steps)}/{len(outcomes)}", notes=notes if diverged else ())
    if not steps:
        return reached, Cell(), Cell()
    ends = list(dict.fromkeys(f"{balance:.2f}" for balance in (min(balances), max(balances))))
    return reached, Cell("–".join(ends)), Cell(f"{median(steps):.0f}")


def toy_csv(outcomes: Sequence[Outcome]) -> str:
    """One line per trajectory, at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for o in outcomes:
        places = (*o.scaling, *o.start, *o.end, *o.losses, o.distance)
        ending = ("" if value is None else value for value in (o.steps, o.balance, o.diverged_at))
        steps, balance, diverged_at = ending
        reached = int(o.steps is not None)
        writer.writerow((o.method, *places, reached, steps, balance, diverged_at, o.solver_fallbacks))
    return text.getvalue()
