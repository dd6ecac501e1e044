"""Golden numbers: results stored with the versions of the code that made them, in golden.json.

`disagreements` compares new results with the stored ones. With RENEW_GOLDEN=1 in the environment, it stores results
that are new or whose version was raised; changed numbers of an unraised version are refused then, too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.records.files import atomic_write_text

GOLDEN = Path(__file__).with_name("golden.json")
RENEW = "RENEW_GOLDEN=1 python -m pytest tests/test_versions.py"
# Sums in another order, on other processors or builds of torch, differ by less; a change of a method by more.
TOLERANCE = 1e-5
LEAST = 1e-6  # smaller numbers are rounding of 0
LONGEST = 8

Versions = Mapping[str, int]
Numbers = Mapping[str, Sequence[float]]


def summary(values: Tensor | Sequence[float]) -> list[float]:
    """The values of a short tensor; of a longer one its size, mean, root mean square and a projection."""
    flat = torch.as_tensor(values).detach().double().flatten()
    if len(flat) > LONGEST:
        projection = flat @ torch.cos(torch.arange(len(flat), dtype=torch.float64)) / len(flat) ** 0.5
        flat = torch.stack([torch.tensor(len(flat)), flat.mean(), flat.square().mean().sqrt(), projection])
    return rounded(flat.tolist())


def rounded(values: Sequence[float]) -> list[float]:
    """To the digits that are stored."""
    return [float(f"{value:.9g}") for value in values]


def disagreements(name: str, versions: Versions, numbers: Numbers, tolerance: float = TOLERANCE) -> list[str]:
    """What is wrong with the numbers of one thing, by its name and its versions; empty if they are as stored.

    numbers: by label, from `summary`.
    tolerance: relative to the largest number of a label.
    """
    stored = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.is_file() else {}
    entry = stored.get(name)
    if os.environ.get("RENEW_GOLDEN") and (entry is None or entry["versions"] != versions):
        stored[name] = {"versions": dict(versions), "numbers": dict(numbers)}
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(stored[key])}" for key in sorted(stored))
        atomic_write_text(GOLDEN, f"{{\n{lines}\n}}\n")
        return []
    if entry is None:
        return [f"{name} has no golden numbers: run {RENEW}"]
    if entry["versions"] != versions:
        return [f"versions of {name} are {dict(versions)}, its golden numbers have {entry['versions']}: run {RENEW}"]
    labels = {**entry["numbers"], **numbers}
    changed = [label for label in labels if not _close(entry["numbers"].get(label), numbers.get(label), tolerance)]
    if not changed:
        return []
    more = f", and {len(changed) - 3} more" if len(changed) > 3 else ""
    return [
        f"numbers of {name} changed ({'; '.join(changed[:3])}{more}): raise its version in {_place(name)} and run "
        f"{RENEW} to renew the golden numbers"
    ]


def _close(stored: Sequence[float] | None, found: Sequence[float] | None, tolerance: float) -> bool:
    if stored is None or found is None or len(stored) != len(found):
        return False
    scale = max(LEAST, *map(abs, stored)) if stored else LEAST
    return all(math.isclose(a, b, rel_tol=0, abs_tol=tolerance * scale) for a, b in zip(stored, found, strict=True))


def _place(name: str) -> str:
    """Where the version of a thing is written, from the first word of its name."""
    return {
        "weighting": "methods/__init__.py",
        "architecture": "methods/__init__.py",
        "problem": "datasets/__init__.py",
        "maker": "datasets/__init__.py (maker_version)",
        "engine": "bench/spec/versions.py (ENGINE_VERSION), unless a weighting, architecture or problem above has",
    }[name.split()[0]]
