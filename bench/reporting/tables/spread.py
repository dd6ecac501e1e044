"""The table of how much of the uncertainty of a row's score comes from which images were tested."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from bench.records.record import PERCENT
from bench.records.same_data import split_per_seed
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.inference.variance import VarianceParts, variance_parts
from bench.reporting.item_scores import Blocks, ItemReader
from bench.reporting.overall import overall_name, overall_unit
from bench.reporting.tables.score_rows import show
from bench.reporting.tables.table import Cell, Column, Head, Row, Table

CAPTION = "Where the uncertainty of the overall test score comes from, as standard errors of the mean over seeds"
NOTE = (
    "Overall test score: {score}. "
    "Seeds: what the spread over seeds shows. Test: from which images were tested. Rest: from all else that seeds "
    "vary. Share: of test sampling in the variance of both. {how}. Test sets are {items}."
)
HOW = {
    "accuracy": "From the outcome of every test item",
    "gain": "From the scores of every test image, which count equally, with logarithms linearised: an approximation",
}
ITEMS = {
    "own": "drawn for each seed, so the spread over seeds shows test sampling",
    "shared": "the same for all seeds, so the spread over seeds leaves most of test sampling out",
}
NO_ITEMS = "no outcomes per test item, or no finite score, for every seed"


def spread_table(results: Path, comparison: Comparison) -> Table | None:
    """Standard errors of every row with at least two seeds; None if no row has outcomes per test item."""
    parts = {v.key: _parts(ItemReader(results, comparison), v) for v in comparison.variants}
    if not any(parts.values()):
        return None
    unit = overall_unit(comparison)
    heads = [Head(text, (), {"metric": f"error_{text.lower()}", "unit": unit}) for text in ("Seeds", "Test", "Rest")]
    heads.append(Head("Share", (), {"metric": "share_of_test_sampling"}))
    rows = tuple(_row(v, parts[v.key], unit) for v in comparison.variants)
    items = "own" if split_per_seed(comparison.variants[0].first.settings) else "shared"
    note = NOTE.format(score=overall_name(comparison), how=HOW[comparison.selection], items=ITEMS[items])
    label = f"tab:{comparison.folder.replace('/', '-')}-spread"
    columns = tuple(Column(head) for head in heads)
    return Table("spread", label, f"{comparison.label}. {CAPTION}.", "Method", (), columns, rows, note)


def _parts(reader: ItemReader, variant: Variant) -> VarianceParts | None:
    """None with fewer than two seeds, or without the outcomes of a seed, or its score."""
    runs = [reader.blocks(variant, seed) for seed in variant.scored]
    if len(runs) < 2 or not all(runs) or not all(_usable(run) for run in runs):
        return None
    own = split_per_seed(variant.first.settings)
    if not own and any([b.shape for b in run] != [b.shape for b in runs[0]] for run in runs):
        return None
    return variance_parts(runs, "own" if own else "shared")


def _usable(blocks: Blocks) -> bool:
    """Whether items vary and are all finite, as they are if the run has a finite score."""
    return all(len(block) > 1 and np.isfinite(block).all() for block in blocks)


def _row(variant: Variant, parts: VarianceParts | None, unit: str) -> Row:
    head = Head(variant.label, variant.notes, {"variant": variant.key, "method": variant.label})
    if parts is None:
        return Row(head, (Cell(notes=(NO_ITEMS,)), Cell(), Cell(), Cell()))
    # Estimates of small variances may be negative.
    errors = [math.sqrt(max(0.0, part)) for part in (parts.between_seeds, parts.test_sampling, parts.rest)]
    seeds = tuple(variant.scored)
    cells = [Cell(show(error, unit) if unit == PERCENT else f"{error:.4f}", error, None, seeds) for error in errors]
    total = errors[1] ** 2 + errors[2] ** 2
    share = errors[1] ** 2 / total if total else math.nan
    return Row(head, (*cells, Cell(f"{share:.2f}", share, None, seeds) if total else Cell()))
