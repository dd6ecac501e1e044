"""Figures of differences: every row from EW, and every method from its frozen twin."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.records.record import PERCENT
from bench.reporting.comparison import Comparison, Variant
from bench.reporting.contrasts import Contrasts
from bench.reporting.figures.intervals import Span, spans_figure
from bench.reporting.inference.describe import Estimate
from bench.reporting.overall import overall_unit


def differences_figure(comparison: Comparison, contrasts: Contrasts) -> Figure | None:
    """A row for each method: its difference from EW with its interval; None without any."""
    over_ew = [(variant, contrasts.rows[variant.label].over_ew) for variant in comparison.shown]
    spans = [span_of(comparison, variant, found) for variant, found in over_ew if found is not None]
    return spans_figure(spans, f"Difference from EW {_unit(comparison)}")


def twins_figure(comparison: Comparison, contrasts: Contrasts) -> Figure | None:
    """A row for each method with a twin: how much better it is than its mean weights kept constant."""
    pairs = [pair for pair in contrasts.twins if pair.variant.label not in comparison.hidden]
    spans = [span_of(comparison, pair.variant, pair.difference) for pair in pairs]
    return spans_figure(spans, f"Difference from the frozen twin {_unit(comparison)}")


def span_of(comparison: Comparison, variant: Variant, found: Estimate) -> Span:
    """A difference of overall test scores; in points, if these are shares."""
    scale = 100 if overall_unit(comparison) == PERCENT else 1
    return Span(variant.label, variant.colour, scale * found.value, scale * found.low, scale * found.high)


def _unit(comparison: Comparison) -> str:
    if overall_unit(comparison) == PERCENT:
        return "(points of mean test accuracy)"
    return "(mean test log gain)" if comparison.selection == "gain" else "(overall test score)"
