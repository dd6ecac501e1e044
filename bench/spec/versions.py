"""Versions of the code that determines a run's numbers. They are raised by hand and kept in records.

Raise a version with every change that changes numbers: ENGINE_VERSION for training and evaluation, `version` in the
registry row of a weighting, an architecture or a data set, `maker_version` for embedded data. Comments, names and speed
don't count. tests/test_versions.py fails when numbers change and the version doesn't.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.records.record import Record
from bench.spec.resolve import RunSpec, weighting_info
from methods import ARCHITECTURES

ENGINE_VERSION = 1


def versions_of(spec: RunSpec) -> dict[str, int]:
    """Today's versions of everything that a run uses."""
    versions = {
        "engine": ENGINE_VERSION,
        "weighting": weighting_info(spec.weighting).version,
        "architecture": ARCHITECTURES[spec.architecture].version,
        "problem": spec.info.version,
    }
    return versions | ({"maker": spec.info.maker_version} if spec.info.make else {})


def version_remarks(kept: Sequence[tuple[RunSpec, Record]], results: Path) -> list[str]:
    """One line per data set and difference, for runs that are kept though today's code has other versions."""
    counts = Counter((spec.data, _difference(spec, record)) for spec, record in kept)
    return [
        f"{data}: {count} kept {'run was' if count == 1 else 'runs were'} made {difference}. To train again, move the "
        f"old folders out of {results / data}."
        for (data, difference), count in counts.items()
        if difference
    ]


def _difference(spec: RunSpec, record: Record) -> str:
    """What differs between the record's versions and today's; empty if nothing does."""
    then, now = record.versions, versions_of(spec)
    if then == now:
        return ""
    if not then:
        return "before versions were kept"
    names = {"weighting": f"weighting {spec.weighting}", "architecture": f"architecture {spec.architecture}"}
    parts = [part for part in {**now, **then} if then.get(part) != now.get(part)]
    return "with " + ", ".join(
        f"version {then.get(part)} of {names.get(part, f'the {part}')} (today {now.get(part)})" for part in parts
    )
