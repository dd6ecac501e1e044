"""Which of many points or lines are shown, so that they are evenly spaced."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np


def evenly_spaced_places(count: int, most: int) -> list[int]:
    """At most so many of the places 0 to count - 1, evenly spaced; the first and the last are among them."""
    return [int(place) for place in np.unique(np.linspace(0, count - 1, min(count, most)).round())]


def evenly_spaced(values: Mapping[str, float], most: int, first: Collection[str] = ()) -> list[str]:
    """At most so many keys, by their values: those of `first`, however many, and of the others some, evenly spaced.

    The highest value comes first.
    """
    ordered = sorted(values, key=lambda key: values[key], reverse=True)
    shown = {key for key in ordered if key in first}
    others = [key for key in ordered if key not in shown]
    shown |= {others[place] for place in evenly_spaced_places(len(others), max(0, most - len(shown)))}
    return [key for key in ordered if key in shown]
