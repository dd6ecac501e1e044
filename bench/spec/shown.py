"""How messages show what a person typed: on one line, escaped and not too long."""

from __future__ import annotations

import re
from typing import Any

_LONGEST = 80  # characters of a value in a message
# Control characters, among them escape sequences, line ends and changes of direction of Unicode, and bytes that are not
# UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(value: Any) -> str:
    """The value as Python writes it, which escapes what can't be printed, cut to about 80 characters."""
    try:
        return shortened(repr(value[: _LONGEST + 1] if isinstance(value, str) else value), _LONGEST)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits, or too many brackets
        return f"a value of type {type(value).__name__} that is too large to print"


def shortened(text: str, longest: int) -> str:
    """The text, cut to this many characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def is_printable(text: str) -> bool:
    """Whether the text is without line ends, control characters, and bytes that are not UTF-8."""
    return _UNPRINTABLE.search(text) is None
