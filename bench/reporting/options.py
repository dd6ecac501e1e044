"""What of a report is shown, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.overall import by_score

Spread = Literal["sd", "ci", "none"]
Order = Literal["study", "score", "name"]


@dataclass(frozen=True)
class Options:
    """Choices that change what is printed, but no number and no mark behind it.

    spread: beside means over seeds, the standard deviation, a 95 % interval, or nothing.
    decimals: of scores; None for the usual ones of their unit.
    per_task: whether there are tables of each row's gain on each task.
    methods: names of the rows to show, () for all; exclude: of rows to leave out. A name is the key or the label of a
        method, or the label of a row.
    order: of rows, as in the study or by registry, by overall test score, or by name.
    """

    spread: Spread = "sd"
    decimals: int | None = None
    per_task: bool = False
    methods: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    order: Order = "study"


USUAL = Options()
MEANS = Options(spread="none")


def shown(comparison: Comparison, options: Options) -> Comparison:
    """The comparison with its rows in their order, and the labels of those that are hidden."""
    hidden = tuple(variant.label for variant in comparison.variants if not _is_shown(variant, options))
    rows = _ordered(comparison, comparison.variants, options.order)
    return replace(comparison, variants=tuple(rows), hidden=hidden)


def _is_shown(variant: Variant, options: Options) -> bool:
    names = {variant.label, variant.method, variant.first.labels.method}
    return (not options.methods or bool(names & {*options.methods})) and not names & {*options.exclude}


def _ordered(comparison: Comparison, variants: Sequence[Variant], order: Order) -> Sequence[Variant]:
    if order == "score":
        return by_score(comparison, variants)
    return sorted(variants, key=lambda variant: variant.label.casefold()) if order == "name" else variants
