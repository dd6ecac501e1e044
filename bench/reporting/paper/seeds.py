"""The seeds of the paper's rows. Our other rows, which may have others, don't decide whether those rows are whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.reporting.comparison import Comparison, Variant, unfinished
from bench.reporting.labels import seed_list


def with_seeds_of(rows: Sequence[Variant], comparison: Comparison) -> Comparison:
    """The comparison with the seeds of these rows instead of all seeds; unchanged if there are no rows.

    Notes on missing seeds are about these seeds. A row that has further ones has a note on them.
    """
    seeds = tuple(sorted({seed for row in rows for seed in row.runs}))
    if not rows or seeds == comparison.seeds:
        return comparison
    variants = tuple(_with_notes(variant, comparison.seeds, seeds) for variant in comparison.variants)
    return replace(comparison, seeds=seeds, variants=variants)


def _with_notes(variant: Variant, before: Sequence[int], seeds: Sequence[int]) -> Variant:
    """The row with notes on these seeds, in the place of the note on the seeds of before."""
    old = unfinished(variant.runs, before)
    new = list(unfinished(variant.runs, seeds))
    if further := sorted(set(variant.runs) - set(seeds)):
        new.append(f"with {seed_list(further)}, which the paper's rows lack")
    place = variant.notes.index(old[0]) if old else 0
    others = [note for note in variant.notes if note not in old]
    return replace(variant, notes=(*others[:place], *new, *others[place:]))
