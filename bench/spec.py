"""One run, fully resolved: every setting has its value before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from bench.lookup import UnknownName, lookup
from datasets import DATASETS
from datasets.contract import DatasetInfo, DataSettings, Recipe
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.adapters import adapted_weightings, is_adapter
from methods.architectures.backbones import BACKBONES
from methods.architectures.heads import HEADS
from methods.contract import Architecture, Weighting, WeightingInfo

SECTIONS = ("train", "data", "backbone", "heads", "arch", "weighting")


class SpecError(ValueError):
    """Settings that make no run; the message says which, what was expected and what was found."""


@dataclass(frozen=True)
class BackboneSettings:
    """The encoder: its name, and its first weights, "none", "imagenet" or a file with a state dict.

    bottleneck: whether LibMTL's layer of 512 with BatchNorm and dropout follows it, shared by all tasks.
    """

    name: str
    weights: str
    bottleneck: bool = False


@dataclass(frozen=True)
class HeadSettings:
    """The heads: their name, and the rule by which their gradients are weighted.

    rule: "published" is each method's own; "weighted" (by the task weights) and "plain" hold for all methods alike.
    """

    name: str
    rule: Literal["published", "weighted", "plain"] = "published"


@dataclass(frozen=True)
class RunSpec:
    """A method on a data set with a seed; `overrides` are the dotted settings that are not the defaults."""

    data: str
    method: str
    architecture: str
    weighting: str
    seed: int
    train: Recipe
    data_settings: DataSettings
    backbone: BackboneSettings
    heads: HeadSettings
    arch_settings: Architecture
    weighting_settings: Weighting
    overrides: Mapping[str, Any]

    @property
    def info(self) -> DatasetInfo:
        return DATASETS[self.data].scored_by(self.data_settings.metrics_batch)

    @property
    def tasks(self) -> list[str]:
        return [task.key for task in self.info.tasks]

    @property
    def variant(self) -> str:
        """The method's name, and a hash of the overrides where there are any: the name of the run's folder."""
        if not self.overrides:
            return self.method
        text = json.dumps(self.overrides, sort_keys=True)
        return f"{self.method}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def label(self) -> str:
        """The method's name as published; for a pair that nobody has named, both parts."""
        if self.method in METHODS:
            return METHODS[self.method].label
        return f"{ARCHITECTURES[self.architecture].label} + {_weightings(self.weighting)[self.weighting].label}"

    def settings(self) -> dict[str, dict[str, Any]]:
        """All settings by section, as plain data for the record."""
        parts = (self.train, self.data_settings, self.backbone, self.heads, self.arch_settings, self.weighting_settings)
        return {section: _plain(part) for section, part in zip(SECTIONS, parts, strict=True)}


def resolve(
    data: str,
    method: str | None,
    architecture: str | None,
    weighting: str | None,
    seed: int,
    assignments: Mapping[str, Any],
) -> RunSpec:
    """The run that these names and dotted settings mean.

    A named architecture or weighting takes the place of the method's own.

    Raises:
        UnknownName: a name is not known. SpecError: a setting is not known or has no valid value.
    """
    data = lookup(DATASETS, "data set", data)
    pair = METHODS[lookup(METHODS, "method", method)] if method else METHODS["ew"]
    architecture = lookup(ARCHITECTURES, "architecture", architecture) if architecture else pair.architecture
    weighting = lookup(_weightings(weighting), "weighting", weighting) if weighting else pair.weighting
    info = DATASETS[data]
    defaults = (
        info.recipe,
        DataSettings(info.image_size),
        BackboneSettings(info.backbone, info.backbone_weights),
        HeadSettings(info.head),
        ARCHITECTURES[architecture].factory(),
        _weightings(weighting)[weighting].factory(),
    )
    chosen = _by_section(assignments)
    parts = [_changed(section, default, chosen[section]) for section, default in zip(SECTIONS, defaults, strict=True)]
    train, data_settings, backbone, heads, arch_settings, weighting_settings = parts
    backbone = dataclasses.replace(backbone, name=lookup(BACKBONES, "backbone", backbone.name))
    heads = dataclasses.replace(heads, name=lookup(HEADS, "head", heads.name))
    if backbone.bottleneck and BACKBONES[backbone.name].features.dense:
        raise SpecError(f"backbone.bottleneck: expected false with {backbone.name}, which puts out maps, found true.")
    try:
        arch_settings.check([task.key for task in info.tasks])
        weighting_settings.init(len(info.tasks))
    except ValueError as error:
        raise SpecError(f"{data}, {architecture} with {weighting}: {error}.") from error
    return RunSpec(
        data=data,
        method=_method_name(architecture, weighting),
        architecture=architecture,
        weighting=weighting,
        seed=seed,
        train=train,
        data_settings=data_settings,
        backbone=backbone,
        heads=heads,
        arch_settings=arch_settings,
        weighting_settings=weighting_settings,
        overrides=_differences(defaults, parts),
    )


def _method_name(architecture: str, weighting: str) -> str:
    for name, pair in METHODS.items():
        if (pair.architecture, pair.weighting) == (architecture, weighting):
            return name
    return f"{architecture}+{weighting}".replace(":", "-")  # it names a folder


def _weightings(name: str) -> Mapping[str, WeightingInfo]:
    """The table in which to look a weighting up: other packages' carry their prefix."""
    return adapted_weightings() if is_adapter(name) else WEIGHTINGS


def _by_section(assignments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    chosen: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for dotted, value in assignments.items():
        section, _, key = dotted.partition(".")
        if not key:
            raise SpecError(
                f"Expected a setting as section.key with a section of {', '.join(SECTIONS)}; found {dotted!r}."
            )
        chosen[lookup(SECTIONS, "section of settings", section)][key] = value
    return chosen


def _changed(section: str, default: Any, values: Mapping[str, Any]) -> Any:
    """The section with these values in place of its defaults, types and ranges checked."""
    if not values:
        return default
    kind = type(default)
    names = [field.name for field in dataclasses.fields(default)]
    try:
        known = {lookup(names, f"setting of {kind.__name__}", key): value for key, value in values.items()}
    except UnknownName as error:
        raise SpecError(f"{section}: {error}") from error
    try:
        return TypeAdapter(kind).validate_python({**dataclasses.asdict(default), **known})
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join([section, *(str(part) for part in fault["loc"][:1])])
        message = fault["msg"].removeprefix("Value error, ")
        found = "" if fault["type"] == "value_error" else f", found {fault['input']!r}"
        raise SpecError(f"{place}: {message}{found}.") from error


def _differences(defaults: tuple[Any, ...], parts: list[Any]) -> dict[str, Any]:
    differences = {}
    for section, default, part in zip(SECTIONS, defaults, parts, strict=True):
        before, after = _plain(default), _plain(part)
        differences.update({f"{section}.{key}": value for key, value in after.items() if value != before[key]})
    return differences


def _plain(part: Any) -> dict[str, Any]:
    """A dataclass as JSON would give it back, so that records compare equal to specs."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(part)))
    return plain
