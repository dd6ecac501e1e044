"""The settings of a run, by section, as named by `--set section.key=value`: validated, with all defaults."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from bench.records.canonical import canonical
from bench.spec.limits import LARGEST_INTEGER, LONGEST_TEXT
from bench.spec.lookup import UnknownName, lookup
from bench.spec.shown import is_printable, shortened, shown
from datasets.contract import DataSettings, Recipe
from methods.contract import Architecture, MayBeInfinite, Weighting

SECTIONS = ("train", "data", "backbone", "heads", "arch", "weighting", "compute")

Precision = Literal["fp32", "bf16"]
Backward = Literal["looped", "batched"]
GradSpace = Literal["shared", "last_block", "representation"]


MOST_PROCESSES = 64  # that train one run together, all on one machine
_LONGEST_MESSAGE = 300  # characters; some messages repeat a list of numbers


class SpecError(ValueError):
    """Invalid settings; the message says which one, what was expected and what was found."""


@dataclass(frozen=True)
class BackboneSettings:
    """The encoder.

    name: a key of BACKBONES.
    weights: the initial weights: "none", "imagenet", or a file with a state dict.
    bottleneck: whether LibMTL's shared layer (512 wide, BatchNorm, dropout) follows the encoder.
    """

    name: str
    weights: str
    bottleneck: bool = False


@dataclass(frozen=True)
class HeadSettings:
    """The task-specific heads.

    name: a key of HEADS.
    rule: how gradients of the heads are weighted. "published": as each method was published. "weighted" (by the task
        weights) and "plain" force one rule on all methods.
    """

    name: str
    rule: Literal["published", "weighted", "plain"] = "published"


@dataclass(frozen=True)
class GramianSettings:
    """When the task weights are updated, and from which gradients. Part of the section "weighting".

    every: the update interval in steps. Between updates, a step is one backward pass of the weighted losses.
    momentum: the share of the previous weights in a running mean of the weights (CR-MOGM); 0 for none.
    grad_space: the gradients that form the Gramian. "shared": of all shared parameters. "last_block": of the last
        shared block. "representation": of the features that all tasks share, ∂L_i/∂z, the upper bound of Sener &
        Koltun (NeurIPS 2018). The gradient that is applied is always that of all shared parameters.
    """

    every: int = 1
    momentum: float = 0.0
    grad_space: GradSpace = "shared"

    def __post_init__(self) -> None:
        if not self.every >= 1:
            raise ValueError(f"`every` must be ≥ 1, found {self.every}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be ≥ 0 and < 1, found {self.momentum}")


@dataclass(frozen=True)
class ComputeSettings:
    """Numerical precision and kernels of training. Evaluation always runs in single precision.

    precision: "bf16" runs forward passes under autocast.
    channels_last: the memory layout of images and feature maps.
    compile: whether torch.compile is applied to the encoder.
    tf32: whether an accelerator may use TF32 in matrix products and convolutions.
    cudnn_benchmark: whether cuDNN tries its convolution algorithms and takes the fastest, which may differ from run
        to run in the last bits.
    cuda_graphs: whether the forward and backward pass of a method that needs losses only are launched as CUDA graphs.
    backward: whether the gradients of tasks that share features are computed in a loop or, with vmap, in one batch.
    processes: how many processes train the run together, each on its part of every batch and, with accelerators, on
        its own. The step is that of the whole batch, except that BatchNorm sees one part at a time, masked losses are
        averaged over parts, and random draws of the network differ.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    tf32: bool = False
    cudnn_benchmark: bool = False
    cuda_graphs: bool = False
    backward: Backward = "looped"
    processes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.processes <= MOST_PROCESSES:
            raise ValueError(f"`processes` must be from 1 to {MOST_PROCESSES}, found {self.processes}")


@dataclass(frozen=True)
class Settings:
    """All settings of a run. Those of `gramian` are written in the section "weighting"."""

    train: Recipe
    data: DataSettings
    backbone: BackboneSettings
    heads: HeadSettings
    arch: Architecture
    weighting: Weighting
    gramian: GramianSettings = field(default_factory=GramianSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """All settings by section in canonical form, as records hold them."""
        return {name: dict(section) for name, section in self._sections.items()}

    @cached_property  # the seeds of a row share their settings, and a study has thousands of runs
    def _sections(self) -> dict[str, dict[str, Any]]:
        sections = {name: plain(getattr(self, name)) for name in SECTIONS}
        sections["weighting"] |= plain(self.gramian)
        return sections

    def changed(self, assignments: Mapping[str, Any]) -> Settings:
        """A copy with new values of dotted settings, types and ranges checked.

        Raises:
            UnknownName: there is no such section. SpecError: a setting is unknown, or its value is invalid.
        """
        values = _by_section(assignments)
        gramian = {key: values["weighting"].pop(key) for key in _names(self.gramian) if key in values["weighting"]}
        sections = {name: _changed(name, getattr(self, name), values[name]) for name in SECTIONS}
        return Settings(**sections, gramian=_changed("weighting", self.gramian, gramian))

    def overrides(self, defaults: Settings) -> dict[str, Any]:
        """The dotted settings that differ from the defaults."""
        before = defaults.as_dict()
        return {
            f"{section}.{key}": value
            for section, values in self.as_dict().items()
            for key, value in values.items()
            if value != before[section][key]
        }


def compute_settings(assignments: Mapping[str, Any]) -> ComputeSettings:
    """The section "compute" of runs with these dotted settings.

    Raises:
        UnknownName, SpecError: as in `Settings.changed`.
    """
    section: ComputeSettings = _changed("compute", ComputeSettings(), _by_section(assignments)["compute"])
    return section


def plain(part: Any) -> dict[str, Any]:
    """A dataclass in canonical form, so that settings compare equal to those of a record."""
    converted: dict[str, Any] = canonical(dataclasses.asdict(part))
    return converted


def _by_section(assignments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for dotted, value in assignments.items():
        section, _, key = dotted.partition(".")
        if not key:
            raise SpecError(
                f"Expected a setting as section.key with a section of {', '.join(SECTIONS)}; found {shown(dotted)}."
            )
        values = chosen[lookup(SECTIONS, "section of settings", section)]
        if key in values and values[key] != value:
            raise SpecError(f"{shown(dotted)}: expected one value, found {shown(values[key])} and {shown(value)}.")
        values[key] = value
    return chosen


def _changed(section: str, default: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a section with new values, types and ranges checked."""
    if not values:
        return default
    kind: Any = type(default)
    known: dict[str, Any] = {}
    for given, value in values.items():
        try:
            name = lookup(_names(default), f"setting of {kind.__name__}", given)
        except UnknownName as error:
            raise SpecError(f"{section}: {error}") from error
        if name in known and known[name] != value:
            raise SpecError(f"{section}.{name}: expected one value, found {shown(known[name])} and {shown(value)}.")
        known[name] = value
    for key, value in known.items():
        _require_plain(f"{section}.{key}", value)
    try:
        part = _adapter(kind).validate_python({**dataclasses.asdict(default), **known})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join([section, *(str(part) for part in first["loc"][:1])])
        message = shortened(first["msg"].removeprefix("Value error, "), _LONGEST_MESSAGE)
        found = "" if first["type"] == "value_error" else f", found {shown(first['input'])}"
        raise SpecError(f"{name}: {message}{found}.") from error
    infinite = _may_be_infinite(kind)
    for key, value in known.items():
        _require_meaning(f"{section}.{key}", value, getattr(part, key), key in infinite)
    return dataclasses.replace(part, **{key: _without_negative_zero(getattr(part, key)) for key in known})


@cache  # making one takes milliseconds, and a study has thousands of runs
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _require_plain(name: str, value: Any) -> None:
    """Raises SpecError for a value that is no setting, and would be hard to print or to compare."""
    match value:
        case None | bool() | float():
            return
        case int() if abs(value) > LARGEST_INTEGER:
            raise SpecError(f"{name}: expected a number of at most {LARGEST_INTEGER:,}, found a larger one.")
        case int():
            return
        case str() if len(value) > LONGEST_TEXT or not is_printable(value):
            expected = f"at most {LONGEST_TEXT:,} characters, none of them a control character"
            raise SpecError(f"{name}: expected {expected}, found {shown(value)}.")
        case str():
            return
        case list() | tuple():
            for entry in value:
                _require_plain(name, entry)
        case _:
            raise SpecError(f"{name}: expected a number, a text or a list, found {shown(value)}.")


def _require_meaning(name: str, given: Any, value: Any, infinite: bool) -> None:
    """Raises SpecError for a number that is nan, infinite without a meaning, or was given as true or false."""
    if isinstance(value, tuple | list):
        for entry, number in zip(given, value, strict=True):
            _require_meaning(name, entry, number, infinite)
    elif isinstance(given, bool) and not isinstance(value, bool):
        raise SpecError(f"{name}: expected a number, found {given}.")
    elif isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and not infinite)):
        raise SpecError(f"{name}: expected a finite number, found {shown(given)}.")


@cache
def _may_be_infinite(kind: Any) -> frozenset[str]:
    """The settings of a section for which an infinite number has a meaning."""
    hints = get_type_hints(kind, include_extras=True)
    return frozenset(name for name, hint in hints.items() if MayBeInfinite in getattr(hint, "__metadata__", ()))


def _without_negative_zero(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_without_negative_zero(entry) for entry in value)
    return value + 0.0 if isinstance(value, float) else value


def _names(part: Any) -> list[str]:
    return [entry.name for entry in dataclasses.fields(part)]
