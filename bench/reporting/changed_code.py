"""Rows whose runs executed other code of their weighting or architecture than the checkout has now."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from bench import ROOT
from bench.records.method_code import Sources, code_digest, read_sources
from bench.records.record import Record
from bench.reporting.comparison import Comparison, Variant

_PARTS = ("weighting", "architecture")


def with_changed_code_marked(comparison: Comparison, root: Path = ROOT) -> Comparison:
    """The comparison with a note on each row with a run of other code than that of the checkout at `root`.

    Nothing is said of runs whose records have no digests of code.
    """
    marked = tuple(replace(one, notes=(*one.notes, *_notes(one, root))) for one in comparison.variants)
    return replace(comparison, variants=marked)


def _notes(variant: Variant, root: Path) -> list[str]:
    records = [record for record in variant.runs.values() if record.code]
    if not records:
        return []
    parts = {part: [record for record in records if _has_changed(record, part, root)] for part in _PARTS}
    return [
        f"made with other code of {part} {getattr(found[0], part)} than is here now"
        for part, found in parts.items()
        if found
    ]


def _has_changed(record: Record, part: str, root: Path) -> bool:
    code = record.code.get(part)
    return code is not None and _digest(code.name, root) != code.digest


@cache
def _digest(name: str, root: Path) -> str:
    return code_digest(name, _sources(root))


@cache
def _sources(root: Path) -> Sources:
    return read_sources(root)
