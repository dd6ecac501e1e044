"""The table of how many fixed weights dominate each method."""

from __future__ import annotations

from bench.reporting.comparison import Comparison
from bench.reporting.front import Front, Point, dominating
from bench.reporting.tables.scores import circumstances
from bench.reporting.tables.table import Cell, Column, Head, Row, Table


def front_table(comparison: Comparison, front: Front) -> Table:
    """For each method, in each pair of tasks and in all, k of the n rows of fixed weights that dominate it."""
    everything = tuple(range(len(front.tasks)))
    shown = [*(pair for pair in front.pairs if pair != everything), everything]
    heads = ["All tasks" if part == everything else _named(front, part) for part in shown]
    rows = tuple(
        Row(Head(point.row.label), tuple(_cell(front, point, part) for part in shown)) for point in front.methods
    )
    left_out = f" Left out, since a seed or a score is missing: {', '.join(front.left_out)}." if front.left_out else ""
    caption = f"{comparison.label}. Methods against the front of scalarisations: dominated by k of n fixed weights."
    note = (
        "Dominated: by rows that are at least as good in each of these tasks and better in one, by the mean over seeds "
        "of their test scores. The front itself is picked on test, and differences within the spread over seeds count "
        "as well. "
        f"{circumstances(comparison, 'none')}{left_out}"
    )
    label = f"tab:{comparison.folder.replace('/', '-')}-front"
    return Table("front", label, caption, "Method", (), tuple(Column(Head(head)) for head in heads), rows, note)


def _named(front: Front, part: tuple[int, ...]) -> str:
    return ", ".join(front.tasks[task].label for task in part)


def _cell(front: Front, point: Point, part: tuple[int, ...]) -> Cell:
    count = dominating(front, point, part)
    return Cell(f"{count} of {len(front.fixed)}", mean=float(count), seeds=tuple(point.row.scored))
