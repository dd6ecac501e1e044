"""What of a report is shown, and how numbers are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.reporting.comparison import Comparison, Variant
from bench.reporting.overall import by_score
from bench.spec.lookup import lookup

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


class NothingToShow(ValueError):
    """Options leave no row; the message names the rows that there are."""


USUAL = Options()
MEANS = Options(spread="none")


def shown(comparison: Comparison, options: Options) -> Comparison:
    """The comparison with its rows in their order, and the labels of those that are hidden."""
    hidden = tuple(variant.label for variant in comparison.variants if not _is_shown(variant, options))
    rows = _ordered(comparison, comparison.variants, options.order)
    return replace(comparison, variants=tuple(rows), hidden=hidden)


def resolved(options: Options, compared: Sequence[Comparison]) -> Options:
    """The options with the names of rows as these comparisons have them.

    Raises:
        UnknownName: a name is of no row. NothingToShow: no row is left.
    """
    if not options.methods and not options.exclude:
        return options
    known = dict.fromkeys(name for one in compared for name in _known(one))
    methods, exclude = (
        tuple(lookup(known, "row or method among the records", name) for name in names)
        for names in (options.methods, options.exclude)
    )
    found = replace(options, methods=methods, exclude=exclude)
    if not any(shown(one, found).shown for one in compared):
        rows = "; ".join(dict.fromkeys(variant.label for one in compared for variant in one.variants))
        raise NothingToShow(f"--methods, --exclude: expected to show some of these rows, found none: {rows}.")
    return found


def _known(comparison: Comparison) -> Iterator[str]:
    """What rows may be called; labels come last, which the lookup prefers to keys that are written alike."""
    for variant in comparison.variants:
        yield from (variant.method, variant.first.labels.method, variant.label)
    yield from comparison.absent


def unshown(compared: Sequence[Comparison]) -> str:
    """A sentence on the comparisons none of whose rows is shown; empty if there are none."""
    labels = [one.label for one in compared if not one.shown]
    return f"Left out on request, since none of their rows is shown: {'; '.join(labels)}." if labels else ""


def _is_shown(variant: Variant, options: Options) -> bool:
    names = {variant.label, variant.method, variant.first.labels.method}
    return (not options.methods or bool(names & {*options.methods})) and not names & {*options.exclude}


def _ordered(comparison: Comparison, variants: Sequence[Variant], order: Order) -> Sequence[Variant]:
    if order == "score":
        return by_score(comparison, variants)
    return sorted(variants, key=lambda variant: variant.label.casefold()) if order == "name" else variants
