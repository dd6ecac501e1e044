"""One run, fully resolved: every setting has its value before anything starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from bench.spec.lookup import UnknownName, lookup
from datasets import DATASETS
from datasets.contract import DatasetInfo, DataSettings, Recipe
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.adapters import adapted_weightings, is_adapter
from methods.architectures.backbones import BACKBONES
from methods.architectures.heads import HEADS
from methods.contract import Architecture, Weighting, WeightingInfo

SECTIONS = ("train", "data", "backbone", "heads", "arch", "weighting", "compute")

Precision = Literal["fp32", "bf16"]
Backward = Literal["looped", "batched"]
GradSpace = Literal["shared", "last_block", "representation"]


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
class GramianSettings:
    """Settings of the section "weighting" that every weighting has, for those that see a Gramian.

    every: steps from one renewal of the weights to the next; in between, one backward pass of the weighted losses.
    grad_space: whose gradients make up the Gramian: "shared" for all shared parameters, "last_block" for those of the
    last shared block, "representation" for the features that all tasks share, ∂L_i/∂z, the upper bound of Sener &
    Koltun (NeurIPS 2018). The gradient that is placed is that of all shared parameters in any case.
    """

    every: int = 1
    grad_space: GradSpace = "shared"

    def __post_init__(self) -> None:
        if not self.every >= 1:
            raise ValueError(f"`every` must be ≥ 1, found {self.every}")


@dataclass(frozen=True)
class ComputeSettings:
    """In which numbers and by which kernels all of a run is worked out; evaluation is always in single precision.

    precision: "bf16" for passes ahead under autocast. channels_last: how images and maps lie in memory. compile:
    whether torch.compile makes the encoder. tf32: whether an accelerator may round factors of products to ten bits.
    backward: whether gradients of tasks that read the same features are taken one after another or, by vmap, at once.
    """

    precision: Precision = "fp32"
    channels_last: bool = False
    compile: bool = False
    tf32: bool = False
    backward: Backward = "looped"


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
    gramian_settings: GramianSettings
    compute: ComputeSettings
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
        plain = {section: _plain(part) for section, part in zip(SECTIONS, (*parts, self.compute), strict=True)}
        plain["weighting"] |= _plain(self.gramian_settings)
        return plain


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
        ComputeSettings(),
    )
    chosen = _by_section(assignments)
    common = {key: chosen["weighting"].pop(key) for key in _names(GramianSettings) if key in chosen["weighting"]}
    gramian_settings = _changed("weighting", GramianSettings(), common)
    parts = [_changed(section, default, chosen[section]) for section, default in zip(SECTIONS, defaults, strict=True)]
    train, data_settings, backbone, heads, arch_settings, weighting_settings, compute = parts
    backbone = dataclasses.replace(backbone, name=lookup(BACKBONES, "backbone", backbone.name))
    heads = dataclasses.replace(heads, name=lookup(HEADS, "head", heads.name))
    if backbone.bottleneck and BACKBONES[backbone.name].features.dense:
        raise SpecError(f"backbone.bottleneck: expected false with {backbone.name}, which puts out maps, found true.")
    _check_renewal(gramian_settings, weighting, weighting_settings, arch_settings, info)
    _check_parts(train, gramian_settings)
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
        gramian_settings=gramian_settings,
        compute=compute,
        overrides=_differences(defaults, parts) | _difference("weighting", GramianSettings(), gramian_settings),
    )


def _check_renewal(
    gramian_settings: GramianSettings, name: str, weighting: Weighting, architecture: Architecture, info: DatasetInfo
) -> None:
    """Raises SpecError where weights can't be renewed so."""
    for key, usual in _plain(GramianSettings()).items():
        found = getattr(gramian_settings, key)
        if weighting.needs != "gramian" and found != usual:
            reason = "sees no Gramian" if weighting.needs == "losses" else "needs the whole Jacobian at every step"
            raise SpecError(f"weighting.{key}: expected {usual!r} with {name}, which {reason}, found {found!r}.")
    if gramian_settings.grad_space == "representation":
        where = "weighting.grad_space: expected shared or last_block"
        if info.kind != "single-input":
            raise SpecError(f"{where} with {info.label}, whose tasks read inputs of their own, found representation.")
        if not architecture.shares_features:
            raise SpecError(
                f"{where} with an architecture whose tasks read features of their own, found representation."
            )


def _check_parts(train: Recipe, gramian_settings: GramianSettings) -> None:
    """Raises SpecError where a batch can't pass in parts."""
    if train.accumulate == 1:
        return
    if train.batch_size % train.accumulate:
        raise SpecError(
            f"train.accumulate: expected a divisor of train.batch_size = {train.batch_size}, found {train.accumulate}."
        )
    if train.cosines_every:
        raise SpecError(f"train.accumulate: expected 1 with train.cosines_every, found {train.accumulate}.")
    if gramian_settings.grad_space != "shared":
        raise SpecError(f"train.accumulate: expected 1 with weighting.grad_space, found {train.accumulate}.")


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
    try:
        known = {lookup(_names(kind), f"setting of {kind.__name__}", key): value for key, value in values.items()}
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
    differences: dict[str, Any] = {}
    for section, default, part in zip(SECTIONS, defaults, parts, strict=True):
        differences |= _difference(section, default, part)
    return differences


def _difference(section: str, default: Any, part: Any) -> dict[str, Any]:
    before, after = _plain(default), _plain(part)
    return {f"{section}.{key}": value for key, value in after.items() if value != before[key]}


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _plain(part: Any) -> dict[str, Any]:
    """A dataclass as JSON would give it back, so that records compare equal to specs."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(part)))
    return plain
