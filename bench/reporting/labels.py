"""How rows, settings and seeds are named in tables, figures and pages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.records.record import Record


def show_settings(settings: Mapping[str, Any]) -> str:
    """`key=value` for each setting, in order of their names."""
    return ", ".join(f"{key}={show_value(value)}" for key, value in sorted(settings.items()))


def show_value(value: Any) -> str:
    """The value of a setting: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def seed_list(seeds: Iterable[int]) -> str:
    """ "seed 2" or "seeds 0, 1"."""
    texts = [str(seed) for seed in sorted(seeds)]
    return f"seed{'s' * (len(texts) != 1)} {', '.join(texts)}"


def hidden_rows(labels: Sequence[str]) -> str:
    """Sentences on rows that are left out on request; empty if there are none."""
    return f"{_left_out(labels)}. Marks, ranks and tests count all rows." if labels else ""


def with_hidden_rows(title: str, labels: Sequence[str]) -> str:
    """The title of a figure, which names the rows that are left out of it on request."""
    return f"{title}. {_left_out(labels)}" if labels else title


def _left_out(labels: Sequence[str]) -> str:
    return f"Left out on request: {'; '.join(labels)}"


def without(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The settings whose keys are not in `common`."""
    return {key: value for key, value in settings.items() if key not in common}


def twin_settings(record: Record) -> set[str]:
    """The overrides by which a frozen twin replays its source; none of another run."""
    is_twin = bool(record.settings.get("weighting", {}).get("source"))
    return {key for key in record.overrides if is_twin and key.startswith("weighting.")}


def row_labels(firsts: Mapping[str, Record], common: Mapping[str, Any]) -> dict[str, str]:
    """The label of each row, by variant: the method's name, then the settings that only this row has.

    firsts: one run of each row. common: settings that all rows share; the caption has them.
    """
    labels = {}
    for key, first in firsts.items():
        told = twin_settings(first)  # by the label, and by the record
        own = show_settings({key: value for key, value in without(first.overrides, common).items() if key not in told})
        labels[key] = first.labels.method + (f" ({own})" if own else "")
    counts = Counter(labels.values())
    return {key: label if counts[label] == 1 else f"{label} ({key})" for key, label in labels.items()}
