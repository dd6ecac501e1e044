"""The search space of a row: points of the unit cube, and the settings that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.spec.resolve import RunSpec, weighting_info
from bench.spec.run_specs import specs_of
from bench.spec.study import StudyError, StudyRow
from methods import ARCHITECTURES
from methods.contract import MOST_KNOBS, Knob

# The optimizer's space, the same for every method: multiples of the recipe's learning rate, and a weight decay whose
# lower end has no effect.
LR_MULTIPLES = (0.2, 5.0)
WEIGHT_DECAYS = (1e-6, 1e-2)

# Coordinates of a point: the optimizer's, then those of the architecture, then those of the weighting. Every method
# gets the same points, and leaves unused coordinates alone.
OPTIMIZER, ARCHITECTURE, WEIGHTING = 0, 2, 2 + MOST_KNOBS
DIMENSIONS = WEIGHTING + MOST_KNOBS
DIGITS = 4  # significant ones of a tuned setting, so that files of studies are legible

_EDGE = 1e-9  # keeps logarithms of coordinates finite


@dataclass(frozen=True)
class Point:
    """A point of the unit cube.

    cube: (DIMENSIONS,) the same for every method. simplex: (m,) for a knob that has one number per task.
    """

    cube: tuple[float, ...]
    simplex: tuple[float, ...]


@dataclass(frozen=True)
class Space:
    """What may be tuned for a row on a data set.

    knobs: each with its coordinate. n_tasks: m.
    default: the point nearest to the default settings.
    """

    knobs: tuple[tuple[int, Knob], ...]
    n_tasks: int
    default: Point

    def settings(self, point: Point) -> dict[str, Any]:
        """The dotted settings that a point stands for."""
        return {knob.setting: _value(knob, point.cube[place], point.simplex) for place, knob in self.knobs}


def space_of(row: StudyRow, data: str) -> Space:
    """The space of a row, without the settings that the row itself sets.

    Raises:
        StudyError: the row has several runs, or no validation set to select on.
        UnknownName, SpecError: of the row.
    """
    specs = specs_of(row, data, seed=0)
    if len(specs) != 1:
        raise StudyError(f"Row {row.label!r} on {data}: expected one run to tune, found {len(specs)}.")
    (spec,) = specs
    if spec.settings.data.protocol == "published":
        raise StudyError(
            f"Row {row.label!r} on {data}: expected a protocol with a validation set to select on, found "
            "data.protocol=published; tune with the default, heldout."
        )
    knobs = tuple((place, knob) for place, knob in _knobs(spec) if not _is_held(knob, row, spec))
    return Space(knobs, len(spec.tasks), _default_point(knobs, spec))


def _knobs(spec: RunSpec) -> list[tuple[int, Knob]]:
    """All knobs of a run, each with its coordinate."""
    low, high = (multiple * spec.settings.train.lr for multiple in LR_MULTIPLES)
    optimizer = (Knob("train.lr", low, high, log=True), Knob("train.weight_decay", *WEIGHT_DECAYS, log=True))
    architecture, weighting = ARCHITECTURES[spec.architecture].knobs, weighting_info(spec.weighting).knobs
    parts = ((OPTIMIZER, optimizer), (ARCHITECTURE, architecture), (WEIGHTING, weighting))
    return [(start + place, knob) for start, knobs in parts for place, knob in enumerate(knobs)]


def _is_held(knob: Knob, row: StudyRow, spec: RunSpec) -> bool:
    """Whether the row sets this setting itself."""
    return knob.setting in spec.overrides or knob.setting in {key.lower() for key in row.set}


def _value(knob: Knob, coordinate: float, simplex: Sequence[float]) -> Any:
    if knob.simplex:
        return _on_simplex(simplex)
    if knob.choices:
        return knob.choices[min(int(coordinate * len(knob.choices)), len(knob.choices) - 1)]
    if knob.log:
        return _rounded(knob.low * (knob.high / knob.low) ** coordinate)
    return _rounded(knob.low + coordinate * (knob.high - knob.low))


def _on_simplex(coordinates: Sequence[float]) -> list[float]:
    """(m,) positive numbers with mean 1: normalised exponential variables are uniform on the simplex."""
    exponential = [-math.log(min(max(u, _EDGE), 1 - _EDGE)) for u in coordinates]
    scale = len(exponential) / sum(exponential)
    return [_rounded(scale * value) for value in exponential]


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _default_point(knobs: Sequence[tuple[int, Knob]], spec: RunSpec) -> Point:
    """Unused coordinates are in the middle; defaults outside a range are at its end."""
    cube = [0.5] * DIMENSIONS
    for place, knob in knobs:
        section, _, key = knob.setting.partition(".")
        cube[place] = _coordinate(knob, getattr(getattr(spec.settings, section), key))
    return Point(tuple(cube), (0.5,) * len(spec.tasks))


def _coordinate(knob: Knob, value: Any) -> float:
    if knob.choices:
        return (knob.choices.index(value) + 0.5) / len(knob.choices) if value in knob.choices else 0.5
    if knob.simplex:
        return 0.5
    inside = min(max(value, knob.low), knob.high)
    if knob.log:
        return math.log(inside / knob.low) / math.log(knob.high / knob.low)
    return float((inside - knob.low) / (knob.high - knob.low))
