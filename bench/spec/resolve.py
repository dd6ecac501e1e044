"""Resolves a run: names are looked up, every setting has a value, and combinations that can't work are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from bench.records.names import checked_short_name
from bench.records.record import LARGEST_SEED
from bench.spec.lookup import lookup
from bench.spec.settings import BackboneSettings, GramianSettings, HeadSettings, Settings, SpecError, plain
from bench.spec.shown import shown
from datasets import DATASETS
from datasets.chosen_tasks import with_tasks
from datasets.contract import DataError, DatasetInfo, DataSettings
from datasets.split_lists import content_name
from datasets.train_share import with_train_share
from methods import ARCHITECTURES, METHODS, WEIGHTINGS
from methods.adapters import adapted_weightings, is_adapter
from methods.architectures.backbones import BACKBONES
from methods.architectures.heads import DENSE_HEADS, HEADS
from methods.contract import Needs, PostStepHook, Weighting, WeightingInfo, batches_of, clip_of

RunKey = tuple[str, str, int]  # data set, variant and seed


@dataclass(frozen=True)
class RunSpec:
    """One run: a method on a data set with a seed.

    overrides: the dotted settings that differ from the defaults, in canonical form.
    lists: the folder whose lists replace the random partition. Settings and variant name their contents, so that the
        same lists elsewhere are the same run, and other lists in the same folder are another.
    """

    data: str
    method: str
    architecture: str
    weighting: str
    seed: int
    settings: Settings
    overrides: Mapping[str, Any]
    lists: Path | None = None

    @property
    def info(self) -> DatasetInfo:
        data = self.settings.data
        info = with_train_share(DATASETS[self.data].scored_by(data.metrics_batch), data.train_share)
        return with_tasks(info, data.tasks)

    @cached_property
    def data_settings(self) -> DataSettings:
        """How this run reads its data: with the folder of lists, and the seed of its own partition."""
        data = self.settings.data
        seed = data.split_seed + self.seed if data.split_per_seed else data.split_seed
        return dataclasses.replace(data, split_seed=seed, splits=str(self.lists) if self.lists else "")

    @property
    def tasks(self) -> list[str]:
        return [task.key for task in self.info.tasks]

    @property
    def task_places(self) -> list[int]:
        """The index of each task among all tasks of the data set."""
        return [place for place, task in enumerate(DATASETS[self.data].tasks) if task.key in self.tasks]

    @cached_property
    def variant(self) -> str:
        """The name of the run's folder: the method's name, and a hash of the overrides if there are any."""
        if not self.overrides:
            return self.method
        # Without quotes around infinite numbers, as the names of folders have been made from the beginning.
        text = json.dumps(self.overrides, sort_keys=True).replace('"Infinity"', "Infinity")
        return f"{self.method}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def key(self) -> RunKey:
        """What tells it from all other runs of a folder of results."""
        return self.data, self.variant, self.seed

    def with_seed(self, seed: int) -> RunSpec:
        """The same run with another seed; raises SpecError if that can't be one."""
        _check_seed(seed)
        return dataclasses.replace(self, seed=seed)

    @property
    def label(self) -> str:
        """The method's name as published; for a pair without a name of its own, both parts; of a twin, its source's."""
        source = getattr(self.settings.weighting, "source", "")
        if self.weighting == "frozen" and source:
            return f"{_label_of(Path(source).name.partition('@')[0])}, frozen"
        return _label_of(self.method)


def resolve(
    data: str,
    method: str | None = None,
    *,
    architecture: str | None = None,
    weighting: str | None = None,
    seed: int = 0,
    assignments: Mapping[str, Any] | None = None,
) -> RunSpec:
    """The run described by these names and dotted settings.

    A named architecture or weighting replaces the method's own.

    Raises:
        UnknownName: a name is unknown. SpecError: a setting is unknown, or its value or the seed is invalid.
    """
    _check_seed(seed)
    data = lookup(DATASETS, "data set", data)
    pair = METHODS[lookup(METHODS, "method", method)] if method else METHODS["ew"]
    architecture = lookup(ARCHITECTURES, "architecture", architecture) if architecture else pair.architecture
    weighting = lookup(_weightings(weighting), "weighting", weighting) if weighting else pair.weighting
    info = DATASETS[data]
    defaults = Settings(
        train=info.recipe,
        data=DataSettings(info.image_size),
        backbone=BackboneSettings(info.backbone, info.backbone_weights),
        heads=HeadSettings(info.head),
        arch=ARCHITECTURES[architecture].factory(),
        weighting=weighting_info(weighting).factory(),
    )
    settings = _with_known_tasks(_with_known_names(defaults.changed(assignments or {})), info)
    settings, lists = _with_named_lists(settings)
    info = with_tasks(info, settings.data.tasks)
    _check_parts(settings, weighting, info)
    try:
        settings.arch.check([task.key for task in info.tasks])
        settings.weighting.init(len(info.tasks))
    except ValueError as error:
        raise SpecError(f"{data}, {architecture} with {weighting}: {error}.") from error
    method, overrides = _method_name(architecture, weighting), settings.overrides(defaults)
    return _checked(RunSpec(data, method, architecture, weighting, seed, settings, overrides, lists))


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise SpecError(f"Expected a seed from 0 to {LARGEST_SEED:,}, found {shown(seed)}.")


def _checked(spec: RunSpec) -> RunSpec:
    """The run; raises SpecError if the key of a data set, method, task or metric can't name a file."""
    keys = {"data set": [spec.data], "run": [spec.variant], "task": spec.tasks}
    keys["metric"] = [metric.key for task in spec.info.tasks for metric in task.measure.metrics]
    for kind, names in keys.items():
        for name in names:
            try:
                checked_short_name(name)
            except ValueError as error:
                raise SpecError(f"{spec.data}, key of a {kind}: {error}; rename it where it is registered.") from error
    return spec


def _check_parts(settings: Settings, weighting: str, info: DatasetInfo) -> None:
    """Raises SpecError for parts that don't fit together."""
    _check_contract(settings.weighting)
    _check_network(settings, info)
    _check_gramian(settings, weighting, info)
    _check_micro_batches(settings)
    _check_graphs(settings, weighting)
    _check_processes(settings, weighting)
    _check_single_task(settings, weighting)


def _check_contract(weighting: Weighting) -> None:
    """Raises SpecError if a weighting's `needs` and `batches` are not as its contract says."""
    name, batches = type(weighting).__name__, batches_of(weighting)
    if weighting.needs not in get_args(Needs):
        raise SpecError(f"{name}.needs: expected one of {', '.join(get_args(Needs))}, found {weighting.needs!r}.")
    allowed = (2, 3) if weighting.needs == "cross_gramian" else (1,)
    if batches not in allowed:
        expected = " or ".join(str(count) for count in allowed)
        raise SpecError(f"{name}.batches: expected {expected} with needs = {weighting.needs!r}, found {batches}.")


def _with_known_names(settings: Settings) -> Settings:
    """The settings with the keys of backbone and head looked up in their registries."""
    backbone = dataclasses.replace(settings.backbone, name=lookup(BACKBONES, "backbone", settings.backbone.name))
    heads = dataclasses.replace(settings.heads, name=lookup(HEADS, "head", settings.heads.name))
    return dataclasses.replace(settings, backbone=backbone, heads=heads)


def _with_known_tasks(settings: Settings, info: DatasetInfo) -> Settings:
    """The settings with the chosen tasks in the order of the data set; with none if all are chosen."""
    known = {task.key: task for task in info.tasks}
    chosen = [lookup(known, f"task of {info.label}", key) for key in settings.data.tasks]
    repeated = next((key for place, key in enumerate(chosen) if key in chosen[:place]), None)
    if repeated is not None:
        raise SpecError(f"data.tasks: expected each task once, found {repeated} twice.")
    tasks = tuple(key for key in known if key in chosen) if len(chosen) < len(known) else ()
    return dataclasses.replace(settings, data=dataclasses.replace(settings.data, tasks=tasks))


def _with_named_lists(settings: Settings) -> tuple[Settings, Path | None]:
    """The settings with the contents of the lists instead of their folder; and that folder, if there is one."""
    if not settings.data.splits:
        return settings, None
    lists = Path(os.path.expanduser(settings.data.splits))  # Path.expanduser fails if there is no such user
    try:
        named = dataclasses.replace(settings.data, splits=content_name(lists))
    except DataError as error:
        raise SpecError(str(error)) from error
    return dataclasses.replace(settings, data=named), lists


def _check_network(settings: Settings, info: DatasetInfo) -> None:
    """Raises SpecError if backbone or heads don't fit the problem: dense problems need feature maps, others vectors."""
    dense = BACKBONES[info.backbone].features.dense
    fitting = {
        "backbone": [name for name, backbone in BACKBONES.items() if backbone.features.dense == dense],
        "heads": [name for name in HEADS if (name in DENSE_HEADS) == dense],
    }
    for section, found in (("backbone", settings.backbone.name), ("heads", settings.heads.name)):
        if found not in fitting[section]:
            raise SpecError(
                f"{section}.name: expected one of {', '.join(fitting[section])} with {info.label}, which needs "
                f"{'feature maps' if dense else 'feature vectors'}, found {found}."
            )
    if settings.backbone.bottleneck and dense:
        raise SpecError(
            f"backbone.bottleneck: expected false with {settings.backbone.name}, which outputs maps, found true."
        )


# Why a weighting with these needs allows neither an update interval nor another space of gradients; "" if it does.
_GRAMIAN_REASONS: Mapping[Needs, str] = {
    "losses": "sees no Gramian",
    "gramian": "",
    "jacobian": "needs the whole Jacobian at every step",
    "cross_gramian": "needs the Gramian of several batches at every step",
}
# Why it allows no running mean of its weights.
_MOMENTUM_REASONS: Mapping[Needs, str] = {
    "losses": "",
    "gramian": "",
    "jacobian": "reads the Jacobian and may set the shared gradient itself",
    "cross_gramian": "",
}


def _check_gramian(settings: Settings, name: str, info: DatasetInfo) -> None:
    """Raises SpecError if the weighting or the problem doesn't allow these Gramian settings."""
    gramian, weighting = settings.gramian, settings.weighting
    for key, default in plain(GramianSettings()).items():
        found = getattr(gramian, key)
        reason = _MOMENTUM_REASONS[weighting.needs] if key == "momentum" else _GRAMIAN_REASONS[weighting.needs]
        if found != default and not reason and key == "every" and isinstance(weighting, PostStepHook):
            reason = "learns from the losses after every step"
        if found != default and reason:
            raise SpecError(f"weighting.{key}: expected {default!r} with {name}, which {reason}, found {found!r}.")
    if gramian.grad_space == "representation":
        expected = "weighting.grad_space: expected shared or last_block"
        if info.kind != "single-input":
            raise SpecError(f"{expected} with {info.label}, where each task has its own input, found representation.")
        if not settings.arch.shares_features:
            raise SpecError(
                f"{expected} with an architecture where each task has its own features, found representation."
            )


def _check_micro_batches(settings: Settings) -> None:
    """Raises SpecError if a batch can't be split into micro-batches."""
    train = settings.train
    if train.accumulate == 1:
        return
    if train.batch_size % train.accumulate:
        raise SpecError(
            f"train.accumulate: expected a divisor of train.batch_size = {train.batch_size}, found {train.accumulate}."
        )
    if settings.weighting.needs == "cross_gramian":
        raise SpecError(
            f"train.accumulate: expected 1 with a weighting that reads several batches, found {train.accumulate}."
        )
    if train.cosines_every:
        raise SpecError(f"train.accumulate: expected 1 with train.cosines_every, found {train.accumulate}.")
    if settings.gramian.grad_space != "shared":
        raise SpecError(f"train.accumulate: expected 1 with weighting.grad_space, found {train.accumulate}.")


def _check_graphs(settings: Settings, name: str) -> None:
    """Raises SpecError if a step is more than one pass forward and one backward, which CUDA graphs need."""
    if not settings.compute.cuda_graphs:
        return
    weighting, rule = settings.weighting, settings.heads.rule
    heads = weighting.heads if rule == "published" else rule
    reasons = {
        f"with {name}, which needs more than losses": weighting.needs != "losses",
        f"with {name}, which weights heads apart (heads.rule={heads})": heads != "weighted",
        "with an architecture whose tasks have positions": settings.arch.position_rule is not None,
        "with train.accumulate": settings.train.accumulate > 1,
        "with train.cosines_every": settings.train.cosines_every > 0,
        "with compute.compile": settings.compute.compile,
        "with compute.processes": settings.compute.processes > 1,
    }
    for reason, applies in reasons.items():
        if applies:
            raise SpecError(f"compute.cuda_graphs: expected false {reason}, found true.")


def _check_processes(settings: Settings, name: str) -> None:
    """Raises SpecError if several processes can't train a run together."""
    count, train, needs = settings.compute.processes, settings.train, settings.weighting.needs
    if count == 1:
        return
    expected = f"compute.processes: expected 1 with {name}"
    if is_adapter(name):
        raise SpecError(f"{expected}, which runs the code of another package, found {count}.")
    if needs == "jacobian":
        raise SpecError(f"{expected}, which needs the whole Jacobian, found {count}.")
    if needs == "cross_gramian":
        raise SpecError(f"{expected}, which reads several batches, found {count}.")
    if train.batch_size % (count * train.accumulate):
        parts = "" if train.accumulate == 1 else f" / train.accumulate = {train.accumulate}"
        raise SpecError(
            f"compute.processes: expected a divisor of train.batch_size = {train.batch_size}{parts}, found {count}."
        )


def _check_single_task(settings: Settings, name: str) -> None:
    """Raises SpecError if something would make networks that share no parameters depend on each other."""
    if settings.arch.shares_parameters:
        return
    if not weighting_info(name).constant:
        known = ", ".join(key for key, info in WEIGHTINGS.items() if info.constant)
        raise SpecError(
            f"Expected a weighting with constant weights ({known}) for single-task networks, which share no "
            f"parameters, found {name}."
        )
    if math.isfinite(clip_of(settings.weighting)):
        raise SpecError(
            "weighting.max_norm: expected infinity with single-task networks, since it limits the norm of all their "
            f"gradients together, found {clip_of(settings.weighting)}."
        )
    if settings.train.clip_norm:
        raise SpecError(
            "train.clip_norm: expected 0 with single-task networks, since it is the norm of all their gradients "
            f"together, found {settings.train.clip_norm}."
        )
    if settings.train.cosines_every:
        raise SpecError(
            "train.cosines_every: expected 0 with single-task networks, whose gradients share no parameters, found "
            f"{settings.train.cosines_every}."
        )


def _method_name(architecture: str, weighting: str) -> str:
    for name, pair in METHODS.items():
        if (pair.architecture, pair.weighting) == (architecture, weighting):
            return name
    return f"{architecture}+{weighting}".replace(":", "-")  # it names a folder


def _label_of(method: str) -> str:
    """The label of a method, as `_method_name` names it."""
    if method in METHODS:
        return METHODS[method].label
    architecture, _, weighting = method.partition("+")
    rows = (
        WEIGHTINGS
        if weighting in WEIGHTINGS
        else {key.replace(":", "-"): row for key, row in adapted_weightings().items()}
    )
    return f"{ARCHITECTURES[architecture].label} + {rows[weighting].label}"


def weighting_info(name: str) -> WeightingInfo:
    """The registry row of a weighting, ours or another package's."""
    return _weightings(name)[name]


def _weightings(name: str) -> Mapping[str, WeightingInfo]:
    """The registry that holds a weighting: names of other packages' weightings have a prefix."""
    return adapted_weightings() if is_adapter(name) else WEIGHTINGS
