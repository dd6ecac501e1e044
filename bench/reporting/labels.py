"""How rows, settings and seeds are named in tables, figures and pages."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
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


def run_name(record: Record) -> str:
    """The run in a message: its folder below the results."""
    return f"{record.data}/{record.variant}/seed-{record.seed}"


def without(settings: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The settings whose keys are not in `common`."""
    return {key: value for key, value in settings.items() if key not in common}


def row_labels(firsts: Mapping[str, Record], common: Mapping[str, Any]) -> dict[str, str]:
    """The label of each row, by variant: the method's name, then the settings that only this row has.

    firsts: one run of each row. common: settings that all rows share; the caption has them.
    """
    labels = {}
    for key, first in firsts.items():
        own = show_settings(without(first.overrides, common))
        labels[key] = first.labels.method + (f" ({own})" if own else "")
    counts = Counter(labels.values())
    return {key: label if counts[label] == 1 else f"{label} ({key})" for key, label in labels.items()}
