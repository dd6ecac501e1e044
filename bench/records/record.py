"""The record of one run: everything that a report needs, as raw numbers; nothing formatted, nothing derived."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.records.names import ShortName

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["done", "diverged", "failed"]
Direction = Literal["higher", "lower"]
Scores = dict[str, dict[str, float]]  # task key -> metric key -> value, as computed (accuracy 0.93, not 93)
LARGEST_SEED = 2**32 - 1  # the largest that every library takes
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)]
Version = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(ge=0, strict=True)]
Seconds = Annotated[float, Field(ge=0)]  # infinite if a clock failed, never NaN

PERCENT = "%"  # the unit of shares, which reports print as 100 times the value
_ROUNDING = 1e-6  # a mean of shares may exceed 1 by its rounding errors


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")


class MetricRecord(_Part):
    """One metric.

    direction: whether higher or lower is better.
    unit: "%" means that the value is a share, which reports show times 100.
    """

    key: ShortName
    label: str
    direction: Direction
    unit: str


class TaskRecord(_Part):
    """One task and its metrics, in the order of the tables."""

    key: ShortName
    label: str
    metrics: list[MetricRecord] = Field(min_length=1)


class Labels(_Part):
    """Names as published."""

    data: str
    method: str


class Order(_Part):
    """Indices in the registries, whose order is that of the paper's tables."""

    data: Count
    method: Count


class Selected(_Part):
    """The reported epoch (counted from 1), the rule that selected it, and its score."""

    epoch: int = Field(ge=1, strict=True)
    rule: str
    score: float


class Timing(_Part):
    """Seconds per training step, synchronised with the device; the first `warmup` steps are dropped."""

    median: Seconds
    mean: Seconds
    steps: Count
    warmup: Count


class Parameters(_Part):
    """Numbers of trainable parameters. encoders: those of encoders that one task has for itself."""

    shared: Count
    heads: Count
    positions: Count
    encoders: Count = 0


class MethodCode(_Part):
    """The code of a weighting or an architecture: the dotted name of its class, and a digest of what that needs."""

    name: str
    digest: str


class FieldEvaluations(_Part):
    """Evaluations of a flow's field in all training steps: in the forward pass, and by the adjoint equation."""

    forward: Count
    backward: Count


class Record(_Part):
    """One run: one method on one data set with one seed.

    reason: for a run that is not done, a sentence with step, task and value.
    kind: whether each task has its own images ("multi-input") or all tasks share them ("single-input").
    control: whether the problem is built so that the answer is known; reports leave it out of ranks over problems.
    selection: what selects the epoch and compares methods: "accuracy", or "gain" over a baseline (dense problems).
    trial: whether `bench.tune` made it to choose settings; then it is never reported. False in records made before this
        was kept.
    settings: all settings, by section.
    overrides: dotted settings that differ from the defaults of the method and the data set.
    reference: test scores of the dummy baseline, the best constant prediction (training mean, majority class).
    validation, test: scores of the selected epoch.
    last_test: test scores of the last epoch.
    items: digest of items.safetensors, the outcomes per test item at the selected epoch; "" if the run has none.
    positions: learned task positions at the end of the selected epoch, by task key; empty without positions.
    selected_by_task: the same for each task, by its key, where each has its own epoch (single-task networks). Then
        `selected` has the last of these epochs and the mean of the scores.
    unscored_epochs: those whose score on validation was not finite; they are never selected.
    steps: training steps taken.
    batches: that a step reads; more than one for a weighting that compares gradients of several.
    seconds: wall-clock time of training and evaluation, without interruptions.
    peak_memory_mib: peak memory of tensors on an accelerator, of the whole process on a CPU.
    idle_memory_mib: what that would have been without the run: 0 on a fresh accelerator; on a CPU mostly imported
        packages. None in records made before it was measured.
    solver_fallbacks: steps at which the weighting used its documented substitute.
    field_evaluations: None without a flow. Evaluations on validation and test are not counted.
    fingerprint: of the data, by part: a hash of its images and targets in their order; and of the whole, whatever the
        partition. Empty in records made before fingerprints were kept.
    resumed: what changed when the run was resumed, one sentence each: another device, another number of threads.
    lost: how earlier attempts ended, one sentence each: the signal that killed the process.
    versions: of the engine, the weighting, the architecture, the problem and, for embedded data, its maker. Empty in
        records made before versions were kept.
    code: of the weighting and the architecture, as it was; empty in records made before it was kept.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    status: Status
    reason: str = ""
    data: ShortName
    method: str
    architecture: str
    weighting: str
    variant: ShortName
    seed: Seed
    labels: Labels
    order: Order
    kind: Literal["multi-input", "single-input"]
    control: bool = False
    trial: bool = False
    selection: Literal["accuracy", "gain"]
    settings: dict[str, dict[str, Any]]
    overrides: dict[str, Any] = Field(default_factory=dict)
    tasks: list[TaskRecord] = Field(min_length=1)
    reference: Scores = Field(default_factory=dict)
    validation: Scores = Field(default_factory=dict)
    test: Scores = Field(default_factory=dict)
    last_test: Scores = Field(default_factory=dict)
    selected: Selected | None = None
    selected_by_task: dict[str, Selected] = Field(default_factory=dict)
    items: str = ""
    positions: dict[str, float] = Field(default_factory=dict)
    epochs: Count = 0
    unscored_epochs: Count = 0
    steps: Count = 0
    batches: int = Field(default=1, ge=1, strict=True)
    step_seconds: Timing | None = None
    seconds: Seconds = 0.0
    peak_memory_mib: Annotated[float, Field(ge=0)] | None = None
    idle_memory_mib: Annotated[float, Field(ge=0)] | None = None
    parameters: Parameters | None = None
    solver_fallbacks: Count = 0
    field_evaluations: FieldEvaluations | None = None
    head_rule: str = ""
    splits: dict[str, Any] = Field(default_factory=dict)
    fingerprint: dict[str, str] = Field(default_factory=dict)
    environment: dict[str, Any] = Field(default_factory=dict)
    resumed: list[str] = Field(default_factory=list)
    lost: list[str] = Field(default_factory=list)
    versions: dict[str, Version] = Field(default_factory=dict)
    code: dict[str, MethodCode] = Field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, int]:
        """Data set, variant and seed, which the folder of the run is named after."""
        return self.data, self.variant, self.seed

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Record:
        for error in _contradictions(self):
            raise ValueError(error)
        return self


def _contradictions(record: Record) -> Iterator[str]:
    """Sentences on parts that don't fit together."""
    yield from _repeated("tasks", [task.key for task in record.tasks])
    for task in record.tasks:
        yield from _repeated(f"tasks.{task.key}.metrics", [metric.key for metric in task.metrics])
    known = {task.key: {metric.key: metric for metric in task.metrics} for task in record.tasks}
    for name in ("reference", "validation", "test", "last_test"):
        yield from _wrong_scores(name, getattr(record, name), known)
    unknown = record.positions.keys() - {task.key for task in record.tasks}
    if unknown:
        yield f"positions: expected tasks of the record, found {min(unknown)!r:.80}"
    if record.selected is not None and record.selected.epoch > record.epochs:
        yield f"selected.epoch: expected one of the {record.epochs} epochs, found {record.selected.epoch}"
    if unknown := record.selected_by_task.keys() - {task.key for task in record.tasks}:
        yield f"selected_by_task: expected tasks of the record, found {min(unknown)!r:.80}"
    for key, one in record.selected_by_task.items():
        if one.epoch > record.epochs:
            yield f"selected_by_task.{key}.epoch: expected one of the {record.epochs} epochs, found {one.epoch}"
    if record.unscored_epochs > record.epochs:
        yield f"unscored_epochs: expected at most {record.epochs}, found {record.unscored_epochs}"
    yield from _wrong_selection(record)
    yield from _wrong_epochs(record)
    if record.status == "done":
        if record.selected is None:
            yield "selected: expected the selected epoch of a run that is done, found none"
        for task in record.tasks:
            lacking = [metric.key for metric in task.metrics if metric.key not in record.test.get(task.key, {})]
            if lacking:
                yield f"test.{task.key}: expected a score for {lacking[0]}, since the run is done, found none"
    chosen = record.settings.get("data", {}).get("tasks")
    if chosen and chosen != [task.key for task in record.tasks]:
        yield f"settings.data.tasks: expected the tasks of the record, found {chosen!r:.80}"
    digest = record.splits.get("digest", "")
    if not isinstance(digest, str):
        yield f"splits.digest: expected a text, found {digest!r:.80}"


def _wrong_selection(record: Record) -> Iterator[str]:
    """A selected score that can't be one, or is not the mean of the accuracies that it was selected by."""
    if record.selected is None:
        return
    score, firsts = record.selected.score, [(task.key, task.metrics[0].key) for task in record.tasks if task.metrics]
    if math.isinf(score):
        yield f"selected.score: expected a number, found {score!r}"
    values = [record.validation.get(task, {}).get(metric) for task, metric in firsts]
    accuracies = [value for value in values if value is not None]
    if record.selection == "accuracy" and len(accuracies) == len(record.tasks) and not record.selected_by_task:
        mean = math.fsum(accuracies) / len(accuracies)
        if abs(mean - score) > _ROUNDING:
            yield f"selected.score: expected {mean:.6f}, the mean accuracy on validation, found {score:.6f}"
    if record.selected_by_task:
        yield from _wrong_selection_by_task(record, record.selected)


def _wrong_selection_by_task(record: Record, selected: Selected) -> Iterator[str]:
    """Epochs of tasks of which `selected` doesn't have the last or the mean score, or not the accuracy of a task."""
    of_tasks = record.selected_by_task
    last = max(one.epoch for one in of_tasks.values())
    mean = math.fsum(one.score for one in of_tasks.values()) / len(of_tasks)
    if selected.epoch != last:
        yield f"selected.epoch: expected {last}, the last of selected_by_task, found {selected.epoch}"
    if not abs(mean - selected.score) <= _ROUNDING:
        yield f"selected.score: expected {mean:.6f}, the mean of selected_by_task, found {selected.score:.6f}"
    for task in record.tasks if record.selection == "accuracy" else ():
        own, accuracy = of_tasks.get(task.key), record.validation.get(task.key, {}).get(task.metrics[0].key)
        if own is not None and accuracy is not None and abs(own.score - accuracy) > _ROUNDING:
            yield (
                f"selected_by_task.{task.key}.score: expected {accuracy:.6f}, the accuracy on validation, "
                f"found {own.score:.6f}"
            )


def _wrong_epochs(record: Record) -> Iterator[str]:
    """Other epochs than the settings ask for; a run that diverged, or failed, has fewer."""
    planned = record.settings.get("train", {}).get("epochs")
    if not isinstance(planned, int):
        return
    if record.epochs > planned or (record.status == "done" and record.epochs < planned):
        found = f"found {record.epochs} of a run that is {record.status}"
        yield f"epochs: expected {planned}, as settings.train.epochs says, {found}"


def _repeated(place: str, keys: list[str]) -> Iterator[str]:
    if len(set(keys)) < len(keys):
        key, count = Counter(keys).most_common(1)[0]
        yield f"{place}: expected each key once, found {key!r:.80} {count} times"


def _wrong_scores(place: str, scores: Scores, known: Mapping[str, Mapping[str, MetricRecord]]) -> Iterator[str]:
    """Scores of unknown tasks or metrics, and shares that are none. known: the metrics of each task, by keys.

    All other values are allowed: a unit says nothing of the range, an error can be infinite, a mean of nothing is NaN.
    """
    for task, values in scores.items():
        for key, value in values.items():
            metric = known.get(task, {}).get(key)
            if metric is None:
                yield f"{place}.{task:.80}.{key:.80}: expected a task and a metric of the record, found another"
            elif metric.unit == PERCENT and (value < 0 or (metric.direction == "higher" and value > 1 + _ROUNDING)):
                yield f"{place}.{task}.{key}: expected a share, 0.93 for 93 %, found {value!r}"
        if task not in known:
            yield f"{place}.{task:.80}: expected a task of the record, found another"
