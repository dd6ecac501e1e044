"""Text from files that somebody else may have written, for people: what can't be printed is shown as its code point.

Escape sequences would change the terminal, and changes of direction the order of what is read.
"""

from __future__ import annotations

from collections.abc import Sequence

_MOST_NAMED = 5


def one_line(text: str) -> str:
    """The printable text with single spaces for all white space."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with its line ends; other characters that can't be printed are shown as [U+001B]."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else f"[U+{ord(c):04X}]" for c in text)


def named(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(names[:_MOST_NAMED])}{more}"
