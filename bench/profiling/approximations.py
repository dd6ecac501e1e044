"""What is saved where weights are renewed now and then, or from less than the gradients of all shared parameters.

Other than an engine that is quick, these change what a method does; a run says so in its settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.profiling.step import Course, Entry
from bench.records.speed import FLOOR, OURS
from bench.spec.settings import SpecError

METHODS = ("mgda", "cagrad", "nash_mtl")
_SHORTCUTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "every 5 steps": {"weighting.every": 5},
    "every 20 steps": {"weighting.every": 20},
    "last block": {"weighting.grad_space": "last_block"},
    "representation": {"weighting.grad_space": "representation"},
}


def shortcut_entries(course: Course, methods: Sequence[str]) -> list[Entry]:
    """Floors, EW, and each method in full and by every shortcut that the shape allows."""
    entries = [Entry(FLOOR, "", "one"), Entry(FLOOR, "", "per task"), Entry(OURS, "ew", "one")]
    for method in methods:
        for name, changes in _SHORTCUTS.items():
            entry = Entry(OURS, method, "per task", name, tuple(changes.items()))
            try:
                course.spec(entry)
            except SpecError:  # as the representation of tasks that read inputs of their own
                continue
            entries.append(entry)
    return entries
