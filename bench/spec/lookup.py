"""Names: found whatever their case and hyphens, with the nearest valid one where there is none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class UnknownName(ValueError):
    """A name that isn't known; the message holds the nearest and all valid ones."""


def lookup(names: Iterable[str], kind: str, name: str) -> str:
    """The one of `names` that `name` means: "Nash-MTL" finds "nash_mtl".

    Raises:
        UnknownName: none does.
    """
    known = {_canonical(candidate): candidate for candidate in names}
    found = known.get(_canonical(name))
    if found is not None:
        return found
    near = difflib.get_close_matches(_canonical(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {known[near[0]]!r}?" if near else ""
    raise UnknownName(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known.values()) or 'none'}.")


def _canonical(name: str) -> str:
    return re.sub(r"[^a-z0-9.:@]", "", name.lower())
