"""Finds names regardless of case and hyphens; an unknown name is refused with the nearest valid one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from bench.spec.shown import shown

_LONGEST_NAME = 100  # characters; looking for names near a longer one takes long


class UnknownName(ValueError):
    """An unknown name; the message lists the nearest and all valid ones."""


def lookup(names: Iterable[str], kind: str, name: str) -> str:
    """The entry of `names` that is `name`, or else matches it: "Nash-MTL" finds "nash_mtl".

    kind: what the names stand for, as in "method"; used in the message.

    Raises:
        UnknownName: no entry matches.
    """
    names = list(names)
    if name in names:
        return name
    known = {_canonical(candidate): candidate for candidate in names}
    found = known.get(_canonical(name))
    if found is not None:
        return found
    hint = did_you_mean(known.values(), name)
    raise UnknownName(f"Unknown {kind} {shown(name)}.{hint} Known: {', '.join(known.values()) or 'none'}.")


def did_you_mean(names: Iterable[str], name: str) -> str:
    """A question that offers the name nearest to `name`, after a space; "" if none is near."""
    known = {_canonical(candidate): candidate for candidate in names}
    near = difflib.get_close_matches(_canonical(name[:_LONGEST_NAME]), known, n=1, cutoff=0.5)
    return f" Did you mean {known[near[0]]!r}?" if near else ""


def same_name(first: str, second: str) -> bool:
    """Whether `lookup` takes both for the same entry."""
    return _canonical(first) == _canonical(second)


def _canonical(name: str) -> str:
    return re.sub(r"[^a-z0-9.:@]", "", name.lower())
