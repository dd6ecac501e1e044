"""Frozen twins whose weights are no longer the means of their source, since its runs were trained again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.records.mean_weights import UNCLIPPED_WEIGHTS, WEIGHTS, mean_weights
from bench.records.store import CURVE, run_folder
from bench.reporting.comparison import Comparison, Variant

STALE = "frozen weights of runs that have been replaced, or whose curves are gone"
_ROUNDING = 1e-9
_UNBOUNDED = (None, math.inf, "Infinity")


def with_stale_twins_marked(results: Path, comparison: Comparison) -> Comparison:
    """The comparison with a note on each twin whose constants are not the mean weights of its source in the results.

    So are those of a source whose curves are gone: nothing in the results says where the constants are from.

    Nothing is said of a twin whose source is not in the comparison.

    Raises:
        RecordError: the curve of a source can't be read.
    """
    sources = {f"{comparison.data}/{variant.key}": variant for variant in comparison.variants}
    marked = []
    for variant in comparison.variants:
        source = sources.get(str(_frozen(variant).get("source")))
        stale = source is not None and _is_stale(_frozen(variant), source, results)
        marked.append(replace(variant, notes=(*variant.notes, STALE)) if stale else variant)
    return replace(comparison, variants=tuple(marked))


def _frozen(variant: Variant) -> Mapping[str, Any]:
    """The settings of its weighting."""
    return variant.first.settings.get("weighting", {})


def _is_stale(frozen: Mapping[str, Any], source: Variant, results: Path) -> bool:
    """frozen: the settings of the twin's weighting."""
    seeds, weights = _numbers(frozen.get("source_seeds")), _numbers(frozen.get("weights"))
    done = {float(seed): seed for seed, run in source.runs.items() if run.status == "done"}
    if not seeds or any(seed not in done for seed in seeds):
        return True
    curves = [run_folder(results, source.first.data, source.key, done[seed]) / CURVE for seed in seeds]
    if not all(curve.is_file() for curve in curves):
        return True
    name = WEIGHTS if frozen.get("max_norm") in _UNBOUNDED else UNCLIPPED_WEIGHTS
    now = mean_weights(curves, [f"{name}/{task.key}" for task in source.first.tasks])
    same = len(now) == len(weights) and all(map(_is_close, now.values(), weights))
    return not same


def _numbers(values: Any) -> list[float]:
    """The numbers of a list of a record, which may hold anything."""
    return [float(value) for value in values if isinstance(value, int | float)] if isinstance(values, list) else []


def _is_close(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=_ROUNDING)
