"""The rows of the page, numbered over all its problems, and which of them a row or column of a table is about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.reporting.comparison import Comparison, Variant

# (identity of a row or column) -> numbers of the rows that it is about.
RowsOf = Callable[[Mapping[str, str]], tuple[int, ...]]


@dataclass(frozen=True)
class NumberedRow:
    """A row of a problem. number: among all rows of the page. problem: place of its problem."""

    number: int
    problem: int
    comparison: Comparison
    variant: Variant

    @property
    def lost(self) -> str:
        """Its runs that did not finish, in words; empty if all did."""
        counts: Counter[str] = Counter(run.status for run in self.variant.runs.values())
        counts["not run"] = len(set(self.comparison.seeds) - self.variant.runs.keys())
        return ", ".join(f"{counts[state]} {state}" for state in ("diverged", "failed", "not run") if counts[state])


def numbered(compared: Sequence[Comparison]) -> tuple[NumberedRow, ...]:
    """All rows of the problems that are shown, in their order."""
    rows = [(place, one, variant) for place, one in enumerate(compared) for variant in one.shown]
    return tuple(NumberedRow(number, *row) for number, row in enumerate(rows))


def by_label(rows: Iterable[NumberedRow]) -> RowsOf:
    """Finds rows by their label, which tables give as `method`."""
    found = _grouped((row.variant.label, row.number) for row in rows)
    return lambda identity: found.get(identity.get("method", ""), ())


def by_run(rows: Iterable[NumberedRow]) -> RowsOf:
    """Finds rows by the data set and the variant of a run."""
    found = _grouped((f"{row.comparison.data}/{row.variant.key}", row.number) for row in rows)
    return lambda identity: found.get(f"{identity.get('data')}/{identity.get('variant')}", ())


def _grouped(pairs: Iterable[tuple[str, int]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for key, number in pairs:
        found[key] = (*found.get(key, ()), number)
    return found
