"""The table of verdicts: how each row differs from EW and from tuned EW."""

from __future__ import annotations

import math

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison
from bench.reporting.contrasts import Contrasts
from bench.reporting.inference.describe import Estimate
from bench.reporting.overall import overall_name, overall_unit, score_matrix
from bench.reporting.separable import maybe_best, power_sentence
from bench.reporting.tables.score_rows import mark_rule, show
from bench.reporting.tables.table import Cell, Column, Head, Row, Table


def verdict_table(comparison: Comparison, contrasts: Contrasts) -> Table:
    """Overall test score, differences, probability of improvement, p and verdict of every row, with 95 % intervals."""
    unit = overall_unit(comparison)
    heads = [
        Head("Seeds", (), {"metric": "seeds"}),
        Head("Score ↑", (), {"metric": "overall", "unit": unit, "direction": "higher"}),
        Head("− EW", (), {"metric": "difference_from_ew", "unit": unit}),
        Head("− tuned EW", (), {"metric": "difference_from_tuned_ew", "unit": unit}),
        Head("P(> EW)", (), {"metric": "probability_of_improvement"}),
        Head("p (Holm)", (), {"metric": "p_holm"}),
        Head("Verdict", (), {"metric": "verdict"}),
    ]
    best = best_rows(comparison)
    rows = tuple(_row(comparison, contrasts, place, v.key in best) for place, v in enumerate(comparison.variants))
    columns = tuple(Column(head, "left" if head.text == "Verdict" else "right") for head in heads)
    label = f"tab:{comparison.folder.replace('/', '-')}-verdicts"
    caption = f"{comparison.label}. Verdicts on the overall test score: {overall_name(comparison)}."
    return Table("verdicts", label, caption, "Method", (), columns, rows, _note(comparison, contrasts))


def best_rows(comparison: Comparison) -> set[str]:
    """The keys of the rows that may have the best overall score, which are bold."""
    scores = score_matrix(comparison.complete, comparison.seeds)
    whole = {
        v.key: dict(zip(comparison.seeds, row, strict=True)) for v, row in zip(comparison.complete, scores, strict=True)
    }
    return maybe_best(whole, comparison.seeds)


def _note(comparison: Comparison, contrasts: Contrasts) -> str:
    sentences = [contrasts.method, *contrasts.remarks, mark_rule(comparison), power_sentence(comparison)]
    return " ".join(filter(None, sentences))


def _row(comparison: Comparison, contrasts: Contrasts, place: int, best: bool) -> Row:
    variant, unit = comparison.variants[place], overall_unit(comparison)
    contrast = contrasts.rows[variant.label]
    notes = (*variant.notes, *contrast.lacking)
    seeds = contrast.seeds
    cells = (
        Cell(str(len(seeds)), float(len(seeds)), None, seeds),
        estimate_cell(contrast.score, seeds, unit, bold=best),
        estimate_cell(contrast.over_ew, seeds, unit, signed=True),
        estimate_cell(contrast.over_tuned, seeds, unit, signed=True),
        estimate_cell(contrast.improvement, seeds, "share"),
        p_cell(contrast.p, seeds),
        Cell(str(contrast.verdict)) if str(contrast.verdict) else Cell(),
    )
    return Row(Head(variant.label, notes, {"variant": variant.key, "method": variant.label}), cells)


def estimate_cell(
    found: Estimate | None, seeds: tuple[int, ...], unit: str, *, signed: bool = False, bold: bool = False
) -> Cell:
    """A number with its interval, which is left out where there are too few seeds for one."""
    if found is None:
        return Cell()
    values = (found.value, found.low, found.high)
    texts = [number(value, unit) for value in values]
    if signed:
        texts = [f"+{text}" if value > 0 else text for text, value in zip(texts, values, strict=True)]
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return Cell(texts[0], found.value, None, seeds, bold)
    text = f"{texts[0]} [{texts[1]}, {texts[2]}]"
    return Cell(text, found.value, None, seeds, bold, (found.low, found.high))


def p_cell(p: float | None, seeds: tuple[int, ...]) -> Cell:
    """A p value."""
    return Cell() if p is None or math.isnan(p) else Cell("< 0.001" if p < 0.001 else f"{p:.3f}", p, None, seeds)


def number(value: float, unit: str) -> str:
    """An overall score, or a share."""
    if unit == "share":
        return f"{value:.2f}"
    return show(value, unit) if unit == PERCENT else f"{value:.3f}"
