"""The one form of settings, whether they come from a command, a record or a checkpoint: what JSON can hold."""

from __future__ import annotations

import math
from typing import Any

_UNCHANGED = (str, int, bool, type(None))


def canonical(value: Any) -> Any:
    """The value with lists for tuples, 0.0 for −0.0, and "Infinity", "-Infinity" or "NaN" for numbers that JSON lacks.

    These strings are what records hold, and what settings of numbers accept.
    """
    if type(value) in _UNCHANGED:  # most values: reading thousands of records takes seconds
        return value
    match value:
        case dict():
            return {str(key): canonical(entry) for key, entry in value.items()}
        case list() | tuple():
            return [canonical(entry) for entry in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float():
            return value + 0.0  # −0.0 becomes 0.0
        case _:
            return value
