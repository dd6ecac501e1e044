"""The table that tells whether the budget of training was enough for each row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.records.tables import NumberTable
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.describe import Array
from bench.reporting.inference.flatness import FLAT, SHARE, is_flat, late_gains
from bench.reporting.series import Tables
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

RISING = "still rising, so a longer budget may change this row"
CAPTION = "What the budget left: by how much the best validation score so far rose in the last third of the epochs"
NOTE = "Mean over seeds. Scores: from 0 to 1 for accuracies, a mean log gain else. Flat: less than {limit}."


def budget_table(comparison: Comparison, curves: Tables) -> Table | None:
    """The late gain of each row with learning curves; None if there are none of three epochs or more."""
    gains = {variant.key: _gains(curves[variant.key]) for variant in comparison.variants}
    found = {key: of for key, of in gains.items() if of}
    if not found:
        return None
    rows = tuple(_row(comparison, variant, found.get(variant.key, {})) for variant in comparison.variants)
    heads = (
        Head("Gain in the last third ↓", (), {"metric": "late_gain", "direction": "lower"}),
        Head("Budget", (), {"metric": "flat"}),
    )
    label = f"tab:{comparison.folder.replace('/', '-')}-budget"
    columns, note = tuple(Column(head) for head in heads), NOTE.format(limit=FLAT[comparison.selection])
    return Table("budget", label, f"{comparison.label}. {CAPTION}.", "Method", (), columns, rows, note)


def _gains(curves: Mapping[int, NumberTable]) -> Mapping[int, float]:
    """The late gain of each seed whose curve has scores."""
    scores = {seed: curve["score"] for seed, curve in curves.items() if len(curve) >= SHARE}
    late = {seed: float(late_gains(of[None])[0]) for seed, of in scores.items()}
    return {seed: gain for seed, gain in late.items() if np.isfinite(gain)}


def _row(comparison: Comparison, variant: Variant, gains: Mapping[int, float]) -> Row:
    head = Head(variant.label, variant.notes, {"variant": variant.key, "method": variant.label})
    if not gains:
        return Row(head, (Cell(), Cell()))
    values: Array = np.array(list(gains.values()))
    mean, flat, seeds = float(values.mean()), is_flat(values, comparison.selection), tuple(sorted(gains))
    verdict = Cell("flat") if flat else Cell("still rising", notes=(RISING,))
    return Row(head, (Cell(f"{mean:.4f}", mean, None, seeds), verdict))
